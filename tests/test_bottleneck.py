"""Networks of bottleneck blocks: what they are made of, and where they differ from basic ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_study.architecture import ModelSpec, check_model
from resnet_study.datasets import DATASETS
from resnet_study.errors import UserError
from resnet_study.launch.estimate import cost
from resnet_study.models import Network, Recorder, layers_of, parameter_count, weights_of
from resnet_study.models.blocks import Block
from resnet_study.phenomena.gradients import theory
from resnet_study.spec import RunSpec, from_flat
from tests.drawn import normal

FULL = "full-preactivation"


def model_of(**fields: Any) -> ModelSpec:
    return ModelSpec(**{"depth": 11, "block": "bottleneck", **fields})


def block_of(model: ModelSpec, outputs: int = 16, stride: int = 2) -> Block:
    """A block of 8 channels in, not the first of its network."""
    return Block(model, 8, outputs, stride, jax.random.key(0), False)


def parameters_of(model: ModelSpec) -> dict:
    abstract = nnx.eval_shape(lambda: Network(model, DATASETS["cifar10"], jax.random.key(0)))
    return nnx.to_pure_dict(nnx.state(abstract, nnx.Param))


def test_depth_is_9n_plus_2_and_others_are_refused_with_the_nearest() -> None:
    for depth in (11, 20, 29, 56, 110, 164, 1001):
        check_model(model_of(depth=depth))
    for depth, nearest in ((8, 11), (14, 11), (18, 20), (32, 29), (1202, 1199)):
        words = rf"model.depth={depth}: depth is 9n\+2 .*block=bottleneck.* nearest is {nearest}$"
        with pytest.raises(UserError, match=words):
            check_model(model_of(depth=depth))
    check_model(model_of(depth=1199))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_parameters_are_those_counted_by_hand(n: int) -> None:
    """16-16-64 to 64-64-256 channels; of 17 v² weights per block of v filters, 4 v² of the first
    layer are fewer where a stage begins."""
    widths, entering = (16, 32, 64), (16, 64, 128)
    convolutions = 27 * 16 + sum(17 * v * v * n + (c - 4 * v) * v for v, c in zip(widths, entering))  # noqa: B905
    normalisations = 2 * 16 + n * sum(2 * 6 * v for v in widths)
    head = 256 * 10 + 10
    depth = 9 * n + 2
    count = {
        arm: parameter_count(parameters_of(model_of(depth=depth, **fields)))
        for arm, fields in {
            "plain": {"residual": False},
            "A": {},
            "B": {"shortcut": "B"},
            "pre-activated A": {"block_order": FULL},
            "pre-activated B": {"block_order": FULL, "shortcut": "B"},
        }.items()
    }
    assert count["A"] == count["plain"] == convolutions + normalisations + head
    projections = sum(4 * v * c for v, c in zip(widths, entering))  # noqa: B905
    assert count["B"] == count["A"] + projections + sum(2 * 4 * v for v in widths)
    # Normalised is what enters a layer, in the first block by the stem, and the last output.
    before = sum(n * (4 * v + v + v) - 4 * v + c for v, c in zip(widths, entering))  # noqa: B905
    normalisations = 2 * (before + 256)
    assert count["pre-activated A"] == convolutions + normalisations + head
    assert count["pre-activated B"] == count["pre-activated A"] + projections


def test_every_convolution_is_a_layer() -> None:
    model = model_of(depth=20)
    layers, weights = layers_of(model), weights_of(parameters_of(model))
    assert len(layers) == len(weights) == 20
    assert [layer.name for layer in layers[1:7]] == [
        f"stage1.block{b}.conv{c}" for b in (1, 2) for c in (1, 2, 3)
    ]
    assert [layer.stage for layer in layers] == [0, *[1] * 6, *[2] * 6, *[3] * 6, 4]
    sides = [weight.shape[0] for weight in weights[:-1]]
    assert sides == [3, *[1, 3, 1] * 6]
    outputs = [weight.shape[-1] for weight in weights]
    assert outputs == [16, *[16, 16, 64] * 2, *[32, 32, 128] * 2, *[64, 64, 256] * 2, 10]


def test_basic_blocks_are_the_default_that_run_ids_leave_out() -> None:
    basic = from_flat({"model.block": "basic", "model.dropout_ratio": 0.5})
    assert basic.run_id == RunSpec().run_id
    assert from_flat({"model.block": "bottleneck"}).run_id != RunSpec().run_id


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_plain_block_is_a_residual_one_whose_shortcut_gives_0(block: str) -> None:
    model = ModelSpec(depth=20, block=block, shortcut="C")  # type: ignore[arg-type]
    plain, residual = (block_of(m) for m in (replace(model, residual=False, shortcut="A"), model))
    x = normal(1, (2, 4, 4, 8))
    whole = residual(x, Recorder(), train=True)
    kernel = residual.shortcut.projection.kernel
    kernel[...] = jnp.zeros_like(kernel[...])
    expected = plain(x, Recorder(), train=True)
    assert len(plain.layers) == model.layers_per_block
    assert plain.skip(x, train=True) is None
    np.testing.assert_array_equal(residual(x, Recorder(), train=True), expected)
    assert not np.allclose(whole, expected, atol=1e-2)


def test_fixup_divides_by_the_fourth_root_of_the_number_of_branches() -> None:
    """L^(-1/(2m-2)) for m = 3 layers (Zhang et al. 2019, arXiv 1901.09321); the last is 0."""
    fixup, usual = (
        block_of(model_of(depth=20, normalization="none", branch_scaling=scaling))
        for scaling in ("fixup", "none")
    )
    for one, other in zip(fixup.layers[:2], usual.layers[:2], strict=True):
        np.testing.assert_allclose(
            one.conv.kernel[...], 6**-0.25 * other.conv.kernel[...], rtol=1e-6
        )
    assert not fixup.layers[2].conv.kernel[...].any()
    assert [layer.scale is None for layer in fixup.layers] == [True, True, False]


@pytest.mark.parametrize("order", ["activation-only-preactivation", FULL])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_projection_shares_the_pre_activation_of_its_block(order: str, shortcut: str) -> None:
    """He et al. 2016, appendix; an identity has none, nor has the projection of a basic block."""
    model = model_of(block_order=order, shortcut=shortcut)
    made = block_of(model)
    x = normal(1, (4, 4, 4, 8)) + 0.3
    # Of what is below zero, or of scale and mean of everything, f(x) or f(N(x)) sees nothing.
    unseen = 5 * x + 3 if order == FULL else jnp.where(x < 0, 2 * x, x)
    skips = [made.skip(v, train=True) for v in (x, unseen)]
    assert np.allclose(*skips, atol=2e-3) == (shortcut == "B")
    if shortcut == "B" and order == FULL:
        assert made.shortcut.norm is None
        mean, variance = (f(x, axis=(0, 1, 2), keepdims=True) for f in (jnp.mean, jnp.var))
        seen = jax.nn.relu((x - mean) / jnp.sqrt(variance + 1e-5))
        np.testing.assert_allclose(skips[0], made.shortcut.projection(seen), atol=1e-4)
        # Both paths see it, and its running statistics move once.
        made.before.mean[...] = jnp.zeros(8)
        made(x, Recorder(), train=True)
        np.testing.assert_allclose(made.before.mean[...], 0.1 * mean[0, 0, 0], rtol=1e-4)
    basic = block_of(ModelSpec(depth=8, block_order=order, shortcut="B"))
    assert basic.shortcut.norm is not None
    assert not np.allclose(*(basic.skip(v, train=False) for v in (x, unseen)), atol=2e-3)


def test_theory_has_no_factor_for_layers_of_unequal_width() -> None:
    basic = theory.growth_of(ModelSpec(depth=20, residual=False), 128)
    assert basic is not None
    assert basic.factor == theory.BN_RELU_GROWTH
    assert theory.growth_of(model_of(depth=20, residual=False), 128) is None


def test_a_block_costs_about_what_a_basic_one_does() -> None:
    """He et al. 2016, section 4.1: "its computational complexity is similar"."""
    basic, bottleneck = (
        from_flat({"data.name": "cifar10", "model.depth": depth, "model.block": block})
        for depth, block in ((110, "basic"), (164, "bottleneck"))
    )
    assert 0.8 < cost(bottleneck) / cost(basic) < 1.25
