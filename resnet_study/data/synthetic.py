"""Deterministic images for tests: no file, no network, and a network can learn them."""

from __future__ import annotations

import numpy as np

from resnet_study.data.dataset import Split
from resnet_study.datasets import DATASETS

SOURCE = "synthetic"

_PROTOTYPE_ENTROPY = 1
_IMAGE_ENTROPY = 2
_PATCH = 2


def make_synthetic() -> tuple[Split, Split, str]:
    """Training images, test images and the label of the source.

    Every class has a prototype of random coloured patches, 2x2 pixels each; an image is
    the average of its class's prototype and uniform noise. Classes take turns, so each has
    its share of both splits.
    """
    shape = DATASETS["synthetic"]
    examples = shape.train_examples + shape.test_examples
    size = (shape.height, shape.width, shape.channels)
    patches = (shape.classes, shape.height // _PATCH, shape.width // _PATCH, shape.channels)
    prototypes = _random_bytes(patches, _PROTOTYPE_ENTROPY)
    prototypes = prototypes.repeat(_PATCH, axis=1).repeat(_PATCH, axis=2)
    labels = np.arange(examples, dtype=np.int32) % shape.classes
    noise = _random_bytes((examples, *size), _IMAGE_ENTROPY)
    images = ((prototypes[labels].astype(np.uint16) + noise) // 2).astype(np.uint8)
    everything, cut = Split(images, labels), shape.train_examples
    train, test = (everything.take(part) for part in np.split(np.arange(examples), [cut]))
    return train, test, SOURCE


def _random_bytes(shape: tuple[int, ...], entropy: int) -> np.ndarray:
    """Uniform uint8 from the raw stream of the generator, which no version of numpy changes."""
    count = int(np.prod(shape))
    words = np.random.PCG64(entropy).random_raw(-(-count // 8)).astype("<u8")
    return words.view(np.uint8)[:count].reshape(shape)
