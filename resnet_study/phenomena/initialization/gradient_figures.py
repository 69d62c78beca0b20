"""Gradients by layer at initialisation against theory: factors per layer, ratios, correlations.

All take `Frames.initialization`, which needs no runs, and pick their networks themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from resnet_study.drawing import panels
from resnet_study.drawing.render import figure
from resnet_study.drawing.style import (
    FAINT,
    FAMILIES,
    INK,
    QUIET,
    band,
    finish,
    key,
    letter,
    log_ticks,
    sequential,
)
from resnet_study.phenomena.gradients import theory as gradient_theory
from resnet_study.phenomena.initialization import gradient_measures as measures
from resnet_study.phenomena.initialization import theory
from resnet_study.phenomena.initialization.block_measures import DETECTABLE
from resnet_study.phenomena.initialization.fits import (
    BN_PLAIN,
    BN_RESIDUAL,
    NetworkKind,
    depths_of,
    first_over_last,
    growth,
    growth_of_stage,
    per_network,
    rows_of,
    values_at,
)
from resnet_study.phenomena.initialization.mosaic import (
    THEORY,
    depth_axis,
    depth_keys,
    draw_by_depth,
    draw_table,
    family_keys,
    mosaic_of,
    require,
    shown_depths,
)
from resnet_study.records import Frames

LOWEST = 1e-56
"""Lower end of the axis of vanishing gradients."""

STAGES: dict[int, dict[str, Any]] = {
    stage: {"color": QUIET, "linewidth": 0.9, "linestyle": style}
    for stage, style in ((1, "-"), (2, "-."), (3, (0, (5, 3))))
}

FLOAT32 = float(np.finfo(np.float32).tiny)

SETTINGS: tuple[tuple[str, str], ...] = (
    ("he", "relu"),
    ("lecun", "relu"),
    ("uniform", "relu"),
    ("glorot", "linear"),
    ("uniform", "linear"),
    ("glorot", "sigmoid"),
    ("uniform", "sigmoid"),
)
"""Initialisation and activation of the networks without normalisation."""

NAMES = {
    "he": "He",
    "lecun": "LeCun",
    "uniform": "uniform",
    "glorot": "Glorot",
    "relu": "ReLU",
    "linear": "linear",
    "sigmoid": "sigmoid",
}


@figure(
    "Gradients at initialisation, with BN",
    "Networks with batch normalisation and ReLU at initialisation. (a, b) Norm of the loss "
    "gradient with respect to the output z of every 3×3 layer before normalisation, relative to "
    "the last one, against the number of layers between; the last point is the stem. In residual "
    "networks the two layers of a block differ and are averaged. (c) Ratio, first over last. "
    "(d) Factor per layer toward the input in plain networks, from least-squares lines within "
    "stages, and in each stage alone. Dotted: theory. In a plain "
    "network the squared norm grows by π/(π−1) per layer, the norm by 1.211 (Yang et al. 2019, "
    "arXiv 1902.08129; wide, fully connected layers, large batch); grey: ±5 %, the margin within "
    "which this counts as reproduced. In a residual network no growth by a factor per layer: a "
    "line in proportion to depth is drawn through the mean of the points. Means and ranges over "
    "seeds.",
    across=True,
)
def signal_gradients(frames: Frames) -> Figure:
    """With batch normalisation: norm by layer, first/last ratio and factor per layer by depth.

    Raises:
        UserError: if no such gradient was measured.
    """
    rows = {n.family: _gradients(frames, n) for n in (BN_PLAIN, BN_RESIDUAL)}
    require(pd.concat(rows.values()), "signal_gradients")
    depths = shown_depths(pd.concat(rows.values()))
    colours = sequential(depths)
    figure, axes = mosaic_of([["plain", "residual"], ["ratio", "factor"]], 4.4)
    counts: list[int] = []
    for index, family in enumerate(("plain", "residual")):
        panel = axes[family]
        panel.set_yscale("log")
        relative = _relative(rows[family])
        if family == "residual":
            relative = _mean_of_blocks(relative)
        for depth in depths:
            part = relative[relative["depth"] == depth]
            means = panels.summarize(part, ["behind"], "value", True)
            counts += list(means.n)
            band(panel, means.behind, means.low, means.high, colours[depth])
            gid = f"{family}-{depth}"
            panel.plot(means.behind, means["mean"], color=colours[depth], gid=gid)
        if family == "plain" and depths:
            behind = np.arange(max(depths) - 1)
            panel.plot(behind, gradient_theory.BN_RELU_GROWTH**behind, gid="theory-plain", **THEORY)
        panel.set_xlabel("layers before the last 3×3 layer")
        letter(panel, index, family)
        log_ticks(panel)
    axes["plain"].set_ylabel("‖∂L/∂z‖, last 3×3 = 1")
    tables = {f: per_network(part, first_over_last) for f, part in rows.items()}
    counts += _ratios_by_depth(axes["ratio"], tables)
    counts += _factors_by_depth(axes["factor"], rows["plain"])
    axes["ratio"].set_ylabel("first / last 3×3 layer")
    axes["factor"].set_ylabel("factor per layer")
    letter(axes["ratio"], 2, "First/last ratio")
    letter(axes["factor"], 3, "Plain, within stages")
    handles = [*depth_keys(colours), key("theory", **THEORY)]
    handles += family_keys(("plain", "residual"))
    handles += [key(f"stage {s}", **look) for s, look in STAGES.items()]
    sentences = [
        f"BN, ReLU, at initialisation. Geometric mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bands and bars: minimum to maximum"),
        "(b) The two layers of a block averaged.",
        "Theory: plain ×√(π/(π−1)) = 1.211 per layer toward the input (Yang et al. 2019; wide "
        "layers, large batch; grey: ±5 %, the margin of the claim); residual in proportion to "
        "depth, through the mean of the points.",
    ]
    return finish(figure, "Gradients at initialisation, with BN", handles, sentences)


@figure(
    "Vanishing gradients at initialisation, without normalisation",
    "Networks without normalisation at initialisation: the arm in which gradients do vanish. "
    "(a, b) Norm of the loss gradient with respect to the output z of the first 3×3 layer over "
    "that of the last one. (c) Factor per layer toward the input in plain networks, a point per "
    "seed, from least-squares lines within stages, at depth 56 or else the deepest. Theory: "
    "√(n·Var w·E[φ′²]) with n inputs per unit and slope φ′ of the nonlinearity, 1 in the linear "
    "regime (Glorot & Bengio 2010), E[φ′²] = 1/2 for ReLU (He et al. 2015, arXiv 1502.01852, "
    "section 2.2), at most 1/16 for the sigmoid; the number below each setting. Units at the "
    "border of a map have fewer inputs: on the maps of the digits, 8, 4 and 2 pixels wide, this "
    "multiplies by another 0.960, 0.873 and 0.667 per layer (largest eigenvalue of the 3×3 mean "
    "with zeros around). The dotted horizontal line is the smallest normal float32 number; the "
    "gradients were rescaled between blocks.",
    across=True,
)
def vanishing_gradients(frames: Frames) -> Figure:
    """Without normalisation: first/last ratio against depth, and factor per layer by setting.

    Raises:
        UserError: if no such gradient was measured.
    """
    rows = {
        (family, *setting): _gradients(frames, NetworkKind(family, "none", *setting))
        for family in ("plain", "residual")
        for setting in SETTINGS
    }
    require(pd.concat(rows.values()), "vanishing_gradients")
    present = [s for s in SETTINGS if any(len(rows[f, *s]) for f in ("plain", "residual"))]
    looks = _setting_looks(present)
    figure, axes = mosaic_of([["plain", "residual"], ["factor", "factor"]], 4.9)
    axes["residual"].sharey(axes["plain"])
    counts: list[int] = []
    for index, family in enumerate(("plain", "residual")):
        panel = axes[family]
        panel.set_yscale("log")
        panel.axhline(1, color=FAINT, linewidth=0.8, zorder=0)
        panel.axhline(FLOAT32, color=QUIET, linewidth=0.8, linestyle=(0, (1, 3)), zorder=0)
        for setting in present:
            table = per_network(rows[family, *setting], first_over_last)
            style = {**looks[setting], "linestyle": FAMILIES[family].linestyle}
            gid = f"{family}-{'-'.join(setting)}"
            counts += draw_table(panel, table, gid, style)
            if family == "plain" and table.size:
                depths = depths_of(table)
                factor = gradient_theory.growth_toward_input("none", *setting)
                expected = [measures.padded_ratio(d, factor) for d in depths]
                dots = {**THEORY, "color": style["color"]}
                panel.plot(depths, expected, gid=f"theory-{gid}", **dots)
        shown = [int(d) for part in rows.values() for d in part["depth"].unique()]
        depth_axis(panel, sorted(set(shown)))
        letter(panel, index, family)
    log_ticks(axes["plain"])
    low, high = axes["plain"].get_ylim()
    axes["plain"].set_ylim(max(low, LOWEST), high)
    axes["residual"].tick_params(labelleft=False)
    axes["plain"].set_ylabel("‖∂L/∂z‖, first / last 3×3")
    if low < FLOAT32:
        where = axes["residual"].get_yaxis_transform()
        look: dict[str, Any] = {"color": QUIET, "fontsize": 7.8}
        axes["residual"].text(0.03, 3 * FLOAT32, "smallest float32", transform=where, **look)
    counts += _factors_by_setting(axes["factor"], rows, present, looks)
    letter(axes["factor"], 2, "Factor per layer within stages, plain networks")
    handles: list[Artist] = [
        key(f"{NAMES[init]}, {NAMES[activation]}", **{**looks[init, activation], "linestyle": "-"})
        for init, activation in present
    ]
    handles += [
        key("theory, padding included", **THEORY),
        key("theory, no borders", color=INK, linestyle="none", marker="_", ms=13, mew=1.2),
    ]
    sentences = [
        f"No normalisation, at initialisation. Geometric mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bars: minimum to maximum"),
        "Theory for plain networks: √(n·Var w·E[φ′²]) per layer toward the input (Glorot & Bengio "
        "2010; He et al. 2015, arXiv 1502.01852), for sigmoids at most; on maps of 8, 4 and 2 "
        "pixels' side times 0.960, 0.873 and 0.667, because zero padding takes inputs away.",
        "Below the axis: the deepest sigmoid networks." if low < LOWEST else "",
    ]
    title = "Vanishing gradients at initialisation, without normalisation"
    return finish(figure, title, handles, sentences, columns=3)


@figure(
    "Shattered gradients at initialisation",
    "Autocorrelation of the gradient of the first logit with respect to the image, at equally "
    "spaced points on a line between two images, of networks with batch normalisation at "
    "initialisation (Balduzzi et al. 2017, arXiv 1702.08591): by lag, and against depth for "
    "neighbouring points and for the largest lag. For the gradients at two inputs far apart they "
    "derive correlations of 1/2^L in plain networks and 1/(β√L) in residual ones with batch "
    "normalisation; dotted, with β = 1, where L is taken as the depth. Means over seeds, bands and "
    "bars from smallest to largest.",
    across=True,
)
def shattered_gradients(frames: Frames) -> Figure:
    """Autocorrelation of the input gradient along a line between two images, with BN.

    Raises:
        UserError: if it was not measured.
    """
    rows = {
        n.family: rows_of(frames.initialization, "gradient_autocorrelation", n)
        for n in (BN_PLAIN, BN_RESIDUAL)
    }
    rows = {f: part[panels.drawable(part["value"], False)] for f, part in rows.items()}
    whole = pd.concat(rows.values())
    require(whole, "shattered_gradients")
    depths, last = sorted(int(d) for d in whole["depth"].unique()), int(whole["index"].max())
    colours = sequential(depths)
    figure, axes = mosaic_of([["plain", "residual"], ["near", "far"]], 4.4)
    axes["residual"].sharey(axes["plain"])
    counts: list[int] = []
    for index, family in enumerate(("plain", "residual")):
        panel = axes[family]
        panel.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
        for depth in depths:
            part = rows[family][rows[family]["depth"] == depth]
            means = panels.summarize(part, ["index"], "value")
            counts += list(means.n)
            band(panel, means["index"], means.low, means.high, colours[depth], alpha=0.12)
            gid = f"{family}-{depth}"
            panel.plot(means["index"], means["mean"], color=colours[depth], gid=gid)
        panel.set_xlabel("lag (grid points)")
        panel.set_xlim(0, last)
        letter(panel, index, family)
    axes["plain"].set_ylabel("autocorrelation")
    axes["residual"].tick_params(labelleft=False)
    for index, (name, lag) in enumerate((("near", 1), ("far", last)), start=2):
        panel = axes[name]
        depth_axis(panel, depths)
        for family, part in rows.items():
            table = per_network(part[part["index"] == lag], lambda one: float(one["value"].iloc[0]))
            counts += draw_by_depth(panel, table, family, f"lag{lag}-{family}")
        panel.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
        letter(panel, index, "Neighbours (lag 1)" if lag == 1 else f"Half of the way (lag {lag})")
    x = np.geomspace(depths[0], depths[-1], 60)
    for curve, family in (
        (theory.plain_gradient_correlation, "plain"),
        (theory.residual_gradient_correlation, "residual"),
    ):
        dots = {**THEORY, "color": FAMILIES[family].colour}
        axes["far"].plot(x, curve(x), gid=f"theory-{family}", **dots)
    axes["near"].set_ylabel("autocorrelation")
    handles = [*depth_keys(colours), *family_keys(("plain", "residual"))]
    handles.append(key("theory, far inputs", **THEORY))
    sentences = [
        f"BN, ReLU, at initialisation. Mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bands and bars: minimum to maximum"),
        "Theory (Balduzzi et al. 2017) is for the gradients at two inputs far apart: 1/2^L in "
        "plain networks, 1/(β√L) in residual ones with BN, drawn with β = 1. Neighbours start "
        f"near 1; correlations below {DETECTABLE:g} are noise.",
    ]
    return finish(figure, "Shattered gradients at initialisation", handles, sentences)


def _gradients(frames: Frames, network: NetworkKind) -> pd.DataFrame:
    rows = rows_of(frames.initialization, "activation_gradient_norm", network)
    return rows[panels.drawable(rows["value"], True)]


def _relative(rows: pd.DataFrame) -> pd.DataFrame:
    """Norms relative to that of the last 3x3 layer, by the number of layers before it."""
    last = rows.loc[rows["index"] == rows["depth"] - 1, ["depth", "seed", "value"]]
    both = rows.merge(last, on=["depth", "seed"], suffixes=("", "_last"))
    return both.assign(
        behind=both["depth"] - 1 - both["index"], value=both["value"] / both["value_last"]
    )


def _ratios_by_depth(panel: Axes, tables: dict[str, pd.DataFrame]) -> list[int]:
    """First/last ratio of both families with what theory says; returns the n of each point."""
    panel.set_yscale("log")
    counts: list[int] = []
    for family, table in tables.items():
        counts += draw_by_depth(panel, table, family, f"ratio-{family}", geometric=True)
    shown = sorted({d for table in tables.values() for d in depths_of(table)})
    depth_axis(panel, shown)
    x = np.geomspace(min(shown), max(shown), 50)
    if tables["plain"].size:
        panel.plot(x, gradient_theory.BN_RELU_GROWTH ** (x - 2), gid="theory-ratio-plain", **THEORY)
    if tables["residual"].size:
        slopes = np.log(tables["residual"]).mean() - np.log(depths_of(tables["residual"]))
        panel.plot(x, x * np.exp(slopes.mean()), gid="theory-ratio-residual", **THEORY)
    log_ticks(panel)
    return counts


def _factors_by_depth(panel: Axes, rows: pd.DataFrame) -> list[int]:
    """Growth per layer of plain networks, of all stages and of each; returns the n."""
    table = per_network(rows, growth)
    margin = measures.FACTOR_MARGIN / 100 * gradient_theory.BN_RELU_GROWTH
    low, high = gradient_theory.BN_RELU_GROWTH - margin, gradient_theory.BN_RELU_GROWTH + margin
    panel.axhspan(low, high, color=FAINT, alpha=0.5, linewidth=0)
    panel.axhline(gradient_theory.BN_RELU_GROWTH, gid="theory-factor", **THEORY)
    # Two layers of a stage are no fit of a slope.
    deep = rows[rows["depth"] > 8]
    for stage, look in STAGES.items():
        means = per_network(deep, partial(growth_of_stage, stage=stage)).mean()
        panel.plot([int(str(d)) for d in means.index], means, gid=f"factor-stage{stage}", **look)
    counts = draw_by_depth(panel, table, "plain", "factor-plain", geometric=True)
    depth_axis(panel, depths_of(table))
    return counts


def _mean_of_blocks(relative: pd.DataFrame) -> pd.DataFrame:
    """The two layers of a block as one point: between them the norm jumps up and down."""
    block = (relative["index"] - 2) // 2  # -1: the stem
    keys = ["depth", "seed", block.rename("block")]
    logs = relative.assign(value=np.log(relative["value"]))
    means = logs.groupby(keys)[["behind", "value"]].mean().reset_index()
    return means.assign(value=np.exp(means["value"]))


def _setting_looks(settings: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """A colour per initialisation and a marker per activation."""
    colours = {"he": "#0b4f8a", "lecun": "#c1440e", "uniform": "#6a3d9a", "glorot": "#2e7d32"}
    markers = {"relu": "o", "linear": "D", "sigmoid": "^"}
    return {
        (init, activation): {"color": colours[init], "marker": markers[activation], "ms": 4}
        for init, activation in settings
    }


def _factors_by_setting(
    panel: Axes,
    rows: dict[tuple[str, str, str], pd.DataFrame],
    settings: Sequence[tuple[str, str]],
    looks: dict[tuple[str, str], dict[str, Any]],
) -> list[int]:
    """Measured factor of every seed at the judged depth, beside the predictions."""
    counts, labels = [], []
    for place, setting in enumerate(settings):
        table = per_network(rows["plain", *setting], growth)
        depth = measures.judged_depth(table, 8)
        factor = gradient_theory.growth_toward_input("none", *setting)
        padded = factor * float(np.prod(measures.PADDING)) ** (1 / 3)
        reach = place - 0.3, place + 0.3
        panel.plot(reach, [padded, padded], gid=f"predicted-{'-'.join(setting)}", **THEORY)
        panel.plot([place], [factor], linestyle="none", marker="_", ms=24, mew=1.2, color=INK)
        labels.append(f"{NAMES[setting[0]]}\n{NAMES[setting[1]]}\n{factor:.3f}")
        if depth is None:
            continue
        values = values_at(table, depth)
        look = {**looks[setting], "linestyle": "none", "ms": 5, "alpha": 0.65, "mew": 0}
        spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else [0.0]
        panel.plot(place + np.array(spread), values, gid=f"factor-{'-'.join(setting)}", **look)
        counts.append(len(values))
    panel.xaxis.set_major_locator(FixedLocator(list(range(len(settings)))))
    panel.set_xticklabels(labels)
    panel.set_xlim(-0.6, len(settings) - 0.4)
    panel.set_ylim(0, None)
    panel.set_ylabel("factor per layer")
    return counts


FIGURES = (
    signal_gradients,
    vanishing_gradients,
    shattered_gradients,
)
