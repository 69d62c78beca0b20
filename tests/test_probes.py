"""Probes against direct computations of the same quantities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.kernels import Kernels
from resnet_study.models import Network, layers_of
from resnet_study.probes import geometric_steps, recorded_steps
from resnet_study.tensors import (
    angular_step,
    by_layer,
    inactive_fraction,
    norm,
    norms,
    response_moments,
    tangent_cosine,
    tap,
)
from tests.drawn import normal


def test_tap_is_the_identity_and_reports_the_gradient_norm() -> None:
    x = normal(0, (3, 5))
    weights = normal(1, (3, 5))

    def loss(x: jax.Array, probe: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(tap(x, probe)) * weights)

    assert (tap(x, jnp.float32(0)) == x).all()
    gradient, tapped = jax.grad(loss, argnums=(0, 1))(x, jnp.float32(0))
    np.testing.assert_array_equal(gradient, jnp.cos(x) * weights)
    np.testing.assert_allclose(tapped, jnp.linalg.norm(gradient), rtol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std"), [(1e3, 1.0), (1e4, 1.0), (0.0, 1e20), (0.0, 1e-24), (1e-30, 1e-30)]
)
def test_moments_of_what_no_square_of_float32_holds(mean: float, std: float) -> None:
    """Without normalisation signals grow or shrink by a factor per layer."""
    x = (mean + std * np.random.default_rng(0).normal(size=(64, 8, 8, 16))).astype(np.float32)
    expected = x.astype(np.float64)
    found = response_moments(jnp.asarray(x))
    np.testing.assert_allclose(found[1], expected.std(), rtol=1e-3)
    np.testing.assert_allclose(found[0], expected.mean(), rtol=1e-3, atol=1e-3 * std)


def test_moments_and_inactive_fraction_against_numpy() -> None:
    x = np.random.default_rng(0).normal(2, 3, size=(8, 4, 4, 16)).astype(np.float32)
    mean, std = response_moments(jnp.asarray(x))
    np.testing.assert_allclose([mean, std], [x.mean(dtype=float), x.std(dtype=float)], rtol=1e-5)
    assert float(inactive_fraction(jax.nn.relu(x))) == pytest.approx((x <= 0).mean())
    constant_mean, constant_std = response_moments(jnp.full((4, 4), 7.0))
    assert float(constant_mean) == 7
    assert float(constant_std) == 0


def test_norms_against_numpy() -> None:
    tensors = [jnp.arange(4.0), jnp.ones((2, 3)), jnp.zeros(5)]
    expected = [np.sqrt(14), np.sqrt(6), 0]
    np.testing.assert_allclose(norms(tensors), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_norms_hold_where_squares_leave_float32(scale: float) -> None:
    x = jnp.array([3.0, -4.0]) * scale
    assert float(norm(x)) == pytest.approx(5 * scale)
    tapped = jax.grad(lambda probe: jnp.vdot(tap(jnp.ones(2), probe), x))(jnp.float32(0))
    assert float(tapped) == pytest.approx(5 * scale)


def test_norm_of_nothing_and_of_what_is_not_finite() -> None:
    assert float(norm(jnp.zeros(3))) == 0
    assert not np.isfinite(norm(jnp.array([1.0, np.inf])))
    assert not np.isfinite(norm(jnp.array([1.0, np.nan])))


@pytest.mark.parametrize(
    "fields", [{"residual": False}, {}, {"depth": 11, "block": "bottleneck"}], ids=str
)
def test_every_layer_reports_the_gradient_that_a_perturbation_of_it_has(fields: dict) -> None:
    """Adding a zero array to a layer's output has that output's gradient as its own."""
    spec, shape = ModelSpec(**{"depth": 8, **fields}), DATASETS["synthetic"]
    model = Network(spec, shape, jax.random.key(0))
    images = normal(1, (4, 8, 8, 3))
    graph, variables = nnx.split(model)
    state = nnx.to_pure_dict(variables)
    weights = normal(2, (4, shape.classes))

    def loss(taps: jax.Array, perturbed: int | None, perturbation: jax.Array | None) -> jax.Array:
        merged = nnx.merge(graph, state)
        if perturbed is not None:
            layers = [merged.stem, *(layer for block in merged.blocks for layer in block.layers)]
            convolution = layers[perturbed].conv
            original = type(convolution).__call__

            class Perturbed(type(convolution)):  # type: ignore[misc]
                def __call__(self, x: jax.Array, kernels: Kernels = "xla") -> jax.Array:
                    return original(self, x, kernels) + perturbation

            object.__setattr__(convolution, "__class__", Perturbed)
        return jnp.sum(merged(images, taps, train=True)[0] * weights)

    zeros = jnp.zeros((spec.depth, 2))
    tapped = jax.grad(loss)(zeros, None, None)
    each = spec.layers_per_block
    widths = {2: [16] * 2 + [32] * 2 + [64] * 2, 3: [16, 16, 64, 32, 32, 128, 64, 64, 256]}[each]
    widths, sizes = [16, *widths], [8, *[8] * each, *[4] * each, *[2] * each]
    for index, (width, size) in enumerate(zip(widths, sizes, strict=True)):
        perturbation = jnp.zeros((4, size, size, width))
        gradient = jax.grad(loss, argnums=2)(zeros, index, perturbation)
        np.testing.assert_allclose(tapped[index, 0], jnp.linalg.norm(gradient), rtol=1e-4)
    np.testing.assert_allclose(tapped[-1, 0], jnp.linalg.norm(weights), rtol=1e-5)


def test_responses_follow_scale_and_shift_of_the_normalisation() -> None:
    """After BN a channel has mean β and variance γ² var/(var + ε), whatever came before."""
    spec = ModelSpec(depth=8)
    model = Network(spec, DATASETS["synthetic"], jax.random.key(0))
    model.blocks[1].layer1.norm.scale[...] = jnp.full(32, 3.0)
    model.blocks[1].layer1.norm.bias[...] = jnp.full(32, -2.0)
    images = normal(1, (16, 8, 8, 3))
    _, responses = model(images, jnp.zeros((8, 2)), train=True)
    assert responses.mean.shape == responses.std.shape == responses.inactive.shape == (8,)
    index = [layer.name for layer in layers_of(spec)].index("stage2.block1.conv1")
    np.testing.assert_allclose(responses.mean[index], -2, atol=1e-4)
    np.testing.assert_allclose(responses.std[index], 3, rtol=1e-3)
    np.testing.assert_allclose(responses.std[0], 1, rtol=1e-3)
    # P(N(-2, 3²) < 0) = 0.747, and about a half where γ = 1 and β = 0.
    assert responses.inactive[index] == pytest.approx(0.747, abs=0.03)
    assert responses.inactive[0] == pytest.approx(0.5, abs=0.1)
    assert np.isnan(responses.inactive[-1])


def test_without_taps_nothing_is_computed() -> None:
    model = Network(ModelSpec(depth=8), DATASETS["synthetic"], jax.random.key(0))
    assert model(jnp.zeros((2, 8, 8, 3)), train=True)[1] is None


def test_geometric_steps() -> None:
    assert geometric_steps(0) == [0]
    assert geometric_steps(40) == [0, 1, 2, 3, 5, 8, 10, 13, 21, 30, 34]
    assert {10, 30, 100, 300, 1000, 3000, 10_000} <= set(geometric_steps(10_000))


@given(st.floats(-14, 0), st.floats(-3, 3), st.integers(0, 1000))
def test_angular_step_agrees_with_float64_where_it_is_tiny(
    size: float, shrinking: float, seed: int
) -> None:
    """A turn by an angle, beside a change of length that is up to 1,000 times as large."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=50).astype(np.float32)
    across = random.normal(size=50)
    exact = weights.astype(float)
    across -= across @ exact / (exact @ exact) * exact
    across *= 10**size * np.linalg.norm(exact) / np.linalg.norm(across)
    update = across + min(10 ** (size + shrinking), 0.5) * -exact
    expected = np.arctan2(
        np.linalg.norm(across), np.linalg.norm(exact) + update @ exact / np.linalg.norm(exact)
    )
    found = angular_step(jnp.asarray(weights), jnp.asarray(update, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_weight_decay_alone_turns_nothing_and_the_cosine_does_not_see_it() -> None:
    weights, gradient, velocity = (normal(number, (3, 3, 4)) for number in range(3))
    assert angular_step(weights, -1e-3 * weights) < 1e-9
    cosine = tangent_cosine(gradient, velocity, weights)
    np.testing.assert_allclose(
        tangent_cosine(gradient + 5 * weights, velocity - 7 * weights, weights), cosine, atol=1e-5
    )
    np.testing.assert_allclose(tangent_cosine(gradient, gradient, weights), 1, rtol=1e-6)
    assert np.isnan(tangent_cosine(gradient, jnp.zeros_like(weights), weights))


def test_by_layer_keeps_the_forward_order_of_mixed_shapes() -> None:
    shapes = [(2, 3), (4,), (2, 3), (5,), (4,)]
    tensors = [jnp.full(shape, float(index)) for index, shape in enumerate(shapes)]
    found = by_layer(lambda x: {"mean": jnp.mean(x)}, tensors)
    np.testing.assert_array_equal(found["mean"], np.arange(5))


@given(st.integers(1, 5000), st.integers(0, 1000))
def test_recorded_steps_hold_start_end_and_cadence(iterations: int, every: int) -> None:
    steps = recorded_steps(iterations, every)
    if every == 0:
        assert steps == []
        return
    assert steps == sorted(set(steps))
    assert {0, 1, iterations} <= set(steps)
    assert set(range(0, iterations, every)) <= set(steps)
    assert max(steps) == iterations
