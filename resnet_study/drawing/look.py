"""How figures are drawn when asked for other than for a paper: size, letters, colours, a style.

What is current is a context variable, which `resnet_study.drawing.style` reads: functions that draw
take no argument for it, and a figure that nobody asked to change is the same on every machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.colors import to_rgba
from matplotlib.style import library as known_styles

from resnet_study.errors import UserError
from resnet_study.names import nearest

WIDTH = 5.6
"""Inches: the text of a paper of one column, at which the smallest letters have 7.8 points."""

NARROWEST, WIDEST = 3.2, 60.0
"""Inches; the first is a column of two on a page."""

NARROW = 4.2
"""Inches below which letters become smaller, to six points at `NARROWEST`."""


@dataclass(frozen=True)
class Look:
    """Size and colours of figures.

    Attributes:
        width: in inches; heights follow.
        text: factor of all letters, lines and marks.
        palette: colour map of matplotlib for depths, iterations and other things in order; empty:
            each figure's own. The two families keep their colours.
        settings: of matplotlib, over those of this project.
    """

    width: float = WIDTH
    text: float = 1.0
    palette: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def room(self) -> float:
        """Letters that a line holds, over those of the paper's."""
        return self.width / WIDTH / self.text


STYLES: Mapping[str, Look] = {
    "paper": Look(),
    "slides": Look(width=10.0, text=2.0),
    "poster": Look(width=20.0, text=4.0),
}
"""Letters of slides and posters are larger by an eighth, relative to the panels."""

_current: ContextVar[Look] = ContextVar("look", default=STYLES["paper"])


def current() -> Look:
    """The look that figures are drawn with."""
    return _current.get()


@contextlib.contextmanager
def looking(look: Look) -> Iterator[None]:
    """Draw with this look."""
    token = _current.set(look)
    try:
        yield
    finally:
        _current.reset(token)


def look_of(style: str = "paper", width: float | None = None, palette: str | None = None) -> Look:
    """The look that is asked for.

    Args:
        style: a key of `STYLES`, a style of matplotlib by its name, or a file of settings
            (``mine.mplstyle``). Letters of a file have the sizes that it gives.
        width: in inches; letters keep their size if it is not below `NARROW`.
        palette: name of a colour map.

    Raises:
        UserError: for a style, width or palette that is none.
    """
    look = STYLES.get(style) or Look(settings=_settings(style))
    for place in ("figure.facecolor", "axes.facecolor"):
        ground = look.settings.get(place, "white")
        *colour, opaque = to_rgba(ground)
        if opaque and max(colour) < 0.5:
            raise UserError(
                f"--style={style}: {place} is {ground}, on which lines of these colours cannot be "
                "seen; take a style with a light background"
            )
    if width is not None:
        if not NARROWEST <= width <= WIDEST:
            raise UserError(f"--width={width:g}: inches, from {NARROWEST:g} to {WIDEST:g}")
        look = replace(look, width=width, text=look.text * min(1.0, width / NARROW))
    if palette is not None:
        if palette not in matplotlib.colormaps:
            near = nearest(palette, matplotlib.colormaps)
            hint = f"did you mean {near}?" if near else "such as viridis, cividis or magma"
            raise UserError(f"--palette={palette}: no colour map of matplotlib; {hint}")
        look = replace(look, palette=palette)
    return look


def _settings(style: str) -> dict[str, Any]:
    if style in known_styles:
        return dict(cast(Any, known_styles[style]))
    if not Path(style).is_file():
        near = nearest(style, [*STYLES, *known_styles])
        hint = f"did you mean {near}? " if near else ""
        raise UserError(
            f"--style={style}: no style and no file; {hint}Give {', '.join(STYLES)}, a style of "
            "matplotlib or a file of settings"
        )
    try:
        return dict(cast(Any, matplotlib.rc_params_from_file(style, use_default_template=False)))
    except (UnicodeDecodeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--style={style}: not a style file of matplotlib ({reason})") from error
