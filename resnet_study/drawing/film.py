"""Figures that move: the pictures of a film in one file, as web pages and slides show it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from resnet_study.drawing.style import drawing
from resnet_study.files import write_atomically

FILMS = ("gif", "webp")

DPI = 120

PICTURE, LAST = 250, 2500
"""Milliseconds that a picture stays, and the last one before the film begins anew."""

COLOURS = 64
"""Of a picture: lines on white need no more, and files are a quarter as large."""


def save_film(pictures: Iterable[Figure], folder: Path, name: str, formats: Sequence[str]) -> None:
    """Write pictures of one size as ``<name>.gif`` and so on, repeated for ever."""
    with drawing():
        images = [_pixels(picture) for picture in pictures]
    # One palette for all, or colours would flicker.
    palette = Image.fromarray(np.concatenate([images[0], images[-1]])).quantize(COLOURS)
    # Its lightest colour is a mean of white and a few others.
    palette.putpalette([255 if part > 247 else part for part in palette.getpalette() or []])
    few = [
        Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE)
        for image in images
    ]
    for form in formats:
        film = few if form == "gif" else [image.convert("RGB") for image in few]
        how: dict[str, Any] = {"lossless": True, "method": 4} if form == "webp" else {}
        moving = io.BytesIO()
        film[0].save(
            moving,
            form,
            save_all=True,
            append_images=film[1:],
            duration=[*[PICTURE] * (len(film) - 1), LAST],
            loop=0,
            **how,
        )
        write_atomically(folder / f"{name}.{form}", moving.getvalue())


def _pixels(figure: Figure) -> np.ndarray:
    """Red, green and blue, shape (height, width, 3)."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
