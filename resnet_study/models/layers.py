"""The weighted layers of the networks: 3x3 and 1x1 convolution, classifier.

Flax NNX modules without magic: parameters are `nnx.Param`, float32, images in NHWC.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_study.models.initialization import Initializer


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
        initializer: Initializer,
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


class Classifier(nnx.Module):
    """Fully connected layer with bias, (N, inputs) -> (N, classes) logits."""

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        initializer: Initializer,
        key: Array,
    ) -> None:
        self.kernel = nnx.Param(initializer(key, (inputs, classes), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(classes))

    def __call__(self, x: Array) -> Array:
        """Logits of shape (N, classes)."""
        return x @ self.kernel[...] + self.bias[...]
