"""Stripes of ten widths: images that a network can learn, made from nothing."""

from __future__ import annotations

import numpy as np

from resnet_study.data.dataset import Split
from resnet_study.datasets import DATASETS


def make_stripes() -> tuple[Split, Split, str]:
    """Training images, test images and the label of the source."""
    shape = DATASETS["stripes"]
    examples = shape.train_examples + shape.test_examples
    labels = np.arange(examples, dtype=np.int32) % shape.classes
    places = np.arange(shape.width) + 3 * (np.arange(examples) // shape.classes)[:, None]
    bright = 255 - np.arange(examples) // shape.classes
    rows = (places // (labels[:, None] + 1) % 2 * bright[:, None]).astype(np.uint8)
    images = np.repeat(rows[:, None, :, None], shape.height, axis=1)
    everything, cut = Split(np.ascontiguousarray(images), labels), shape.train_examples
    train, test = (everything.take(part) for part in np.split(np.arange(examples), [cut]))
    return train, test, "stripes"
