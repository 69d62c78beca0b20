"""The path around a block: identity or projection, and what multiplies it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from resnet_study.architecture import ModelSpec
from resnet_study.models.initialization import initializer
from resnet_study.models.layers import Convolution
from resnet_study.models.normalization import normalization

POOLINGS: dict[str, Callable[..., Array]] = {"average": jnp.mean, "max": jnp.max}
"""Of pixels, each channel by itself."""


CONSTANT = 0.5
"""What constant scaling multiplies shortcut and branch by."""


class Shortcut(nnx.Module):
    """The path around a block: identity, zero-padded identity, or projection.

    Option A takes every second pixel, or the mean or maximum of 2x2 of them, and appends zero
    channels, half on each side, so it has no parameters. Pixels that share a maximum share its
    gradient. Options B and C use a 1x1 convolution with
    normalisation (He et al. 2015, sections 3.3 and 4.1). Projections are not counted in
    the depth, as in the paper, and are not probed.

    Args:
        spec: of the network.
        inputs, outputs: channels.
        stride: in pixels.
        key: draws the weights of a projection.
        normalized: whether a normalisation follows a projection.
    """

    def __init__(
        self,
        spec: ModelSpec,
        inputs: int,
        outputs: int,
        stride: int,
        key: Array,
        *,
        normalized: bool = True,
    ) -> None:
        self.stride, self.padding = stride, outputs - inputs
        self.subsampling = spec.subsampling
        changes = stride != 1 or inputs != outputs
        projects = spec.shortcut == "C" or (spec.shortcut == "B" and changes)
        self.norm = normalization(spec, outputs) if projects and normalized else None
        self.projection = (
            Convolution(
                inputs,
                outputs,
                kernel=1,
                stride=stride,
                bias=spec.normalization == "none",
                initializer=initializer(spec),
                key=key,
                precision=spec.precision,
            )
            if projects
            else None
        )

    def __call__(self, x: Array, *, train: bool) -> Array:
        if self.projection is not None:
            y = self.projection(x)
            return y if self.norm is None else self.norm(y, train=train)[0]
        if self.subsampling != "stride" and self.stride > 1:
            n, h, w, c = x.shape
            x = x.reshape(n, h // self.stride, self.stride, w // self.stride, self.stride, c)
            return identity(POOLINGS[self.subsampling](x, axis=(2, 4)), 1, self.padding)
        return identity(x, self.stride, self.padding)


def identity(x: Array, stride: int, padding: int) -> Array:
    """Nothing, as far as shapes allow: every so many pixels, and channels of zeros on both sides.

    Args:
        x: (N, H, W, C).
        stride: in pixels.
        padding: channels to add, half of them on each side; or to leave out, if below 0.
    """
    before = padding // 2
    channels = (before, padding - before, 0)
    nothing = jnp.zeros((), x.dtype)
    return jax.lax.pad(x[:, ::stride, ::stride], nothing, (*[(0, 0, 0)] * 3, channels))


def dropout(x: Array, ratio: float, key: Array | None) -> Array:
    """x with random values set to 0, or the expectation of that.

    He et al. 2016 (arXiv 1603.05027), section 3.1, after Hinton et al. 2012 (arXiv 1207.0580): what
    is left is not divided by 1 - ratio, so that training multiplies a shortcut by 1 - ratio on
    average, as `constant` always does, and evaluation by just that.

    Args:
        x: of any shape.
        ratio: probability of 0, of every value by itself.
        key: draws them, in a step of training; None: (1 - ratio) x.
    """
    if key is None:
        return (1 - ratio) * x
    # The type is named, so that runs in float64 draw the same.
    kept = jax.random.bernoulli(key, np.float32(1 - ratio), x.shape)
    return jnp.where(kept, x, 0)


class Gate(nnx.Module):
    """g(x), between 0 and 1: the sigmoid of a 1x1 convolution with bias, per pixel and channel.

    He et al. 2016 (arXiv 1603.05027), section 3.1, after Highway Networks. Where a block
    changes the shape, the convolution has the block's stride and width; the paper says nothing
    of these blocks.
    """

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int, stride: int, key: Array) -> None:
        self.conv = Convolution(
            inputs,
            outputs,
            kernel=1,
            stride=stride,
            bias=True,
            initializer=initializer(spec),
            key=key,
            precision=spec.precision,
        )
        self.conv.bias = nnx.Param(jnp.full(outputs, spec.gate_bias))

    def __call__(self, x: Array) -> Array:
        return jax.nn.sigmoid(self.conv(x))
