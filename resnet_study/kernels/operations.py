"""What the native kernels compute, as jax functions; `resnet_study.kernels.resolve` first.

`layer` is a weighted layer with what surrounds it as one call,

    x = relu((z − mean) · factor + shift + skip),   out = convolution(x, kernel),
    and mean and variance of out per channel,

so that the normalisation and activation of one layer happen while the next one reads its
input. A response is never written to memory, and each array is read and written once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class LayerInput(NamedTuple):
    """The input of a layer, not yet computed: relu((z − mean) · factor + shift + skip)."""

    z: Array
    """(N, H, W, C), the output of the layer before."""
    mean: Array | None = None
    """(C,); None: z itself is the input."""
    factor: Array | None = None
    """(C,)."""
    shift: Array | None = None
    """(C,)."""
    skip: Array | None = None
    """(N, H, W, C), what is added before the activation, or None."""


class Output(NamedTuple):
    """What a layer computes."""

    z: Array
    """(N, H / stride, W / stride, outputs)."""
    x: Array | None
    """Its input after the activation, (N, H, W, C), where asked for."""
    mean: Array | None
    """Of z per channel, (outputs,), where asked for."""
    variance: Array | None
    """Of z per channel, biased, (outputs,), where asked for."""
    inactive: Array
    """Zeros of x, int32 scalar; 0 without an activation."""


class LayerOptions(NamedTuple):
    """How to compute a layer.

    Attributes:
        stride: in pixels.
        statistics: whether to return mean and variance of the output.
        keep: whether to return x, for a shortcut.
        first: whether the input is an image, whose gradient nobody asks for (it is zero).
    """

    stride: int = 1
    statistics: bool = True
    keep: bool = False
    first: bool = False


_ABSENT = (0,)
_F32 = jnp.float32


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def layer(
    options: LayerOptions, signal: LayerInput, kernel: Array, taps: tuple[Array, Array]
) -> Output:
    """Activate, convolve, and take the statistics of the result.

    Args:
        options: how.
        signal: float32.
        kernel: (side, side, C, outputs), float32, side 1 or 3; padding side // 2.
        taps: zero scalars, whose "gradients" are the norms of the gradients of the loss with
            respect to the response (z − mean) · factor + shift of the signal and to the output.
    """
    return _forward(options, signal, kernel, taps)[0]


def _given(value: Array | None) -> Array:
    return jnp.zeros(_ABSENT, _F32) if value is None else value


def _forward(
    options: LayerOptions, signal: LayerInput, kernel: Array, taps: tuple[Array, Array]
) -> tuple[Output, Any]:
    n, h, w, _ = signal.z.shape
    outputs, stride = kernel.shape[-1], options.stride
    z_shape = (n, -(-h // stride), -(-w // stride), outputs)
    vector = (outputs,) if options.statistics else _ABSENT
    call = jax.ffi.ffi_call(
        "resnet_study_forward",
        (
            jax.ShapeDtypeStruct(z_shape, _F32),
            jax.ShapeDtypeStruct(signal.z.shape if options.keep else _ABSENT, _F32),
            jax.ShapeDtypeStruct(vector, _F32),
            jax.ShapeDtypeStruct(vector, _F32),
            jax.ShapeDtypeStruct((), jnp.int32),
        ),
    )
    z, x, mean, variance, inactive = call(*map(_given, signal), kernel, stride=np.int64(stride))
    output = Output(
        z,
        x if options.keep else None,
        mean if options.statistics else None,
        variance if options.statistics else None,
        inactive if signal.mean is not None else jnp.zeros((), jnp.int32),
    )
    return output, (signal, kernel, output)


def _backward(
    options: LayerOptions, kept: Any, gradients: Output
) -> tuple[LayerInput, Array, tuple[Array, Array]]:
    signal, kernel, output = kept
    activated = signal.mean is not None
    # The skip itself is not needed again: a layer with one keeps its x.
    vector = kernel.shape[2:3] if activated else _ABSENT
    images = _ABSENT if options.first else signal.z.shape
    call = jax.ffi.ffi_call(
        "resnet_study_backward",
        (
            jax.ShapeDtypeStruct(images, _F32),
            jax.ShapeDtypeStruct(_ABSENT if signal.skip is None else images, _F32),
            jax.ShapeDtypeStruct(vector, _F32),
            jax.ShapeDtypeStruct(vector, _F32),
            jax.ShapeDtypeStruct(kernel.shape, _F32),
            jax.ShapeDtypeStruct((), _F32),
            jax.ShapeDtypeStruct((), _F32),
        ),
    )
    z, skip, factor, shift, kernel_gradient, output_norm, response_norm = call(
        *map(_given, signal[:4]),
        kernel,
        _given(output.x),
        _given(output.z if options.statistics else None),
        gradients.z,
        *map(_given, (output.mean, gradients.mean, gradients.variance, gradients.x)),
        stride=np.int64(options.stride),
    )
    result = LayerInput(
        jnp.zeros_like(signal.z) if options.first else z,
        None if signal.factor is None else -signal.factor * shift,
        factor if activated else None,
        shift if activated else None,
        None if signal.skip is None else skip,
    )
    return result, kernel_gradient, (response_norm, output_norm)


layer.defvjp(_forward, _backward)


@jax.custom_vjp
def pool(signal: LayerInput, tap: Array) -> tuple[Array, Array]:
    """The mean over the pixels of what a signal stands for.

    Args:
        signal: float32, with mean, factor and shift.
        tap: zero scalar, whose "gradient" is the norm of the gradient of the loss with respect
            to the response (z − mean) · factor + shift.

    Returns:
        (N, C), and the zeros among what was averaged, int32 scalar.
    """
    return _pool_forward(signal, tap)[0]


def _pool_forward(signal: LayerInput, tap: Array) -> tuple[tuple[Array, Array], LayerInput]:
    n, _, _, c = signal.z.shape
    results = (jax.ShapeDtypeStruct((n, c), _F32), jax.ShapeDtypeStruct((), jnp.int32))
    pooled, inactive = jax.ffi.ffi_call("resnet_study_pool", results)(*map(_given, signal))
    return (pooled, inactive), signal


def _pool_backward(signal: LayerInput, gradients: tuple[Array, Array]) -> tuple[LayerInput, Array]:
    shape, vector = signal.z.shape, signal.z.shape[-1:]
    results = tuple(
        jax.ShapeDtypeStruct(s, _F32)
        for s in (shape, _ABSENT if signal.skip is None else shape, vector, vector, ())
    )
    call = jax.ffi.ffi_call("resnet_study_pool_backward", results)
    z, skip, factor, shift, norm = call(*map(_given, signal), gradients[0])
    assert signal.factor is not None
    skip_gradient = None if signal.skip is None else skip
    return LayerInput(z, -signal.factor * shift, factor, shift, skip_gradient), norm


pool.defvjp(_pool_forward, _pool_backward)


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """The convolution alone, (N, H, W, C) -> (N, H / stride, W / stride, outputs)."""
    options = LayerOptions(stride, statistics=False)
    return layer(options, LayerInput(x), kernel, (jnp.zeros(()), jnp.zeros(()))).z


TOGETHER = 64
"""Tensors in a call of `descend`. For all 3,610 of depth 1202 at once XLA was still compiling after
twelve minutes: it compares every pair of operand and result that may share memory."""


class Descended(NamedTuple):
    """What a step of gradient descent leaves."""

    velocity: list[Array]
    weights: list[Array]
    measured: Array
    """Of each tensor, (tensors, 5), the norms of gradient, weights and update, the angle between
    the weights before and after, and the cosine of gradient and old velocity, both orthogonal to
    the weights; (0, 5) if not asked for."""


def descend(
    rate: Array,
    gradients: Sequence[Array],
    velocity: Sequence[Array],
    weights: Sequence[Array],
    *,
    momentum: float,
    nesterov: bool,
    decay: Sequence[float],
    scale: Sequence[float],
    measure: bool,
) -> Descended:
    """v ← μ v + (g + λ w) and w ← w − η s v for many tensors; with Nesterov's momentum
    w ← w − η s (μ v + (g + λ w)). What is measured is summed in float64.

    Args:
        rate: η, float32 scalar.
        gradients, velocity, weights: float32, one tensor of each shape in each; velocity and
            weights are overwritten where nothing else needs them.
        momentum: μ.
        nesterov: Nesterov's momentum.
        decay: λ of each tensor.
        scale: s of each tensor.
        measure: whether to measure.
    """
    done: list[list[Array]] = [[], [], []]
    for begin in range(0, len(weights), TOGETHER):
        some = slice(begin, begin + TOGETHER)
        count = len(weights[some])
        shapes = [jax.ShapeDtypeStruct(w.shape, _F32) for w in weights[some]]
        call = jax.ffi.ffi_call(
            "resnet_study_descend",
            (jax.ShapeDtypeStruct((count if measure else 0, 5), _F32), *shapes, *shapes),
            input_output_aliases={1 + count + i: 1 + i for i in range(2 * count)},
        )
        numbers, *changed = call(
            rate,
            *gradients[some],
            *velocity[some],
            *weights[some],
            momentum=np.float32(momentum),
            nesterov=nesterov,
            decay=np.array(decay[some], np.float32),
            scale=np.array(scale[some], np.float32),
        )
        for part, found in zip(done, (changed[:count], changed[count:], [numbers]), strict=True):
            part += found
    return Descended(done[0], done[1], jnp.concatenate(done[2]))
