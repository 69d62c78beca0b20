"""What a figure is, and writing it: the same frames give the same bytes.

Which figures there are is in `resnet_study.phenomena`, each beside what it shows.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from resnet_study.drawing import panels
from resnet_study.drawing.style import drawing, titled
from resnet_study.errors import UserError
from resnet_study.records import Frames

DPI = 200


@dataclass(frozen=True)
class FigureDefinition:
    """A figure that can be drawn from frames.

    Attributes:
        name: key, and name of the files.
        title: heading.
        caption: what is shown, spread, sources, assumptions; `render` adds runs and seeds.
        draw: pure function; raises `UserError` if there is nothing to draw.
        across: whether it takes all runs at once, whatever they differ in, and tells them apart
            itself.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Frames], Figure]
    across: bool = False

    def __call__(self, frames: Frames) -> Figure:
        """Draw it."""
        return self.draw(frames)


@dataclass(frozen=True)
class RenderedFigure:
    """A figure on disk, or the reason why there is none.

    Attributes:
        name: of the definition, followed by the group of runs if there are several.
        title: heading, likewise.
        caption: with networks, seeds and runs that did not finish.
        png: path of the file; None if the figure could not be drawn.
        svg: likewise.
        problem: why it could not be drawn; empty if it was.
    """

    name: str
    title: str
    caption: str
    png: Path | None
    svg: Path | None
    problem: str = ""


def figure(
    title: str, caption: str, across: bool = False
) -> Callable[[Callable[[Frames], Figure]], FigureDefinition]:
    """Make a figure of a function that draws it under the common style; its name is the key.

    Args:
        title, caption, across: as in `FigureDefinition`.
    """

    def define(draw: Callable[[Frames], Figure]) -> FigureDefinition:
        @functools.wraps(draw)
        def wrapper(frames: Frames) -> Figure:
            with drawing():
                return titled(draw(frames), title)

        return FigureDefinition(draw.__name__, title, caption, wrapper, across)

    return define


def render(
    figures: Sequence[FigureDefinition], frames: Frames, folder: Path, strict: bool = False
) -> list[RenderedFigure]:
    """Draw figures and write each as PNG and SVG.

    Runs that differ in more than depth, family and seed (two learning rates, say) are never
    averaged: each group of comparable runs gets figures of its own, named after what tells
    the groups apart. Only a figure that tells them apart itself (`FigureDefinition.across`) gets
    all.

    Args:
        figures: in the order wanted.
        frames: the records.
        folder: made if missing; files are ``<name>.png`` and ``<name>.svg``.
        strict: raise for a figure that cannot be drawn, instead of returning it with its
            ``problem`` and going on.

    Raises:
        UserError: with ``strict``, for a figure that cannot be drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames = panels.with_status(frames)
    groups, everything = panels.labelled_groups(frames), [("", frames)]
    return [
        _render(definition, label, group, folder, strict)
        for definition in figures
        for label, group in (everything if definition.across else groups)
    ]


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a figure as ``<name>.png`` and ``<name>.svg`` without dates or versions."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with drawing():
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        figure.savefig(svg, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None})
    return png, svg


def _render(
    definition: FigureDefinition, label: str, group: Frames, folder: Path, strict: bool
) -> RenderedFigure:
    name = f"{definition.name}_{_slug(label)}" if label else definition.name
    title = f"{definition.title} ({label})" if label else definition.title
    try:
        figure = definition.draw(group)
    except Exception as error:  # a figure of one's own can raise anything
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        problem = reason.strip().splitlines()[0]
        if strict:
            raise UserError(f"{definition.name}: {problem}") from error
        return RenderedFigure(name, title, definition.caption, None, None, problem)
    png, svg = save(figure, folder, name)
    return RenderedFigure(name, title, f"{definition.caption} {panels.describe(group)}", png, svg)


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=]+", "_", label).strip("_")
