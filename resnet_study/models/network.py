"""The CIFAR networks of He et al. 2015 and 2016: one family, plain or residual."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DatasetShape
from resnet_study.kernels import Kernels
from resnet_study.models import fused
from resnet_study.models.blocks import (
    ACTIVATIONS,
    PREACTIVATED,
    Block,
    Recorder,
    Responses,
    Shape,
    WeightedLayer,
)
from resnet_study.models.initialization import initializer, scaled
from resnet_study.models.layers import Classifier
from resnet_study.models.normalization import normalization
from resnet_study.models.shortcuts import POOLINGS
from resnet_study.tensors import response_moments


class Layer(NamedTuple):
    """Name and place of a weighted layer; stage 0 is the stem and 4 the head, both block 0."""

    name: str
    stage: int
    block: int


def layers_of(model: ModelSpec) -> list[Layer]:
    """The weighted layers in forward order, the depth that the papers count."""
    inner = [
        Layer(f"stage{stage}.block{block}.conv{part}", stage, block)
        for stage in (1, 2, 3)
        for block in range(1, model.blocks_per_stage + 1)
        for part in range(1, model.layers_per_block + 1)
    ]
    return [Layer("stem", 0, 0), *inner, Layer("head", 4, 0)]


class Network(nnx.Module):
    """3x3 stem, three stages of n blocks on maps of full, half and quarter size with 1, 2
    and 4 times the filters, global pooling, classifier: 6n+2 weighted layers, or 9n+2 with
    bottleneck blocks (He et al. 2015, sections 4.1 and 4.2; He et al. 2016, arXiv 1603.05027).

    A pre-activated network activates once more before the pooling.

    Args:
        spec: which network.
        shape: channels of the images and number of classes.
        key: draws the weights.
    """

    def __init__(self, spec: ModelSpec, shape: DatasetShape, key: Array) -> None:
        count = spec.blocks_per_stage
        # One key per block, so that plain and residual networks start from equal weights.
        keys = jax.random.split(key, 3 * count + 2)
        self.activation, self.pooling = spec.activation, spec.pooling
        self.fusable = fused.fusable(spec)
        self.stem = WeightedLayer(
            spec, Shape(shape.channels, spec.width, 1, 3), keys[0], shifted=False
        )
        blocks: list[Block] = []
        inputs = spec.width
        for stage in range(3):
            outputs = spec.expansion * spec.width * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                first = not blocks
                blocks.append(Block(spec, inputs, outputs, stride, keys[1 + len(blocks)], first))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.preactivated = spec.block_order in PREACTIVATED
        full = spec.block_order == "full-preactivation"
        self.last_norm = normalization(spec, inputs) if full else None
        fixup = spec.branch_scaling == "fixup"
        draw = initializer(spec)
        self.head_shift = nnx.Param(jnp.zeros(())) if fixup else None
        self.head = Classifier(
            inputs, shape.classes, initializer=scaled(draw, 0.0) if fixup else draw, key=keys[-1]
        )

    def __call__(
        self,
        images: Array,
        taps: Array | None = None,
        *,
        train: bool,
        kernels: Kernels = "xla",
        of_response: Mapping[str, Callable[[Array], Array]] | None = None,
        dropout_key: Array | None = None,
    ) -> tuple[Array, Responses | None]:
        """Logits, and with `taps` the statistics of every layer's response.

        Args:
            images: (N, H, W, channels), mean subtracted.
            taps: zeros of shape (depth, 2). The gradient of a loss with respect to them is
                the norm of its gradient with respect to every layer's output
                (column 0) and response (column 1). None computes no statistics.
            train: normalise with batch statistics and update the running ones.
            kernels: what computes it; native kernels agree with XLA to float32 rounding.
            of_response: further statistics of each response, by name; needs the kernels of XLA.
            dropout_key: draws what a step of training drops of the shortcuts, where the spec says
                so; None: each is multiplied by its expectation, see `shortcuts.dropout`.

        Returns:
            Logits (N, classes), and `Responses` or None.
        """
        recorder = Recorder(taps, kernels, of_response or {})
        if kernels == "native" and self.fusable:
            pooled = fused.forward(self, images, recorder, train=train)
            return self.classify(pooled, recorder), recorder.result()
        x = self.begin(images, recorder, train=train)
        for number, block in enumerate(self.blocks):
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, number)
            x = block(x, recorder, train=train, dropout_key=key)
        return self.end(x, recorder, train=train), recorder.result()

    def begin(self, images: Array, recorder: Recorder, *, train: bool) -> Array:
        """The stem: from images (N, H, W, channels) to the input of the first block."""
        x = self.stem(images, recorder, train=train)
        return recorder.activation(ACTIVATIONS[self.activation](x))

    def end(self, x: Array, recorder: Recorder, *, train: bool) -> Array:
        """From the output of the last block to the logits (N, classes)."""
        if self.preactivated:
            x = x if self.last_norm is None else self.last_norm(x, train=train)[0]
            x = recorder.activation(ACTIVATIONS[self.activation](x))
        return self.classify(POOLINGS[self.pooling](x, axis=(1, 2)), recorder)

    def classify(self, pooled: Array, recorder: Recorder) -> Array:
        """From the pooled output of the last block, (N, channels), to the logits."""
        if self.head_shift is not None:
            pooled = pooled + self.head_shift[...]
        logits = self.head(pooled)
        logits = recorder.tap(recorder.tap(logits, 0), 1)
        recorder.response(response_moments(logits), logits)
        return logits


def weights_of(parameters: dict[str, Any]) -> list[Any]:
    """Weight tensors of the counted layers in forward order, depth of them.

    Pytrees sort their keys, which puts the head before the stem; this order is explicit.

    Args:
        parameters: pure dictionary of a `Network`'s parameters, or anything of the same
            structure (gradients, updates).
    """
    kernels = [layer["conv"]["kernel"] for layer in _convolutional(parameters)]
    return [*kernels, parameters["head"]["kernel"]]


def normalizations_of(parameters: dict[str, Any], name: str) -> list[Any]:
    """Scale or shift of the normalisation of each counted layer, None where it has none.

    Args:
        parameters: as of `weights_of`.
        name: `scale` or `bias`.
    """
    return [*(layer.get("norm", {}).get(name) for layer in _convolutional(parameters)), None]


def _convolutional(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = parameters["blocks"]
    names = ("layer1", "layer2", "layer3")
    inner = [blocks[i][name] for i in range(len(blocks)) for name in names if name in blocks[i]]
    return [parameters["stem"], *inner]


def parameter_count(parameters: dict[str, Any]) -> int:
    """Number of trained scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))
