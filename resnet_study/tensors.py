"""Norms, angles and moments of a layer's tensors, and the taps that measure gradients.

Pure functions of arrays; which of them are recorded is said in `resnet_study.probes`.

The type `float` of an array is float32, and float64 within `arithmetic` of that precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from resnet_study.architecture import Precision


def arithmetic(precision: Precision) -> AbstractContextManager[None]:
    """Within it, and in this thread alone, arrays of the type `float` have this precision.

    Programs are compiled apart for both, so that nothing computed before or after changes. An array
    of float64 must not leave it: jax rounds it to float32 where it meets another outside.
    """
    manager: AbstractContextManager[None] = jax.enable_x64(precision == "float64")
    return manager


@jax.custom_vjp
def tap(x: Array, probe: Array) -> Array:
    """Identity on x whose "gradient" with respect to the scalar probe is ‖∂L/∂x‖.

    Costs two reductions in the backward pass and keeps nothing from the forward pass. The
    norm itself is reported, not its square, which float32 cannot hold below 1e-19.

    Args:
        x: any array.
        probe: scalar; its value is ignored.
    """
    return x


def _tap_forward(x: Array, probe: Array) -> tuple[Array, None]:
    return x, None


def _tap_backward(_: None, gradient: Array) -> tuple[Array, Array]:
    gradient = _materialized(gradient)
    return gradient, norm(gradient)


def _materialized(x: Array) -> Array:
    """x as an array in memory.

    XLA:CPU otherwise computes x again inside each reduction, in a loop that it does not
    vectorise, which takes far longer than writing x once and reading it.
    """
    return jax.lax.optimization_barrier(x)


tap.defvjp(_tap_forward, _tap_backward)


@jax.custom_vjp
def unstack(taps: Array) -> list[list[Array]]:
    """The scalars of an array of shape (depth, kinds), one list per layer.

    Differentiating a slice makes an array of zeros and an addition for every layer, which
    takes longest to compile of all a deep network's step; here gradients are stacked once.
    """
    return [list(layer) for layer in taps]


def _unstack_forward(taps: Array) -> tuple[list[list[Array]], None]:
    return unstack(taps), None


def _unstack_backward(_: None, gradients: list[list[Array]]) -> tuple[Array]:
    flat = jnp.stack([gradient for layer in gradients for gradient in layer])
    return (flat.reshape(len(gradients), -1),)


unstack.defvjp(_unstack_forward, _unstack_backward)


def per_channel(values: Array) -> Array:
    """(C,) as (1, 1, 1, C), to go with a tensor of shape (N, H, W, C)."""
    return jax.lax.broadcast_to_rank(values, 4)


def response_moments(response: Array) -> tuple[Array, Array]:
    """Mean and standard deviation over all entries, as scalars.

    Of what is left without the mean, scaled: without normalisation responses of deep networks are
    so large or small that their squares are no float32.
    """
    values = _materialized(jax.lax.stop_gradient(response)).astype(float)
    mean = jnp.mean(values)
    return mean, norm(values - mean) / math.sqrt(values.size)


def inactive_fraction(activation: Array) -> Array:
    """Fraction of entries that the nonlinearity set to zero."""
    values = _materialized(jax.lax.stop_gradient(activation))
    return jnp.mean((values == 0).astype(float))


def norm(x: Array) -> Array:
    """Euclidean norm over all entries, without overflow or underflow of squares."""
    x = x.astype(float)
    largest = jnp.max(jnp.abs(x))
    scale = jnp.where(jnp.isfinite(largest) & (largest > 0), largest, 1.0)
    return scale * jnp.sqrt(jnp.sum(jnp.square(x / scale)))


def norms(tensors: Sequence[Array]) -> Array:
    """Euclidean norm of each tensor, shape (len(tensors),)."""
    return jnp.stack([norm(tensor) for tensor in tensors])


def rms(tensors: Sequence[Array | None]) -> Array:
    """Root mean square of each tensor, shape (len(tensors),); NaN where there is none."""
    there = {index: tensor for index, tensor in enumerate(tensors) if tensor is not None}
    values = jnp.full(len(tensors), jnp.nan)
    if not there:
        return values
    found = by_layer(lambda x: jnp.sqrt(jnp.mean(jnp.square(x))), list(there.values()))
    return values.at[np.array(list(there))].set(found)


def by_layer(statistic: Callable[..., Any], *tensors: Sequence[Array]) -> Any:
    """A statistic of one layer, for all layers at once.

    Layers of equal shape are computed together: depth adds no shapes to a network.

    Args:
        statistic: function of one tensor per argument; returns a pytree of scalars.
        tensors: for each argument of it one tensor per layer.

    Returns:
        The pytree, each leaf of shape (layers,).
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, tensor in enumerate(tensors[0]):
        groups.setdefault(tensor.shape, []).append(index)
    parts = [
        jax.vmap(statistic)(*(jnp.stack([argument[i] for i in members]) for argument in tensors))
        for members in groups.values()
    ]
    forward = np.argsort(np.concatenate(list(groups.values())))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[forward], *parts)


def inner(x: Array, y: Array) -> Array:
    """Inner product over all entries, in float32 also where products are TF32 by default."""
    return jnp.sum(x * y)


def tangent(x: Array, weights: Array) -> Array:
    """The part of x orthogonal to the weights: what turns them. NaN where the weights are 0."""
    direction = weights / norm(weights)
    return x - inner(direction, x) * direction


def angular_step(weights: Array, update: Array) -> Array:
    """Angle in radians between weights and weights + update, accurate also where it is tiny.

    It is what a layer followed by a normalisation learns in a step: the loss does not depend on
    the length of its weights. Scaling them by c divides it by c² for equal rates.
    """
    length = norm(weights)
    along = inner(weights / length, update)
    return jnp.arctan2(norm(tangent(update, weights)), length + along)


def tangent_cosine(x: Array, y: Array, weights: Array) -> Array:
    """Cosine of the angle between the parts of x and y that turn the weights."""
    x, y = tangent(x, weights), tangent(y, weights)
    return inner(x / norm(x), y / norm(y))
