"""The numbers that a figure shows, read off its artists: every line, band, bar, point and cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

COLUMNS = ("panel", "x_axis", "y_axis", "mark", "series", "x", "y", "value")

COLOURS = ("red", "green", "blue")

Marks = tuple[str, str, Any, Any, Any]
"""Mark, series, and x, y and value of each point."""


class Networks(LineCollection):
    """Lines of single networks, drawn as one artist, each with the name of its series."""

    def __init__(self, segments: Sequence[np.ndarray], *, names: Sequence[str], **look: Any):
        super().__init__(segments, **look)
        self.names = tuple(names)


def data_of(figure: Figure) -> pd.DataFrame:
    """One row per point of everything that is drawn in panels.

    Returns:
        `COLUMNS`: title of the panel, labels of its axes as printed on it or on the panel that has
        them for all, kind of mark, name of the series (empty for what needs none), position, and
        the value that a colour stands for (empty for all else).
    """
    told: list[tuple[str, ...]] = []
    parts: list[tuple[np.ndarray, ...]] = []
    for panel in figure.axes:
        if panel.get_label() == "<colorbar>":
            continue
        where = (panel.get_title(loc="left"), _shared(panel, "x"), _shared(panel, "y"))
        for mark, series, *points in _marks(panel):
            told.append((*where, mark, series))
            parts.append(np.broadcast_arrays(*(np.atleast_1d(p).astype(float) for p in points)))
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    # One frame of all: a figure of a thousand networks has thousands of lines.
    lengths = [len(x) for x, _, _ in parts]
    words = (np.repeat(np.array(texts, object), lengths) for texts in zip(*told, strict=True))
    numbers = (np.concatenate(points) for points in zip(*parts, strict=True))
    table = pd.DataFrame(dict(zip(COLUMNS, (*words, *numbers), strict=True)))
    # Of cells, whose values are no positions, every digit is written.
    return table.astype({"value": object})


def csv_of(figure: Figure) -> str:
    """`data_of` as text; positions in eight digits, and nothing where there is none."""
    table = data_of(figure)
    # pandas takes ten times as long to format numbers.
    for name in ("x", "y"):
        table[name] = ["" if math.isnan(x) else f"{x:.8g}" for x in table[name].tolist()]
    return table.to_csv(index=False)


def _marks(panel: Axes) -> Iterator[Marks]:
    for line in panel.lines:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if line.get_transform() != panel.transData:
            # Across the panel: only one of both is in the units of the axes.
            across = line.get_transform() == panel.get_yaxis_transform()
            x, y = (np.full(1, np.nan), y[:1]) if across else (x[:1], np.full(1, np.nan))
        yield "line", line.get_gid() or "", x, y, np.nan
    for drawn in panel.collections:
        series = drawn.get_gid() or ""
        if isinstance(drawn, QuadMesh):
            corners = np.asarray(drawn.get_coordinates(), float)
            middle = (corners[:-1, :-1] + corners[1:, 1:]) / 2
            cells: np.ndarray = np.ma.filled(np.ma.asarray(drawn.get_array(), float), np.nan)
            yield "cell", series, middle[..., 0].ravel(), middle[..., 1].ravel(), cells.ravel()
        elif isinstance(drawn, PathCollection):
            x, y = np.ma.filled(np.ma.asarray(drawn.get_offsets(), float), np.nan).T
            colours = drawn.get_array()
            yield (
                "point",
                series,
                x,
                y,
                np.nan if colours is None else np.ma.filled(colours, np.nan),
            )
        elif isinstance(drawn, Networks):
            for name, points in zip(drawn.names, drawn.get_segments(), strict=True):
                yield "line", name, *np.asarray(points, float).T, np.nan
        elif isinstance(drawn, LineCollection):
            for ends in drawn.get_segments():
                yield "bar", series, ends[:, 0], ends[:, 1], np.nan
        elif isinstance(drawn, PolyCollection):
            for path in drawn.get_paths():
                around = np.asarray(path.vertices, float)
                yield "band", series, around[:, 0], around[:, 1], np.nan
    for picture in panel.images:
        yield from _pixels(picture)
    for container in panel.containers:
        if isinstance(container, BarContainer):
            middle = np.array([bar.get_x() + bar.get_width() / 2 for bar in container])
            heights = np.array([bar.get_height() for bar in container])
            yield "column", container.get_label() or "", middle, heights, np.nan


def _pixels(picture: AxesImage) -> Iterator[Marks]:
    """Cells, of a picture in colours those of each colour; empty between pictures."""
    values: np.ndarray = np.ma.filled(np.ma.asarray(picture.get_array(), float), np.nan)
    rows, columns = np.indices(values.shape[:2])
    grey = values.ndim == 2
    parts = [values] if grey else np.moveaxis(values, 2, 0)
    for name, part in zip([""] if grey else COLOURS, parts, strict=False):
        yield "cell", name, columns.ravel(), rows.ravel(), part.ravel()


def _shared(panel: Axes, axis: str) -> str:
    """Label of an axis, or that of the first panel whose axis it shares and which has one."""
    group = panel.get_shared_x_axes() if axis == "x" else panel.get_shared_y_axes()
    panels = [panel, *group.get_siblings(panel)]
    labels = (one.get_xlabel() if axis == "x" else one.get_ylabel() for one in panels)
    return next(filter(None, labels), "")
