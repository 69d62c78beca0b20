"""The handwritten digits that come with scikit-learn: real images without a download.

1,797 grey images of 8x8 pixels in ten classes, each pixel counting 0 to 16 dark points of
a 4x4 block (Alpaydin and Kaynak 1998, UCI repository). scikit-learn gives them as one set;
the split into 1,437 training and 360 test images is made here, once and for all.
"""

from __future__ import annotations

import numpy as np

from resnet_study.data.dataset import Split, stable_permutation
from resnet_study.datasets import DATASETS

SOURCE = "scikit-learn digits"

_LEVELS = 16
_TEST_ENTROPY = 360


def load_digits() -> tuple[Split, Split, str]:
    """Training images, test images and the label of the source.

    The pixel counts 0..16 become 0..255. Training and test images keep their order in
    scikit-learn's file.
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    labels = bunch.target.astype(np.int32)
    images = np.rint(bunch.images * (255 / _LEVELS)).astype(np.uint8)[..., None]
    test = stratified_test_indices(labels, DATASETS["digits"].test_examples)
    train = np.setdiff1d(np.arange(len(labels)), test)
    everything = Split(np.ascontiguousarray(images), labels)
    return everything.take(train), everything.take(test), SOURCE


def stratified_test_indices(labels: np.ndarray, test_examples: int) -> np.ndarray:
    """Choose test images so that every class keeps its share, the same ones on every machine.

    Each class gives the whole part of its proportional share; the classes with the largest
    fractions left over give one more each, the lower class first on a tie. Within a class a
    fixed permutation decides. The seed of a run plays no part.

    Args:
        labels: integers, shape (N,).
        test_examples: how many to choose, at most N.

    Returns:
        int64, shape (test_examples,), ascending positions.
    """
    classes, counts = np.unique(labels, return_counts=True)
    # In integers, so that a tie is a tie.
    whole, left_over = np.divmod(counts * test_examples, len(labels))
    one_more = np.argsort(-left_over, kind="stable")[: test_examples - whole.sum()]
    whole[one_more] += 1
    chosen = [
        np.flatnonzero(labels == c)[stable_permutation(n, _TEST_ENTROPY, int(c))[:k]]
        for c, n, k in zip(classes, counts, whole, strict=True)
    ]
    return np.sort(np.concatenate(chosen))
