"""Layers frozen by their own first steps: their weights, when they thaw, what the error does.

All are about networks with batch normalisation; what *frozen*, *judged* and *thaw* mean is
defined in `resnet_study.phenomena.frozen_layers.thaw`. `thaw_times` and `thaw_curves` take runs
with different weight decays, rates and warm-ups at once and never average over them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from resnet_study.drawing import panels
from resnet_study.drawing.render import figure
from resnet_study.drawing.style import (
    FAINT,
    INK,
    QUIET,
    at_most,
    band,
    finish,
    key,
    letter,
    log1p_iterations,
    new_figure,
    sequential,
    thousands,
)
from resnet_study.errors import UserError
from resnet_study.judging.selections import select
from resnet_study.phenomena.degradation.figures import TRAINING_ERROR, train_split
from resnet_study.phenomena.frozen_layers import thaw
from resnet_study.records import Frames

PROBES = ("weight_norm", "weight_gradient_norm")

LAYERS_SHOWN = 5
NETWORKS_SHOWN = 3

LINESTYLES = ("-", "--", ":", "-.")

ARM = {
    thaw.DECAY: "weight decay",
    thaw.RATE: "rate",
    "schedule.warmup_iterations": "warm-up",
    "schedule.warmup_error": "warm-up to error",
}
"""Spec fields that tell arms apart, and what they are called."""


@figure(
    "Weight growth and effective step",
    "Weight norm of chosen 3×3 layers relative to initialisation, and their effective step e = "
    "η‖∂L/∂w‖ / (√(1−μ²)‖w‖), the angle by which the gradient of the loss alone turns a layer in "
    "one iteration, if successive gradients are independent; of the depth with most seeds, or else "
    "the deepest. A layer followed by batch normalisation depends on the direction of its weights "
    "alone, so its gradient falls as 1/‖w‖. Geometric means over seeds, bands from smallest to "
    "largest. Dotted: from its peak, the norm of the layer that grew most if weight decay alone "
    "acted, exp(−ηλk/(1−μ)); and the equilibrium of weight decay and growth, e = √(2ηλ/(1+μ)) "
    "(Wan et al. 2020, arXiv 2006.08419).",
)
def weight_growth(frames: Frames) -> Figure:
    """Weight norm and effective step of chosen layers, from iteration 0 on.

    One row per family, of the depth with most seeds (of equals the deepest). The equilibrium of
    the effective step, and free decay by weight decay, are dotted where they exist.

    Raises:
        UserError: if no layers were recorded, or none with finite norms.
    """
    frames = _normalized(frames, "weight_growth")
    recorded = panels.layer_rows(frames, "weight_growth", PROBES)
    motion = thaw.layer_motion(frames)
    for quantity in ("growth", "effective"):
        motion = motion[panels.drawable(motion[quantity], positive=True)]
    if motion.empty:
        raise UserError(
            "weight_growth: no recorded norm is finite and positive; see the status of the runs"
        )
    families = panels.families_in(motion)
    depths = {family: _most_seeds(motion[motion["family"] == family]) for family in families}
    shown = motion[motion["depth"] == motion["family"].map(depths)]
    figure, axes = new_figure(len(families), 2, 2.1 * len(families), sharex=True, sharey="col")
    counts: list[int] = []
    handles: list[Artist] = []
    for row, family in enumerate(families):
        depth = depths[family]
        own = shown[shown["family"] == family]
        grew_most = int(own.sort_values("growth")["layer"].iloc[-1])
        layers = sorted({*at_most(own["layer"].unique().tolist(), LAYERS_SHOWN), grew_most})
        colours = sequential(layers)
        for column, quantity in enumerate(("growth", "effective")):
            panel: Axes = axes[row, column]
            panel.set_yscale("log")
            log1p_iterations(panel, int(shown["step"].max()))
            for layer in layers:
                part = own[own["layer"] == layer]
                means = panels.summarize(part, ["step"], quantity, geometric=True)
                counts += [int(means["n"].max())]
                band(panel, means["step"], means["low"], means["high"], colours[layer])
                panel.plot(
                    means["step"],
                    means["mean"],
                    color=colours[layer],
                    linewidth=1.3,
                    gid=f"{family}-{depth}-layer{layer}-{quantity}",
                )
            letter(panel, 2 * row + column, f"{family}-{depth}")
        _theory(axes[row], own, frames)
        axes[row, 0].set_ylabel("‖w‖ / ‖w(0)‖")
        axes[row, 1].set_ylabel("effective step e (rad)")
        handles += [key(f"{family}, layer {layer}", color=colours[layer]) for layer in layers]
    for column in range(2):
        axes[-1, column].set_xlabel("iteration k, at log(1 + k)")
        axes[0, column].yaxis.set_minor_locator(NullLocator())
        axes[0, column].yaxis.set_major_locator(LogLocator(numticks=7))
    sentences = [
        f"Geometric mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bands: minimum to maximum"),
        "e = η‖∂L/∂w‖ / (√(1−μ²)‖w‖).",
        "Dotted: free decay of the weights, and the equilibrium of e, under the weight decay."
        if (frames.runs[thaw.DECAY] > 0).any()
        else "No weight decay.",
        panels.left_out_count(len(recorded) - len(motion), "zero or not finite"),
        panels.unfinished(frames),
    ]
    return finish(figure, "Weight growth and effective step", handles, sentences, columns=3)


@figure(
    "Measured against predicted thaw",
    "When layers that the first iterations froze move again, against when they were predicted to: "
    "a point per layer and run. Frozen: after 50 iterations an effective step below a tenth of its "
    "equilibrium √(2ηλ/(1+μ)), and weights that grew by a factor of e or more. Thawed: half of the "
    "equilibrium, as median of three records. Predicted from the first 50 iterations (a) by the "
    "time in which weight decay brings the norm back to where it began, (1−μ)/(ηλ)·ln G for growth "
    "by a factor G, and (b) by the time in which the effective step rises to half of the "
    "equilibrium if the gradient at given norm stays as it is. Open triangles: not thawed by the "
    "last record, a lower bound.",
    across=True,
)
def thaw_times(frames: Frames) -> Figure:
    """Measured against predicted iterations until a layer thaws, a point per layer and run.

    Raises:
        UserError: if no layers were recorded, or none with finite norms.
    """
    frames = _normalized(frames, "thaw_times")
    panels.layer_rows(frames, "thaw_times", PROBES)
    if thaw.layer_motion(frames).empty:
        raise UserError("thaw_times: no recorded norm is finite; see the status of the runs")
    table = thaw.thaw_table(frames)
    judged = table[table["judged"].astype(bool)]
    for name in ("from_growth", "from_step", "thaw", "end", "weight_decay"):
        judged = judged.assign(**{name: judged[name].astype(float)})
    judged = judged[np.isfinite(judged["from_growth"]) & np.isfinite(judged["from_step"])]
    arms = sorted({tuple(a) for a in judged[["family", "depth", "weight_decay"]].to_numpy()})
    colours = dict(zip(arms, sequential(range(len(arms))).values(), strict=True)) if arms else {}
    figure, axes = new_figure(1, 2, 2.9, sharey=True, sharex=True)
    titles = {"from_growth": "from weight growth", "from_step": "from effective step"}
    for index, (predicted, title) in enumerate(titles.items()):
        panel: Axes = axes[0, index]
        letter(panel, index, title)
        panel.set_xlabel("predicted thaw (iteration)")
        if judged.empty:
            place: dict[str, Any] = {"ha": "center", "va": "center", "color": QUIET}
            panel.text(0.5, 0.5, "no frozen layer", transform=panel.transAxes, **place)
            continue
        panel.set_xscale("log")
        panel.set_yscale("log")
        for arm in arms:
            own = (judged[["family", "depth", "weight_decay"]] == list(arm)).all(axis=1)
            name = _network_arm(*arm)
            for seen, marker, fill in ((True, "o", colours[arm]), (False, "^", "none")):
                part = judged[own & (judged["thaw"].notna() == seen)]
                look: dict[str, Any] = {"color": colours[arm], "markerfacecolor": fill}
                panel.plot(
                    part[predicted],
                    part["thaw"] if seen else part["end"],
                    linestyle="none",
                    marker=marker,
                    ms=3.6,
                    alpha=0.65,
                    markeredgewidth=0.8,
                    gid=f"{name}{'' if seen else ', censored'}, {predicted}",
                    **look,
                )
    if len(judged):
        _identity(axes[0], judged)
    axes[0, 0].set_ylabel("measured thaw (iteration)")
    handles: list[Artist] = [
        key(_network_arm(*arm), color=c, linestyle="none", marker="o", ms=4)
        for arm, c in colours.items()
    ]
    if judged["thaw"].isna().any():
        hollow = {"linestyle": "none", "markerfacecolor": "none"}
        handles.append(key("not thawed by then", color=INK, marker="^", ms=4, **hollow))
    runs = judged if len(judged) else frames.runs.reset_index().assign(weight_decay=0.0)
    counts = list(runs.groupby(["family", "depth", "weight_decay"])["seed"].nunique())
    sentences = [
        f"{len(judged)} frozen and inflated layers; {panels.seeds(counts)} per arm, all shown.",
        "" if max(counts) > 1 else "One seed each: no spread.",
        "Line: identity; grey: within a factor of two."
        if len(judged)
        else "No layer was frozen with inflated weights in a run with weight decay.",
        panels.unfinished(frames),
    ]
    return finish(figure, "Measured against predicted thaw", handles, sentences, columns=2)


@figure(
    "Training error and thaw",
    "Training error against iteration for different weight decays, learning rates and warm-ups, "
    "of the networks with most such arms. Lines are means over seeds, bands reach from the "
    "smallest to the largest seed; the triangle marks the median thaw of the slowest frozen layer, "
    "where all were seen to thaw.",
    across=True,
)
def thaw_curves(frames: Frames) -> Figure:
    """Training error over training by weight decay, rate and warm-up; marked: the last thaw.

    A panel per network, of those with most arms, three at most.

    Raises:
        UserError: if no training error was recorded.
    """
    frames = _normalized(frames, "thaw_curves")
    split = train_split(frames)
    rows = frames.metrics[frames.metrics["split"] == split]
    kept = panels.drawable(rows["error"], positive=False)
    if not kept.any():
        raise UserError("thaw_curves: no run has recorded an error; train at least one")
    rows = rows[kept].assign(arm=rows["run_id"].map(_arms(frames.runs)))
    decays = frames.runs[thaw.DECAY].astype(float)
    rows["decay"] = rows["run_id"].map(decays)
    # The rest of an arm, rate and warm-up, is told apart by line style.
    rows["rest"] = rows["run_id"].map(_arms(frames.runs.drop(columns=thaw.DECAY)))
    colours = sequential(rows["decay"])
    styles = {rest: LINESTYLES[i % 4] for i, rest in enumerate(sorted(rows["rest"].unique()))}
    thaws = thaw.last_thaw(thaw.thaw_table(frames)) if len(frames.layers) else pd.DataFrame()
    networks = _networks(rows)
    figure, axes = new_figure(1, len(networks), 2.9, sharey=True, sharex=True)
    counts: list[int] = []
    handles: dict[str, Artist] = {}
    thawed = False
    for index, (family, depth) in enumerate(networks):
        panel: Axes = axes[0, index]
        own = rows[(rows["family"] == family) & (rows["depth"] == depth)]
        panel.set_xlim(0, int(rows["step"].max()))
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x)))
        for arm, part in own.groupby("arm"):
            means = panels.summarize(part, ["step"], "error")
            counts.append(int(means["n"].max()))
            look: dict[str, Any] = {
                "color": colours[part["decay"].iloc[0]],
                "linestyle": styles[part["rest"].iloc[0]],
                "linewidth": 1.3,
            }
            band(panel, means["step"], means["low"], means["high"], look["color"], alpha=0.1)
            name = ", ".join(part for part in (f"{family}-{depth}", str(arm)) if part)
            panel.plot(means["step"], means["mean"], gid=name, **look)
            # In full, the second column of the legend does not fit.
            label = str(arm).replace("weight decay", "λ") or "training error"
            handles.setdefault(str(arm), key(label, **look))
            when = _median_thaw(thaws, part["run_id"].unique())
            if when is not None:
                thawed = True
                at = np.interp(when, means["step"], means["mean"])
                mark: dict[str, Any] = {"marker": "v", "ms": 7, "markeredgecolor": "white"}
                mark |= {"color": look["color"], "zorder": 5, "gid": f"{name}, thaw"}
                panel.plot([when], [at], **mark)
        panel.set_xlabel("iteration")
        letter(panel, index, f"{family}-{depth}")
    axes[0, 0].set_ylim(0, 100)
    axes[0, 0].yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes[0, 0].set_ylabel("training error (%)")
    entries = [handle for _, handle in sorted(handles.items())]
    if thawed:
        entries.append(key("last layer thaws", color=INK, linestyle="none", marker="v", ms=6))
    sentences = [
        f"Mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bands: minimum to maximum"),
        TRAINING_ERROR[split],
        "λ: weight decay." if any("weight decay" in arm for arm in handles) else "",
        "Triangle: median over runs of the thaw of the slowest frozen layer, where all thawed."
        if thawed
        else "",
        panels.left_out_count(int((~kept).sum()), "not finite"),
        panels.unfinished(frames),
    ]
    return finish(figure, "Training error and thaw", entries, sentences, columns=2)


def _normalized(frames: Frames, figure: str) -> Frames:
    chosen = select(frames, frames.runs.index[frames.runs["model.normalization"] == "batch"])
    if not len(chosen.runs):
        raise UserError(f"{figure}: is about batch normalisation; choose runs that have it")
    return chosen


def _most_seeds(rows: pd.DataFrame) -> int:
    """The depth with most seeds; of equals the deepest."""
    seeds = rows.groupby("depth")["seed"].nunique()
    return int(max(seeds.index.tolist(), key=lambda depth: (seeds[depth], depth)))


def _theory(axes: np.ndarray, own: pd.DataFrame, frames: Frames) -> None:
    """Free decay of the layer that grew most, and the equilibrium of the effective step."""
    run = frames.runs.loc[own["run_id"].iloc[0]]
    optimizer = [float(run[f]) for f in (thaw.RATE, thaw.MOMENTUM, thaw.DECAY)]
    if optimizer[-1] == 0:
        return
    look: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.2}
    axes[1].axhline(thaw.equilibrium_step(*optimizer), gid="equilibrium", **look)
    means = panels.summarize(own, ["step", "layer"], "growth", geometric=True)
    peak = means.sort_values("mean").iloc[-1]
    steps = np.geomspace(peak["step"] + 1, own["step"].max() + 1, 60) - 1
    decay = np.exp(-(steps - peak["step"]) / thaw.time_constant(*optimizer))
    axes[0].plot(steps, peak["mean"] * decay, gid="free decay", **look)


def _identity(axes: Iterable[Axes], judged: pd.DataFrame) -> None:
    """The line of a perfect prediction and its band, over one range for both axes."""
    values = judged[["from_growth", "from_step", "thaw", "end"]].to_numpy(float)
    limits = np.array([np.nanmin(values) / 1.3, np.nanmax(values) * 1.3])
    for panel in axes:
        factor = 2**thaw.BAND
        panel.fill_between(limits, limits / factor, limits * factor, color=FAINT, alpha=0.4, lw=0)
        panel.plot(limits, limits, color=INK, linewidth=1.0, gid="identity")
        panel.set_xlim(*limits)
        panel.set_ylim(*limits)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_minor_locator(NullLocator())
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x)))


def _network_arm(family: str, depth: int, decay: float) -> str:
    return f"{family}-{depth}, weight decay {decay:g}"


def _arms(runs: pd.DataFrame) -> pd.Series:
    """What tells the arm of each run apart: ``weight decay 0.005, warm-up 400``."""
    fields = {f: name for f, name in ARM.items() if f in runs and runs[f].nunique() > 1}
    texts = [
        ", ".join(
            f"{name} {value:g}" if value or not name.startswith("warm") else f"no {name}"
            for name, value in zip(fields.values(), values, strict=True)
        )
        for values in runs[list(fields)].itertuples(index=False, name=None)
    ]
    return pd.Series(texts, index=runs.index, dtype=object)


def _networks(rows: pd.DataFrame) -> list[tuple[str, int]]:
    """Networks with most arms, then most seeds, then depth; in the order of family and depth."""
    groups = rows.groupby(["family", "depth"])
    arms, seeds = groups["arm"].nunique(), groups["seed"].nunique()
    ranked = sorted(arms.index.tolist(), key=lambda n: (-arms[n], -seeds[n], -n[1], n[0]))
    return sorted((str(f), int(d)) for f, d in ranked[:NETWORKS_SHOWN])


def _median_thaw(thaws: pd.DataFrame, run_ids: np.ndarray) -> float | None:
    """Median over these runs of the last thaw; None unless all of them were seen."""
    if thaws.empty:
        return None
    own = thaws[thaws.index.isin(run_ids)]
    if not len(own) or not own["seen"].all():
        return None
    when = float(own["iteration"].median())
    return when if math.isfinite(when) else None


FIGURES = (
    weight_growth,
    thaw_times,
    thaw_curves,
)
