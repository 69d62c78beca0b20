"""How weights are drawn."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from resnet_study.architecture import ModelSpec

Initializer = Callable[[Array, Sequence[int], Any], Array]
"""From key, shape and type to weights."""


def drawn(draw: Initializer, key: Array, shape: Sequence[int]) -> Array:
    """Weights, the same numbers in float64 as in float32: both start from one point."""
    return draw(key, shape, jax.numpy.float32).astype(float)


def initializer(spec: ModelSpec) -> Initializer:
    """Of every weight, kernels (side, side, inputs, outputs) or (inputs, outputs).

    ================ ========================================================================
    he               normal, variance 2/fan_in (He et al. 2015, arXiv 1502.01852, eq. 10)
    lecun            normal, variance 1/fan_in (LeCun et al. 1998, Efficient BackProp)
    glorot           uniform, variance 2/(fan_in + fan_out) (Glorot & Bengio 2010, eq. 16)
    uniform          uniform within ±1/√fan_in, variance 1/(3 fan_in): the "commonly used
                     heuristic" of Glorot & Bengio 2010, eq. 1
    orthogonal       orthonormal rows or columns of the kernel as a matrix (inputs of all
                     pixels, outputs) (Saxe et al. 2014, arXiv 1312.6120)
    delta-orthogonal such a matrix in the kernel's centre and zeros around it (Xiao et al.
                     2018, arXiv 1806.05393, algorithm 1)
    ================ ========================================================================

    The orthogonal ones are multiplied by √2 before ReLU, which passes half of the signal.
    """
    if spec.initialization in ("orthogonal", "delta-orthogonal"):
        gain = math.sqrt(2) if spec.activation == "relu" else 1.0
        flat = scaled(_orthogonal, gain)
        return _centered(flat) if spec.initialization == "delta-orthogonal" else flat
    return {
        "he": _normal(lambda fan_in, fan_out: 2 / fan_in),
        "lecun": _normal(lambda fan_in, fan_out: 1 / fan_in),
        "glorot": _uniform(lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        "uniform": _uniform(lambda fan_in, fan_out: 1 / 3 / fan_in),
    }[spec.initialization]


Variance = Callable[[int, int], float]
"""From fan_in and fan_out to the variance of a weight."""


def _normal(variance: Variance) -> Initializer:
    def draw(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        normal = _drawn(jax.random.normal, key, shape, dtype)
        return normal * np.sqrt(np.asarray(variance(*_fans(shape)), dtype))

    return draw


def _uniform(variance: Variance) -> Initializer:
    def draw(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        uniform = _drawn(_within_one, key, shape, dtype)
        return uniform * np.sqrt(3 * np.asarray(variance(*_fans(shape)), dtype))

    return draw


def _within_one(key: Array, shape: Sequence[int], dtype: Any) -> Array:
    return jax.random.uniform(key, shape, dtype, -1)


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    pixels = math.prod(shape[:-2])
    return pixels * shape[-2], pixels * shape[-1]


LENGTHS = (4095, 9 * 64 * 64)
"""Of what is drawn for layers with fewer numbers: from 4096 on, XLA fuses a draw otherwise, which
moves last bits; and as many as the largest layer of the paper's networks has."""


def _drawn(distribution: Initializer, key: Array, shape: Sequence[int], dtype: Any) -> Array:
    """Numbers from a distribution.

    Layers of all shapes share a few programs, since to compile one for each took most of a cold
    start. A number depends on the key and its place in the array alone (jax calls such keys
    partitionable), so the first of a longer array are the same.
    """
    if isinstance(key, jax.core.Tracer):
        return distribution(key, shape, dtype)  # jax takes no options within another program
    count = math.prod(shape)
    length = next((length for length in LENGTHS if count <= length), 1 << (count - 1).bit_length())
    numbers = np.asarray(_quickly_compiled(distribution)(key, (length,), dtype))
    return jax.numpy.array(numbers[:count].reshape(shape))


@functools.cache
def _quickly_compiled(distribution: Initializer) -> Callable[..., Array]:
    """LLVM would take up to ten seconds to optimise what runs for milliseconds."""
    options = {"xla_backend_optimization_level": 1}
    return jax.jit(distribution, static_argnums=(1, 2), compiler_options=options)


def _orthogonal(key: Array, shape: Sequence[int], dtype: Any) -> Array:
    """Uniformly distributed: Q of the QR decomposition of a normal matrix, R's diagonal > 0.

    Decomposed by NumPy in float64: with the fusion flag of `resnet_study.runtime`, XLA:CPU fails
    on the layout in which its own QR returns Q.
    """
    columns = shape[-1]
    rows = math.prod(shape[:-1])
    tall = _drawn(
        jax.random.normal, key, (max(rows, columns), min(rows, columns)), jax.numpy.float32
    )
    q = jax.pure_callback(_q_factor, tall, tall)
    return (q if rows >= columns else q.T).reshape(shape).astype(dtype)


def _q_factor(matrix: Any) -> np.ndarray:
    q, r = np.linalg.qr(np.asarray(matrix, np.float64))
    return (q * np.sign(np.diag(r))).astype(np.float32)


def _centered(flat: Initializer) -> Initializer:
    """The matrix in the middle of a kernel; a matrix stays what it is."""

    def draw(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        matrix = flat(key, shape[-2:], dtype)
        if len(shape) == 2:
            return matrix
        around = [(side // 2, side // 2) for side in shape[:2]]
        return jax.numpy.pad(matrix[None, None], [*around, (0, 0), (0, 0)])

    return draw


def scaled(draw: Initializer, factor: float) -> Initializer:
    """The same weights times a factor; 0 gives zeros."""

    def draw_scaled(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        return factor * draw(key, shape, dtype)

    return draw_scaled
