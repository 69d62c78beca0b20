"""The same networks through the native kernels: one call per weighted layer.

A layer's normalisation and activation are left to the next layer's call (`LayerInput`), so no
response is written to memory. Modules, parameters, probes and results are those of
`resnet_study.models.network`, which is the reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from resnet_study.architecture import ModelSpec
from resnet_study.kernels.operations import LayerInput, LayerOptions, Output, layer, pool
from resnet_study.models.blocks import Recorder, WeightedLayer
from resnet_study.models.normalization import BATCH_NORM_EPSILON, BatchNorm, normalized_moments
from resnet_study.tensors import by_layer

if TYPE_CHECKING:
    from resnet_study.models.network import Network


def fusable(spec: ModelSpec) -> bool:
    """Whether a network is made of what `resnet_study.kernels.operations.layer` computes.

    Others take only their convolutions from the native kernels.
    """
    return (
        spec.normalization == "batch"
        and spec.batch_norm_images == 0
        and spec.activation == "relu"
        and spec.pooling == "average"
        and spec.block_order == "original"
        and spec.branch_scaling == "none"
        and spec.shortcut_scaling == "none"
    )


def forward(model: Network, images: Array, recorder: Recorder, *, train: bool) -> Array:
    """Output of the last block, averaged over its pixels, (N, channels)."""
    stream = _Stream(recorder, train)
    signal = stream.apply(model.stem, LayerInput(images), LayerOptions(first=True))[0]
    for block in model.blocks:
        first, *others = block.layers
        keep = block.shortcut is not None
        signal, x = stream.apply(first, signal, LayerOptions(first.conv.stride, keep=keep))
        for other in others:
            signal, _ = stream.apply(other, signal, LayerOptions())
        if x is not None:
            signal = signal._replace(skip=block.skip(x, train=train))
    return stream.end(signal)


class _Stream:
    """Passes a signal from layer to layer and tells the recorder what the reference tells."""

    def __init__(self, recorder: Recorder, train: bool) -> None:
        self.recorder, self.train = recorder, train
        self.response_tap = jnp.zeros(())
        # Told in the end, for all layers at once: one by one takes long to compile.
        self.responses: list[tuple[Array, Array, Array]] = []
        self.inactive: list[tuple[Array, int]] = []

    def apply(
        self, weighted: WeightedLayer, signal: LayerInput, options: LayerOptions
    ) -> tuple[LayerInput, Array | None]:
        """The signal behind a layer, and its input if the options keep it."""
        recorder, norm = self.recorder, weighted.norm
        assert isinstance(norm, BatchNorm)
        taps, self.response_tap = (self.response_tap, jnp.zeros(())), jnp.zeros(())
        if recorder.taps is not None:
            output_tap, self.response_tap = recorder.taps[recorder.layer]
            taps = (taps[0], output_tap)
        options = options._replace(statistics=self.train)
        output: Output = layer(options, signal, weighted.conv.kernel[...], taps)
        if signal.mean is not None:
            self.inactive.append((output.inactive, signal.z.size))
        if self.train:
            assert output.mean is not None
            assert output.variance is not None
            mean, variance = output.mean, output.variance
            norm.track(mean, variance, output.z.size // output.z.shape[-1])
        else:
            mean, variance = norm.mean[...], norm.variance[...]
        recorder.layer += 1
        self.responses.append((norm.scale[...], norm.bias[...], variance))
        factor = norm.scale[...] * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
        return LayerInput(output.z, mean, factor, norm.bias[...]), output.x

    def end(self, signal: LayerInput) -> Array:
        """The mean of a signal over its pixels, (N, C)."""
        pooled, inactive = pool(signal, self.response_tap)
        self.inactive.append((inactive, signal.z.size))
        if self.recorder.taps is not None:
            counts, sizes = zip(*self.inactive, strict=True)
            fractions = jnp.stack(counts).astype(jnp.float32) / np.array(sizes, np.float32)
            self.recorder.inactive.append(fractions)
            moments = by_layer(normalized_moments, *zip(*self.responses, strict=True))
            self.recorder.moments.append(moments)
        return pooled
