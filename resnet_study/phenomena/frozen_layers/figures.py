"""Layers frozen by their own first steps: their weights, when they thaw, what the error does.

All are about networks with batch normalisation; what *frozen*, *judged* and *thaw* mean is
defined in `resnet_study.phenomena.frozen_layers.thaw`. `thaw_times` and `thaw_curves` take runs
with different weight decays, rates and warm-ups at once and never pool them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_study.drawing import panels, plots, style
from resnet_study.drawing.render import figure
from resnet_study.errors import UserError
from resnet_study.judging.selections import select
from resnet_study.phenomena.degradation.figures import TRAINING_ERROR, train_split
from resnet_study.phenomena.frozen_layers import thaw
from resnet_study.records import Frames

PROBES = ("weight_norm", "weight_gradient_norm")

LAYERS_SHOWN = 5
NETWORKS_SHOWN = 3

MOTION = {"growth": "‖w‖ / ‖w(0)‖", "effective": "effective step e (rad)"}
"""Columns of `thaw.layer_motion` that are drawn, and their labels."""

LINESTYLES = ("-", "--", ":", "-.")

GRID = ["family", "depth", "weight_decay"]
"""Columns of `thaw.thaw_table` that tell its arms apart."""

CENSORED: dict[str, Any] = {"markerfacecolor": "none"}

MARKERS = "os^Dv<>p"

PREDICTED = {"from_growth": "from weight growth", "from_step": "from effective step"}


def normalized(frames: Frames) -> Frames:
    """The runs with batch normalisation, without which no effective step is defined."""
    chosen = select(frames, frames.runs.index[frames.runs["model.normalization"] == "batch"])
    if not len(chosen.runs):
        raise UserError("is about batch normalisation; choose runs that have it")
    return chosen


@figure(
    "Weight growth and effective step",
    "Weight norm of chosen convolutions relative to initialisation, and their effective step e = "
    "η‖∂L/∂w‖ / (√(1−μ²)‖w‖), the angle by which the gradient of the loss alone turns a layer in "
    "one iteration, if successive gradients are independent; of the depth with most seeds, or else "
    "the deepest. A layer followed by batch normalisation depends on the direction of its weights "
    f"alone, so its gradient falls as 1/‖w‖. {panels.MEDIANS} Dotted: from its peak, the norm of "
    "the layer that grew most if weight decay alone acted, exp(−ηλk/(1−μ)); and the equilibrium of "
    "weight decay and growth, e = √(2ηλ/(1+μ)) (Wan et al. 2020, arXiv 2006.08419); both until the "
    "rate η first drops.",
    shown=normalized,
)
def weight_growth(frames: Frames) -> Figure:
    """A row per family, of the depth with most seeds; theory is dotted where there is decay."""
    recorded = panels.layer_rows(frames, *PROBES)
    motion = thaw.layer_motion(frames)
    for quantity in MOTION:
        motion, _ = panels.drawable_rows(motion, quantity)
    families = panels.families_in(motion)
    depths = {family: _most_seeds(motion[motion["family"] == family]) for family in families}
    shown = motion[motion["depth"] == motion["family"].map(depths)]
    titles = [f"{family}-{depths[family]}" for family in families for _ in MOTION]
    size = (len(families), 2, 2.1 * len(families))
    drawn, axes = style.new_figure(*size, titles, sharex=True, sharey="col")
    handles = []
    for row, family in zip(axes, families, strict=True):
        own = shown[shown["family"] == family]
        grew_most = int(own.sort_values("growth")["layer"].iloc[-1])
        colours = style.sequential({*style.at_most(own["layer"], LAYERS_SHOWN), grew_most})
        few = own[own["layer"].isin(colours)]
        for panel, (quantity, words) in zip(row, MOTION.items(), strict=True):
            panel.set(yscale="log", ylabel=words)
            plots.iteration_axis(panel, int(shown["step"].max()))
            gid = f"{family}-{depths[family]}-layer{{hue}}-{quantity}"
            plots.lines(panel, few, "step", quantity, gid, hue=("layer", colours), linewidth=1.3)
        _theory(row, own, frames)
        handles += style.keys(colours, f"{family}, layer {{}}")
    for panel in axes[-1]:
        panel.set_xlabel(plots.ITERATION)
    dotted = "Dotted: free decay of the weights, and the equilibrium of e, under the weight decay."
    sentences = [
        panels.over_seeds(shown, ["family", "layer", "step"]),
        "e = η‖∂L/∂w‖ / (√(1−μ²)‖w‖).",
        dotted if (frames.runs[thaw.DECAY] > 0).any() else "No weight decay.",
        panels.left_out(len(recorded) - len(motion), positive=True),
        panels.of_runs(frames),
    ]
    return style.finish(drawn, handles, sentences, columns=3)


@figure(
    "Measured against predicted thaw",
    "When layers that the first iterations froze move again, against when they were predicted to: "
    f"a point per layer and run. Frozen: after {thaw.EARLY} iterations an effective step below "
    f"{thaw.FROZEN:g} of its equilibrium √(2ηλ/(1+μ)), and weights that grew by a factor of "
    f"{thaw.INFLATED:.3g} or more. Thawed: {thaw.MOVING:g} of the equilibrium, as median of three "
    f"records. Predicted from the first {thaw.EARLY} iterations (a) by the time in which weight "
    "decay brings the norm back to where it began, (1−μ)/(ηλ)·ln G for growth by a factor G, and "
    f"(b) by the time in which the effective step rises to {thaw.MOVING:g} of the equilibrium if "
    "the gradient at given norm stays as it is. Hollow: not thawed by the last record, a lower "
    "bound.",
    across=True,
    shown=normalized,
)
def thaw_times(frames: Frames) -> Figure:
    """Measured against predicted iterations until a layer thaws, a point per layer and run."""
    panels.layer_rows(frames, *PROBES)
    if thaw.layer_motion(frames).empty:
        raise UserError("no recorded norm is finite; see the status of the runs")
    table = thaw.thaw_table(frames)
    numbers = [*PREDICTED, "thaw", "end", "weight_decay"]
    judged = table[table["judged"].astype(bool)].astype(dict.fromkeys(numbers, float))
    judged = judged[judged[list(PREDICTED)].map(np.isfinite).all(axis=1)]
    judged = judged.assign(seen=judged["thaw"].notna(), at=judged["thaw"].fillna(judged["end"]))
    arms: dict[str, pd.DataFrame] = {
        f"{family}-{depth}, weight decay {decay:g}": own
        for (family, depth, decay), own in judged.groupby(GRID, observed=True)
    }
    looks = _looks(arms)
    drawn, axes = style.new_figure(1, 2, 2.9, PREDICTED.values(), sharey=True, sharex=True)
    for panel, predicted in zip(axes[0], PREDICTED, strict=True):
        for arm, own in arms.items():
            for seen, filling in ((True, {}), (False, CENSORED)):
                part = own[own["seen"] == seen]
                gid = f"{arm}{'' if seen else ', censored'}, {predicted}"
                look = {**looks[arm], **filling, "linestyle": "none", "ms": 3.6}
                panel.plot(part[predicted], part["at"], alpha=0.65, mew=0.8, gid=gid, **look)
        if judged.empty:
            plots.say(panel, "no frozen layer")
        else:
            _identity(panel, judged[[*PREDICTED, "at"]].to_numpy(float))
    style.label(axes, "predicted thaw (iteration)", "measured thaw (iteration)")
    point: dict[str, Any] = {"linestyle": "none", "ms": 4}
    handles = [style.key(arm, **look, **point) for arm, look in looks.items()]
    if not judged["seen"].all():
        hollow = {"color": style.INK, "marker": "o", **point, **CENSORED}
        handles.append(style.key("hollow: not thawed by then", **hollow))
    runs = judged if len(judged) else frames.runs.reset_index().assign(weight_decay=0.0)
    counts = list(runs.groupby(GRID, observed=True)["seed"].nunique())
    sentences = [
        f"{len(judged)} frozen and inflated layers; {panels.seeds(counts)} per arm, all shown.",
        "" if max(counts) > 1 else "One seed each: no spread.",
        f"Line: identity; grey: within a factor of {2**thaw.BAND:g}."
        if len(judged)
        else "No layer was frozen with inflated weights in a run with weight decay.",
        panels.of_runs(frames),
    ]
    return style.finish(drawn, handles, sentences, columns=2)


@figure(
    "Training error and thaw",
    "Training error against iteration for different weight decays, learning rates and warm-ups, "
    f"of the networks with most such arms. {panels.MEDIANS} The triangle marks the median thaw of "
    "the slowest frozen layer, where all were seen to thaw.",
    across=True,
    shown=normalized,
)
def thaw_curves(frames: Frames) -> Figure:
    """Training error by weight decay, rate and warm-up, a panel per network; marked: last thaw."""
    split = train_split(frames)
    rows = frames.metrics[frames.metrics["split"] == split]
    rows, left_out = panels.drawable_rows(rows, "error", positive=False)
    # Colour tells the decay of an arm, line style all else: rate and warm-up.
    told = {
        "arm": panels.arms(frames.runs, following=False),
        "decay": frames.runs[thaw.DECAY].astype(float),
    }
    told["rest"] = panels.arms(frames.runs, [thaw.DECAY], following=False)
    rows = rows.assign(**{name: rows["run_id"].map(values) for name, values in told.items()})
    rows["network"] = rows["family"].astype(str) + "-" + rows["depth"].astype(str)
    colours = style.sequential(rows["decay"])
    styles = dict(zip(sorted(set(rows["rest"])), itertools.cycle(LINESTYLES), strict=False))
    thaws = thaw.last_thaw(thaw.thaw_table(frames)) if len(frames.layers_with()) else pd.DataFrame()
    networks = _networks(rows)
    drawn, axes = style.new_figure(1, len(networks), 2.9, networks, sharey=True, sharex=True)
    handles: dict[str, Any] = {}
    mark: dict[str, Any] = {"marker": "v", "linestyle": "none", "ms": 7, "mec": "white"}
    for panel, own, network in plots.cells(axes, rows, network=networks):
        plots.linear_iterations(panel, int(rows["step"].max()))
        for arm, part in {arm: own[own["arm"] == arm] for arm in sorted(set(own["arm"]))}.items():
            decay, rest = part[["decay", "rest"]].iloc[0]
            name = f"{network}, {arm}" if arm else network
            colour, keyed = colours[decay], colours[decay]
            if len(colours) == 1:  # then it tells the family, as everywhere
                colour, keyed = style.FAMILIES[network.partition("-")[0]].colour, style.INK
            look = {"linestyle": styles[rest], "linewidth": 1.3}
            plots.lines(panel, part, "step", "error", name, units="run_id", color=colour, **look)
            handles[arm] = style.key(arm or "training error", color=keyed, **look)
            when = _median_thaw(thaws, part["run_id"])
            if when is not None:
                middle = panels.medians(part, ["step"], "error")
                at = np.interp(when, middle["step"], middle["error"])
                look = {**mark, "color": colour, "gid": f"{name}, thaw"}
                panel.plot(when, at, zorder=5, **look)
    plots.error_axis(axes[0, 0], 100.0)
    style.label(axes, "iteration", "training error (%)")
    entries = [handle for _, handle in sorted(handles.items())]
    marked = any(line.get_marker() == "v" for panel in axes.flat for line in panel.lines)
    if marked:
        entries.append(style.key("last layer thaws", color=style.INK, **mark))
    triangle = "Triangle: median over runs of the thaw of the slowest frozen layer, if all thawed."
    sentences = [
        panels.over_seeds(rows, ["network", "arm", "step"], "run_id"),
        TRAINING_ERROR[split],
        triangle if marked else "",
        left_out,
        panels.of_runs(frames),
    ]
    return style.finish(drawn, entries, sentences)


def _looks(arms: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The colour of the family, and a marker for each arm of it."""
    looks: dict[str, dict[str, Any]] = {}
    for arm in arms:
        colour = style.FAMILIES[arm.partition("-")[0]].colour
        taken = sum(look["color"] == colour for look in looks.values())
        looks[arm] = {"color": colour, "marker": MARKERS[taken % len(MARKERS)]}
    return looks


def _most_seeds(rows: pd.DataFrame) -> int:
    """The depth with most seeds; of equals the deepest."""
    seeds = rows.groupby("depth")["seed"].nunique()
    return int(seeds[seeds == seeds.max()].index.max())


def _theory(row: np.ndarray, own: pd.DataFrame, frames: Frames) -> None:
    """Free decay of the layer that grew most, and the equilibrium of the effective step.

    Both are of the rate that the run begins with, so they end where it first drops.
    """
    run = frames.runs.loc[own["run_id"].iloc[0]]
    optimizer = [float(run[f]) for f in (thaw.RATE, thaw.MOMENTUM, thaw.DECAY)]
    if optimizer[-1] == 0:
        return
    last = min(float(own["step"].max()), float(run["schedule.first_drop"]))
    equilibrium = [thaw.equilibrium_step(*optimizer)] * 2
    row[1].plot([0, last], equilibrium, gid="equilibrium", **style.THEORY)
    middle = panels.medians(own, ["step", "layer"], "growth", geometric=True)
    peak = middle.sort_values("growth").iloc[-1]
    steps = np.geomspace(peak["step"] + 1, max(last, peak["step"]) + 1, 60) - 1
    decay = np.exp(-(steps - peak["step"]) / thaw.time_constant(*optimizer))
    row[0].plot(steps, peak["growth"] * decay, gid="free decay", **style.THEORY)


def _identity(panel: Axes, values: np.ndarray) -> None:
    """The line of a perfect prediction and its band, over one range for both axes."""
    limits = np.array([np.nanmin(values) / 1.3, np.nanmax(values) * 1.3])
    panel.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    band = (limits / 2**thaw.BAND, limits * 2**thaw.BAND)
    panel.fill_between(limits, *band, color=style.FAINT, alpha=0.4, linewidth=0)
    panel.plot(limits, limits, color=style.INK, linewidth=1.0, gid="identity")


def _networks(rows: pd.DataFrame) -> list[str]:
    """Networks with most arms, then most seeds, then depth; in the order of family and depth."""
    groups = rows.groupby(["family", "depth"], observed=True)
    counts = groups[["arm", "seed"]].nunique().reset_index()
    most = counts.sort_values(["arm", "seed", "depth"], ascending=False).head(NETWORKS_SHOWN)
    most = most.sort_values(["family", "depth"])
    return [f"{row.family}-{row.depth}" for row in most.itertuples()]


def _median_thaw(thaws: pd.DataFrame, run_ids: pd.Series) -> float | None:
    """Median over these runs of the last thaw; None unless all of them were seen."""
    own = thaws[thaws.index.isin(run_ids)]
    return float(own["iteration"].median()) if len(own) and own["seen"].all() else None


FIGURES = (
    weight_growth,
    thaw_times,
    thaw_curves,
)
