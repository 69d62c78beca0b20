"""A walk through the blocks is the network; what replaces a block or a layer is nothing."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study.inspection import walk
from resnet_study.inspection.inspected import Inspected, logits_of
from resnet_study.models.normalization import BATCH_NORM_EPSILON
from resnet_study.phenomena.initialization.chain import Chain, take_apart
from tests.inspected import CPU, data_of, network_of, spec_of

DEEPER = {"depth": 14}
SPECS: list[dict[str, Any]] = [
    DEEPER,
    {**DEEPER, "residual": False},
    {**DEEPER, "block_order": "full-preactivation"},
    {**DEEPER, "shortcut": "B", "block_order": "norm-after-addition"},
    {"depth": 11, "block": "bottleneck", "shortcut": "B", "block_order": "full-preactivation"},
]


def chain_of(network: Inspected) -> Chain:
    return walk.placed(take_apart(network.module(), network.model), CPU)


@pytest.mark.parametrize("model", SPECS, ids=str)
def test_a_walk_through_whole_blocks_is_the_network(model: dict[str, Any]) -> None:
    spec = spec_of(**model)
    network, dataset = network_of(spec), data_of(spec)
    chain, images = chain_of(network), dataset.test.images[:9]
    x = walk.begin(*chain.ends, jnp.asarray(images), jnp.asarray(dataset.mean), "xla")
    for block in chain.blocks:
        x = walk.through(*block, x, "xla")
    expected = logits_of(network, CPU, images, dataset.mean)
    assert np.allclose(walk.end(*chain.ends, x), expected, rtol=1e-4, atol=1e-4)


def signal(channels: int, side: int = 8) -> Any:
    values = np.random.default_rng(0).uniform(0, 1, (2, side, side, channels))
    return jnp.asarray(values, jnp.float32)


def test_a_residual_block_without_its_layers_is_its_shortcut() -> None:
    chain = chain_of(network_of(spec_of(**DEEPER)))
    x = signal(4)
    assert np.array_equal(walk.through(*chain.blocks[1], x, "xla", "block"), x)
    # The third block halves the map and doubles the channels.
    wider = np.asarray(walk.through(*chain.blocks[2], x, "xla", "block"))
    expected = np.zeros((2, 4, 4, 8), np.float32)
    expected[..., 2:6] = np.asarray(x)[:, ::2, ::2]
    assert np.array_equal(wider, expected)


def test_nothing_is_in_the_place_of_a_plain_layer() -> None:
    chain = chain_of(network_of(spec_of(**DEEPER, residual=False)))
    x = signal(4)
    assert np.array_equal(walk.through(*chain.blocks[1], x, "xla", "block"), x)
    without_both = walk.through(*chain.blocks[2], x, "xla", "block")
    assert without_both.shape == (2, 4, 4, 8)
    assert np.array_equal(without_both[..., 2:6], x[:, ::2, ::2])


def test_where_a_plain_bottleneck_narrows_the_middle_channels_stay() -> None:
    """And where the whole block goes, nothing is narrowed in between."""
    model = {"depth": 20, "block": "bottleneck", "residual": False}
    chain = chain_of(network_of(spec_of(**model)))
    x = signal(16)
    assert np.array_equal(walk.through(*chain.blocks[1], x, "xla", "block"), x)
    without = {part: walk.through(*chain.blocks[1], x, "xla", part) for part in walk.LAYERS}
    assert {y.shape for y in without.values()} == {x.shape}
    # Of 16 channels 6 to 9 go on.
    outer = x.at[..., :6].add(1).at[..., 10:].add(1)
    assert np.array_equal(walk.through(*chain.blocks[1], outer, "xla", "first"), without["first"])
    inner = walk.through(*chain.blocks[1], x.at[..., 6:10].add(1), "xla", "first")
    assert not np.allclose(inner, without["first"], atol=1e-3)
    # The third puts out 16 of 4 channels: without it zeros are around them.
    assert not without["third"][..., :6].any()
    assert not without["third"][..., 10:].any()


@pytest.mark.parametrize(("lesion", "layer"), [("first", "layer1"), ("second", "layer2")])
def test_to_delete_a_plain_layer_that_does_nothing_changes_nothing(lesion: Any, layer: str) -> None:
    chain = chain_of(network_of(spec_of(**DEEPER, residual=False)))
    block = chain.blocks[1]
    state = {**block.state, layer: {name: dict(v) for name, v in block.state[layer].items()}}
    delta = np.zeros((3, 3, 4, 4), np.float32)
    delta[1, 1] = np.eye(4)
    one, zero = jnp.ones(4), jnp.zeros(4)
    state[layer]["conv"]["kernel"] = jnp.asarray(delta)
    scale = one * np.sqrt(1 + BATCH_NORM_EPSILON)
    state[layer]["norm"] = {"scale": scale, "bias": zero, "mean": zero, "variance": one}
    block, x = block._replace(state=state), signal(4)
    whole, cut = (walk.through(*block, x, "xla", what) for what in ("", lesion))
    assert np.allclose(whole, cut, rtol=1e-5, atol=1e-6)
    other = "second" if lesion == "first" else "first"
    assert not np.allclose(whole, walk.through(*block, x, "xla", other), atol=1e-2)  # type: ignore
