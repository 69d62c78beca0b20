"""Per-layer statistics as pure functions: what the gradient and the signal do in every layer.

Definitions. L is the mean cross-entropy over the mini-batch; layer l has the output z_l
(convolution or classifier, before normalisation) and the response y_l (after
normalisation, before the nonlinearity and the addition; He et al. 2015, section 4.2,
"Analysis of layer responses"; y_l = z_l where there is no normalisation). Norms are
Euclidean, over all entries of the tensor and the whole mini-batch.

=========================== ====================================================
activation_gradient_norm    ‖∂L/∂z_l‖ (Yang et al. 2019, arXiv 1902.08129)
response_gradient_norm      ‖∂L/∂y_l‖
weight_gradient_norm        ‖∂L/∂w_l‖ of the loss alone, weight decay not mixed in
weight_norm                 ‖w_l‖ before the update
update_norm                 ‖Δw_l‖ of this step, learning rate included
angular_step                angle in radians between w_l before and after this step
gradient_velocity_cosine    cosine of the angle between ∂L/∂w_l and the velocity before this
                            step, both projected orthogonally to w_l (weight decay, which only
                            shrinks w_l, is thereby left out); undefined at step 0
scale_rms, shift_rms        root mean square of γ_l and β_l of the layer's normalisation
response_mean, response_std over all entries of y_l
inactive_fraction           zeros after the nonlinearity that follows the layer
                            (for the last layer of a residual block: after the addition)
=========================== ====================================================

What is undefined (a direction of zero length, γ without a normalisation) is NaN.

With batch normalisation ∂L/∂z_l = (γ/σ_l) P ∂L/∂y_l, with P a projection and σ_l in
proportion to ‖w_l‖. So ∂L/∂z shrinks whenever weights grow, while ∂L/∂y does not depend
on their scale; both are recorded because "the gradient vanishes" can mean either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


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
    return (jnp.stack([jnp.stack(layer) for layer in gradients]),)


unstack.defvjp(_unstack_forward, _unstack_backward)


def response_moments(response: Array) -> tuple[Array, Array]:
    """Mean and standard deviation over all entries, as float32 scalars."""
    values = _materialized(jax.lax.stop_gradient(response)).astype(jnp.float32)
    mean = jnp.mean(values)
    return mean, jnp.sqrt(jnp.maximum(jnp.mean(jnp.square(values)) - jnp.square(mean), 0.0))


def inactive_fraction(activation: Array) -> Array:
    """Fraction of entries that the nonlinearity set to zero."""
    values = _materialized(jax.lax.stop_gradient(activation))
    return jnp.mean((values == 0).astype(jnp.float32))


def norm(x: Array) -> Array:
    """Euclidean norm over all entries, float32, without overflow or underflow of squares."""
    x = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(x))
    scale = jnp.where(jnp.isfinite(largest) & (largest > 0), largest, 1.0)
    return scale * jnp.sqrt(jnp.sum(jnp.square(x / scale)))


def norms(tensors: Sequence[Array]) -> Array:
    """Euclidean norm of each tensor, shape (len(tensors),), float32."""
    return jnp.stack([norm(tensor) for tensor in tensors])


def rms(tensors: Sequence[Array | None]) -> Array:
    """Root mean square of each tensor, shape (len(tensors),); NaN where there is none."""
    undefined = jnp.full((), jnp.nan)
    return jnp.stack(
        [undefined if x is None else jnp.sqrt(jnp.mean(jnp.square(x))) for x in tensors]
    )


def by_layer(statistic: Callable[..., Any], *tensors: Sequence[Array]) -> Any:
    """A statistic of one layer, for all layers at once.

    Layers of equal shape are computed together: a network has seven shapes, whatever its depth.

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


def geometric_steps(limit: int) -> list[int]:
    """0, 1, 2, 3, 5, 8, 13, ... (Fibonacci) and 10, 30, 100, ..., up to and including limit."""
    steps, following = {0}, (1, 2)
    while following[0] <= limit:
        steps.add(following[0])
        following = (following[1], following[0] + following[1])
    round_ones = (lead * 10**power for power in range(1, len(str(limit))) for lead in (1, 3))
    return sorted(steps | {step for step in round_ones if step <= limit})


def recorded_steps(iterations: int, every: int) -> list[int]:
    """Steps at which layers are recorded: geometric, every `every`, and the last; sorted.

    Args:
        iterations: length of the run.
        every: regular cadence; 0 records nothing at all.
    """
    if every == 0:
        return []
    regular = range(0, iterations + 1, every)
    return sorted({*geometric_steps(iterations), *regular, iterations})
