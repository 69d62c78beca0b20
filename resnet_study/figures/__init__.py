"""Figures from records alone: each a pure function of the frames. Imports no jax.

`FIGURES` names them; `render` writes any of them as PNG and SVG with the same bytes every
time. Missing material (no layers recorded, one family, one seed) gives a figure of what
there is, with n and what is left out in its small print; where nothing is left to draw, a
`UserError` says what is missing.
"""

from __future__ import annotations

from resnet_study.figures.comparison import comparison_figure
from resnet_study.figures.render import FIGURES, FigureDef, RenderedFigure, render, save

__all__ = [
    "FIGURES",
    "FigureDef",
    "RenderedFigure",
    "comparison_figure",
    "render",
    "save",
]
