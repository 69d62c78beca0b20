"""What tests of the native kernels need: whether they are there, and a batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study import kernels
from resnet_study.datasets import DATASETS
from resnet_study.training.step import Batch

missing = kernels.why_not()
native = pytest.mark.skipif(missing is not None, reason=f"no native kernels: {missing}")


def relative(a: Any, b: Any) -> float:
    """Euclidean norm of the difference over that of b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def random_batch(data: str) -> Batch:
    shape, rng = DATASETS[data], np.random.default_rng(0)
    size = (128, shape.height, shape.width, shape.channels)
    return Batch(
        images=jnp.asarray(rng.integers(0, 256, size, np.uint8)),
        labels=jnp.asarray(rng.integers(0, shape.classes, 128, np.int32)),
        pixel_mean=jnp.full(size[1:], 0.5),
        learning_rate=jnp.float32(0.01),
        augmentation_key=jax.random.key(3),
        dropout_key=jax.random.key(4),
    )
