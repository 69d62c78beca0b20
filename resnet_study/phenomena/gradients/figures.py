"""What happens in every layer: gradient profiles, ratios, heatmaps and responses.

All of them are about the 3x3 layers, 1 to depth - 1; the classifier is neither normalised
nor a 3x3 layer. Norms are averaged over seeds geometrically, being drawn on log axes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_study.drawing import panels
from resnet_study.drawing.render import figure
from resnet_study.drawing.style import (
    FAINT,
    FAMILIES,
    INK,
    QUIET,
    at_most,
    band,
    finish,
    key,
    letter,
    log1p_iterations,
    log_ticks,
    new_figure,
    sequential,
    thousands,
)
from resnet_study.errors import UserError
from resnet_study.judging import selections
from resnet_study.judging.selections import models_of, relative_update, step_nearest
from resnet_study.phenomena.gradients.theory import growth_of, theory_line
from resnet_study.records import Frames

PROFILE_STEPS = (0, 1, 10, 100)
"""Iterations of the gradient profile, beside the last one; the nearest recorded are drawn."""

PAIR = (20, 56)
"""Depths of the paper's Figure 1, shown where not all depths can be."""

COLOUR_QUANTILES = (0.01, 0.99)

PLAIN: dict[str, Any] = {
    "residual": False,
    "shortcut": "A",
    "subsampling": "stride",
    "block_order": "original",
    "branch_scaling": "none",
}
"""What makes a plain network of any other."""

RUN_STEP = ["run_id", "family", "depth", "seed", "step"]

_HE = "He et al. 2015, arXiv 1512.03385"

_THEORY = (
    "Dotted, in plain panels: theory at initialisation. Batch normalisation followed by ReLU "
    "multiplies the squared gradient norm by π/(π−1) per layer toward the input, the norm by "
    "1.211 (Yang et al. 2019, arXiv 1902.08129); without normalisation the norm keeps its size "
    "under He initialisation and falls by 0.707 under LeCun initialisation (He et al. 2015, "
    "arXiv 1502.01852, section 2.2). Theory assumes wide layers of equal width and, for batch "
    "normalisation, fully connected ones and a large batch; these networks are convolutional, "
    "narrow, change width and map size between stages, and have batches of finite size."
)


@figure(
    "Gradient norm by layer",
    "Norm of the loss gradient with respect to the output z of every 3×3 layer before "
    "normalisation, relative to that of the last 3×3 layer, at initialisation and after the "
    "given numbers of iterations. A line that rises toward the left is a gradient that grows "
    f"toward the input. Geometric means over seeds, bands from smallest to largest. {_THEORY}",
)
def gradient_profile(frames: Frames) -> Figure:
    """Gradient norm of every layer relative to the last 3x3 layer, at chosen iterations.

    One panel per family and depth, three depths at most, all with one scale. Plain panels
    hold the line of theory for initialisation.

    Raises:
        UserError: if no layers were recorded, or none with a finite gradient.
    """
    probe = "activation_gradient_norm"
    rows = panels.layer_rows(frames, "gradient_profile", [probe])
    steps = _chosen_steps(rows)
    rows = rows[rows.step.isin(steps)]
    last = rows.loc[rows.layer == rows.depth - 1, [*RUN_STEP, probe]]
    rows = rows.merge(last, on=RUN_STEP, suffixes=("", "_last"))
    rows["relative"] = rows[probe] / rows[f"{probe}_last"]
    means = panels.summarize(rows, ["family", "depth", "step", "layer"], "relative", True)
    _require(means, "gradient_profile")
    families, depths = panels.families_in(means), _shown_depths(means)
    colours = sequential(steps, "plasma")
    # All runs of a figure differ in depth, family and seed alone.
    growth = growth_of(replace(models_of(frames.runs.iloc[:1])[0], **PLAIN))
    figure, axes = new_figure(
        len(families), len(depths), 1.75 * len(families), sharey=True, sharex="col"
    )
    for row, family in enumerate(families):
        for column, depth in enumerate(depths):
            panel: Axes = axes[row, column]
            panel.set_yscale("log")
            panel.axhline(1, color=FAINT, linewidth=0.8, zorder=0)
            _stage_lines(panel, rows[rows.depth == depth])
            part = means[(means.family == family) & (means.depth == depth)]
            for step, line in part.groupby("step"):
                band(panel, line.layer, line.low, line.high, colours[step])
                panel.plot(
                    line.layer,
                    line["mean"],
                    color=colours[step],
                    gid=f"{family}-{depth}-step{step}",
                )
            if family == "plain" and growth is not None:
                layers, norms = theory_line(depth, growth)
                panel.plot(layers, norms, color=INK, linestyle=":", linewidth=1.4, gid="theory")
            if part.empty:
                _say(panel, "not recorded")
            letter(panel, row * len(depths) + column, f"{family}-{depth}")
            if row == len(families) - 1:
                panel.set_xlabel("layer")
        axes[row, 0].set_ylabel("‖∂L/∂z‖, last 3×3 = 1")
    log_ticks(axes[0, 0])
    handles: list[Artist] = [key(f"iteration {thousands(s)}", color=colours[s]) for s in steps]
    if "plain" in families and growth is not None:
        handles.append(
            key(f"theory, ×{growth:.3f} per layer", color=INK, linestyle=":", linewidth=1.4)
        )
    sentences = [
        f"Geometric mean over {panels.seeds(means.n)}.",
        panels.spread(means.n, "Bands: minimum to maximum"),
        "Vertical lines: stages. Dotted: theory at initialisation, anchored at the last layer."
        if "plain" in families and growth is not None
        else "Vertical lines: stages.",
        panels.left_out(rows["relative"], positive=True),
        panels.unfinished(frames),
    ]
    return finish(figure, "Gradient norm by layer", handles, sentences, columns=3)


@figure(
    "Gradient norm by layer and iteration",
    "Norm of the loss gradient with respect to the output z of every 3×3 layer before "
    "normalisation, at every recorded iteration, of the network of 56 layers, or else "
    "the deepest that all families have. Geometric mean over seeds. The iteration axis is "
    "logarithmic and holds iteration 0; the colour scale is the same for all panels. Norms "
    "with respect to z also fall as 1/‖w‖ when weights grow (see the gradient ratio).",
)
def gradient_heatmap(frames: Frames) -> Figure:
    """Activation-gradient norm of every layer and recorded iteration, at one depth.

    Raises:
        UserError: if no layers were recorded, or none with a finite gradient.
    """
    probe = "activation_gradient_norm"
    rows = panels.layer_rows(frames, "gradient_heatmap", [probe])
    return _heatmap(
        frames,
        rows.assign(value=rows[probe]),
        "gradient_heatmap",
        "Gradient norm by layer and iteration",
        "log₁₀ ‖∂L/∂z‖",
        "viridis",
    )


@figure(
    "Relative update by layer and iteration",
    "How far one iteration moves the weights of every 3×3 layer relative to their size, "
    "‖Δw‖/‖w‖, learning rate and momentum included, of the network of 56 layers, or else the "
    "deepest that all families have. Geometric mean over seeds. Where it is small the layer "
    "is all but frozen. The iteration axis is logarithmic and holds iteration 0; the colour "
    "scale is the same for all panels.",
)
def update_heatmap(frames: Frames) -> Figure:
    """Relative update of every layer and recorded iteration, at one depth.

    Raises:
        UserError: if no layers were recorded, or none with a finite update.
    """
    rows = panels.layer_rows(frames, "update_heatmap", ["update_norm", "weight_norm"])
    return _heatmap(
        frames,
        rows.assign(value=relative_update(rows)),
        "update_heatmap",
        "Relative update by layer and iteration",
        "log₁₀ ‖Δw‖ / ‖w‖",
        "cividis",
    )


@figure(
    "First-to-last gradient ratio",
    "Gradient norm at the first 3×3 layer divided by that at the last one, (a) with respect to "
    "the output z before normalisation and (b) with respect to the response y after it. "
    "∂L/∂z of a normalised layer shrinks in proportion to 1/‖w‖ when its weights grow, although "
    "the signal that passes through is unchanged; ∂L/∂y does not depend on the scale of the "
    "layer's own weights. Only where both are small has the gradient vanished. Geometric means "
    "over seeds, bands from smallest to largest; at most three depths.",
)
def gradient_ratio(frames: Frames) -> Figure:
    """Gradient at the first 3x3 layer over that at the last one, from iteration 0 on.

    Raises:
        UserError: if no layers were recorded, or none with a finite gradient.
    """
    probes = ("activation_gradient_norm", "response_gradient_norm")
    panels.layer_rows(frames, "gradient_ratio", probes)
    tables = {probe: selections.gradient_ratio(frames, probe) for probe in probes}
    everything = pd.concat(tables.values(), ignore_index=True)
    _require(panels.summarize(everything, ["depth"], "ratio", True), "gradient_ratio")
    families, depths = panels.families_in(everything), _shown_depths(everything)
    colours = sequential(depths)
    figure, axes = new_figure(1, 2, 2.9, sharey=True)
    counts: list[int] = []
    titles = ("∂L/∂z, before normalisation", "∂L/∂y, after it")
    for index, (probe, title) in enumerate(zip(probes, titles, strict=True)):
        panel: Axes = axes[0, index]
        panel.set_yscale("log")
        panel.axhline(1, color=QUIET, linewidth=0.8, zorder=0)
        log1p_iterations(panel, int(everything.step.max()))
        for family in families:
            style = FAMILIES[family]
            for depth in depths:
                table = tables[probe]
                part = table[(table.family == family) & (table.depth == depth)]
                means = panels.summarize(part, ["step"], "ratio", geometric=True)
                counts += [int(means.n.max())] if len(means) else []
                band(panel, means.step, means.low, means.high, colours[depth])
                panel.plot(
                    means.step,
                    means["mean"],
                    color=colours[depth],
                    linestyle=style.linestyle,
                    marker=style.marker,
                    markevery=0.12,
                    ms=4,
                    gid=f"{family}-{depth}-{probe}",
                )
        panel.set_xlabel("iteration k, at log(1 + k)")
        letter(panel, index, title)
    log_ticks(axes[0, 0])
    axes[0, 0].set_ylabel("norm, first / last 3×3 layer")
    handles: list[Artist] = [key(f"depth {d}", color=c, linewidth=2.4) for d, c in colours.items()]
    handles += [
        key(s.label, color=INK, linestyle=s.linestyle, marker=s.marker, ms=4)
        for s in (FAMILIES[f] for f in families)
    ]
    sentences = [
        f"Geometric mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bands: minimum to maximum"),
        "Above 1 the gradient grows toward the input, below it shrinks.",
        panels.left_out(everything.loc[everything.depth.isin(depths), "ratio"], positive=True),
        panels.unfinished(frames),
    ]
    return finish(figure, "First-to-last gradient ratio", handles, sentences, columns=5)


def _heatmap(
    frames: Frames, rows: pd.DataFrame, name: str, title: str, label: str, palette: str
) -> Figure:
    """Layer × iteration of the column ``value``, a panel per family, one colour scale."""
    depths = _heatmap_depths(rows)
    rows = rows[rows.depth == rows.family.map(depths)]
    means = panels.summarize(rows, ["family", "step", "layer"], "value", geometric=True)
    _require(means, name)
    logs = np.log10(means["mean"])
    # The first iterations of a deep plain network are so far out that they would take the
    # whole scale; what lies beyond it has the end colours, and the bar has arrows.
    scale = Normalize(*np.quantile(logs, COLOUR_QUANTILES))
    families = panels.families_in(means)
    figure, axes = new_figure(len(families), 1, 2.0 * len(families), sharex=True)
    for row, family in enumerate(families):
        panel: Axes = axes[row, 0]
        own = rows[rows.family == family]
        steps = np.sort(own.step.unique())
        # Every recorded iteration has a column, also where all of its values are masked.
        grid = means[means.family == family].pivot(index="layer", columns="step", values="mean")
        grid = grid.reindex(index=range(1, depths[family]), columns=steps)
        panel.set_facecolor("#e4e4e4")
        log1p_iterations(panel, int(rows.step.max()))
        edges = _cell_edges(steps)
        mesh = panel.pcolormesh(
            edges,
            np.arange(depths[family]) + 0.5,
            np.ma.masked_invalid(np.log10(grid.to_numpy(dtype=float))),
            norm=scale,
            cmap=palette,
            rasterized=True,
            gid=f"{family}-{depths[family]}",
        )
        panel.set_xlim(edges[0], max(float(edges[-1]), float(rows.step.max())))
        for boundary in _stage_ends(own):
            panel.axhline(boundary + 0.5, color="white", linewidth=0.8, alpha=0.7)
        panel.set_ylim(0.5, depths[family] - 0.5)
        panel.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.set_ylabel("layer (1 = input)")
        letter(panel, row, f"{family}-{depths[family]}")
    axes[-1, 0].set_xlabel("iteration k, at log(1 + k)")
    figure.colorbar(mesh, ax=list(axes[:, 0]), label=label, extend="both", aspect=32)
    sentences = [
        f"Geometric mean over {panels.seeds(means.n)}; spread in the gradient ratio figure."
        if max(means.n) > 1
        else "n = 1 seed: no spread.",
        "Colours end at the 1st and 99th percentile. Horizontal lines: stages.",
        panels.left_out(rows["value"], positive=True),
        panels.unfinished(frames),
    ]
    return finish(figure, title, [], sentences)


def _chosen_steps(rows: pd.DataFrame) -> list[int]:
    """Recorded steps nearest to `PROFILE_STEPS`, and the last."""
    recorded = [int(s) for s in rows.step.unique()]
    nearest = {step_nearest(recorded, wanted) for wanted in PROFILE_STEPS}
    return sorted({s for s in nearest if s is not None} | {max(recorded)})


def _shown_depths(table: pd.DataFrame) -> list[int]:
    """At most three depths, of those that all families have if there are any.

    Where there are more, the paper's pair and the deepest of all, or an even choice.
    """
    own = [set(part.depth) for _, part in table.groupby("family")]
    depths = sorted(int(d) for d in set.intersection(*own) or set.union(*own))
    if len(depths) > 3 and set(PAIR) < set(depths):
        return sorted({*PAIR, max(depths)})
    return at_most(depths, 3)


def _heatmap_depths(rows: pd.DataFrame) -> dict[str, int]:
    """56 or else the deepest depth that all families have; failing that, each its deepest.

    56 is the deep network of the paper's Figure 1; a plain network of 110 layers has so
    little gradient left that most of its panel would be empty.
    """
    own = {str(family): set(part.depth) for family, part in rows.groupby("family")}
    common = set.intersection(*own.values())
    if PAIR[1] in common:
        return dict.fromkeys(own, PAIR[1])
    return {family: int(max(common or depths)) for family, depths in own.items()}


def _require(means: pd.DataFrame, name: str) -> None:
    if means.empty:
        raise UserError(
            f"{name}: no recorded value is finite and positive; see the status of the runs"
        )


def _stage_ends(rows: pd.DataFrame) -> list[int]:
    """Last layer of the stem and of each stage but the last."""
    ends = rows.groupby("stage").layer.max().sort_index()
    return [int(end) for end in ends.iloc[:-1]]


def _stage_lines(panel: Axes, rows: pd.DataFrame) -> None:
    for end in _stage_ends(rows):
        panel.axvline(end + 0.5, color=FAINT, linewidth=0.7, zorder=0)


def _cell_edges(steps: np.ndarray) -> np.ndarray:
    """Borders between recorded iterations, midway on the axis of `log1p_iterations`."""
    at = np.log1p(np.asarray(steps, dtype=float))
    if len(at) == 1:
        return np.expm1(np.array([at[0] - 0.3, at[0] + 0.3]))
    middle = (at[1:] + at[:-1]) / 2
    first, last = at[0] - (middle[0] - at[0]), at[-1] + (at[-1] - middle[-1])
    return np.expm1(np.concatenate([[first], middle, [last]]))


def _say(panel: Axes, text: str) -> None:
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color=QUIET)


FIGURES = (gradient_profile, gradient_ratio, gradient_heatmap, update_heatmap)
