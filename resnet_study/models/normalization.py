"""Normalisation between a convolution and its nonlinearity: batch, layer, group.

Each takes an output z and returns the response with its `Moments`. Parameters are
`nnx.Param`, running statistics `nnx.BatchStat`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_study.architecture import GROUPS, ModelSpec
from resnet_study.tensors import per_channel, response_moments

BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5

Moments = tuple[Array, Array]
"""Mean and standard deviation over all entries of a response, scalars."""


class BatchNorm(nnx.Module):
    """Batch normalisation over (N, H, W) (Ioffe & Szegedy 2015, arXiv 1502.03167).

    Running statistics move by 0.1 of the difference at each training step; the running
    variance is the unbiased one, as in Torch and Caffe.

    Args:
        channels: of the input.
        images: over which each set of statistics is taken, consecutive ones of the batch; 0:
            all of them. The running statistics get the mean over these groups.
    """

    def __init__(self, channels: int, images: int = 0) -> None:
        self.images = images
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, z: Array, *, train: bool, track: bool = True) -> tuple[Array, Moments]:
        """Normalise with the statistics of the batch (train) or the running ones.

        Args:
            z: (N, H, W, C).
            train: of the batch.
            track: move the running ones towards them.

        Returns:
            The response, of the shape of z (N, H, W, C), and its moments.
        """
        if not train:
            factor = self.scale[...] * jax.lax.rsqrt(self.variance[...] + BATCH_NORM_EPSILON)
            shift = self.bias[...] - self.mean[...] * factor
            response = z * per_channel(factor) + per_channel(shift)
            return response, self.response_moments(self.variance[...])
        if self.images in (0, z.shape[0]):
            response, mean, variance = batch_normalize(z, self.scale[...], self.bias[...])
        else:
            groups = z.reshape(-1, self.images, *z.shape[1:])
            response, mean, variance = jax.vmap(batch_normalize, (0, None, None))(
                groups, self.scale[...], self.bias[...]
            )
            response = response.reshape(z.shape)
        if track:
            self.track(mean, variance, (self.images or z.shape[0]) * z.shape[1] * z.shape[2])
        return response, self.response_moments(variance)

    def track(self, mean: Array, variance: Array, count: int) -> None:
        """Move the running statistics towards those of a batch.

        Args:
            mean, variance: of the batch, the variance biased; (C,) or (groups, C).
            count: positions that each was taken over.
        """
        moved = _moved((self.mean[...], self.variance[...]), (mean, variance), count)
        # `self.mean[...] =` asks for the sharding of what is being traced, for which jax walks the
        # whole program so far: most of the time until the first step of a deep network.
        self.mean.set_value(moved[0])
        self.variance.set_value(moved[1])

    def response_moments(self, variance: Array) -> Moments:
        """Mean and standard deviation over all entries of a response of this layer.

        They follow from γ, β and the variance v of the batch, which saves two passes over
        the response: channel c has mean β_c and variance γ_c² v_c / (v_c + ε).

        Args:
            variance: that z was divided by, per channel, (C,) or (groups, C).
        """
        return normalized_moments(self.scale[...], self.bias[...], variance)


@functools.partial(jax.jit, static_argnames="count")
def _moved(
    running: tuple[Array, Array], now: tuple[Array, Array], count: int
) -> tuple[Array, Array]:
    """Running mean and variance after a batch; jitted: layers of one width share a trace."""
    (mean, variance), (now_mean, now_variance) = jax.lax.stop_gradient((running, now))
    pairs = ((mean, now_mean), (variance, now_variance * (count / max(count - 1, 1))))
    moved = []
    for old, new in pairs:
        change = jnp.mean(new.reshape(-1, new.shape[-1]), axis=0) - old
        moved.append(old + (1 - BATCH_NORM_MOMENTUM) * change)
    return moved[0], moved[1]


@jax.jit
def normalized_moments(scale: Array, bias: Array, variance: Array) -> Moments:
    """`BatchNorm.response_moments` of a γ and β; jitted for the same reason as `_moved`."""
    scale, bias, variance = jax.lax.stop_gradient((scale, bias, variance))
    mean = jnp.mean(bias)
    squared, between = (
        jax.lax.broadcast_to_rank(jnp.square(values), variance.ndim)
        for values in (scale, bias - mean)
    )
    within = squared * variance / (variance + BATCH_NORM_EPSILON)
    return mean, jnp.sqrt(jnp.mean(within + between))


@jax.custom_vjp
def batch_normalize(z: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Normalise with the batch's own statistics.

    The backward pass is written out so that only z is kept from the forward pass;
    automatic differentiation keeps several arrays of its size per layer.

    Args:
        z: (N, H, W, C).
        scale, bias: (C,).

    Returns:
        The response (N, H, W, C), and mean and biased variance of z per channel, (C,),
        which are treated as constants by differentiation.
    """
    return _batch_normalize_forward(z, scale, bias)[0]


def _batch_normalize_forward(
    z: Array, scale: Array, bias: Array
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    mean = jnp.mean(z, axis=(0, 1, 2))
    # Two passes: mean(z²) − mean(z)² cancels when a channel's mean is large.
    variance = jnp.mean(jnp.square(z - per_channel(mean)), axis=(0, 1, 2))
    inverse = jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
    response = (z - per_channel(mean)) * per_channel(inverse * scale) + per_channel(bias)
    return (response, mean, variance), (z, scale, mean, inverse)


def _batch_normalize_backward(
    kept: tuple[Array, Array, Array, Array], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    z, scale, mean, inverse = kept
    gradient = gradients[0]
    count = z.size // z.shape[-1]
    normalized = (z - per_channel(mean)) * per_channel(inverse)
    bias_gradient = jnp.sum(gradient, axis=(0, 1, 2))
    scale_gradient = jnp.sum(gradient * normalized, axis=(0, 1, 2))
    along = per_channel(bias_gradient) + normalized * per_channel(scale_gradient)
    centered = gradient - along / count
    return centered * per_channel(inverse * scale), scale_gradient, bias_gradient


batch_normalize.defvjp(_batch_normalize_forward, _batch_normalize_backward)


class GroupNorm(nnx.Module):
    """Normalisation of each image over pixels and a group of channels (Wu & He 2018, arXiv
    1803.08494); one group is layer normalisation (Ba et al. 2016, arXiv 1607.06450).

    Scale and shift are per channel. There are no running statistics.

    Args:
        channels: of the input.
        groups: a divisor of channels.
    """

    def __init__(self, channels: int, groups: int) -> None:
        self.groups = groups
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, z: Array, *, train: bool, track: bool = True) -> tuple[Array, Moments]:
        """The response, of the shape of z (N, H, W, C), and its moments."""
        grouped = z.reshape(*z.shape[:3], self.groups, -1)
        centered = grouped - jnp.mean(grouped, axis=(1, 2, 4), keepdims=True)
        variance = jnp.mean(jnp.square(centered), axis=(1, 2, 4), keepdims=True)
        normalized = centered * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
        scale, bias = per_channel(self.scale[...]), per_channel(self.bias[...])
        response = normalized.reshape(z.shape) * scale + bias
        return response, response_moments(response)


Normalization = BatchNorm | GroupNorm


def normalization(spec: ModelSpec, channels: int) -> Normalization | None:
    """What the spec asks for; None without normalisation."""
    if spec.normalization == "batch":
        return BatchNorm(channels, spec.batch_norm_images)
    if spec.normalization == "none":
        return None
    return GroupNorm(channels, GROUPS if spec.normalization == "group" else 1)
