"""What every data set is once it is loaded, and the random numbers that split it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all (0 where that is not known)."""


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        images: uint8, shape (N, H, W, C), C-contiguous.
        labels: int32, shape (N,), from 0 to classes - 1.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Split:
        """The examples at the given positions, in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """A data set after the validation images were held out of the training images.

    Attributes:
        name: as in `DataSpec.name`.
        train: training images, in the order of the source.
        val: held-out training images, in the order of the source; may be empty.
        test: test images.
        mean: float32, shape (H, W, C), per-pixel mean of ``train.images / 255``. He et al.
            2015, section 4.2, subtract it and divide by nothing.
        classes: number of classes.
        source: where the images are from, as a label for reports, such as
            "CIFAR-10 (JPEG)".
        digest: of all training images (with those held out) and of the test images, under
            ``train`` and ``test``; see `resnet_study.data.originals`.
    """

    name: str
    train: Split
    val: Split
    test: Split
    mean: np.ndarray
    classes: int
    source: str
    digest: Mapping[str, str] = field(default_factory=dict)


def stable_permutation(examples: int, *entropy: int) -> np.ndarray:
    """A permutation of ``range(examples)`` that no version of numpy changes.

    numpy keeps the raw stream of a bit generator for good, but may change what
    `numpy.random.Generator.permutation` makes of it, and a split must outlive that.

    Args:
        examples: length of the permutation.
        entropy: non-negative integers; others give another permutation.

    Returns:
        int64, shape (examples,).
    """
    words = np.random.PCG64(list(entropy)).random_raw(examples)
    return np.argsort(words, kind="stable")


def pixel_mean(images: np.ndarray) -> np.ndarray:
    """Per-pixel mean of ``images / 255``, exact up to the last rounding to float32.

    Args:
        images: uint8, shape (N, H, W, C), N at least 1.

    Returns:
        float32, shape (H, W, C), the same for any order of the images.
    """
    total = images.sum(axis=0, dtype=np.uint64)
    return (total / (255 * len(images))).astype(np.float32)
