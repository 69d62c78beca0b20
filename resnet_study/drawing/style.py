"""How every figure looks: fonts, sizes, colours, one style per family.

Figures are matplotlib `Figure` objects made without pyplot: no global state, no display, no
backend to choose. Each is an object that is freed like any other, and every function draws under
`STYLE` whatever the caller's settings are, changed only by `resnet_study.drawing.look`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any, cast

import matplotlib
import numpy as np
import seaborn
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import Collection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from resnet_study.drawing import place
from resnet_study.drawing.look import WIDTH, current

SMALL, TITLE = 7.8, 11.0
"""Points of the small print and of the title."""

TITLE_INCHES, LEGEND_INCHES, NOTE_INCHES = 0.33, 0.19, 0.138
"""Height of the title and of each row of the legend and of the small print."""

NOTE_CHARACTERS = 88

_LEGEND_LEFT = 0.007
"""Of the width of a figure."""

SMALLEST = 0.7
"""Of a panel's title and of long ticks, over their size at the width of a paper's column."""

PANEL = 0.72
"""Of the width of its column, at most: the rest is the y axis."""

INK, QUIET, FAINT = "#1a1a1a", "#5a5a5a", "#c8c8c8"

UNSET: Mapping[str, Any] = {
    name: value
    for name, value in matplotlib.rcParamsDefault.items()
    if name not in ("backend", "backend_fallback", "interactive")
}
"""Matplotlib's own settings, so that no matplotlibrc has a part in a figure."""

STYLE: dict[str, Any] = {
    **seaborn.axes_style("ticks"),
    **seaborn.plotting_context("paper"),
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same on every machine
    "mathtext.fontset": "dejavusans",
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
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "resnet-study",
}

SIZES = tuple(
    name
    for name in (*seaborn.plotting_context("paper"), "axes.linewidth")
    if not name.startswith(("lines.", "patch."))
)
"""Settings in points, which `Look.text` multiplies; lines and marks are enlarged by `finish`."""


@dataclass(frozen=True)
class FamilyStyle:
    """How one family is drawn."""

    colour: str
    linestyle: str
    marker: str

    @property
    def look(self) -> dict[str, Any]:
        """Keywords of a line."""
        return {"color": self.colour, "linestyle": self.linestyle, "marker": self.marker}


FAMILIES: Mapping[str, FamilyStyle] = {
    "plain": FamilyStyle("#c1440e", "--", "s"),
    "residual": FamilyStyle("#0b4f8a", "-", "o"),
}
"""In the order of panels and legends; nothing else has these two colours."""

ON_DARK: Mapping[str, str] = {"plain": "#ef8a5b", "residual": "#6db3f2"}
"""The colours of the families, lightened, for pages whose background is dark."""

KINDS = ("#009e73", "#e69f00", "#cc79a7", "#56b4e9")
"""Colours of things without order that are no families (Okabe & Ito's, but for theirs)."""

THEORY: Mapping[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.4}

HOLLOW: Mapping[str, Any] = {"linestyle": "none", "markerfacecolor": "none"}
"""Marks of what others have published."""


def drawing() -> AbstractContextManager[None]:
    """Draw and save under `STYLE` and the current look, whatever matplotlib's settings are."""
    look = current()
    scaled = {name: look.text * STYLE[name] for name in SIZES}
    return matplotlib.rc_context(cast(Any, {**UNSET, **STYLE, **scaled, **look.settings}))


def points(size: float) -> float:
    """A size of letters that no setting has, in the current look."""
    return size * current().text


def fitting(setting: str) -> float:
    """Size of letters as in a setting, smaller where they would run into the next panel."""
    return points(STYLE[setting]) * min(1.0, max(current().room, SMALLEST))


def new_figure(
    rows: int, columns: int, height: float, titles: Iterable[str] = (), **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """An empty figure and its panels, or the place that figures are drawn into and its panels.

    Args:
        rows, columns: of panels.
        height: of all rows together, in inches at the width of a paper's column.
        titles: of the panels, row by row; each gets its letter.
        subplots: for `Figure.subplots`, such as ``sharey=True``.

    Returns:
        The figure and its axes, shape (rows, columns).
    """
    width = current().width
    # Letters of narrow figures shrink less than their widths.
    height *= max(width / WIDTH, min(1.0, current().text))
    # A part of a figure has all the methods that are used of one.
    figure = cast(Figure, place.current()) or Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    size = fitting("axes.titlesize")
    for letter, panel, title in zip(ascii_lowercase, axes.flat, titles, strict=False):
        panel.set_title(f"({letter}) {title}", loc="left", fontsize=size)
    return figure, axes


def finish(
    figure: Figure, handles: Sequence[Artist], sentences: Iterable[str], columns: int = 0
) -> Figure:
    """Put the legend above the panels and small print below, covering no data, and leave room for
    the title, which `titled` writes.

    The figure grows by what they need, so the panels keep their size. Logarithmic axes get their
    ticks here, for it takes the final limits.

    Args:
        figure: as made by `new_figure`.
        handles: legend entries; none draws no legend.
        sentences: n, spread, what is left out; empty ones are dropped.
        columns: entries per row of the legend; 0 for as many as fit.
    """
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            if axis.get_scale() == "log" and not isinstance(axis.get_major_locator(), FixedLocator):
                _log_ticks(axis)
    _break_labels(figure)
    text, room, inside = current().text, current().room, place.current()
    _enlarge([*(line for panel in figure.axes for line in panel.lines), *handles], text)
    _enlarge([marks for panel in figure.axes for marks in panel.collections], text)
    if inside is not None:
        room *= place.inches(inside) / current().width
    characters = max(20, round(NOTE_CHARACTERS * room))
    lines = _even(" ".join(s for s in sentences if s), characters)
    if columns:
        columns = max(1, math.floor(columns * min(1.0, room) + 0.25))
    else:
        widest = max((len(str(handle.get_label())) for handle in handles), default=0) / room
        columns = 4 if widest < 17 else 3 if widest < 22 else 2 if widest < 38 else 1
    title: dict[str, Any] = {"fontsize": points(TITLE), "fontweight": "bold"}
    small: dict[str, Any] = {"fontsize": points(SMALL), "color": QUIET}
    if inside is not None:
        place.surround(inside, handles, columns, "\n".join(lines), title, small)
        return figure
    labels, columns = _that_fit(figure, handles, columns)
    rows = math.ceil(sum(1 + label.count("\n") for label in labels) / columns)
    header = text * (TITLE_INCHES + rows * LEGEND_INCHES + (0.06 if rows else 0.0))
    footer = text * (len(lines) * NOTE_INCHES + 0.08)
    height = header + float(figure.get_figheight()) + footer
    figure.set_figheight(height)
    body = (0, footer / height, 1, 1 - (header + footer) / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=body, w_pad=0.06 * text))
    figure.text(
        0.012, 1 - 0.06 * text / height, "", gid="title", in_layout=False, va="top", **title
    )
    if rows:
        box = _legend(figure, handles, labels, columns)
        box.set_bbox_to_anchor((_LEGEND_LEFT, 1 - text * TITLE_INCHES / height))
        box.set_in_layout(False)
    small |= {"va": "bottom", "linespacing": 1.25}
    figure.text(0.012, 0.05 * text / height, "\n".join(lines), in_layout=False, **small)
    return figure


def _break_labels(figure: Figure) -> None:
    """Those of x axes that are longer than their panel is wide run into others."""
    renderer = _renderer(figure)
    for panel in figure.axes:
        label, spec = panel.xaxis.label, panel.get_subplotspec()
        width = label.get_window_extent(renderer).width
        if spec is not None and width:
            room = PANEL * figure.bbox.width * len(spec.colspan) / spec.get_gridspec().ncols
            text = label.get_text()
            if width > room:
                label.set_text("\n".join(_even(text, max(8, int(room / width * len(text))))))


def _renderer(figure: Figure) -> RendererAgg:
    """To measure letters with; the canvas of the figure, which may be a user's window, stays."""
    return RendererAgg(1, 1, cast(Figure, figure.get_figure(root=True)).dpi)


def _even(text: str, characters: int) -> list[str]:
    """As few lines as of the most characters, none of them left with a word or two; names such as
    plain-56 are kept whole."""
    wrap = textwrap.TextWrapper(characters, break_on_hyphens=False)
    lines = wrap.wrap(text)
    while wrap.width > max(map(len, text.split()), default=1):
        wrap.width -= 1
        narrower = wrap.wrap(text)
        if len(narrower) > len(lines):
            break
        lines = narrower
    return lines


def _enlarge(drawn: Iterable[Artist], factor: float) -> None:
    """Lines and marks, whatever drew them with the sizes of a paper; each once."""
    if factor == 1:
        return
    for artist in {id(one): one for one in drawn}.values():
        if isinstance(artist, Line2D):
            artist.set_linewidth(factor * artist.get_linewidth())
            artist.set_markersize(factor * artist.get_markersize())
            artist.set_markeredgewidth(factor * artist.get_markeredgewidth())
        elif isinstance(artist, Collection):
            artist.set_linewidth(
                [factor * width for width in np.atleast_1d(artist.get_linewidth())]
            )
            if isinstance(artist, PathCollection):
                artist.set_sizes(factor**2 * artist.get_sizes())


def _legend(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], columns: int
) -> Legend:
    look: dict[str, Any] = {"columnspacing": 1.3, "handletextpad": 0.5, "borderaxespad": 0.0}
    look |= {"borderpad": 0.3, "labelspacing": 0.35, "loc": "upper left"}
    return figure.legend(list(handles), list(labels), ncols=columns, **look)


def _that_fit(figure: Figure, handles: Sequence[Artist], columns: int) -> tuple[list[str], int]:
    """Labels of a legend, broken where one is longer than the figure is wide, and columns."""
    labels = [str(handle.get_label()) for handle in handles]
    if not labels:
        return [], 1

    def too_wide() -> float:
        """By which factor, as the letters turn out to be."""
        box = _legend(figure, handles, labels, columns)
        width = box.get_window_extent(_renderer(figure)).width
        box.remove()
        return float(width / figure.bbox.width / (1 - 2 * _LEGEND_LEFT))

    while columns > 1 and too_wide() > 1:
        columns -= 1
    characters = max(map(len, labels))
    while too_wide() > 1 and characters > 10:
        characters -= 1
        labels = [textwrap.fill(label, characters, break_long_words=False) for label in labels]
    return labels, columns


def titled(figure: Figure, title: str) -> Figure:
    """Write the heading, if any, into the room that `finish` left for it, unless it has one."""
    outer = cast(Figure, figure.get_figure(root=False))
    for text in [*figure.texts, *outer.texts]:
        if title and text.get_gid() == "title" and not text.get_text():
            text.set_text(title)
            # Seldom: a long one above a narrow figure.
            renderer, room = _renderer(figure), 0.976 * figure.bbox.width
            # Widths of letters are whole pixels: they do not follow their size exactly.
            while (width := text.get_window_extent(renderer).width) > room:
                text.set_fontsize(min(0.99, room / width) * float(text.get_fontsize()))
    return figure


def sequential(values: Iterable[Any], palette: str = "viridis") -> dict[Any, str]:
    """A colour per value in rising order, from light to dark, unless the look has a palette.

    The lightest fifth of the map is left out: it would not be seen on white.
    """
    ordered = sorted(set(values))
    positions = [0.0] if len(ordered) == 1 else np.linspace(0.76, 0.0, len(ordered))
    colours = matplotlib.colormaps[current().palette or palette](positions)
    return {value: to_hex(colour) for value, colour in zip(ordered, colours, strict=True)}


def shades(colour: str, count: int) -> list[str]:
    """Of the colour of a family, from light to dark; one is the colour itself."""
    light, dark = (seaborn.blend_palette((end, colour), 5)[2] for end in ("white", "black"))
    return (
        list(seaborn.blend_palette((light, colour, dark), count).as_hex())
        if count > 1
        else [colour]
    )


def at_most(values: Iterable[int], count: int) -> list[int]:
    """The smallest, the largest and evenly spaced ones between, at most `count` values."""
    ordered = sorted(set(values))
    picks = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[i] for i in picks]


def key(label: str, **line: Any) -> Artist:
    """A legend entry that stands for a line drawn like this."""
    return Line2D([], [], label=label, **line)


def keys(colours: Mapping[Any, str], form: str = "depth {}") -> list[Artist]:
    """Legend entries of lines told apart by colour."""
    return [key(form.format(v), color=colour, linewidth=2.4) for v, colour in colours.items()]


def family_keys(families: Iterable[str], **line: Any) -> list[Artist]:
    """Legend entries of the families."""
    return [key(family, **{**FAMILIES[family].look, **line}) for family in families]


def label(axes: np.ndarray, x: str = "", y: str = "") -> None:
    """Label the outer axes of a grid of panels, shape (rows, columns)."""
    for panel in axes[-1]:
        panel.set_xlabel(x)
    for panel in axes[:, 0]:
        panel.set_ylabel(y)


def thousands(x: float) -> str:
    """64000 as 64k, 1500000 as 1.5M, 500 as 500, and 1e+30 as it is."""
    if abs(x) >= 1e9:
        return f"{x:g}"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


def _log_ticks(axis: Axis) -> None:
    """Decades, as many as there is room for; 1, 2 and 5 of each where there are few."""
    low, high = axis.get_view_interval()
    axis.set_minor_locator(NullLocator())
    if high / low < 100:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(lambda x, _: thousands(x))
    else:
        axis.set_major_locator(LogLocator(numticks=6))
