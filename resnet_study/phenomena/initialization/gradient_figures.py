"""Gradients by layer at initialisation against theory: factors per layer, ratios, correlations.

All take `Frames.initialization`, which needs no runs, and pick their networks themselves.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from resnet_study.drawing import panels, plots, style
from resnet_study.drawing.render import figure
from resnet_study.phenomena.gradients import theory as gradient_theory
from resnet_study.phenomena.gradients.theory import BN_RELU_GROWTH
from resnet_study.phenomena.initialization import fits, theory
from resnet_study.phenomena.initialization import gradient_measures as measures
from resnet_study.phenomena.initialization.block_measures import DETECTABLE
from resnet_study.phenomena.initialization.drawn import NORMALIZED, by_depth, measured
from resnet_study.records import Frames

LOWEST = 1e-56
"""Lower end of the axis of vanishing gradients."""

FLOAT32 = float(np.finfo(np.float32).tiny)

STAGES: dict[int, dict[str, Any]] = {
    stage: {"color": style.QUIET, "linewidth": 0.9, "linestyle": dashes}
    for stage, dashes in ((1, "-"), (2, "-."), (3, (0, (5, 3))))
}

PADDED: dict[str, Any] = {**style.THEORY, "color": style.KINDS[0]}

NO_BORDERS: dict[str, Any] = {"color": style.INK, "linestyle": "none", "marker": "_", "mew": 1.2}

INITIALIZATIONS = dict(zip(("He", "LeCun", "uniform", "Glorot"), style.KINDS, strict=False))
"""Their colours."""

# What He's ReLU and Glorot's linear networks show is the same: the one is drawn over the other.
ACTIVATIONS: dict[str, dict[str, Any]] = {
    "linear": {"marker": "D", "linewidth": 3.0, "markersize": 6.5},
    "sigmoid": {"marker": "^"},
    "ReLU": {"marker": "o"},
}

SETTINGS: tuple[tuple[str, str], ...] = (
    ("He", "ReLU"),
    ("LeCun", "ReLU"),
    ("uniform", "ReLU"),
    ("Glorot", "linear"),
    ("uniform", "linear"),
    ("Glorot", "sigmoid"),
    ("uniform", "sigmoid"),
)
"""Initialisation and activation of the networks without normalisation."""

_SIDES = sorted(zip(measures.SIDES, measures.PADDING, strict=True))
_PADDING = ", ".join(f"{factor:.3f} at {side}" for side, factor in _SIDES)
_PASSED = {name: str(Fraction(share)) for name, share in gradient_theory.PASSED.items()}
_GROWTH = f"{BN_RELU_GROWTH:.3f}"
_MARGIN = f"±{measures.FACTOR_MARGIN:g} %"


@figure(
    "Gradients at initialisation, with BN",
    "Networks with batch normalisation and ReLU at initialisation. (a, b) Norm of the loss "
    "gradient with respect to the output z of every 3×3 layer before normalisation, relative to "
    "the last one, against the number of layers between; the last point is the stem. In residual "
    "networks the two layers of a block differ and are averaged. (c) Ratio, first over last. "
    "(d) Factor per layer toward the input in plain networks, from least-squares lines within "
    "stages, and in each stage alone. Dotted: theory. In a plain network the squared norm grows by "
    f"π/(π−1) per layer, the norm by {_GROWTH} (Yang et al. 2019, arXiv 1902.08129; wide, fully "
    f"connected layers, large batch); grey: {_MARGIN}, the margin within which this counts as "
    "reproduced; green in (d): the same mean field for 3×3 convolutions with zero padding, pooled "
    "over the stages. In a residual network no growth by a factor per layer: a line in proportion "
    f"to depth is drawn through the geometric mean of the points. {panels.MEDIANS}",
    across=True,
)
def signal_gradients(frames: Frames) -> Figure:
    """With batch normalisation: norm by layer, first/last ratio and factor per layer by depth."""
    rows = measured(frames, "activation_gradient_norm", NORMALIZED)
    colours = style.sequential(panels.shown_depths(rows, "kind"))
    titles = [*NORMALIZED, "First/last ratio", "Plain, within stages"]
    drawn, axes = style.new_figure(2, 2, 4.4, titles)
    relative = _relative(rows[rows["depth"].isin(colours)])
    for panel, own, family in plots.cells(axes[:1], relative, kind=NORMALIZED):
        panel.set_yscale("log")
        own = _mean_of_blocks(own) if family == "residual" else own
        plots.lines(panel, own, "behind", "value", f"{family}-{{hue}}", hue=("depth", colours))
    behind = np.arange(max(colours) - 1)
    axes[0, 0].plot(behind, BN_RELU_GROWTH**behind, gid="theory-plain", **style.THEORY)
    style.label(axes[:1], "layers before the last 3×3 layer", "‖∂L/∂z‖, last 3×3 = 1")
    _ratios_by_depth(axes[1, 0], rows)
    _factors_by_depth(axes[1, 1], rows[rows["kind"] == "plain"])
    handles = [*style.keys(colours), style.key("theory", **style.THEORY)]
    handles.append(style.key("theory, zero padding", **PADDED))
    handles += style.family_keys(NORMALIZED, ms=4)
    handles += [style.key(f"stage {stage}", **look) for stage, look in STAGES.items()]
    sentences = [
        f"BN, ReLU, at initialisation. {panels.over_seeds(rows, ['kind', 'depth', 'index'])}",
        "(b) The two layers of a block averaged.",
        f"Theory: plain ×√(π/(π−1)) = {_GROWTH} per layer toward the input (Yang et al. 2019; wide "
        f"layers, large batch; grey: {_MARGIN}, the margin of the claim); residual in proportion "
        "to depth.",
    ]
    return style.finish(drawn, handles, sentences)


@figure(
    "Vanishing gradients at initialisation, without normalisation",
    "Networks without normalisation at initialisation: the arm in which gradients do vanish. "
    "(a, b) Norm of the loss gradient with respect to the output z of the first 3×3 layer over "
    "that of the last one. (c) Factor per layer toward the input in plain networks, a point per "
    "seed, from least-squares lines within stages, at depth 56 or else the deepest. Theory: "
    "√(n·Var w·E[φ′²]) with n inputs per unit and slope φ′ of the nonlinearity, 1 in the linear "
    f"regime (Glorot & Bengio 2010), E[φ′²] = {_PASSED['relu']} for ReLU (He et al. 2015, arXiv "
    f"1502.01852, section 2.2), at most {_PASSED['sigmoid']} for the sigmoid; the number below "
    "each setting. Units at the border of a map have fewer inputs, which multiplies by another "
    f"{_PADDING} pixels' side per layer (largest eigenvalue of the 3×3 mean with zeros around). "
    "The dotted horizontal line is the smallest normal float32 number; the gradients were rescaled "
    f"between blocks. {panels.MEDIANS}",
    across=True,
)
def vanishing_gradients(frames: Frames) -> Figure:
    """Without normalisation: first/last ratio against depth, and factor per layer by setting."""
    networks = {
        _name(family, (init, activation)): fits.NetworkKind(
            family, "none", init.lower(), activation.lower()
        )
        for family in style.FAMILIES
        for init, activation in SETTINGS
    }
    rows = measured(frames, "activation_gradient_norm", networks)
    kinds: dict[Any, pd.DataFrame] = dict(list(rows.groupby("kind")))
    present = [s for s in SETTINGS if any(_name(f, s) in kinds for f in style.FAMILIES)]
    titles = [*style.FAMILIES, "Factor per layer within stages, plain networks"]
    drawn, axes = style.new_figure(2, 2, 4.9, titles)
    axes[1, 1].remove()
    axes[1, 0].set_subplotspec(axes[1, 0].get_gridspec()[1, :])
    axes[0, 1].sharey(axes[0, 0])
    axes[0, 1].tick_params(labelleft=False)
    axes[0, 0].set(yscale="log", ylabel="‖∂L/∂z‖, first / last 3×3")
    order = sorted(present, key=lambda setting: list(ACTIVATIONS).index(setting[1]))
    for panel, family in zip(axes[0], style.FAMILIES, strict=True):
        panel.axhline(1, color=style.FAINT, linewidth=0.8, zorder=0)
        panel.axhline(FLOAT32, color=style.QUIET, linewidth=0.8, linestyle=(0, (1, 3)), zorder=0)
        named = {_name(family, setting): setting for setting in order}
        line = {"linestyle": style.FAMILIES[family].linestyle}
        looks = {name: {**_look(setting), **line} for name, setting in named.items()}
        tables = {n: fits.per_network(kinds[n], fits.first_over_last) for n in named if n in kinds}
        for name, table in tables.items():
            by_depth(panel, {name: table}, "{style}", looks)
            if family == "plain":
                factor, depths = _predicted(named[name]), fits.depths_of(table)
                expected = [measures.padded_ratio(depth, factor) for depth in depths]
                dots = {**style.THEORY, "color": looks[name]["color"], "gid": f"theory-{name}"}
                panel.plot(depths, expected, **dots)
        plots.depth_axis(panel, rows["depth"])
    low, high = axes[0, 0].get_ylim()
    axes[0, 0].set_ylim(max(low, LOWEST), high)
    if low < FLOAT32:
        words: dict[str, Any] = {"color": style.QUIET, "fontsize": style.points(style.SMALL)}
        words["transform"] = axes[0, 1].get_yaxis_transform()
        axes[0, 1].text(0.03, 3 * FLOAT32, "smallest float32", **words)
    _factors_by_setting(axes[1, 0], kinds, present)
    handles = [style.key(", ".join(s), **{**_look(s), "markersize": 4}) for s in present]
    handles.append(style.key("theory, padding included", **style.THEORY))
    handles.append(style.key("theory, no borders", ms=13, **NO_BORDERS))
    sentences = [
        f"No normalisation, at initialisation. {panels.over_seeds(rows, ['kind', 'depth'])}",
        "Theory for plain networks: √(n·Var w·E[φ′²]) per layer toward the input (Glorot & Bengio "
        "2010; He et al. 2015, arXiv 1502.01852), for sigmoids at most; times "
        f"{_PADDING} pixels' side, because zero padding takes inputs away.",
        "Below the axis: the deepest sigmoid networks." if low < LOWEST else "",
    ]
    return style.finish(drawn, handles, sentences, columns=3)


@figure(
    "Shattered gradients at initialisation",
    "Autocorrelation of the gradient of the first logit with respect to the image, at equally "
    "spaced points on a line between two images, of networks with batch normalisation at "
    "initialisation (Balduzzi et al. 2017, arXiv 1702.08591): by lag, and against depth for "
    "neighbouring points and for the largest lag. For the gradients at two inputs far apart they "
    "derive correlations of 1/2^L in plain networks and 1/(β√L) in residual ones with batch "
    f"normalisation; dotted, with β = 1, where L is taken as the depth. {panels.MEDIANS}",
    across=True,
)
def shattered_gradients(frames: Frames) -> Figure:
    """Autocorrelation of the input gradient along a line between two images, with BN."""
    rows = measured(frames, "gradient_autocorrelation", NORMALIZED, positive=False)
    colours, last = style.sequential(rows["depth"]), int(rows["index"].max())
    titles = [*NORMALIZED, "Neighbours (lag 1)", f"Half of the way (lag {last})"]
    drawn, axes = style.new_figure(2, 2, 4.4, titles)
    axes[0, 1].sharey(axes[0, 0])
    axes[0, 1].tick_params(labelleft=False)
    for panel, own, family in plots.cells(axes[:1], rows, kind=NORMALIZED):
        plots.lines(panel, own, "index", "value", f"{family}-{{hue}}", hue=("depth", colours))
        panel.set_xlim(0, last)
    for panel, own, lag in plots.cells(axes[1:], rows, index=(1, last)):
        of_family: dict[Any, pd.DataFrame] = {
            family: part.pivot(index="seed", columns="depth", values="value")
            for family, part in own.groupby("kind")
        }
        by_depth(panel, of_family, f"lag{lag}-{{style}}")
    for panel in axes.flat:
        panel.axhline(0, color=style.FAINT, linewidth=0.8, zorder=0)
    depths = np.geomspace(min(colours), max(colours), 60)
    for curve, family in (
        (theory.plain_gradient_correlation, "plain"),
        (theory.residual_gradient_correlation, "residual"),
    ):
        dots = {**style.THEORY, "color": style.FAMILIES[family].colour, "gid": f"theory-{family}"}
        axes[1, 1].plot(depths, curve(depths), **dots)
    style.label(axes[:1], "lag (grid points)", "autocorrelation")
    style.label(axes[1:], plots.DEPTH, "autocorrelation")
    handles = [*style.keys(colours), *style.family_keys(NORMALIZED, ms=4)]
    handles.append(style.key("theory, far inputs", **style.THEORY))
    sentences = [
        f"BN, ReLU, at initialisation. {panels.over_seeds(rows, ['kind', 'depth', 'index'])}",
        "Theory (Balduzzi et al. 2017) is for the gradients at two inputs far apart: 1/2^L in "
        "plain networks, 1/(β√L) in residual ones with BN, drawn with β = 1. Neighbours start "
        f"near 1; correlations below {DETECTABLE:g} are noise.",
    ]
    return style.finish(drawn, handles, sentences)


def _relative(rows: pd.DataFrame) -> pd.DataFrame:
    """Norms relative to that of the last 3x3 layer, by the number of layers before it."""
    network = ["kind", "depth", "seed"]
    last = rows.loc[rows["index"] == rows["depth"] - 1, [*network, "value"]]
    both = rows.merge(last, on=network, suffixes=("", "_last"))
    behind = both["depth"] - 1 - both["index"]
    return both.assign(behind=behind, value=both["value"] / both["value_last"])


def _mean_of_blocks(relative: pd.DataFrame) -> pd.DataFrame:
    """The two layers of a block as one point: between them the norm jumps up and down."""
    block = (relative["index"] - 2) // 2  # -1: the stem
    logs = relative.assign(value=np.log(relative["value"]))
    means = logs.groupby(["depth", "seed", block.rename("block")])[["behind", "value"]].mean()
    return means.assign(value=np.exp(means["value"])).reset_index()


def _ratios_by_depth(panel: Axes, rows: pd.DataFrame) -> None:
    """First/last ratio of both families with what theory says."""
    panel.set(yscale="log", ylabel="first / last 3×3 layer")
    tables: dict[Any, pd.DataFrame] = {
        kind: fits.per_network(own, fits.first_over_last) for kind, own in rows.groupby("kind")
    }
    by_depth(panel, tables, "ratio-{style}")
    x = np.geomspace(rows["depth"].min(), rows["depth"].max(), 50)
    lines = {"plain": BN_RELU_GROWTH ** (x - 2), "residual": x}
    for kind, table in tables.items():
        level = 0.0
        if kind == "residual":
            level = float((np.log(table).mean() - np.log(fits.depths_of(table))).mean())
        panel.plot(x, np.exp(level) * lines[kind], gid=f"theory-ratio-{kind}", **style.THEORY)


def _factors_by_depth(panel: Axes, rows: pd.DataFrame) -> None:
    """Growth per layer of plain networks, of all stages and of each."""
    margin = measures.FACTOR_MARGIN / 100 * BN_RELU_GROWTH
    grey: dict[str, Any] = {"color": style.FAINT, "alpha": 0.5, "linewidth": 0}
    panel.axhspan(BN_RELU_GROWTH - margin, BN_RELU_GROWTH + margin, **grey)
    panel.axhline(BN_RELU_GROWTH, gid="theory-factor", **style.THEORY)
    padded = float(np.prod(measures.padded_growth())) ** (1 / 3)
    panel.axhline(padded, gid="theory-factor-padded", **PADDED)
    panel.set_ylabel("factor per layer")
    # Two layers of a stage are no fit of a slope.
    deep = rows[rows["depth"] > 8]
    for stage, look in STAGES.items():
        table = fits.per_network(deep, partial(fits.growth_of_stage, stage=stage))
        panel.plot(fits.depths_of(table), table.median(), gid=f"factor-stage{stage}", **look)
    by_depth(panel, {"plain": fits.per_network(rows, fits.growth)}, "factor-{style}")


def _factors_by_setting(
    panel: Axes, kinds: dict[Any, pd.DataFrame], settings: list[tuple[str, str]]
) -> None:
    """Measured factor of every seed at the judged depth, beside the predictions."""
    labels = []
    for place, setting in enumerate(settings):
        factor, name = _predicted(setting), "-".join(setting).lower()
        padded = factor * float(np.prod(measures.PADDING)) ** (1 / 3)
        reach = place - 0.3, place + 0.3
        panel.plot(reach, [padded, padded], gid=f"predicted-{name}", **style.THEORY)
        panel.plot(place, factor, ms=24, **NO_BORDERS)
        labels.append("\n".join((*setting, f"{factor:.3f}")))
        own = kinds.get(_name("plain", setting))
        table = pd.DataFrame() if own is None else fits.per_network(own, fits.growth)
        depth = measures.judged_depth(table, 8)
        if depth is not None:
            values = fits.values_at(table, depth)
            # Not seaborn's stripplot, whose jitter is drawn anew each time.
            spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
            look = {**_look(setting), "linestyle": "none", "markersize": 5, "alpha": 0.65, "mew": 0}
            panel.plot(place + spread, values, gid=f"factor-{name}", **look)
    panel.xaxis.set_major_locator(FixedLocator(list(range(len(settings)))))
    panel.set_xticklabels(labels, fontsize=style.fitting("xtick.labelsize"))
    panel.set(xlim=(-0.6, len(settings) - 0.4), ylim=(0, None), ylabel="factor per layer")


def _name(family: str, setting: tuple[str, str]) -> str:
    return "-".join((family, *setting)).lower()


def _look(setting: tuple[str, str]) -> dict[str, Any]:
    """A colour per initialisation and a marker per activation."""
    initialization, activation = setting
    return {"color": INITIALIZATIONS[initialization], **ACTIVATIONS[activation]}


def _predicted(setting: tuple[str, str]) -> float:
    return gradient_theory.growth_toward_input("none", *map(str.lower, setting))


FIGURES = (
    signal_gradients,
    vanishing_gradients,
    shattered_gradients,
)
