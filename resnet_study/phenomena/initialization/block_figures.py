"""Blocks at initialisation against theory: variances, path lengths, preserved norms.

All take `Frames.initialization`, which needs no runs, and pick their networks themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from resnet_study.drawing import panels
from resnet_study.drawing.render import figure
from resnet_study.drawing.style import (
    FAINT,
    FAMILIES,
    QUIET,
    band,
    finish,
    key,
    letter,
    log_ticks,
    sequential,
)
from resnet_study.phenomena.initialization import theory
from resnet_study.phenomena.initialization.block_measures import (
    BRANCHES,
    deepest_paths,
    path_factor,
    variance_ratios,
)
from resnet_study.phenomena.initialization.fits import (
    BN_RESIDUAL,
    PREACTIVATED,
    NetworkKind,
    block_log_ratios,
    contribution,
    depths_of,
    exponent,
    mean_deviation,
    per_network,
    positive_networks,
    rectangle,
    rows_of,
)
from resnet_study.phenomena.initialization.gradient_measures import SIDES
from resnet_study.phenomena.initialization.mosaic import (
    THEORY,
    depth_axis,
    depth_keys,
    draw_by_depth,
    mosaic_of,
    require,
    shown_depths,
)
from resnet_study.records import Frames

ORDERS = {"full-preactivation": "#0b4f8a", "original": "#c1440e"}
"""Colour of each block order."""

VEIT = (5, 17)
"""Branches on the paths that carry the gradient in Veit et al. 2016, of 54."""


@figure(
    "Branch against skip variance",
    "Variance of the residual branch over that of the shortcut at the addition of every block, "
    "over images and pixels, mean over channels, of residual networks with batch normalisation at "
    "initialisation. De & Smith 2020 (arXiv 2002.10444): 1/l for block l of a pre-activated "
    "network, because every branch adds the same variance to the shortcut. Dotted: the same for "
    "this network, whose shortcut starts from a rectified stem, 1/(l − 1/2), and whose option A "
    "appends zero channels where a stage begins. In the original block order ReLU follows the "
    "addition. Geometric means over seeds, bands from smallest to largest.",
    across=True,
)
def branch_variance(frames: Frames) -> Figure:
    """Var(branch)/Var(skip) by block, against 1/l.

    Raises:
        UserError: if these variances were not measured.
    """
    rows = {n.block_order: variance_ratios(frames, n) for n in (PREACTIVATED, BN_RESIDUAL)}
    whole = pd.concat(rows.values())
    require(whole, "branch_variance")
    depths = shown_depths(whole)
    colours = sequential(depths)
    figure, axes = mosaic_of([list(rows)], 2.9)
    counts: list[int] = []
    for index, (order, part) in enumerate(rows.items()):
        panel = axes[order]
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.sharey(axes["full-preactivation"])
        for depth in depths:
            one = part[part["depth"] == depth]
            inverse = one.assign(value=1 / one["value"])
            means = panels.summarize(inverse, ["index"], "value", True)
            counts += list(means.n)
            band(panel, means["index"], means.low, means.high, colours[depth])
            gid = f"{order}-{depth}"
            panel.plot(means["index"], means["mean"], color=colours[depth], gid=gid)
        blocks = np.arange(1, (max(depths) - 2) // 2 + 1)
        panel.plot(blocks, 1 / blocks, gid=f"inverse-{order}", color=QUIET, linestyle="--", lw=1.1)
        if order == "full-preactivation":
            expected = _ratio_line(len(blocks) // 3)
            panel.plot(blocks, expected, gid="theory", **THEORY)
        panel.set_xlabel("block")
        letter(panel, index, order)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    log_ticks(axes["full-preactivation"])
    axes["original"].tick_params(labelleft=False)
    axes["full-preactivation"].set_ylabel("Var(branch) / Var(skip)")
    handles = depth_keys(colours)
    handles.append(key("1/block", color=QUIET, linestyle="--", lw=1.1))
    handles.append(key("theory, option A", **THEORY))
    sentences = [
        f"Residual networks with BN at initialisation. Geometric mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bands: minimum to maximum"),
        "De & Smith 2020: 1/l for pre-activated blocks. Theory: the same with a rectified stem, "
        "1/(l − 1/2), and with shortcut A, whose zero channels halve Var(skip) where stages "
        "begin; zero padding included. In original blocks ReLU follows the addition.",
    ]
    return finish(figure, "Branch against skip variance", handles, sentences, columns=3)


@figure(
    "Signal propagation",
    "Squared channel mean and channel variance over images and pixels at the output of every "
    "block, mean over channels, after Brock et al. 2021 (arXiv 2101.08692): with batch "
    "normalisation they grow linearly within a stage and are reset where a stage begins, without "
    "exponentially. Deepest residual networks at initialisation. Dotted: theory for pre-activated "
    "blocks and wide layers. Means over seeds, geometric without normalisation, bands from "
    "smallest to largest.",
    across=True,
)
def signal_propagation_plot(frames: Frames) -> Figure:
    """Squared channel mean and channel variance at every block output of the deepest networks.

    Raises:
        UserError: if these moments were not measured.
    """
    quantities = {"channel_mean_square": "squared mean", "channel_variance": "variance"}
    rows = {
        (quantity, norm, order): positive_networks(
            rows_of(
                frames.initialization, quantity, NetworkKind("residual", norm, block_order=order)
            )
        )
        for quantity in quantities
        for norm in ("batch", "none")
        for order in ORDERS
    }
    whole = pd.concat(rows.values())
    require(whole, "signal_propagation_plot")
    # The depth of most networks, the deepest of them.
    measured = [int(depth) for part in rows.values() for depth in part["depth"].unique()]
    deep = max(measured, key=lambda depth: (measured.count(depth), depth))
    rows = {key: part[part["depth"] == deep] for key, part in rows.items()}
    n = (deep - 2) // 6
    norms = [
        m for m in ("batch", "none") if any(len(rows[q, m, o]) for q in quantities for o in ORDERS)
    ]
    figure, axes = mosaic_of([[f"{q}-{m}" for m in norms] for q in quantities], 4.2)
    counts: list[int] = []
    for row, (quantity, label) in enumerate(quantities.items()):
        for column, norm in enumerate(norms):
            panel = axes[f"{quantity}-{norm}"]
            for end in (n, 2 * n):
                panel.axvline(end + 0.5, color=FAINT, linewidth=0.7, zorder=0)
            for order, colour in ORDERS.items():
                part = rows[quantity, norm, order]
                means = panels.summarize(part, ["index"], "value", norm == "none")
                counts += list(means.n)
                band(panel, means["index"], means.low, means.high, colour)
                gid = f"{quantity}-{norm}-{order}"
                panel.plot(means["index"], means["mean"], color=colour, gid=gid)
                if order == "full-preactivation" and len(means):
                    expected = _moments_line(quantity, norm, n, float(means["mean"].iloc[0]))
                    gid = f"theory-{quantity}-{norm}"
                    panel.plot(np.arange(3 * n + 1), expected, gid=gid, **THEORY)
            if norm == "batch":
                panel.set_ylim(0, None)
            else:
                panel.set_yscale("log")
                log_ticks(panel)
            named = "BN" if norm == "batch" else "no normalisation"
            letter(panel, row * len(norms) + column, named)
            if row == 1:
                panel.set_xlabel("block (0: after the stem)")
        axes[f"{quantity}-{norms[0]}"].set_ylabel(label)
    handles: list[Artist] = [key(order, color=colour) for order, colour in ORDERS.items()]
    handles.append(key("theory, pre-activation", **THEORY))
    sentences = [
        f"Residual networks of depth {deep}, He, ReLU, at initialisation, mean over channels, then "
        f"over {panels.seeds(counts)} (geometric without normalisation).",
        panels.spread(counts, "Bands: minimum to maximum"),
        "Brock et al. 2021: linear within a stage with BN, reset where stages begin (vertical "
        "lines); exponential without. Theory: a branch adds 1 − 1/π to the variance and 1/π to the "
        "squared mean with BN, doubles the second moment without (from block 0), zero padding "
        "included; shortcut A halves both where stages begin.",
    ]
    return finish(figure, "Signal propagation", handles, sentences, columns=3)


@figure(
    "Gradient by path length",
    "Gradient that comes back to the first block along paths that take k residual branches and "
    "all other shortcuts, mean over random paths of that length, of a residual network with batch "
    "normalisation at initialisation (Veit et al. 2016, arXiv 1605.06431, who measured a trained "
    "one). (a) Of one path, relative to that of shortcuts alone, with the exponential fitted to "
    "k ≥ 1 (dotted). (b) Times the number of paths of the length, C(B, k), as a share of the "
    "total; dashed: share of the paths; shaded, at 110 layers: the lengths that carry the "
    "gradient in the source. Bands from the smallest to the largest seed.",
    across=True,
)
def path_lengths(frames: Frames) -> Figure:
    """Gradient of single paths by their number of branches, and which lengths carry it.

    Raises:
        UserError: if it was not measured.
    """
    rows = deepest_paths(frames)
    require(rows, "path_lengths")
    depth, blocks = int(rows["depth"].iloc[0]), int(rows["index"].max())
    figure, axes = mosaic_of([["gradient", "share"]], 2.9)
    start = rows.loc[rows["index"] == 0, ["seed", "value"]]
    relative = rows.merge(start, on="seed", suffixes=("", "_0"))
    relative["value"] = relative["value"] / relative["value_0"]
    means = panels.summarize(relative, ["index"], "value", True)
    colour = FAMILIES["residual"].colour
    panel = axes["gradient"]
    panel.set_yscale("log")
    band(panel, means["index"], means.low, means.high, colour)
    panel.plot(means["index"], means["mean"], color=colour, gid="gradient")
    through = relative[relative["index"] > 0]
    factor = float(np.exp(np.log(per_network(through, path_factor)).mean().iloc[0]))
    inside = means[means["index"] > 0]
    centre = np.log(inside["mean"]).mean() - np.log(factor) * inside["index"].mean()
    k = np.arange(blocks + 1)
    panel.plot(k, np.exp(centre) * factor**k, gid="fit", **THEORY)
    panel.set_xlabel("branches on the path, k")
    panel.set_ylabel("gradient g(k) / g(0)")
    log_ticks(panel)
    letter(panel, 0, "One path")
    carried = np.array([contribution(part) for _, part in rows.groupby("seed")])
    _draw_shares(axes["share"], carried, blocks, colour)
    handles: list[Artist] = [
        key(f"residual-{depth}", color=colour),
        key(f"×{factor:.3g} per branch", **THEORY),
        key("all paths, binomial", color=QUIET, linestyle="--", lw=1.2),
    ]
    if blocks == 54:
        handles.append(key("Veit et al. 2016: 5 to 17", color="#e8d9a8", linewidth=7))
    counts = list(means.n)
    sentences = [
        f"BN, at initialisation. Mean over {panels.seeds(counts)}, (a) geometric, relative to "
        "the path through no branch.",
        panels.spread(counts, "Bands: minimum to maximum"),
        f"(b) C({blocks}, k)·g(k), normalised, against the number of paths. Veit et al. 2016: g "
        "falls exponentially in k; of 54 branches (110 layers, trained) paths through 5 to 17, "
        "0.45 % of all, carry the gradient.",
    ]
    return finish(figure, "Gradient by path length", handles, sentences, columns=2)


@figure(
    "Norm preservation by block",
    "Norm of the loss gradient at the input of a block over that at its output, of residual "
    "networks with batch normalisation at initialisation, blocks that change the shape left out. "
    "(a) By block. (b) Mean of |ln ratio| over the blocks against depth, with the power of depth "
    "fitted to it (dotted). Zaeemzadeh et al. 2018 (arXiv 1805.07477): the more blocks, the nearer "
    "the ratio is to 1. Geometric means over seeds, bands and bars from smallest to largest.",
    across=True,
)
def norm_preservation(frames: Frames) -> Figure:
    """Ratio of gradient norms at input and output of every block, and its deviation by depth.

    Raises:
        UserError: if it was not measured.
    """
    rows = positive_networks(rows_of(frames.initialization, "block_gradient_norm", BN_RESIDUAL))
    require(rows, "norm_preservation")
    depths = shown_depths(rows)
    colours = sequential(depths)
    figure, axes = mosaic_of([["blocks", "depth"]], 2.9)
    panel = axes["blocks"]
    panel.axhline(1, color=QUIET, linewidth=0.8, zorder=0)
    counts: list[int] = []
    for depth in depths:
        parts = [
            np.exp(block_log_ratios(one)) for _, one in rows[rows["depth"] == depth].groupby("seed")
        ]
        long = pd.concat(parts).rename_axis("block").rename("value").reset_index()
        means = panels.summarize(long, ["block"], "value", True)
        counts += list(means.n)
        n = (depth - 2) // 6
        # Blocks that change the shape are not drawn: the lines end before them.
        for stage in range(3):
            own = means[(means["block"] > stage * n) & (means["block"] <= (stage + 1) * n)]
            position = own["block"] / (3 * n)
            band(panel, position, own.low, own.high, colours[depth])
            gid = f"ratio-{depth}-stage{stage + 1}"
            look: dict[str, Any] = {"color": colours[depth], "gid": gid, "marker": ".", "ms": 4}
            panel.plot(position, own["mean"], **look)
    panel.set_xlabel("block / number of blocks")
    panel.set_ylabel("‖∂L/∂x_b‖ / ‖∂L/∂x_(b+1)‖")
    panel.yaxis.set_major_locator(MaxNLocator(5))
    letter(panel, 0, "By block")
    table = per_network(rows, mean_deviation)
    panel = axes["depth"]
    panel.set_yscale("log")
    counts += draw_by_depth(panel, table, "residual", "deviation", geometric=True)
    depth_axis(panel, depths_of(table))
    handles = depth_keys(colours)
    whole = rectangle(table)
    if whole.shape[1] >= 3:
        logs = np.log(whole.to_numpy(float))
        slope = float(np.mean([exponent(depths_of(whole), own) for own in logs]))
        x = np.array(depths_of(whole), dtype=float)
        level = logs.mean() - slope * np.log(x).mean()
        panel.plot(x, np.exp(level) * x**slope, gid="fit", **THEORY)
        handles.append(key(f"fit, depth^{slope:.2f}".replace("-", "−"), **THEORY))
    log_ticks(panel)
    panel.set_ylabel("mean |ln ratio|")
    letter(panel, 1, "Deviation from 1")
    sentences = [
        f"Residual networks with BN at initialisation. Geometric mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bands and bars: minimum to maximum"),
        "Blocks that change the shape are left out. Zaeemzadeh et al. 2018: the more blocks, the "
        "nearer to 1, the grey line.",
    ]
    return finish(figure, "Norm preservation by block", handles, sentences)


def _moments_line(quantity: str, norm: str, blocks: int, start: float) -> np.ndarray:
    """Predicted squared mean or variance at every block output of a pre-activated network."""
    if norm == "none":
        return start * theory.unnormalized_second_moment(blocks, SIDES)
    variance = quantity == "channel_variance"
    scale = theory.BRANCH_VARIANCE if variance else theory.BRANCH_MEAN_SQUARE
    return scale * theory.preactivation_variance(blocks, BRANCHES)


def _ratio_line(blocks: int) -> np.ndarray:
    """Predicted Var(branch)/Var(skip) of every block of a fully pre-activated network."""
    variance = theory.preactivation_variance(blocks, BRANCHES)
    skip = [theory.carried(v, b, blocks) for b, v in enumerate(variance[:-1], start=1)]
    return np.repeat(BRANCHES, blocks) / np.array(skip)


def _draw_shares(panel: Axes, carried: np.ndarray, blocks: int, colour: str) -> None:
    """Share of the gradient and of the paths by number of branches."""
    k = np.arange(blocks + 1)
    if blocks == 54:
        panel.axvspan(VEIT[0] - 0.5, VEIT[1] + 0.5, color="#e8d9a8", alpha=0.6, linewidth=0)
    paths = 100 * theory.path_shares(blocks)
    panel.plot(k, paths, gid="paths", color=QUIET, linestyle="--", lw=1.2)
    band(panel, k, 100 * carried.min(axis=0), 100 * carried.max(axis=0), colour)
    panel.plot(k, 100 * carried.mean(axis=0), color=colour, gid="carried")
    panel.set_xlabel("branches on the path, k")
    panel.set_ylabel("share (%)")
    panel.set_ylim(0, None)
    letter(panel, 1, "All paths of a length")


FIGURES = (
    branch_variance,
    signal_propagation_plot,
    path_lengths,
    norm_preservation,
)
