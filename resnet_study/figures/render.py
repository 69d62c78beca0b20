"""Which figures there are, and writing them: the same frames give the same bytes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from resnet_study.errors import UserError
from resnet_study.figures import (
    captions,
    errors,
    frozen,
    layers,
    material,
    signal_blocks,
    signals,
)
from resnet_study.figures.style import drawing
from resnet_study.records import Frames

DPI = 200


@dataclass(frozen=True)
class FigureDef:
    """A figure that can be drawn from frames.

    Attributes:
        name: key in `FIGURES` and file name.
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


@dataclass(frozen=True)
class RenderedFigure:
    """A figure on disk, or the reason why there is none.

    Attributes:
        name: as in `FIGURES`, followed by the group of runs if there are several.
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


_DEFINITIONS = (
    FigureDef(
        "error_against_depth",
        "Error against depth",
        captions.ERROR_AGAINST_DEPTH,
        errors.error_against_depth,
    ),
    FigureDef(
        "training_curves", "Training curves", captions.TRAINING_CURVES, errors.training_curves
    ),
    FigureDef(
        "gradient_profile",
        "Gradient norm by layer",
        captions.GRADIENT_PROFILE,
        layers.gradient_profile,
    ),
    FigureDef(
        "gradient_ratio",
        "First-to-last gradient ratio",
        captions.GRADIENT_RATIO,
        layers.gradient_ratio,
    ),
    FigureDef(
        "gradient_heatmap",
        "Gradient norm by layer and iteration",
        captions.GRADIENT_HEATMAP,
        layers.gradient_heatmap,
    ),
    FigureDef(
        "update_heatmap",
        "Relative update by layer and iteration",
        captions.UPDATE_HEATMAP,
        layers.update_heatmap,
    ),
    FigureDef(
        "response_std",
        "Layer responses after training",
        captions.RESPONSE_STD,
        layers.response_std,
    ),
    FigureDef(
        "weight_growth",
        "Weight growth and effective step",
        captions.WEIGHT_GROWTH,
        frozen.weight_growth,
    ),
    FigureDef(
        "thaw_times",
        "Measured against predicted thaw",
        captions.THAW_TIMES,
        frozen.thaw_times,
        across=True,
    ),
    FigureDef(
        "thaw_curves",
        "Training error and thaw",
        captions.THAW_CURVES,
        frozen.thaw_curves,
        across=True,
    ),
    FigureDef(
        "signal_gradients",
        "Gradients at initialisation, with BN",
        captions.SIGNAL_GRADIENTS,
        signals.signal_gradients,
        across=True,
    ),
    FigureDef(
        "vanishing_gradients",
        "Vanishing gradients at initialisation, without normalisation",
        captions.VANISHING_GRADIENTS,
        signals.vanishing_gradients,
        across=True,
    ),
    FigureDef(
        "branch_variance",
        "Branch against skip variance",
        captions.BRANCH_VARIANCE,
        signal_blocks.branch_variance,
        across=True,
    ),
    FigureDef(
        "signal_propagation_plot",
        "Signal propagation",
        captions.SIGNAL_PROPAGATION_PLOT,
        signal_blocks.signal_propagation_plot,
        across=True,
    ),
    FigureDef(
        "shattered_gradients",
        "Shattered gradients at initialisation",
        captions.SHATTERED_GRADIENTS,
        signals.shattered_gradients,
        across=True,
    ),
    FigureDef(
        "path_lengths",
        "Gradient by path length",
        captions.PATH_LENGTHS,
        signal_blocks.path_lengths,
        across=True,
    ),
    FigureDef(
        "norm_preservation",
        "Norm preservation by block",
        captions.NORM_PRESERVATION,
        signal_blocks.norm_preservation,
        across=True,
    ),
)

FIGURES: dict[str, FigureDef] = {definition.name: definition for definition in _DEFINITIONS}
"""Every figure by name."""


def render(
    names: Sequence[str], frames: Frames, folder: Path, strict: bool = False
) -> list[RenderedFigure]:
    """Draw figures and write each as PNG and SVG.

    Runs that differ in more than depth, family and seed (two learning rates, say) are never
    averaged: each group of comparable runs gets figures of its own, named after what tells
    the groups apart. Only a figure that tells them apart itself (`FigureDef.across`) gets all.

    Args:
        names: of `FIGURES`, in the order wanted.
        frames: the records.
        folder: made if missing; files are ``<name>.png`` and ``<name>.svg``.
        strict: raise for a figure that cannot be drawn, instead of returning it with its
            ``problem`` and going on.

    Raises:
        UserError: for an unknown name; with ``strict`` for a figure that cannot be drawn.
    """
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        near = difflib.get_close_matches(unknown[0], FIGURES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FIGURES)}"
        raise UserError(f"unknown figure {unknown[0]}; {hint}")
    folder.mkdir(parents=True, exist_ok=True)
    frames = material.with_status(frames)
    groups, everything = material.labelled_groups(frames), [("", frames)]
    return [
        _render(FIGURES[name], label, group, folder, strict)
        for name in names
        for label, group in (everything if FIGURES[name].across else groups)
    ]


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a figure as ``<name>.png`` and ``<name>.svg`` without dates or versions."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with drawing():
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        figure.savefig(svg, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None})
    return png, svg


def _render(
    definition: FigureDef, label: str, group: Frames, folder: Path, strict: bool
) -> RenderedFigure:
    name = f"{definition.name}_{_slug(label)}" if label else definition.name
    title = f"{definition.title} ({label})" if label else definition.title
    try:
        figure = definition.draw(group)
    except UserError as error:
        if strict:
            raise
        return RenderedFigure(name, title, definition.caption, None, None, str(error))
    png, svg = save(figure, folder, name)
    return RenderedFigure(name, title, f"{definition.caption} {material.describe(group)}", png, svg)


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=]+", "_", label).strip("_")
