"""The flags of every command that draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from resnet_study.drawing.look import Look


@dataclass(frozen=True)
class Drawing:
    """How figures are drawn, and in which files.

    Attributes:
        format: Of the files: png, svg, pdf; csv has the numbers that a figure shows; gif and
            webp are films of what moves, `signal_and_turn`.
        style: paper, slides, poster, a style of matplotlib or a file of its settings.
        width: Inches, 3.2 to 60; letters keep their size, but below 4.2 inches.
        palette: Colour map of matplotlib for depths, iterations and what else has an order; plain
            and residual keep their colours.
    """

    format: Annotated[str, tyro.conf.arg(metavar="FORMAT,...")] = "png,svg,csv"
    style: Annotated[str, tyro.conf.arg(metavar="STYLE")] = "paper"
    width: Annotated[float | None, tyro.conf.arg(metavar="INCHES")] = None
    palette: Annotated[str | None, tyro.conf.arg(metavar="PALETTE")] = None

    def checked(self) -> tuple[Look, list[str]]:
        """The look and the formats.

        Raises:
            UserError: for a flag with another value than there are.
        """
        from resnet_study.drawing.look import look_of
        from resnet_study.drawing.render import formats_of

        return look_of(self.style, self.width, self.palette), formats_of(self.format)
