"""What figures draw into a panel: medians with every seed, heatmaps, axes.

One convention for all of them: a line is the median over the seeds, and every seed is visible
beside it, because some networks fail and a mean with a band would hide that. On a logarithmic axis
the median of an even number is the geometric mean of the two in the middle.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, FixedLocator, MaxNLocator, NullLocator
from pandas.api.types import is_integer_dtype

from resnet_study.drawing.data import Networks
from resnet_study.drawing.look import current
from resnet_study.drawing.panels import drawable, medians
from resnet_study.drawing.style import FAINT, QUIET, thousands

DEPTH = "depth (log scale)"
ITERATION = "iteration k, at log(1 + k)"

Looks = Mapping[Any, Mapping[str, Any]]


def cells(
    axes: np.ndarray, rows: pd.DataFrame, **by: Iterable[Any]
) -> Iterator[tuple[Axes, pd.DataFrame, Any]]:
    """The panels of a grid, row by row, each with its rows of a table and what they have in common.

    Args:
        axes: as many as there are combinations of values.
        rows: the table.
        by: values of a column; of two columns for rows and columns of panels.
    """
    for panel, values in zip(axes.flat, itertools.product(*by.values()), strict=True):
        own = rows
        for column, value in zip(by, values, strict=True):
            own = own[own[column] == value]
        yield panel, own, values if len(values) > 1 else values[0]


def lines(
    panel: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    gid: str,
    *,
    hue: tuple[str, Mapping[Any, str]] = ("", {}),
    style: tuple[str, Looks] = ("", {}),
    units: str = "seed",
    joined: bool = True,
    **look: Any,
) -> None:
    """Medians over the seeds as a line, one per value of `hue` and `style`, and every seed beside.

    What the axis has no place for is left out. The medians are computed in one go, for seaborn's
    estimators run once per position, a hundred times as long.

    Args:
        panel: its y axis is set to linear or logarithmic before.
        rows: one per position, seed, hue and style.
        x, y: columns.
        gid: id of the lines of medians; ``{hue}`` and ``{style}`` stand for their values.
        hue: column that tells lines apart, and the colour of each of its values.
        style: the same by other keywords of a line.
        units: column whose values are the single networks.
        joined: draw a seed as a thin line; else, where other networks stand at each position, as
            faint points. (Not seaborn's stripplot: its axis is categorical.)
        look: keywords of the lines of medians.
    """
    positive = panel.get_yscale() == "log"
    rows = rows[drawable(rows[y], positive)]
    if rows.empty:
        return
    labels = panel.get_xlabel(), panel.get_ylabel()
    (by_hue, palette), (by_style, looks) = hue, style
    if by_hue and rows[by_hue].dtype == "category":
        # seaborn wants a colour of every category, also of those without rows.
        rows = rows.assign(**{by_hue: rows[by_hue].astype(object)})
    common: dict[str, Any] = {"x": x, "y": y, "ax": panel, "estimator": None, "legend": False}
    common |= {"hue": by_hue, "palette": palette} if by_hue else {}
    for value, part in rows.groupby(by_style, observed=True) if by_style else [("", rows)]:
        own = {**look, **looks.get(value, {})}
        for name, networks in part.groupby(by_hue, observed=True) if by_hue else [("", part)]:
            if networks[units].nunique() > 1:
                colour = {"color": palette[name]} if by_hue else {}
                colour["gid"] = gid.format(hue=name, style=value)
                _networks(panel, networks, x, y, units, joined, {**own, **colour})
        first = len(panel.lines)
        middle = medians(part, [x, by_hue] if by_hue else [x], y, positive)
        seaborn.lineplot(middle, **common, **own)
        names = sorted(middle[by_hue].unique()) if by_hue else [""]
        for line, name in zip(panel.lines[first:], names, strict=True):
            line.set_gid(gid.format(hue=name, style=value))
    if is_integer_dtype(rows[x]) and isinstance(panel.xaxis.get_major_locator(), AutoLocator):
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    # seaborn names the axes after the columns, and hides the names of inner panels.
    panel.set_xlabel(labels[0], visible=True)
    panel.set_ylabel(labels[1], visible=True)


def _networks(
    panel: Axes, rows: pd.DataFrame, x: str, y: str, units: str, joined: bool, look: dict[str, Any]
) -> None:
    """Each network of one colour as a thin line, or its points; all of them one artist, for a
    thousand lines take matplotlib seconds.
    """
    look = normalize_kwargs(look, Line2D)
    ordered = rows.sort_values([units, x], kind="stable")
    points = ordered[[x, y]].to_numpy(dtype=float)
    if not joined:
        marks = {"marker": look.get("marker", "o"), "linestyle": "none", "markersize": 3.5}
        faint = {"alpha": 0.35, "markeredgewidth": 0, "color": look["color"]}
        panel.plot(*points.T, gid=f"{look['gid']} {units}s", **marks, **faint)
        return
    own, names = pd.factorize(ordered[units])
    drawn = Networks(
        np.split(points, np.flatnonzero(np.diff(own)) + 1),
        names=[f"{look['gid']} {units} {name}" for name in names],
        colors=[look["color"]],
        linestyles=look.get("linestyle", "-"),
        linewidths=0.6,
        alpha=0.4,
        zorder=Line2D.zorder,
    )
    panel.add_collection(drawn)
    panel.autoscale_view()


def heatmap(
    panel: Axes, rows: pd.DataFrame, value: str, layers: int, scale: Normalize, palette: str
) -> QuadMesh:
    """log₁₀ of the median over the seeds of a positive quantity, by layer and iteration.

    Not seaborn's heatmap, whose cells are all of one width: iterations lie on `iteration_axis`.

    Args:
        panel: an empty one.
        rows: ``step``, ``layer`` and the quantity, whose every step has a column.
        value: the quantity; cells in which none is finite and positive stay grey.
        layers: from 1 to this.
        scale, palette: of log₁₀, and a colour map of matplotlib.
    """
    steps = np.sort(rows["step"].unique())
    middle = medians(rows[drawable(rows[value], True)], ["layer", "step"], value, True)
    grid = middle.pivot(index="layer", columns="step", values=value)
    grid = grid.reindex(index=range(1, layers + 1), columns=steps)
    cells = np.ma.masked_invalid(np.log10(grid.to_numpy(dtype=float)))
    iteration_axis(panel, int(steps[-1]))
    panel.set_facecolor("#e4e4e4")
    # Borders midway between the recorded iterations on this axis; the first and last cell are as
    # wide on either side.
    at = np.log1p(steps.astype(float))
    half = np.diff(at) / 2 if len(at) > 1 else np.array([0.3])
    edges = np.expm1([at[0] - half[0], *(at[:-1] + half[: len(at) - 1]), at[-1] + half[-1]])
    borders = np.arange(layers + 1) + 0.5
    mesh = panel.pcolormesh(edges, borders, cells, norm=scale, cmap=palette, rasterized=True)
    panel.set(xlim=(edges[0], edges[-1]), ylim=(0.5, layers + 0.5))
    panel.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return mesh


def stage_ends(rows: pd.DataFrame) -> list[float]:
    """Half a layer behind the stem and each stage but the last, of rows of one depth."""
    ends = rows.groupby("stage")["layer"].max().sort_index()
    return [float(end) + 0.5 for end in ends.iloc[:-1]]


def vertical(panel: Axes, at: Iterable[float]) -> None:
    """Faint lines behind the data: stages, drops of the rate."""
    for x in at:
        panel.axvline(x, color=FAINT, linewidth=0.7, zorder=0)


def say(panel: Axes, text: str) -> None:
    """Words in the middle of a panel that has nothing to show."""
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color=QUIET)


def iteration_axis(panel: Axes, last: int) -> None:
    """Logarithmic iteration axis that holds iteration 0: x is placed at log(1 + x)."""
    panel.set_xscale("function", functions=(np.log1p, np.expm1))
    panel.set_xlim(0, max(last, 1))
    decades = [10**k for k in range(10) if 10**k <= max(last, 1)]
    # Of a long axis 0 and 1 would touch.
    _ticks(panel, FixedLocator([0, *decades[len(decades) > 4 :]]))


def linear_iterations(panel: Axes, last: int) -> None:
    """A linear axis of iterations from 0 on."""
    panel.set_xlim(0, max(last, 1))
    _ticks(panel, MaxNLocator(4 if current().room > 0.8 else 2))


def depth_axis(panel: Axes, values: Iterable[float]) -> None:
    """The depths, or other numbers, as ticks; logarithmic if they span a factor of five or more."""
    ticks = sorted(set(values))
    if ticks and ticks[0] > 0 and ticks[-1] / ticks[0] >= 5:
        panel.set_xscale("log")
        panel.set_xlim(ticks[0] / 1.2, ticks[-1] * 1.2)
    _ticks(panel, FixedLocator(ticks))
    if {44, 56} <= set(ticks):  # their labels would touch
        panel.xaxis.set_major_formatter(lambda x, _: "" if round(x) == 44 else thousands(x))


def error_axis(panel: Axes, limit: float | None = None) -> None:
    """Percent from 0 to a limit or as far as the data go, with room for marks on the border."""
    top = limit or min(100.0, panel.get_ylim()[1])
    panel.set_ylim(-0.02 * top, 1.02 * top)
    panel.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _ticks(panel: Axes, locator: Any) -> None:
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(lambda x, _: thousands(x))
