"""Whether finite width or a finite mini-batch explains why gradients grow by less than √(π/(π−1)).

Plain networks with batch normalisation and ReLU at initialisation, of one depth, with other numbers
of filters and of images. The mean field (`resnet_study.phenomena.gradients.theory`) is for
infinitely many of both. What is judged was fixed before any of these networks was measured: that
the widest has the growth of the mean field with zero padding, not of that without; and that four
times as many images do not change it.

At 16 filters and 128 images the factors had been seen (records of earlier versions).
"""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from resnet_study.judging.measurement import Measurement, Missing
from resnet_study.judging.statistics import median_interval
from resnet_study.phenomena.gradients import theory
from resnet_study.phenomena.initialization import fits
from resnet_study.phenomena.initialization.arms import BATCH, BATCHES, SIZES_DEPTH, WIDTHS
from resnet_study.phenomena.initialization.fits import BN_PLAIN, NetworkKind
from resnet_study.phenomena.initialization.gradient_measures import padded_growth
from resnet_study.records import Frames

SIZE_MARGIN = 1.0
"""Percent of a factor per layer. The mean field without padding lies four times as far above that
with it on the maps of the digits; if 1/images made the difference, four times as many images would
close three quarters of it."""

KINDS = {
    "width": {width: NetworkKind("plain", width=width) for width in (BN_PLAIN.width, *WIDTHS)},
    "images": {n: NetworkKind("plain", images=n) for n in sorted((BATCH, *BATCHES))},
}
"""The networks that differ in one of both, by its value."""


def factors(frames: Frames, field: str) -> pd.DataFrame:
    """Factor per layer within stages, of the networks that differ in a field.

    Returns:
        ``width`` (of the first stage), ``images``, ``seed``, ``stage`` (0: all of them) and
        ``factor``.
    """
    parts = []
    for network in KINDS[field].values():
        rows = fits.rows_of(frames, "activation_gradient_norm", network, positive=True)
        if not (rows["depth"] == SIZES_DEPTH).any():
            continue
        for stage in (0, 1, 2, 3):
            reduce = partial(fits.growth_of_stage, stage=stage) if stage else fits.growth
            values = fits.at_depth(rows, SIZES_DEPTH, reduce)
            table = values.rename("factor").rename_axis("seed").reset_index()
            parts.append(table.assign(stage=stage, width=network.width, images=network.images))
    columns = ["width", "images", "seed", "stage", "factor"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def wide_growth(frames: Frames) -> Measurement | Missing:
    """Percent by which the factor of the widest network departs from that with zero padding."""
    by_width = _by_seed(frames, "width")
    widest = max(by_width, default=0)
    if widest not in WIDTHS:
        return Missing(KINDS["width"][WIDTHS[-1]].needed(f"{SIZES_DEPTH} layers"))
    padded = padded_growth()
    pooled = math.prod(padded) ** (1 / 3)
    rows = factors(frames, "width")
    rows = rows[(rows["width"] == widest) & (rows["stage"] > 0)]
    numbers = {
        "depth": SIZES_DEPTH,
        "width": widest,
        "factors": {width: median_interval(own) for width, own in by_width.items()},
        "by_stage": rows.groupby("stage")["factor"].median().tolist(),
        "padded_by_stage": padded,
        "padded": pooled,
        "without_borders": theory.BN_RELU_GROWTH,
    }
    deviation = 100 * (by_width[widest] / pooled - 1)
    unit = "% off the predicted factor per layer"
    predicted = (f"no deviation from {pooled:.4g}, zero padding included", 0.0)
    return Measurement((deviation,), SIZE_MARGIN, "within", unit, numbers, predicted)


def growth_with_images(frames: Frames) -> Measurement | Missing:
    """Percent by which the factor changes from `BATCH` images to the most."""
    by_images = _by_seed(frames, "images")
    most = max(by_images, default=0)
    if most <= BATCH or BATCH not in by_images:
        needed = f"{SIZES_DEPTH} layers, and the same with {BATCH} images"
        return Missing(KINDS["images"][BATCHES[-1]].needed(needed))
    numbers = {
        "depth": SIZES_DEPTH,
        "images": most,
        "usual": BATCH,
        "factors": {images: median_interval(own) for images, own in by_images.items()},
        "shortfall": 100 * (theory.BN_RELU_GROWTH / float(by_images[BATCH].median()) - 1),
        "without_borders": theory.BN_RELU_GROWTH,
    }
    change = (100 * (by_images[most] / by_images[BATCH] - 1)).dropna()
    predicted = ("no change with the number of images", 0.0)
    unit = "% of the factor per layer"
    return Measurement((change,), SIZE_MARGIN, "within", unit, numbers, predicted)


def _by_seed(frames: Frames, field: str) -> dict[int, pd.Series]:
    """The factor of all stages by value of the field, as far as measured, by seed."""
    rows = factors(frames, field)
    rows = rows[rows["stage"] == 0]
    return {int(str(value)): own.set_index("seed")["factor"] for value, own in rows.groupby(field)}
