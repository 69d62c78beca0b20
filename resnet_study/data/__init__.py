"""Data sets as uint8 arrays, with the validation images held out. Needs numpy only.

What touches jax is beside it: `resnet_study.data.augment` (normalisation, crops and flips
as pure functions) and `resnet_study.data.batches` (the order of the training examples).
"""

from __future__ import annotations

import importlib

import numpy as np

from resnet_study.data.dataset import Dataset, Progress, Split, pixel_mean, stable_permutation
from resnet_study.datasets import DATASETS, ENTRIES, DataSource
from resnet_study.spec import DataSpec, check_batch, split_sizes

__all__ = ["Dataset", "Progress", "Split", "load_dataset"]

_SPLIT_ENTROPY = 45_000
"""Keeps the split's random numbers apart from those of the data sets themselves."""


def load_dataset(
    spec: DataSpec,
    seed: int,
    source: DataSource | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load a data set and hold out its validation images.

    Which images are held out depends on the seed, their number on `split_sizes`; both
    parts keep the order of the source, so the seed does not shuffle anything.

    Args:
        spec: the data set, the held-out fraction and the batch size.
        seed: of the run.
        source: where CIFAR-10 or CIFAR-100 is, in any form that `resnet_study.data.cifar10`
            reads; by default it is looked for. The other data sets need none.
        progress: called with images decoded and images in all.

    Raises:
        UserError: if CIFAR is missing, damaged or incomplete, or if the batch is larger than
            the training images that are left.
    """
    train, test, label, digests = _load(spec, source or DataSource(), progress)
    sizes = split_sizes(spec, len(train))
    check_batch(spec, sizes[0])
    order = stable_permutation(len(train), _SPLIT_ENTROPY, seed)
    kept, held_out = np.sort(order[: sizes[0]]), np.sort(order[sizes[0] :])
    training = train.take(kept) if sizes[1] else train
    return Dataset(
        name=spec.name,
        train=training,
        val=train.take(held_out),
        test=test,
        mean=pixel_mean(training.images),
        classes=DATASETS[spec.name].classes,
        source=label,
        digest={"train": digests[0], "test": digests[1]},
    )


def _load(
    spec: DataSpec, source: DataSource, progress: Progress | None
) -> tuple[Split, Split, str, tuple[str, str]]:
    # Each loader is imported when it is asked for: scikit-learn and Pillow take their time.
    from resnet_study.data.originals import ORIGINALS, digest_of

    module, _, function = ENTRIES[spec.name].loader.partition(":")
    if not module:
        from resnet_study.data.cifar10 import load_cifar10

        original = ORIGINALS[spec.name]
        return load_cifar10(source.cifar10, None, progress, original, spec.subset)
    train, test, label = getattr(importlib.import_module(module), function)()
    return train, test, label, (digest_of(train), digest_of(test))
