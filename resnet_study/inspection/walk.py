"""A forward pass block by block with running statistics, so that blocks can be left out or moved.

Blocks of equal structure share one compiled program, as in
`resnet_study.phenomena.initialization.chain`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_study.data.augment import normalize
from resnet_study.kernels import Kernels
from resnet_study.models import Recorder
from resnet_study.models.blocks import ACTIVATIONS, Block, WeightedLayer
from resnet_study.models.shortcuts import identity
from resnet_study.phenomena.initialization.chain import Chain, Part
from resnet_study.training.devices import Devices

Lesion = Literal["", "block", "first", "second", "third"]
"""What a block is without: nothing; its weighted layers; one of them, in a plain network."""

LAYERS: tuple[Lesion, ...] = ("first", "second", "third")
"""Single layers of a block in forward order; the third is of bottlenecks."""


def placed(chain: Chain, where: Devices) -> Chain:
    """The chain with its arrays on the devices."""

    def place(part: Part) -> Part:
        return Part(part.graph, where.replicate(part.state))

    return Chain(place(chain.ends), tuple(map(place, chain.blocks)), chain.homogeneous)


@partial(jax.jit, static_argnums=(0, 4))
def begin(
    graph: Any, state: dict[str, Any], images: Array, pixel_mean: Array, kernels: Kernels
) -> Array:
    """From images (N, H, W, channels), uint8, to the input of the first block of a chain.

    The first two arguments are the chain's ends, as of `end`, and of `through` a block.
    """
    recorder = Recorder(kernels=kernels)
    network = nnx.merge(graph, state)
    x: Array = network.begin(normalize(images, pixel_mean), recorder, train=False)
    return x


@partial(jax.jit, static_argnums=(0, 3, 4))
def through(
    graph: Any, state: dict[str, Any], x: Array, kernels: Kernels, lesion: Lesion = ""
) -> Array:
    """Output of a block for its input (N, H, W, C), whole or not.

    A residual block without its weighted layers is its shortcut (Veit et al. 2016, arXiv
    1605.06431, section 4.1), with what follows the addition. Where a plain network loses a layer
    with its normalisation and nonlinearity, or all of a block, nothing is in its place; where
    that changes the shape, what shortcut A does, and the middle channels where they become fewer.
    """
    block: Block = nnx.merge(graph, state)
    recorder = Recorder(kernels=kernels)
    if not lesion:
        return block(x, recorder, train=False)
    skip = block.skip(x, train=False)
    if skip is not None:
        return block.join(jnp.zeros_like(skip), skip, recorder, train=False)
    if lesion == "block":
        return _nothing(block.layers, x)
    for name, layer in zip(LAYERS, block.layers, strict=False):
        if lesion == name:
            x = _nothing([layer], x)
        else:
            x = ACTIVATIONS[block.activation](layer(x, recorder, train=False))
    return x


def _nothing(layers: list[WeightedLayer], x: Array) -> Array:
    """What is in the place of consecutive layers that were deleted."""
    outputs = layers[-1].conv.kernel[...].shape[-1]
    return identity(x, layers[0].conv.stride, outputs - x.shape[-1])


@partial(jax.jit, static_argnums=0)
def end(graph: Any, state: dict[str, Any], x: Array) -> Array:
    """From the output of the last block to the logits (N, classes)."""
    logits: Array = nnx.merge(graph, state).end(x, Recorder(), train=False)
    return logits
