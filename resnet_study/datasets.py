"""The data sets: how many images, of what shape, of how many classes."""

from __future__ import annotations

from typing import NamedTuple


class DatasetShape(NamedTuple):
    """Examples and image shape of a data set before any validation split."""

    train_examples: int
    test_examples: int
    height: int
    width: int
    channels: int
    classes: int


DATASETS: dict[str, DatasetShape] = {
    "digits": DatasetShape(1437, 360, 8, 8, 1, 10),
    "cifar10": DatasetShape(50_000, 10_000, 32, 32, 3, 10),
    "synthetic": DatasetShape(512, 128, 8, 8, 3, 10),
    "cifar100": DatasetShape(50_000, 10_000, 32, 32, 3, 100),
}
