"""Every figure about networks at initialisation, in the order of reports."""

from __future__ import annotations

from resnet_study.phenomena.initialization import block_figures, gradient_figures, size_figures

FIGURES = (*gradient_figures.FIGURES, *size_figures.FIGURES, *block_figures.FIGURES)
