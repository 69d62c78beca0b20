"""The data sets: how many images, of what shape, of how many classes, and where they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from resnet_study.errors import UserError
from resnet_study.files import expanded


class DatasetShape(NamedTuple):
    """Examples and image shape of a data set before any validation split."""

    train_examples: int
    test_examples: int
    height: int
    width: int
    channels: int
    classes: int


class DatasetEntry(NamedTuple):
    """All that there is to say of one data set.

    Adding one takes its name in `DatasetName`, one of these, and its loader; of images in files
    what tells them from others (`resnet_study.data.originals.ORIGINALS`).

    Attributes:
        shape: examples and images.
        loader: ``module:function`` that makes or unpacks it: training images, test images, and
            what they are called in records. Empty where images are looked for in files
            (`DataSource`) and known by their content (`resnet_study.data.originals`).
        augmentation: what ``data.augmentation=auto`` is for it.
    """

    shape: DatasetShape
    loader: str = ""
    augmentation: Literal["none", "crop", "crop-flip"] = "none"


DatasetName = Literal["digits", "cifar10", "synthetic", "cifar100"]

ENTRIES: Mapping[DatasetName, DatasetEntry] = {
    "digits": DatasetEntry(
        DatasetShape(1437, 360, 8, 8, 1, 10), "resnet_study.data.digits:load_digits"
    ),
    "cifar10": DatasetEntry(DatasetShape(50_000, 10_000, 32, 32, 3, 10), augmentation="crop-flip"),
    "synthetic": DatasetEntry(
        DatasetShape(512, 128, 8, 8, 3, 10), "resnet_study.data.synthetic:make_synthetic"
    ),
    "cifar100": DatasetEntry(
        DatasetShape(50_000, 10_000, 32, 32, 3, 100), augmentation="crop-flip"
    ),
}

DATASETS: Mapping[str, DatasetShape] = {name: entry.shape for name, entry in ENTRIES.items()}

IN_FILES = tuple(name for name, entry in ENTRIES.items() if not entry.loader)
"""Data sets whose images lie in files, of which a run may take fewer."""


@dataclass(frozen=True)
class DataSource:
    """Where images are looked for that are not made or bundled; no part of a spec.

    Attributes:
        cifar10: CIFAR-10 or CIFAR-100, archive or folder (see resnet-study data --help).
    """

    cifar10: Path | None = None

    def __post_init__(self) -> None:
        if self.cifar10 is not None:
            object.__setattr__(self, "cifar10", expanded(self.cifar10))

    def refuse_unused(self, names: Collection[str]) -> None:
        """Refuse a place that none of these data sets is read from."""
        if self.cifar10 is not None and not set(names) & set(IN_FILES):
            told = ", ".join(sorted(set(names))) or "what is measured here"
            raise UserError(f"--cifar10={self.cifar10}: {told} needs no files; leave it out")
