"""The layers of the networks: 3x3 and 1x1 convolution, batch normalisation, classifier.

Flax NNX modules without magic: parameters are `nnx.Param`, running statistics
`nnx.BatchStat`, float32, images in NHWC.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5


class Convolution(nnx.Module):
    """Convolution with zero padding of kernel // 2 on every side, as Caffe and Torch pad.

    (XLA's "SAME" pads a stride-2 convolution on one side only.)

    Args:
        inputs, outputs: channels.
        kernel: side of the square kernel in pixels.
        stride: in pixels.
        bias: whether to add one; not needed before batch normalisation.
        initializer: of the kernel, shape (kernel, kernel, inputs, outputs); bias starts at 0.
        key: draws the kernel.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        bias: bool,
        initializer: jax.nn.initializers.Initializer,
        key: Array,
    ) -> None:
        self.stride = stride
        shape = (kernel, kernel, inputs, outputs)
        self.kernel = nnx.Param(initializer(key, shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, x: Array) -> Array:
        """(N, H, W, inputs) -> (N, H / stride, W / stride, outputs)."""
        y = convolve(x, self.kernel[...], self.stride)
        return y if self.bias is None else y + self.bias[...]


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """Convolution with zero padding of kernel side // 2 on every side.

    Args:
        x: (N, H, W, inputs).
        kernel: (side, side, inputs, outputs), side odd.
        stride: in pixels.

    Returns:
        (N, ceil(H / stride), ceil(W / stride), outputs).
    """
    if x.shape[1:3] == (2, 2) and kernel.shape[:2] == (3, 3) and stride == 1:
        return _convolve_2x2(x, kernel)
    padding = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _convolve_2x2(x: Array, kernel: Array) -> Array:
    """3x3 convolution of a 2x2 map as the fully connected layer that it is.

    Every output pixel sees every input pixel and only padding besides. XLA:CPU spends many
    times as long on the convolution as on this matrix product (`benchmarks/convolution.py`);
    the last stage on 8x8 images, a third of the layers, has maps of this size.
    """
    images, _, _, inputs = x.shape
    outputs = kernel.shape[-1]
    # From pixel i to pixel j along one axis the kernel is read at i - j + 1.
    tap = jnp.array([[1, 0], [2, 1]])
    matrix = kernel[tap[:, None, :, None], tap[None, :, None, :]]  # (h, w, h', w', in, out)
    matrix = matrix.transpose(0, 1, 4, 2, 3, 5).reshape(4 * inputs, 4 * outputs)
    return (x.reshape(images, 4 * inputs) @ matrix).reshape(images, 2, 2, outputs)


class BatchNorm(nnx.Module):
    """Batch normalisation over (N, H, W) (Ioffe & Szegedy 2015, arXiv 1502.03167).

    Running statistics move by 0.1 of the difference at each training step; the running
    variance is the unbiased one, as in Torch and Caffe.

    Args:
        channels: of the input.
    """

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, z: Array, *, train: bool) -> tuple[Array, Array]:
        """Normalise with the statistics of the batch (train) or the running ones.

        Returns:
            The response, of the shape of z (N, H, W, C), and the variance that it was
            divided by, (C,).
        """
        if not train:
            factor = self.scale[...] * jax.lax.rsqrt(self.variance[...] + BATCH_NORM_EPSILON)
            response = z * factor + (self.bias[...] - self.mean[...] * factor)
            return response, self.variance[...]
        response, mean, variance = batch_normalize(z, self.scale[...], self.bias[...])
        count = z.size // z.shape[-1]
        unbiased = variance * (count / max(count - 1, 1))
        keep = BATCH_NORM_MOMENTUM
        self.mean[...] = keep * self.mean[...] + (1 - keep) * mean
        self.variance[...] = keep * self.variance[...] + (1 - keep) * unbiased
        return response, variance

    def response_moments(self, variance: Array) -> tuple[Array, Array]:
        """Mean and standard deviation over all entries of a response of this layer.

        They follow from γ, β and the variance v of the batch, which saves two passes over
        the response: channel c has mean β_c and variance γ_c² v_c / (v_c + ε).

        Args:
            variance: of the batch per channel, as returned with the response, (C,).
        """
        scale, bias = self.scale[...], self.bias[...]
        mean = jnp.mean(bias)
        within = jnp.square(scale) * variance / (variance + BATCH_NORM_EPSILON)
        return mean, jnp.sqrt(jnp.mean(within + jnp.square(bias - mean)))


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
    variance = jnp.mean(jnp.square(z - mean), axis=(0, 1, 2))
    inverse = jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
    response = (z - mean) * (inverse * scale) + bias
    return (response, mean, variance), (z, scale, mean, inverse)


def _batch_normalize_backward(
    kept: tuple[Array, Array, Array, Array], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    z, scale, mean, inverse = kept
    gradient = gradients[0]
    count = z.size // z.shape[-1]
    normalized = (z - mean) * inverse
    bias_gradient = jnp.sum(gradient, axis=(0, 1, 2))
    scale_gradient = jnp.sum(gradient * normalized, axis=(0, 1, 2))
    centered = gradient - (bias_gradient + normalized * scale_gradient) / count
    return centered * (inverse * scale), scale_gradient, bias_gradient


batch_normalize.defvjp(_batch_normalize_forward, _batch_normalize_backward)


class Classifier(nnx.Module):
    """Fully connected layer with bias, (N, inputs) -> (N, classes) logits."""

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        initializer: jax.nn.initializers.Initializer,
        key: Array,
    ) -> None:
        self.kernel = nnx.Param(initializer(key, (inputs, classes), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(classes))

    def __call__(self, x: Array) -> Array:
        """Logits of shape (N, classes)."""
        return x @ self.kernel[...] + self.bias[...]
