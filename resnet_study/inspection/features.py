"""What the first layer looks for, and what the stages of a network make of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_study.data import Split
from resnet_study.drawing import style
from resnet_study.drawing.look import WIDTH, current
from resnet_study.errors import UserError, require
from resnet_study.inspection import walk
from resnet_study.inspection.inspected import Inspected, in_its_arithmetic
from resnet_study.phenomena.initialization.chain import take_apart
from resnet_study.training.devices import Devices

MOST_FILTERS = 16
"""Filters shown, as many as the paper's first layer has."""

MOST_IMAGES = 12


class Features(NamedTuple):
    """What N images become.

    Attributes:
        stages: output of the last block of each stage, three of (N, H, W, C).
        logits: (N, classes).
    """

    stages: tuple[np.ndarray, ...]
    logits: np.ndarray


@in_its_arithmetic
def features_of(
    network: Inspected, where: Devices, images: np.ndarray, pixel_mean: np.ndarray
) -> Features:
    """Compute them with running statistics.

    Of images, (N, H, W, C), uint8; the mean of the pixels, (H, W, C), is that of the run's training
    images.
    """
    chain = walk.placed(take_apart(network.module(), network.model), where)
    pixels, mean = where.replicate((images, pixel_mean))
    x, stages = walk.begin(*chain.ends, pixels, mean, where.kernels), []
    for number, block in enumerate(chain.blocks, start=1):
        x = walk.through(*block, x, where.kernels)
        if number % (len(chain.blocks) // 3) == 0:
            stages.append(np.asarray(x))
    return Features(tuple(stages), np.asarray(walk.end(*chain.ends, x)))


def images_at(split: Split, positions: Sequence[int]) -> Split:
    """The images at these positions of the test split.

    Raises:
        UserError: if one is not there.
    """
    for position in positions:
        rule = f"positions in the test split are 0 to {len(split) - 1}"
        require(0 <= position < len(split), "--images", position, rule)
    return split.take(np.array(positions))


def filters_of(network: Inspected) -> np.ndarray:
    """The kernels of the first layer, (filters, 3, 3, channels)."""
    kernel = np.asarray(network.parameters["stem"]["conv"]["kernel"])
    return kernel.transpose(3, 0, 1, 2)


def tiles_of(filters: np.ndarray) -> np.ndarray:
    """Filters (K, 3, 3, channels) as pictures (K, 3, 3, 3) from 0 to 1, for one channel or three.

    Each by its own largest weight: 0 is grey.
    """
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    pictures = 0.5 + 0.5 * filters / np.where(largest > 0, largest, 1.0)
    return np.broadcast_to(pictures, (*filters.shape[:3], 3))


def shown_channels(channels: int, count: int) -> np.ndarray:
    """Numbers of evenly spaced channels, the first and the last among them."""
    return np.unique(np.linspace(0, channels - 1, min(count, channels)).round().astype(int))


def mosaic(maps: np.ndarray, columns: int) -> np.ndarray:
    """Pictures side by side, a column and a row of NaN between them.

    Args:
        maps: (K, H, W) or (K, H, W, 3).
        columns: pictures in a row.

    Returns:
        (rows (H + 1) - 1, columns (W + 1) - 1) or with the three colours behind.
    """
    number, height, width = maps.shape[:3]
    rows = -(-number // columns)
    shape = (rows * (height + 1) - 1, columns * (width + 1) - 1, *maps.shape[3:])
    picture = np.full(shape, np.nan)
    for place, one in enumerate(maps):
        top, left = (place // columns) * (height + 1), (place % columns) * (width + 1)
        picture[top : top + height, left : left + width] = one
    return picture


def draw(
    network: Inspected,
    features: Features,
    images: Split,
    positions: Sequence[int],
    names: Sequence[str],
    channels: int,
) -> Figure:
    """Filters of the first layer, and a row for each image: itself, then maps of each stage.

    Args:
        network, features: and what it makes of the images.
        images, positions: N of them, and where they are in the split.
        names: of the classes.
        channels: maps of each stage.

    Raises:
        UserError: for no image or too many, no channel, or images that are neither grey nor of
            three colours.
    """
    require(1 <= len(images) <= MOST_IMAGES, "--images", len(images), f"1 to {MOST_IMAGES} images")
    require(channels >= 1, "--channels", channels, "at least 1 is needed")
    if images.images.shape[-1] not in (1, 3):
        raise UserError("features are drawn of images of one or three channels")
    with style.drawing():
        rows = len(images)
        width = current().width
        height = (0.85 + 1.0 * rows) * width / WIDTH
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.add_gridspec(
            1 + rows, 4, width_ratios=(1, 1.7, 1.7, 1.7), height_ratios=(0.55, *[1.0] * rows)
        )
        titled: dict[str, Any] = {"loc": "left", "fontsize": style.fitting("axes.titlesize")}
        filters = filters_of(network)
        tiles = tiles_of(filters[:MOST_FILTERS])
        panel = figure.add_subplot(grid[0, :])
        _picture(panel, mosaic(tiles, MOST_FILTERS))
        panel.set_title(f"(a) filters of the first layer, {len(tiles)} of {len(filters)}", **titled)
        predictions = features.logits.argmax(axis=1)
        for row, position in enumerate(positions):
            image = images.images[row] / 255.0
            panel = figure.add_subplot(grid[1 + row, 0])
            _picture(panel, np.broadcast_to(image, (*image.shape[:2], 3)))
            label, answer = names[images.labels[row]], names[predictions[row]]
            panel.set_title(
                f"{position}: {label}\n→ {answer}", loc="left", fontsize=style.points(style.SMALL)
            )
            for stage, maps in enumerate(features.stages):
                panel = figure.add_subplot(grid[1 + row, 1 + stage])
                chosen = shown_channels(maps.shape[-1], channels)
                own = maps[row][:, :, chosen].transpose(2, 0, 1)
                _picture(panel, mosaic(own, -(-len(chosen) // 2)), cmap="viridis")
                if row == 0:
                    letter, side = "bcd"[stage], maps.shape[1]
                    panel.set_title(f"({letter}) stage {stage + 1}, {side}×{side}", **titled)
        step = "" if network.step is None else f", iteration {network.step:,}"
        sentences = [
            f"{network.name} on {network.spec.data.name}, seed {network.spec.seed}{step}.",
            "→: what it answers. Filters: each by its own largest weight, grey is 0. Maps: output "
            f"of the last block of each stage, up to {channels} evenly spaced channels, row by "
            "row; dark is the smallest value of a panel.",
        ]
        return style.titled(style.finish(figure, [], sentences), "Filters and feature maps")


def _picture(panel: Axes, picture: np.ndarray, cmap: str | None = None) -> None:
    if picture.ndim == 3:  # colours have no place for what is between pictures
        picture = np.where(np.isnan(picture), 1.0, picture)
    # A clipped picture would have an id in the SVG that changes with every drawing.
    panel.imshow(picture, interpolation="nearest", cmap=cmap, clip_on=False)
    panel.set_axis_off()
