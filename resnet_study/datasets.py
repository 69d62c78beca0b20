"""The data sets: how many images, of what shape, of how many classes, and where they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


DATASETS: dict[str, DatasetShape] = {
    "digits": DatasetShape(1437, 360, 8, 8, 1, 10),
    "cifar10": DatasetShape(50_000, 10_000, 32, 32, 3, 10),
    "synthetic": DatasetShape(512, 128, 8, 8, 3, 10),
    "cifar100": DatasetShape(50_000, 10_000, 32, 32, 3, 100),
}


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
        if self.cifar10 is not None and not set(names) & {"cifar10", "cifar100"}:
            told = ", ".join(sorted(set(names))) or "what is measured here"
            raise UserError(f"--cifar10={self.cifar10}: {told} needs no files; leave it out")
