"""The weighted layers of the networks: 3x3 and 1x1 convolution, classifier.

Flax NNX modules without magic: parameters are `nnx.Param`, images in NHWC, all of the type that
`resnet_study.tensors.arithmetic` says.

jax multiplies float32 in TF32 on NVIDIA GPUs and in bfloat16 on TPUs unless it is told
otherwise, so every product here says which precision it has. On a CPU float32 is float32.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_study.architecture import Precision
from resnet_study.kernels import Kernels, operations
from resnet_study.models.initialization import Initializer, drawn
from resnet_study.tensors import per_channel

PRECISIONS = {
    "float32": jax.lax.Precision.HIGHEST,
    "tf32": jax.lax.Precision.HIGH,
    "float64": jax.lax.Precision.HIGHEST,
}
"""What jax calls them; its HIGH is TF32 on GPUs that have it."""


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
        precision: as in `ModelSpec`.
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
        precision: Precision = "float32",
    ) -> None:
        self.stride, self.precision = stride, precision
        shape = (kernel, kernel, inputs, outputs)
        self.kernel = nnx.Param(drawn(initializer, key, shape))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, x: Array, kernels: Kernels = "xla") -> Array:
        """(N, H, W, inputs) -> (N, H / stride, W / stride, outputs)."""
        if kernels == "native":
            y = operations.convolve(x, self.kernel[...], self.stride)
        else:
            y = convolve(x, self.kernel[...], self.stride, self.precision)
        return y if self.bias is None else y + per_channel(self.bias[...])


def convolve(x: Array, kernel: Array, stride: int, precision: Precision = "float32") -> Array:
    """Convolution with zero padding of kernel side // 2 on every side.

    Args:
        x: (N, H, W, inputs), float32, or float64 for that precision.
        kernel: (side, side, inputs, outputs), side odd, of the same type.
        stride: in pixels.
        precision: as in `ModelSpec`; of both gradients too.

    Returns:
        (N, ceil(H / stride), ceil(W / stride), outputs), of the same type.
    """
    if precision == "bfloat16":
        # Differentiation follows the casts, so gradients reach the float32 weights and
        # normalisation as float32.
        return jax.lax.platform_dependent(
            x,
            kernel,
            cpu=functools.partial(_convolve_rounded, stride=stride),
            default=functools.partial(_convolve_bfloat16, stride=stride),
        )
    if precision == "float64":
        return jax.lax.platform_dependent(
            x,
            kernel,
            cpu=jax.checkpoint(functools.partial(_convolve_as_products, stride=stride)),
            default=functools.partial(_convolve, stride=stride, precision=PRECISIONS[precision]),
        )
    return _convolve(x, kernel, stride, PRECISIONS[precision])


def _convolve_bfloat16(x: Array, kernel: Array, stride: int) -> Array:
    """In bfloat16: accelerators sum in float32 and round the result once."""
    y = _convolve(x.astype(jnp.bfloat16), kernel, stride, jax.lax.Precision.DEFAULT)
    return y.astype(jnp.float32)


def _convolve_rounded(x: Array, kernel: Array, stride: int) -> Array:
    """What `_convolve_bfloat16` computes, in float32 between rounded ends.

    What XLA:CPU sums a bfloat16 convolution in depends on the processor: with AVX512-BF16 it is
    not float32 throughout.
    """
    y = _convolve(_rounded(x), _rounded(kernel), stride, jax.lax.Precision.HIGHEST)
    return _rounded(y)


def _rounded(x: Array) -> Array:
    """To bfloat16, and so is its gradient.

    Written as a reduction of precision, for XLA leaves out a cast there and back.
    """
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def _convolve(x: Array, kernel: Array, stride: int, precision: jax.lax.Precision) -> Array:
    """In the type of x, to which the kernel is rounded."""
    if _is_2x2(x, kernel, stride):
        return _convolve_2x2(x, kernel, precision)
    padding = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        window_strides=(stride, stride),
        padding=((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


def _convolve_as_products(x: Array, kernel: Array, stride: int) -> Array:
    """The sum of one matrix product per row of the kernel, pixels beside each other as inputs.

    XLA:CPU has no fast convolution in float64 (`benchmarks/convolution.py`). These matrices are
    many times as large as x: `jax.checkpoint` has them made again for the backward pass, not kept.
    """
    if _is_2x2(x, kernel, stride):
        return _convolve_2x2(x, kernel, jax.lax.Precision.HIGHEST)
    side, padding = kernel.shape[0], kernel.shape[0] // 2
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = x.shape[1:3]
    beside = [padded[:, :, j : j + columns : stride] for j in range(side)]
    wide = jnp.concatenate(beside, axis=-1)
    weights = kernel.reshape(side, -1, kernel.shape[-1])
    products = [
        jnp.matmul(wide[:, i : i + rows : stride], weights[i], precision=jax.lax.Precision.HIGHEST)
        for i in range(side)
    ]
    return functools.reduce(jnp.add, products)


def _is_2x2(x: Array, kernel: Array, stride: int) -> bool:
    """Whether `_convolve_2x2` applies."""
    return x.shape[1:3] == (2, 2) and kernel.shape[:2] == (3, 3) and stride == 1


def _convolve_2x2(x: Array, kernel: Array, precision: jax.lax.Precision) -> Array:
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
    flat = x.reshape(images, 4 * inputs)
    product = jnp.matmul(flat, matrix.astype(x.dtype), precision=precision)
    return product.reshape(images, 2, 2, outputs)


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
        self.kernel = nnx.Param(drawn(initializer, key, (inputs, classes)))
        self.bias = nnx.Param(jnp.zeros(classes))

    def __call__(self, x: Array) -> Array:
        """Logits of shape (N, classes)."""
        product = jnp.matmul(x, self.kernel[...], precision=jax.lax.Precision.HIGHEST)
        return product + self.bias[...][None]
