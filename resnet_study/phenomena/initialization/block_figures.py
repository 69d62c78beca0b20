"""Blocks at initialisation against theory: variances, path lengths, preserved norms.

All take `Frames.initialization`, which needs no runs, and pick their networks themselves.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_study.drawing import panels, plots, style
from resnet_study.drawing.render import figure
from resnet_study.phenomena.initialization import block_measures as measures
from resnet_study.phenomena.initialization import fits, theory
from resnet_study.phenomena.initialization.drawn import by_depth, required
from resnet_study.phenomena.initialization.gradient_measures import SIDES
from resnet_study.records import Frames
from resnet_study.reference import VEIT_BLOCKS, VEIT_LENGTHS

ORDERS = {"full-preactivation": style.KINDS[0], "original": style.KINDS[2]}
"""Colour of each block order."""

NORMS = {"batch": "BN", "none": "no normalisation"}

MOMENTS = {"channel_mean_square": "squared mean", "channel_variance": "variance"}

INVERSE: dict[str, Any] = {"color": style.QUIET, "linestyle": "--", "linewidth": 1.1}

_LENGTHS = "{} to {}".format(*VEIT_LENGTHS)
_SHARE = theory.path_shares(VEIT_BLOCKS)[VEIT_LENGTHS[0] : VEIT_LENGTHS[1] + 1].sum()


@figure(
    "Branch against skip variance",
    "Variance of the residual branch over that of the shortcut at the addition of every block, "
    "over images and pixels, mean over channels, of residual networks with batch normalisation at "
    "initialisation. De & Smith 2020 (arXiv 2002.10444): 1/l for block l of a pre-activated "
    "network, because every branch adds the same variance to the shortcut. Dotted: the same for "
    "this network, whose shortcut starts from a rectified stem, 1/(l − 1/2), and whose option A "
    "appends zero channels where a stage begins. In the original block order ReLU follows the "
    f"addition. {panels.MEDIANS}",
    across=True,
)
def branch_variance(frames: Frames) -> Figure:
    """Var(branch)/Var(skip) by block, against 1/l."""
    networks = {order: fits.NetworkKind("residual", block_order=order) for order in ORDERS}
    parts = {order: measures.variance_ratios(frames, n) for order, n in networks.items()}
    rows = required(pd.concat(parts, names=["kind"]).reset_index("kind"))
    rows["ratio"] = 1 / rows["value"]
    rows = rows[rows["depth"].isin(panels.shown_depths(rows, "kind"))]
    colours = style.sequential(rows["depth"])
    drawn, axes = style.new_figure(1, 2, 2.9, ORDERS, sharey=True)
    blocks = np.arange(1, (max(colours) - 2) // 2 + 1)
    for panel, own, order in plots.cells(axes, rows, kind=ORDERS):
        panel.set(xscale="log", yscale="log")
        plots.lines(panel, own, "index", "ratio", f"{order}-{{hue}}", hue=("depth", colours))
        panel.plot(blocks, 1 / blocks, gid=f"inverse-{order}", **INVERSE)
    axes[0, 0].plot(blocks, _ratio_line(len(blocks) // 3), gid="theory", **style.THEORY)
    style.label(axes, "block (log scale)", "Var(branch) / Var(skip)")
    handles = [*style.keys(colours), style.key("1/block", **INVERSE)]
    handles.append(style.key("theory, option A", **style.THEORY))
    sentences = [
        "Residual networks with BN at initialisation.",
        panels.over_seeds(rows, ["kind", "depth", "index"]),
        "De & Smith 2020: 1/l for pre-activated blocks. Theory: the same with a rectified stem, "
        "1/(l − 1/2), and with shortcut A, whose zero channels halve Var(skip) where stages "
        "begin; zero padding included. In original blocks ReLU follows the addition.",
    ]
    return style.finish(drawn, handles, sentences, columns=3)


@figure(
    "Signal propagation",
    "Squared channel mean and channel variance over images and pixels at the output of every "
    "block, mean over channels, after Brock et al. 2021 (arXiv 2101.08692): with batch "
    "normalisation they grow linearly within a stage and are reset where a stage begins, without "
    "exponentially. Deepest residual networks at initialisation. Dotted: theory for pre-activated "
    f"blocks and wide layers. {panels.MEDIANS}",
    across=True,
)
def signal_propagation_plot(frames: Frames) -> Figure:
    """Squared channel mean and channel variance at every block output of the deepest networks."""
    parts = []
    for moment, norm, order in itertools.product(MOMENTS, NORMS, ORDERS):
        network = fits.NetworkKind("residual", norm, block_order=order)
        own = fits.rows_of(frames, moment, network, positive=True)
        parts.append(own.assign(moment=moment, norm=norm, order=order))
    rows = required(pd.concat(parts))
    # The depth of most networks, the deepest of them.
    networks = rows[["depth", "moment", "norm", "order"]].drop_duplicates()
    counts = networks["depth"].value_counts()
    deep = int(counts.index[counts == counts.max()].max())
    rows = rows[rows["depth"] == deep]
    n = (deep - 2) // 6
    norms = [norm for norm in NORMS if (rows["norm"] == norm).any()]
    drawn, axes = style.new_figure(2, len(norms), 4.2, 2 * [NORMS[norm] for norm in norms])
    by_order = ("order", ORDERS)
    for panel, own, (moment, norm) in plots.cells(axes, rows, moment=MOMENTS, norm=norms):
        panel.set_yscale("linear" if norm == "batch" else "log")
        plots.vertical(panel, (n + 0.5, 2 * n + 0.5))
        plots.lines(panel, own, "index", "value", f"{moment}-{norm}-{{hue}}", hue=by_order)
        stem = own[(own["order"] == "full-preactivation") & (own["index"] == 0)]
        if len(stem):
            expected = _moments_line(moment, norm, n, float(stem["value"].median()))
            panel.plot(expected, gid=f"theory-{moment}-{norm}", **style.THEORY)
        if norm == "batch":
            panel.set_ylim(0, None)
    style.label(axes, "block (0: after the stem)")
    for row, moment in zip(axes, MOMENTS.values(), strict=True):
        row[0].set_ylabel(moment)
    handles = [*style.keys(ORDERS, "{}"), style.key("theory, pre-activation", **style.THEORY)]
    sentences = [
        f"Residual networks of depth {deep}, He, ReLU, at initialisation, mean over channels.",
        panels.over_seeds(rows, ["moment", "norm", "order", "index"]),
        "Brock et al. 2021: linear within a stage with BN, reset where stages begin (vertical "
        "lines); exponential without. Theory: a branch adds 1 − 1/π to the variance and 1/π to the "
        "squared mean with BN, doubles the second moment without (from block 0), zero padding "
        "included; shortcut A halves both where stages begin.",
    ]
    return style.finish(drawn, handles, sentences, columns=3)


@figure(
    "Gradient by path length",
    "Gradient that comes back to the first block along paths that take k residual branches and "
    "all other shortcuts, mean over random paths of that length, of a residual network with batch "
    "normalisation at initialisation (Veit et al. 2016, arXiv 1605.06431, who measured a trained "
    "one). (a) Of one path, relative to that of shortcuts alone, with the exponential fitted to "
    "k ≥ 1 (dotted). (b) Times the number of paths of the length, C(B, k), as a share of the "
    "total; dashed: share of the paths; shaded, at 110 layers: the lengths that carry the "
    f"gradient in the source. {panels.MEDIANS}",
    across=True,
)
def path_lengths(frames: Frames) -> Figure:
    """Gradient of single paths by their number of branches, and which lengths carry it."""
    rows = required(measures.deepest_paths(frames))
    depth, blocks = int(rows["depth"].iloc[0]), int(rows["index"].max())
    colour, k = style.FAMILIES["residual"].colour, np.arange(blocks + 1)
    start = rows[rows["index"] == 0].set_index("seed")["value"]
    rows = rows.assign(value=rows["value"] / rows["seed"].map(start))
    shares = [100 * fits.contribution(own) for _, own in rows.groupby("seed")]
    rows = rows.sort_values(["seed", "index"]).assign(share=np.concatenate(shares))
    through = rows[rows["index"] > 0]
    factor = float(np.exp(np.log(fits.per_network(through, measures.path_factor)).mean().iloc[0]))
    middle = panels.medians(through, ["index"], "value", geometric=True)
    level = np.log(middle["value"]).mean() - np.log(factor) * middle["index"].mean()
    drawn, axes = style.new_figure(1, 2, 2.9, ["One path", "All paths of a length"])
    one, all_paths = axes[0]
    one.set_yscale("log")
    plots.lines(one, rows, "index", "value", "gradient", color=colour)
    one.plot(k, np.exp(level) * factor**k, gid="fit", **style.THEORY)
    one.set(xlabel="branches on the path, k", ylabel="gradient g(k) / g(0)")
    plots.lines(all_paths, rows, "index", "share", "carried", color=colour)
    all_paths.plot(k, 100 * theory.path_shares(blocks), gid="paths", **INVERSE)
    all_paths.set(xlabel="branches on the path, k", ylabel="share (%)", ylim=(0, None))
    handles = [
        style.key(f"residual-{depth}", color=colour),
        style.key(f"×{factor:.3g} per branch", **style.THEORY),
        style.key("all paths, binomial", **INVERSE),
    ]
    if blocks == VEIT_BLOCKS:
        shade = {"color": "#e8d9a8", "alpha": 0.6, "linewidth": 0}
        all_paths.axvspan(VEIT_LENGTHS[0] - 0.5, VEIT_LENGTHS[1] + 0.5, zorder=0, **shade)
        handles.append(style.key(f"Veit et al. 2016: {_LENGTHS}", color="#e8d9a8", linewidth=7))
    sentences = [
        f"BN, at initialisation. {panels.over_seeds(rows, ['index'])} (a) Relative to the path "
        f"through no branch. (b) C({blocks}, k)·g(k), normalised, against the number of paths.",
        f"Veit et al. 2016: g falls exponentially in k; of {VEIT_BLOCKS} branches (110 layers, "
        f"trained) paths through {_LENGTHS}, {100 * _SHARE:.2f} % of all, carry the gradient.",
    ]
    return style.finish(drawn, handles, sentences, columns=2)


@figure(
    "Norm preservation by block",
    "Norm of the loss gradient at the input of a block over that at its output, of residual "
    "networks with batch normalisation at initialisation, blocks that change the shape left out. "
    "(a) By block. (b) Mean of |ln ratio| over the blocks against depth, with the power of depth "
    "fitted to it (dotted). Zaeemzadeh et al. 2018 (arXiv 1805.07477): the more blocks, the nearer "
    f"the ratio is to 1. {panels.MEDIANS}",
    across=True,
)
def norm_preservation(frames: Frames) -> Figure:
    """Ratio of gradient norms at input and output of every block, and its deviation by depth."""
    rows = fits.rows_of(frames, "block_gradient_norm", fits.BN_RESIDUAL, positive=True)
    rows = required(rows).assign(family="residual")
    colours = style.sequential(panels.shown_depths(rows))
    drawn, axes = style.new_figure(1, 2, 2.9, ["By block", "Deviation from 1"])
    blocks, deviation = axes[0]
    blocks.axhline(1, color=style.QUIET, linewidth=0.8, zorder=0)
    ratios = _block_ratios(rows[rows["depth"].isin(colours)])
    # Blocks that change the shape are not drawn: the lines end before them.
    for stage, own in ratios.groupby("stage"):
        gid = f"ratio-{{hue}}-stage{stage}"
        plots.lines(blocks, own, "position", "ratio", gid, hue=("depth", colours))
    blocks.set(xlabel="block / number of blocks", ylabel="‖∂L/∂x_b‖ / ‖∂L/∂x_(b+1)‖")
    blocks.yaxis.set_major_locator(MaxNLocator(5))
    table = fits.per_network(rows, fits.mean_deviation)
    deviation.set(yscale="log", ylabel="mean |ln ratio|")
    by_depth(deviation, {"residual": table}, "deviation")
    handles = style.keys(colours)
    whole = fits.rectangle(table)
    if whole.shape[1] >= 3:
        handles.append(_power_of_depth(deviation, whole))
    sentences = [
        "Residual networks with BN at initialisation.",
        panels.over_seeds(rows, ["depth", "index"]),
        "Blocks that change the shape are left out. Zaeemzadeh et al. 2018: the more blocks, the "
        "nearer to 1, the grey line.",
    ]
    return style.finish(drawn, handles, sentences)


def _moments_line(moment: str, norm: str, blocks: int, start: float) -> np.ndarray:
    """Predicted squared mean or variance at every block output of a pre-activated network."""
    if norm == "none":
        return start * theory.unnormalized_second_moment(blocks, SIDES)
    variance = moment == "channel_variance"
    scale = theory.BRANCH_VARIANCE if variance else theory.BRANCH_MEAN_SQUARE
    return scale * theory.preactivation_variance(
        blocks, measures.padded_branches(0 if variance else 1)
    )


def _ratio_line(blocks: int) -> np.ndarray:
    """Predicted Var(branch)/Var(skip) of every block of a fully pre-activated network."""
    branches = measures.padded_branches(0)
    variance = theory.preactivation_variance(blocks, branches)
    skip = [theory.carried(v, b, blocks) for b, v in enumerate(variance[:-1], start=1)]
    return np.repeat(branches, blocks) / np.array(skip)


def _block_ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """``depth, seed, stage, position`` (of all blocks, up to 1) and ``ratio`` of each block."""
    parts = []
    for (depth, seed), own in rows.groupby(["depth", "seed"]):
        n, ratios = fits.blocks_per_stage(own), np.exp(fits.block_log_ratios(own))
        place = {"stage": (ratios.index - 1) // n + 1, "position": ratios.index / (3 * n)}
        parts.append(pd.DataFrame({"depth": depth, "seed": seed, **place, "ratio": ratios}))
    return pd.concat(parts, ignore_index=True)


def _power_of_depth(panel: Axes, table: pd.DataFrame) -> Any:
    """Draw the fit, and return its legend entry."""
    depths = np.array(fits.depths_of(table), float)
    slope = fits.by_seed(table, fits.exponent).mean()
    level = np.log(table.to_numpy(float)).mean() - slope * np.log(depths).mean()
    panel.plot(depths, np.exp(level) * depths**slope, gid="fit", **style.THEORY)
    return style.key(f"fit, depth^{slope:.2f}".replace("-", "−"), **style.THEORY)


FIGURES = (
    branch_variance,
    signal_propagation_plot,
    path_lengths,
    norm_preservation,
)
