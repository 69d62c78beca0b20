"""Figures drawn into a figure or panel of one's own, beside other things.

What is current is a context variable, as in `resnet_study.drawing.look`: functions that draw take
no argument for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, cast

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from resnet_study.errors import UserError

Place = Figure | SubFigure

_current: ContextVar[SubFigure | None] = ContextVar("place", default=None)


def current() -> SubFigure | None:
    """Where figures are drawn; None: each is its own."""
    return _current.get()


@contextlib.contextmanager
def drawing_into(place: Place | Axes | None) -> Iterator[None]:
    """Draw into this (part of a) figure, or in the place of this panel, which is removed.

    A figure that has no layout gets the constrained one, which makes room for what is drawn.

    Raises:
        UserError: for a panel that lies in no grid.
    """
    if isinstance(place, Axes):
        place = _instead_of(place)
    if place is not None and (whole := _whole(place)).get_layout_engine() is None:
        whole.set_layout_engine("constrained")
    # The legend belongs to the inner part, the title to the outer: one part would hold both in one
    # place.
    token = _current.set(cast(SubFigure, place.subfigures()) if place is not None else None)
    try:
        yield
    finally:
        _current.reset(token)


def inches(place: SubFigure) -> float:
    """How wide it is."""
    return float(place.bbox.width / _whole(place).dpi)


def surround(
    place: SubFigure,
    handles: Sequence[Artist],
    columns: int,
    note: str,
    title: dict[str, Any],
    small: dict[str, Any],
) -> None:
    """Legend, small print and room for the title around the panels, as the layout places them.

    Args:
        place: part of a figure.
        handles, columns: legend entries; none draws no legend.
        note, small: small print, in lines, and settings of its letters.
        title: settings of its letters.
    """
    place.get_figure(root=False).suptitle("", x=0.012, ha="left", gid="title", **title)
    if handles:
        place.legend(handles=list(handles), ncols=columns, loc="outside upper left")
    place.supxlabel(note, x=0.012, ha="left", **small)


def _instead_of(panel: Axes) -> SubFigure:
    cell, outer = panel.get_subplotspec(), panel.figure
    if cell is None or outer is None:
        raise UserError("ax: a panel of a grid (figure.subplots) is needed, or give figure=")
    panel.remove()
    return outer.add_subfigure(cell)


def _whole(place: Place) -> Figure:
    return cast(Figure, place.get_figure(root=True))
