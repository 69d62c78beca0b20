"""The look that all figures share: size, type, colours, the iteration axis, notes.

Figures are 5.6 inches wide with 9 to 10 point type, so that they can be printed at the
width of one column (3.3 inches) and still be read. The families differ in line style and
marker as well as in colour; depths and iterations are sequential, dark for the deeper or
later one, so that they keep their order in grey.

Nothing here touches pyplot's global state: a figure is an object that is freed like any
other, and every function draws under `STYLE` whatever the caller's settings are.
"""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import matplotlib
import numpy as np
import seaborn
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from resnet_study.records import Frames

WIDTH = 5.6
"""Inches; a column of a two-column paper is about 3.3."""

TITLE_INCHES, LEGEND_INCHES, NOTE_INCHES = 0.33, 0.19, 0.138
"""Height of the title and of each row of the legend and of the small print."""

NOTE_CHARACTERS = 88

INK, QUIET, FAINT = "#1a1a1a", "#5a5a5a", "#c8c8c8"

STYLE: dict[str, Any] = {
    **seaborn.axes_style("ticks"),
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same on every machine
    "mathtext.fontset": "dejavusans",
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.title_fontsize": 9.0,
    "figure.titlesize": 11.0,
    "figure.titleweight": "bold",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.8,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.major.size": 3.5,
    "ytick.major.size": 3.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "resnet-study",
}


@dataclass(frozen=True)
class FamilyStyle:
    """How one family is drawn."""

    label: str
    colour: str
    linestyle: str
    marker: str


FAMILIES: Mapping[str, FamilyStyle] = {
    "plain": FamilyStyle("plain", "#c1440e", "--", "s"),
    "residual": FamilyStyle("residual", "#0b4f8a", "-", "o"),
}
"""In the order of panels and legends."""


def drawing() -> AbstractContextManager[None]:
    """Draw and save under `STYLE`, whatever the global matplotlib settings are."""
    return matplotlib.rc_context(cast(Any, STYLE))


def styled(draw: Callable[[Frames], Figure]) -> Callable[[Frames], Figure]:
    """A figure function that draws under `STYLE`."""

    @functools.wraps(draw)
    def wrapper(frames: Frames) -> Figure:
        with drawing():
            return draw(frames)

    return wrapper


def new_figure(
    rows: int, columns: int, height: float, **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """An empty figure and its axes, shape (rows, columns); height of the panels in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def finish(
    figure: Figure,
    title: str,
    handles: Sequence[Artist],
    sentences: Iterable[str],
    columns: int = 4,
) -> Figure:
    """Put title and legend above the panels and small print below, covering no data.

    The figure grows by what they need, so the panels keep their size.

    Args:
        figure: as made by `new_figure`.
        title: heading.
        handles: legend entries; none draws no legend.
        sentences: n, spread, what is left out; empty ones are dropped.
        columns: entries per row of the legend.
    """
    lines = textwrap.wrap(" ".join(s for s in sentences if s), NOTE_CHARACTERS)
    rows = math.ceil(len(handles) / columns)
    header = TITLE_INCHES + rows * LEGEND_INCHES + (0.06 if rows else 0.0)
    footer = len(lines) * NOTE_INCHES + 0.08
    height = header + float(figure.get_figheight()) + footer
    figure.set_figheight(height)
    body = (0, footer / height, 1, 1 - (header + footer) / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=body, w_pad=0.06))
    figure.suptitle(title, x=0.012, y=1 - 0.06 / height, ha="left", va="top", in_layout=False)
    if rows:
        box = figure.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(0.007, 1 - TITLE_INCHES / height),
            ncols=columns,
            columnspacing=1.3,
            handletextpad=0.5,
            borderaxespad=0.0,
            borderpad=0.3,
            labelspacing=0.35,
        )
        box.set_in_layout(False)
    figure.text(
        0.012,
        0.05 / height,
        "\n".join(lines),
        va="bottom",
        fontsize=7.8,
        color=QUIET,
        linespacing=1.25,
        in_layout=False,
    )
    return figure


def sequential(values: Iterable[Any], palette: str = "viridis") -> dict[Any, str]:
    """A colour per value in rising order, from light to dark.

    The lightest fifth of the map is left out: it would not be seen on white.
    """
    ordered = sorted(set(values))
    positions = np.linspace(0.76, 0.0, len(ordered)) if len(ordered) > 1 else [0.3]
    colours = matplotlib.colormaps[palette](positions)
    return {value: to_hex(colour) for value, colour in zip(ordered, colours, strict=True)}


def at_most(values: Sequence[int], count: int) -> list[int]:
    """The smallest, the largest and evenly spaced ones between, at most `count` values."""
    ordered = sorted(set(values))
    if len(ordered) <= count:
        return ordered
    picks = np.linspace(0, len(ordered) - 1, count).round().astype(int)
    return [ordered[i] for i in picks]


def letter(axes: Axes, index: int, title: str) -> None:
    """Title of a panel with its letter, (a) being index 0."""
    axes.set_title(f"({chr(ord('a') + index)}) {title}", loc="left")


def key(label: str, **line: Any) -> Line2D:
    """A legend entry that stands for a line drawn like this."""
    return Line2D([], [], label=label, **line)


def log1p_iterations(axes: Axes, last: int) -> None:
    """Logarithmic iteration axis that holds iteration 0: x is placed at log(1 + x)."""
    axes.set_xscale("function", functions=(np.log1p, np.expm1))
    axes.set_xlim(0, max(last, 1))
    decades = [10**k for k in range(1, 10) if 10**k <= last]
    axes.xaxis.set_major_locator(FixedLocator([0, 1, *decades]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x)))


def thousands(x: float) -> str:
    """64000 as 64k, 1500000 as 1.5M, 500 as 500."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


def numeric_axis(panel: Axes, values: Sequence[float]) -> None:
    """Logarithmic where the values are positive and span a factor of five or more."""
    if min(values) > 0 and max(values) / min(values) >= 5:
        panel.set_xscale("log")
        panel.set_xlim(min(values) / 1.2, max(values) * 1.2)
    panel.xaxis.set_major_locator(FixedLocator(list(values)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x)))


def log_ticks(panel: Axes) -> None:
    """Decades, as many as there is room for; 1, 2 and 5 of each where there are few."""
    low, high = panel.get_ylim()
    panel.yaxis.set_minor_locator(NullLocator())
    if high / low < 100:
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    else:
        panel.yaxis.set_major_locator(LogLocator(numticks=6))


def band(axes: Axes, x: Any, low: Any, high: Any, colour: str, alpha: float = 0.18) -> None:
    """Spread over the seeds."""
    axes.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0)


def error_bars(
    axes: Axes, x: Any, mean: Any, below: Any, above: Any, gid: str, **look: Any
) -> None:
    """A line of means with bars of these lengths."""
    bars = axes.errorbar(x, mean, yerr=[below, above], capsize=2.5, elinewidth=1.0, **look)
    # Not as an argument: the caps would get it too.
    bars.lines[0].set_gid(gid)
