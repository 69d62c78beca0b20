"""The CIFAR networks of He et al. 2015, section 4.2: one family, plain or residual."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_study.models.layers import BatchNorm, Classifier, Convolution
from resnet_study.probes import inactive_fraction, response_moments, tap
from resnet_study.spec import DatasetShape, ModelSpec


class Layer(NamedTuple):
    """Name and place of a weighted layer; stage 0 is the stem and 4 the head, both block 0."""

    name: str
    stage: int
    block: int


class Responses(NamedTuple):
    """Statistics of the forward pass in forward order, each of shape (depth,)."""

    mean: Array
    std: Array
    inactive: Array


def layers_of(depth: int) -> list[Layer]:
    """The 6n+2 weighted layers in forward order, the depth that the paper counts."""
    blocks = (depth - 2) // 6
    inner = [
        Layer(f"stage{stage}.block{block}.conv{part}", stage, block)
        for stage in (1, 2, 3)
        for block in range(1, blocks + 1)
        for part in (1, 2)
    ]
    return [Layer("stem", 0, 0), *inner, Layer("head", 4, 0)]


class _Recorder:
    """Collects the statistics of one forward pass, layer by layer."""

    def __init__(self, taps: Array | None) -> None:
        self.taps = taps
        self.moments: list[tuple[Array, Array]] = []
        self.inactive: list[Array] = []

    def tap(self, x: Array, kind: int) -> Array:
        return x if self.taps is None else tap(x, self.taps[len(self.moments), kind])

    def response(self, mean: Array, std: Array) -> None:
        self.moments.append((mean, std))

    def activation(self, activation: Array) -> None:
        if self.taps is not None:
            self.inactive.append(inactive_fraction(activation))

    def result(self) -> Responses | None:
        if self.taps is None:
            return None
        means, stds = zip(*self.moments, strict=True)
        # The head has no nonlinearity.
        inactive = jnp.stack([*self.inactive, jnp.array(jnp.nan)])
        return Responses(jnp.stack(means), jnp.stack(stds), inactive)


def _convolution_and_norm(
    spec: ModelSpec, inputs: int, outputs: int, kernel: int, stride: int, key: Array
) -> tuple[Convolution, BatchNorm | None]:
    """A convolution and the normalisation behind it; without one, the convolution has a bias."""
    normalized = spec.normalization == "batch"
    convolution = Convolution(
        inputs,
        outputs,
        kernel=kernel,
        stride=stride,
        bias=not normalized,
        initializer=initializer(spec),
        key=key,
    )
    return convolution, BatchNorm(outputs) if normalized else None


class WeightedLayer(nnx.Module):
    """A 3x3 convolution and its normalisation: from its input to its response."""

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int, stride: int, key: Array) -> None:
        self.conv, self.norm = _convolution_and_norm(spec, inputs, outputs, 3, stride, key)

    def __call__(self, x: Array, recorder: _Recorder, *, train: bool) -> Array:
        z = recorder.tap(self.conv(x), 0)
        if self.norm is None:
            moments = response_moments(z)
            response = recorder.tap(z, 1)
        else:
            response, variance = self.norm(z, train=train)
            moments = jax.lax.stop_gradient(self.norm.response_moments(variance))
            response = recorder.tap(response, 1)
        recorder.response(*moments)
        return response


class Shortcut(nnx.Module):
    """The path around a block: identity, zero-padded identity, or projection.

    Option A subsamples by taking every second pixel and appends zero channels, half on
    each side, so it has no parameters. Options B and C use a 1x1 convolution with
    normalisation (He et al. 2015, sections 3.3 and 4.1). Projections are not counted in
    the depth, as in the paper, and are not probed.
    """

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int, stride: int, key: Array) -> None:
        self.stride, self.padding = stride, outputs - inputs
        changes = stride != 1 or inputs != outputs
        if spec.shortcut == "C" or (spec.shortcut == "B" and changes):
            projection, self.norm = _convolution_and_norm(spec, inputs, outputs, 1, stride, key)
            self.projection: Convolution | None = projection
        else:
            self.projection = self.norm = None

    def __call__(self, x: Array, *, train: bool) -> Array:
        if self.projection is not None:
            y = self.projection(x)
            return y if self.norm is None else self.norm(y, train=train)[0]
        x = x[:, :: self.stride, :: self.stride]
        before = self.padding // 2
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, self.padding - before)))


class Block(nnx.Module):
    """Two 3x3 layers, with a shortcut added before the second nonlinearity if residual."""

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int, stride: int, key: Array) -> None:
        keys = [jax.random.fold_in(key, part) for part in range(3)]
        self.layer1 = WeightedLayer(spec, inputs, outputs, stride, keys[0])
        self.layer2 = WeightedLayer(spec, outputs, outputs, 1, keys[1])
        self.shortcut = Shortcut(spec, inputs, outputs, stride, keys[2]) if spec.residual else None

    def __call__(self, x: Array, recorder: _Recorder, *, train: bool) -> Array:
        hidden = jax.nn.relu(self.layer1(x, recorder, train=train))
        recorder.activation(hidden)
        response = self.layer2(hidden, recorder, train=train)
        if self.shortcut is not None:
            response = response + self.shortcut(x, train=train)
        output = jax.nn.relu(response)
        recorder.activation(output)
        return output


class Network(nnx.Module):
    """3x3 stem, three stages of n blocks on maps of full, half and quarter size with 1, 2
    and 4 times the filters, global average pooling, classifier: 6n+2 weighted layers.

    Args:
        spec: which network.
        shape: channels of the images and number of classes.
        key: draws the weights.
    """

    def __init__(self, spec: ModelSpec, shape: DatasetShape, key: Array) -> None:
        count = (spec.depth - 2) // 6
        # One key per block, so that plain and residual networks start from equal weights.
        keys = jax.random.split(key, 3 * count + 2)
        self.stem = WeightedLayer(spec, shape.channels, spec.width, 1, keys[0])
        blocks: list[Block] = []
        inputs = spec.width
        for stage in range(3):
            outputs = spec.width * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(Block(spec, inputs, outputs, stride, keys[1 + len(blocks)]))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.head = Classifier(inputs, shape.classes, initializer=initializer(spec), key=keys[-1])

    def __call__(
        self, images: Array, taps: Array | None = None, *, train: bool
    ) -> tuple[Array, Responses | None]:
        """Logits, and with `taps` the statistics of every layer's response.

        Args:
            images: (N, H, W, channels), float32, mean subtracted.
            taps: zeros of shape (depth, 2). The gradient of a loss with respect to them is
                the norm of its gradient with respect to every layer's output
                (column 0) and response (column 1). None computes no statistics.
            train: normalise with batch statistics and update the running ones.

        Returns:
            Logits (N, classes), and `Responses` or None.
        """
        recorder = _Recorder(taps)
        x = jax.nn.relu(self.stem(images, recorder, train=train))
        recorder.activation(x)
        for block in self.blocks:
            x = block(x, recorder, train=train)
        logits = self.head(jnp.mean(x, axis=(1, 2)))
        logits = recorder.tap(recorder.tap(logits, 0), 1)
        recorder.response(*response_moments(logits))
        return logits, recorder.result()


def initializer(spec: ModelSpec) -> jax.nn.initializers.Initializer:
    """Of every weight: normal, variance 2/fan_in (He et al. 2015, arXiv 1502.01852,
    equation 10) or 1/fan_in (LeCun et al. 1998)."""
    gain = {"he": 2.0, "lecun": 1.0}[spec.initialization]
    return jax.nn.initializers.variance_scaling(gain, "fan_in", "normal")


def weights_of(parameters: dict[str, Any]) -> list[Any]:
    """Weight tensors of the counted layers in forward order, depth of them.

    Pytrees sort their keys, which puts the head before the stem; this order is explicit.

    Args:
        parameters: pure dictionary of a `Network`'s parameters, or anything of the same
            structure (gradients, updates).
    """
    blocks = parameters["blocks"]
    inner = [
        blocks[index][layer]["conv"]["kernel"]
        for index in range(len(blocks))
        for layer in ("layer1", "layer2")
    ]
    return [parameters["stem"]["conv"]["kernel"], *inner, parameters["head"]["kernel"]]


def parameter_count(parameters: dict[str, Any]) -> int:
    """Number of trained scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))
