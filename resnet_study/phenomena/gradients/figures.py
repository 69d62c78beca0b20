"""What happens in every layer: gradient profiles, three ratios, heatmaps.

All of them are about the convolutions, 1 to depth - 1; the classifier is neither normalised
nor a convolution. Which three gradients there are is said in `resnet_study.probes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from resnet_study.drawing import panels, plots, style
from resnet_study.drawing.render import figure
from resnet_study.judging.selections import layer_quantity, over_last
from resnet_study.judging.words import two_digits
from resnet_study.phenomena.gradients import measures, theory
from resnet_study.probes import FIRST, GRADIENTS
from resnet_study.records import Frames

PROFILE_STEPS = (0, 1, 10, 100)
"""Iterations of the gradient profile, beside the last one; the nearest recorded are drawn."""

PICTURE_STEPS = (0, 10, 100)
"""Iterations of `signal_and_turn`; the nearest recorded are drawn."""

PICTURES = 40
"""Most of the film, beside that of iteration 0; as many iterations as records have near them."""

DEEP = 56
"""Depth of the heatmaps: the deep network of the paper's Figure 1. A plain network of 110 layers
has so little gradient left that most of its panel would be empty."""

COLOUR_QUANTILES = (0.01, 0.99)

THREE = {"raw": "raw ‖∂L/∂z‖", "signal": "signal ‖w‖‖∂L/∂w‖", "turn": "turn (angle)"}
"""The three gradients and the titles of their panels."""

_THEORY = (
    "Dotted, in plain panels: theory at initialisation. Batch normalisation followed by ReLU "
    "multiplies the squared gradient norm by π/(π−1) per layer toward the input, the norm by "
    f"{theory.BN_RELU_GROWTH:.3f} (Yang et al. 2019, arXiv 1902.08129); without normalisation it "
    f"is multiplied by {theory.HE_RELU_FACTOR:g} under He initialisation and by "
    f"{theory.LECUN_RELU_FACTOR:.3f} under LeCun initialisation (He et al. 2015, arXiv 1502.01852, "
    "section 2.2). Theory assumes wide layers of equal width and, for batch normalisation, fully "
    "connected ones and a large batch; these networks are convolutional, narrow, change width and "
    "map size between stages, and have batches of finite size."
)


@figure(
    "Gradient norm ‖∂L/∂z‖ by layer",
    "Norm of the loss gradient with respect to the output z of every convolution before "
    "normalisation, relative to that of the last convolution, at initialisation and after the "
    "given numbers of iterations. A line that rises toward the left is a gradient that grows "
    "toward the input; each panel has a scale of its own. At most three depths. "
    f"{panels.MEDIANS} {_THEORY}",
    shown=panels.at_shown_depths,
)
def gradient_profile(frames: Frames) -> Figure:
    """A panel per family and depth, each with its own scale; theory in those of plain networks."""
    rows = panels.layer_rows(frames, "activation_gradient_norm")
    steps = sorted({*panels.nearest_steps(rows, PROFILE_STEPS), int(rows["step"].max())})
    rows = rows[rows["step"].isin(steps)]
    last = _at_layer(rows, rows["depth"] - 1, "activation_gradient_norm")
    rows = rows.assign(relative=rows["activation_gradient_norm"] / last)
    rows, left_out = panels.drawable_rows(rows, "relative")
    families, depths = panels.families_in(rows), panels.shown_depths(rows)
    colours = style.sequential(steps, "plasma")
    # All runs of a figure differ in depth, family and seed alone.
    growth = measures.predicted_growth(frames.runs)
    titles = [f"{family}-{depth}" for family in families for depth in depths]
    size = (len(families), len(depths), 1.75 * len(families))
    drawn, axes = style.new_figure(*size, titles, sharex="col")
    for panel, own, (family, depth) in plots.cells(axes, rows, family=families, depth=depths):
        panel.set_yscale("log")
        panel.axhline(1, color=style.FAINT, linewidth=0.8, zorder=0)
        plots.vertical(panel, plots.stage_ends(rows[rows["depth"] == depth]))
        gid = f"{family}-{depth}-step{{hue}}"
        plots.lines(panel, own, "layer", "relative", gid, hue=("step", colours))
        if family == "plain" and growth is not None:
            panel.plot(*theory.theory_line(depth, growth.factor), gid="theory", **style.THEORY)
        if own.empty:
            plots.say(panel, "not recorded")
    style.label(axes, "layer", "last convolution = 1")
    handles = style.keys({style.thousands(s): colours[s] for s in steps}, "iteration {}")
    if predicted := growth is not None and "plain" in families:
        handles.append(style.key(f"theory, ×{growth.factor:.3f} per layer", **style.THEORY))
    sentences = [
        panels.over_seeds(rows, ["family", "depth", "step", "layer"]),
        "Vertical lines: stages.",
        "Dotted: theory at initialisation, anchored at the last layer." if predicted else "",
        left_out,
        panels.of_runs(frames),
    ]
    return style.finish(drawn, handles, sentences, columns=3)


@figure(
    "Three gradients, layer 2 over the last",
    "Three quantities at layer 2, the first behind the stem, divided by the same at the last "
    "convolution. (a) Raw: the norm of the loss gradient with respect to the output z before "
    "normalisation, of which theory at initialisation speaks; for a normalised layer it falls as "
    "1/‖w‖ when weights grow, although the signal that passes is unchanged. (b) Signal: "
    "‖w‖·‖∂L/∂w‖, the sensitivity of the loss to a relative change of the weights, which no scale "
    "of weights, normalisation or pixels changes: whether the gradient reaches a layer. (c) Turn: "
    "the angle by which one iteration turns the weights: whether a normalised layer learns. A raw "
    "gradient that is small need not have vanished: the signal says whether it has, and the turn "
    f"whether the layer moves. At most three depths; the axis is that of those up to {DEEP} "
    f"layers. {panels.MEDIANS}",
    shown=panels.at_shown_depths,
)
def gradient_ratio(frames: Frames) -> Figure:
    """Raw gradient, signal and turn of layer 2 over those of the last convolution, by iteration."""
    panels.layer_rows(frames, GRADIENTS["raw"])
    parts = [over_last(frames, GRADIENTS[name]).assign(quantity=name) for name in THREE]
    ratios = pd.concat(parts, ignore_index=True)
    ratios, left_out = panels.drawable_rows(ratios, "ratio")
    families, colours = panels.families_in(ratios), style.sequential(ratios["depth"])
    looks = {f: {**style.FAMILIES[f].look, "markevery": 0.15, "ms": 4} for f in families}
    for look in looks.values():
        del look["color"]
    drawn, axes = style.new_figure(1, len(THREE), 2.7, THREE.values(), sharey=True)
    axes[0, 0].set_yscale("log")
    for panel, own, quantity in plots.cells(axes, ratios, quantity=THREE):
        panel.axhline(1, color=style.QUIET, linewidth=0.8, zorder=0)
        plots.iteration_axis(panel, int(ratios["step"].max()))
        told: dict[str, Any] = {"hue": ("depth", colours), "style": ("family", looks)}
        plots.lines(panel, own, "step", "ratio", f"{{style}}-{{hue}}-{quantity}", **told)
        if own.empty:
            plots.say(panel, "not recorded")
        panel.set_xlabel("iteration k")
    axes[0, 0].set_ylabel("layer 2 / last convolution")
    low, high = _limits(ratios["ratio"][_of_the_axis(ratios)])
    axes[0, 0].set_ylim(low, high)
    beyond = ratios[~ratios["ratio"].between(low, high)]
    handles = style.keys(colours) + style.family_keys(families, color=style.INK, ms=4)
    sentences = [
        panels.over_seeds(ratios, ["family", "depth", "quantity", "step"]),
        "Iterations at log(1 + k). Above 1 layer 2 has more than the last convolution.",
        f"Partly beyond the axis: {panels.networks(beyond)}." if len(beyond) else "",
        left_out,
        panels.of_runs(frames),
    ]
    return style.finish(drawn, handles, sentences, columns=5)


def signal_and_turn_film(frames: Frames) -> Iterator[Figure]:
    """The same as `signal_and_turn` at the recorded iterations, one picture for each."""
    last = max(int(frames.layers_with()["step"].max()), 1)
    wanted = [0, *np.geomspace(1, last, PICTURES).round().astype(int).tolist()]
    rows, depths, left_out = _signal_and_turn(frames, wanted)
    limits = {str(name): _limits(part["relative"]) for name, part in rows.groupby("quantity")}
    for step in sorted(rows["step"].unique().tolist()):
        shown = rows[rows["step"] == step]
        drawn = _draw_signal_and_turn(frames, shown, depths, left_out, limits)
        yield style.titled(drawn, f"Signal and turn by layer at iteration {step:,}")


@figure(
    "Signal and turn by layer",
    "Plain against residual, at initialisation and after k iterations, layer by layer from the "
    "first behind the stem. Above, the signal ‖w‖·‖∂L/∂w‖, the sensitivity of the loss to a "
    "relative change of a layer's weights: whether the gradient reaches the layer. Below, the "
    "turn, the angle by which an iteration turns the weights: whether the layer learns. Both "
    "relative to the last convolution, of the network of "
    f"{DEEP} layers, or else the deepest that all families have. {panels.MEDIANS}",
    moving=signal_and_turn_film,
    shown=partial(panels.at_depth, depth=DEEP),
)
def signal_and_turn(frames: Frames) -> Figure:
    """A row of panels each for signal and turn, a panel per iteration, with both families in it."""
    rows, depths, left_out = _signal_and_turn(frames, PICTURE_STEPS)
    drawn = _draw_signal_and_turn(frames, rows, depths, left_out)
    return style.titled(drawn, _finding(rows, depths, int(rows["step"].max())))


def _signal_and_turn(
    frames: Frames, wanted: Sequence[int]
) -> tuple[pd.DataFrame, dict[str, int], str]:
    """Rows with ``quantity`` and ``relative``, the depth of each family, and what is left out."""
    rows = panels.layer_rows(frames, "weight_norm", "weight_gradient_norm", "angular_step")
    depths = _depths(rows)
    rows = rows[rows["layer"] >= FIRST]
    steps = panels.nearest_steps(rows, wanted)
    rows = rows[rows["step"].isin(steps)].reset_index(drop=True)
    parts = []
    for name in ("signal", "turn"):
        values = rows.assign(quantity=name, value=layer_quantity(rows, GRADIENTS[name]))
        last = _at_layer(values, values["depth"] - 1, "value")
        parts.append(values.assign(relative=values["value"] / last))
    kept, left_out = panels.drawable_rows(pd.concat(parts, ignore_index=True), "relative")
    return kept, depths, left_out


def _draw_signal_and_turn(
    frames: Frames,
    rows: pd.DataFrame,
    depths: dict[str, int],
    left_out: str,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Panels of every iteration in the rows, of a single one side by side.

    Args:
        limits: of the axes of ``signal`` and ``turn``; by default those of the data.
    """
    families, steps = panels.families_in(rows), sorted(rows["step"].unique().tolist())
    colours = {family: style.FAMILIES[family].colour for family in families}
    told = {"quantity": ("signal", "turn"), "step": steps}
    titles = [f"{name}, k = {style.thousands(k)}" for name in told["quantity"] for k in steps]
    shape = (2, len(steps), 3.9) if len(steps) > 1 else (1, 2, 2.3)
    drawn, axes = style.new_figure(
        *shape, titles, sharey="row" if len(steps) > 1 else False, sharex=True
    )
    for panel, own, (quantity, step) in plots.cells(axes, rows, **told):
        panel.set_yscale("log")
        if limits:
            panel.set_ylim(limits[quantity])
        panel.axhline(1, color=style.FAINT, linewidth=0.8, zorder=0)
        plots.vertical(panel, plots.stage_ends(rows))
        gid = f"{{hue}}-{quantity}-step{step}"
        plots.lines(panel, own, "layer", "relative", gid, hue=("family", colours))
    style.label(axes, "layer", "last convolution = 1")
    sentences = [
        panels.over_seeds(rows, ["family", "quantity", "step", "layer"]),
        "Vertical lines: stages.",
        left_out,
        panels.of_runs(frames),
    ]
    handles = [style.key(f"{f}-{depths[f]}", color=colours[f]) for f in families]
    return style.finish(drawn, handles, sentences)


def _limits(values: pd.Series) -> tuple[float, float]:
    """Of an axis that holds all of them and 1, with room."""
    return min(float(values.min()), 1.0) / 1.5, max(float(values.max()), 1.0) * 1.5


def _finding(rows: pd.DataFrame, depths: dict[str, int], step: int) -> str:
    """What the first of these layers has after the last iteration shown, in the first family."""
    family = next(iter(depths))
    own = rows[(rows["layer"] == FIRST) & (rows["step"] == step) & (rows["family"] == family)]
    middle = panels.medians(own, ["quantity"], "relative", geometric=True)
    told = [f"{name} ×{two_digits(value)}" for name, value in middle.to_numpy()]
    said = ", ".join(told) or "below what float32 holds"
    return f"Layer {FIRST} of {family}-{depths[family]}, k = {step:,}: {said}"


@figure(
    "Gradient norm by layer and iteration",
    "Norm of the loss gradient with respect to the output z of every convolution before "
    f"normalisation, at every recorded iteration, of the network of {DEEP} layers, or else "
    "the deepest that all families have. Medians over seeds. The iteration axis is "
    "logarithmic and holds iteration 0; the colour scale is the same for all panels. Norms "
    "with respect to z also fall as 1/‖w‖ when weights grow (see the three gradients).",
    shown=partial(panels.at_depth, depth=DEEP),
)
def gradient_heatmap(frames: Frames) -> Figure:
    """Activation-gradient norm of every layer and recorded iteration, at one depth."""
    rows = panels.layer_rows(frames, "activation_gradient_norm")
    rows["value"] = rows["activation_gradient_norm"]
    return _heatmaps(frames, rows, "log₁₀ ‖∂L/∂z‖", "viridis")


@figure(
    "Turn by layer and iteration",
    "Angle by which one iteration turns the weights of every convolution, learning rate and "
    "momentum "
    f"included, of the network of {DEEP} layers, or else the deepest that all families have. Where "
    "it is small a normalised layer is all but frozen. Of records that lack the angle the relative "
    "update ‖Δw‖/‖w‖ is drawn instead, and the figure says so; that does not measure learning, for "
    "weight decay alone shrinks the weights and turns nothing. Medians over seeds. The iteration "
    "axis is logarithmic and holds iteration 0; the colour scale is the same for all panels.",
    shown=partial(panels.at_depth, depth=DEEP),
)
def update_heatmap(frames: Frames) -> Figure:
    """Angular step of every layer and recorded iteration, at one depth."""
    layers = frames.layers_with("angular_step")
    if "angular_step" in layers and layers["angular_step"].notna().any():
        rows = panels.layer_rows(frames, "angular_step")
        rows["value"] = rows["angular_step"]
        return _heatmaps(frames, rows, "log₁₀ angle (rad)", "cividis")
    rows = panels.layer_rows(frames, "update_norm", "weight_norm")
    rows["value"] = layer_quantity(rows, "relative_update")
    note = "The turn was not recorded: this is the relative update, which holds weight decay."
    drawn = _heatmaps(frames, rows, "log₁₀ ‖Δw‖ / ‖w‖", "cividis", note)
    return style.titled(drawn, "Relative update by layer and iteration")


def _at_layer(rows: pd.DataFrame, layer: pd.Series, value: str) -> np.ndarray:
    """A value of another layer of the same network and iteration, for each of these layers."""
    own = rows.loc[layer.index]
    places = pd.MultiIndex.from_arrays([own["run_id"], own["step"], layer])
    return rows.set_index(["run_id", "step", "layer"])[value].reindex(places).to_numpy(float)


def _heatmaps(
    frames: Frames, rows: pd.DataFrame, unit: str, palette: str, note: str = ""
) -> Figure:
    """Layer × iteration of the column ``value``, a panel per family, one colour scale."""
    depths = _depths(rows)
    kept, left_out = panels.drawable_rows(rows, "value")
    middle = panels.medians(kept, ["family", "step", "layer"], "value", geometric=True)
    # The first iterations of a deep plain network are so far out that they would take the
    # whole scale; what lies beyond it has the end colours, and the bar has arrows.
    scale = Normalize(*np.quantile(np.log10(middle["value"]), COLOUR_QUANTILES))
    families = panels.families_in(kept)
    titles = [f"{family}-{depths[family]}" for family in families]
    drawn, axes = style.new_figure(len(families), 1, 2.0 * len(families), titles, sharex=True)
    for panel, own, family in plots.cells(axes, rows, family=families):
        mesh = plots.heatmap(panel, own, "value", depths[family] - 1, scale, palette)
        mesh.set_gid(f"{family}-{depths[family]}")
        for end in plots.stage_ends(own):
            panel.axhline(end, color="white", linewidth=0.8, alpha=0.7)
    style.label(axes, plots.ITERATION, "layer (1 = input)")
    drawn.colorbar(mesh, ax=list(axes[:, 0]), label=unit, extend="both", aspect=32)
    low, high = (f"{100 * quantile:g}" for quantile in COLOUR_QUANTILES)
    sentences = [
        panels.over_seeds(kept, ["family", "step", "layer"], single=False),
        f"Colours end at percentiles {low} and {high}. Horizontal lines: stages.",
        note,
        left_out,
        panels.of_runs(frames),
    ]
    return style.finish(drawn, [], sentences)


def _of_the_axis(ratios: pd.DataFrame) -> pd.Series:
    """Which rows the axis is made for: of depths up to `DEEP`, or all where there is none.

    A plain network of 110 layers falls so far that no other could be told apart beside it.
    """
    shallow = ratios["depth"] <= DEEP
    return shallow if shallow.any() else ~shallow


def _depths(rows: pd.DataFrame) -> dict[str, int]:
    """The depth of each family, where each has one."""
    return {str(f): int(d) for f, d in rows.groupby("family", observed=True)["depth"].max().items()}


FIGURES = (signal_and_turn, gradient_profile, gradient_ratio, gradient_heatmap, update_heatmap)
