"""Numbers that tests draw."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(seed: int, shape: tuple[int, ...], dtype: type = np.float32) -> jax.Array:
    """Standard normal ones. From NumPy: XLA takes seconds to compile the draw of each shape."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)
