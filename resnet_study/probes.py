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
response_mean, response_std over all entries of y_l
inactive_fraction           zeros after the nonlinearity that follows the layer
                            (for the last layer of a residual block: after the addition)
=========================== ====================================================

With batch normalisation ∂L/∂z_l = (γ/σ_l) P ∂L/∂y_l, with P a projection and σ_l in
proportion to ‖w_l‖. So ∂L/∂z shrinks whenever weights grow, while ∂L/∂y does not depend
on their scale; both are recorded because "the gradient vanishes" can mean either.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
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


def geometric_steps(limit: int) -> list[int]:
    """0, 1, 2, 3, 5, 8, 13, ... up to and including limit (Fibonacci, so about 5 per decade)."""
    steps, following = [0], (1, 2)
    while following[0] <= limit:
        steps.append(following[0])
        following = (following[1], following[0] + following[1])
    return steps


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
