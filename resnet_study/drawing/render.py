"""What a figure is, and writing it: the same frames give the same bytes.

Which figures there are is in `resnet_study.phenomena`, each beside what it shows.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from resnet_study.drawing import panels
from resnet_study.drawing.data import csv_of
from resnet_study.drawing.film import FILMS, save_film
from resnet_study.drawing.place import Place, drawing_into
from resnet_study.drawing.style import drawing, titled
from resnet_study.errors import UserError, require, told
from resnet_study.files import write_atomically
from resnet_study.names import nearest_hint
from resnet_study.records import Frames

DPI = 200

FORMATS = ("png", "svg", "csv")
"""Written by default: two pictures and the numbers that they show."""

MORE_FORMATS = ("pdf", "gif", "webp")
"""Of the last two a figure that moves (`FigureDefinition.moving`) is a film, any other a still."""

_UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


LONGEST = 120
"""Letters of a label in the name of a file."""


def _all(frames: Frames) -> Frames:
    return frames


@dataclass(frozen=True)
class FigureDefinition:
    """A figure that can be drawn from frames.

    Attributes:
        name: key, and name of the files: letters, digits and ``_-+=.``.
        title: heading.
        caption: what is shown, spread, sources, assumptions; `render` adds runs and seeds.
        draw: pure function of what is shown; raises `UserError` if there is nothing to draw.
        across: whether it takes all runs at once, whatever they differ in, and tells them apart
            itself.
        moving: the pictures of its film in order, if it has one; pure likewise.
        beside: what the caption says besides where published numbers stand beside.
        shown: the records that it shows, of those that it is given; by default all.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Frames], Figure]
    across: bool = False
    moving: Callable[[Frames], Iterable[Figure]] | None = None
    beside: str = ""
    shown: Callable[[Frames], Frames] = _all

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or re.fullmatch(r"\w[\w=+.-]*", self.name) is None:
            raise UserError(
                f"figure {self.name!r}: needs a name for its files, of letters, digits and "
                "_-+=.; that of a function made by def is taken"
            )
        for part in ("title", "caption", "beside"):
            text = getattr(self, part)
            require(isinstance(text, str), f"figure {self.name}: {part}", text, "give a text")

    def __call__(
        self, frames: Frames, *, figure: Place | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw it, on its own, into a figure or part of one, or in the place of a panel."""
        with drawing_into(ax if figure is None else figure), drawing():
            drawn = self.draw(self.shown(frames))
            if not isinstance(drawn, Figure | SubFigure):
                kind = type(drawn).__name__
                raise TypeError(f"the function gives {kind}; return what `style.finish` gives")
            return titled(drawn, self.title)


@dataclass(frozen=True)
class RenderedFigure:
    """A figure on disk, or the reason why there is none.

    Attributes:
        name: of the definition, followed by the group of runs if there are several.
        title: heading, likewise.
        caption: with networks, seeds and runs that did not finish.
        files: by format; empty if the figure could not be drawn.
        problem: why it could not be drawn; empty if it was.
    """

    name: str
    title: str
    caption: str
    files: Mapping[str, Path]
    problem: str = ""

    @property
    def png(self) -> Path | None:
        """Path of the picture, if there is one."""
        return self.files.get("png")

    @property
    def svg(self) -> Path | None:
        """Likewise."""
        return self.files.get("svg")


def figure(
    title: str,
    caption: str,
    across: bool = False,
    moving: Callable[[Frames], Iterable[Figure]] | None = None,
    beside: str = "",
    shown: Callable[[Frames], Frames] = _all,
) -> Callable[[Callable[[Frames], Figure]], FigureDefinition]:
    """Make a figure of a function that draws it under the common style; its name is the key.

    Args:
        title, caption, across, moving, beside, shown: as in `FigureDefinition`.
    """

    def define(draw: Callable[[Frames], Figure]) -> FigureDefinition:
        name = getattr(draw, "__name__", "")
        return FigureDefinition(name, title, caption, draw, across, moving, beside, shown)

    return define


def render(
    figures: Sequence[FigureDefinition],
    frames: Frames,
    folder: Path,
    strict: bool = False,
    formats: Sequence[str] = FORMATS,
) -> list[RenderedFigure]:
    """Draw figures in the current look and write each in several formats.

    Runs that differ in more than depth, family and seed (two learning rates, say) are never
    averaged: each group of comparable runs gets figures of its own, named after what tells
    the groups apart. Only a figure that tells them apart itself (`FigureDefinition.across`) gets
    all.

    Args:
        figures: in the order wanted.
        frames: the records.
        folder: made if missing; files are ``<name>.png`` and the like.
        strict: raise for a figure that cannot be drawn, instead of returning it with its
            ``problem`` and going on.
        formats: of `FORMATS` and `MORE_FORMATS`; ``csv`` is what the figure shows.

    Raises:
        UserError: with ``strict``, for a figure that cannot be drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames = panels.with_status(frames)
    groups, everything = panels.labelled_groups(frames), [("", frames)]
    return [
        _render(definition, label, group, folder, strict, formats)
        for definition in figures
        for label, group in (everything if definition.across else groups)
    ]


def formats_of(text: str) -> list[str]:
    """Formats out of ``png,pdf``.

    Raises:
        UserError: for one that figures are not written in, and for none.
    """
    formats = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    known = (*FORMATS, *MORE_FORMATS)
    unknown = next((form for form in formats if form not in known), None)
    if unknown is not None or not formats:
        raise UserError(f"--format={text}: {nearest_hint(unknown or '', known)}")
    return formats


def save(
    figure: Figure,
    folder: Path,
    name: str,
    formats: Sequence[str] = ("png", "svg"),
    film: Iterable[Figure] | None = None,
) -> dict[str, Path]:
    """Write a figure as ``<name>.png`` and so on, without dates or versions.

    Args:
        figure, folder, name: what is written where.
        formats: of `FORMATS` and `MORE_FORMATS`.
        film: pictures of what moves; drawn where a film is asked for.
    """
    files = {form: folder / f"{name}.{form}" for form in formats}
    with drawing():
        for form, file in files.items():
            if form == "csv":
                write_atomically(file, csv_of(figure))
            elif form not in FILMS:
                picture = io.BytesIO()
                figure.savefig(picture, format=form, dpi=DPI, metadata=_UNDATED[form])
                write_atomically(file, picture.getvalue())
    if films := [form for form in formats if form in FILMS]:
        save_film([figure] if film is None else film, folder, name, films)
    return files


def _render(
    definition: FigureDefinition,
    label: str,
    group: Frames,
    folder: Path,
    strict: bool,
    formats: Sequence[str],
) -> RenderedFigure:
    name = f"{definition.name}_{_slug(label)}" if label else definition.name
    title = f"{definition.title} ({label})" if label else definition.title
    figure = None
    try:
        figure, shown = definition(group), definition.shown(group)
        beside = definition.beside if panels.beside_the_paper(group) else ""
        caption = " ".join(filter(None, (definition.caption, beside, panels.describe(shown))))
        film = _pictures(definition.moving, shown) if definition.moving else None
        files = save(figure, folder, name, formats, film)
    except (Exception, SystemExit) as error:  # a figure of one's own can raise anything
        if figure is not None and isinstance(error, OSError):
            raise  # the disk's fault, and no other figure can be written either
        problem = str(error) if isinstance(error, UserError) else told(error)
        if strict:
            raise UserError(f"{definition.name}: {problem}") from error
        if not isinstance(error, UserError):
            print(f"figure {name}: not drawn: {problem}", file=sys.stderr)
        for form in formats:
            (folder / f"{name}.{form}").unlink(missing_ok=True)
        return RenderedFigure(name, title, definition.caption, {}, problem)
    return RenderedFigure(name, title, caption, files)


def _pictures(moving: Callable[[Frames], Iterable[Figure]], shown: Frames) -> Iterator[Figure]:
    """Of a film, whose own trouble with files is told apart from that of writing it."""
    try:
        yield from moving(shown)
    except OSError as error:
        raise UserError(told(error)) from error


def _slug(label: str) -> str:
    """In names of files, which may have 255 letters: of a longer label its start and a hash."""
    slug = re.sub(r"[^A-Za-z0-9.=]+", "_", label).strip("_")
    if len(slug) <= LONGEST:
        return slug
    return f"{slug[:LONGEST]}_{hashlib.sha256(label.encode()).hexdigest()[:8]}"
