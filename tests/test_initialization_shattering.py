"""Autocorrelation of gradients along a line, against closed forms and the whole network."""

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
from resnet_study.models import Network
from resnet_study.phenomena.initialization.chain import make_chain
from resnet_study.phenomena.initialization.measuring import first_batch
from resnet_study.phenomena.initialization.shattering import autocorrelation, line_autocorrelation

DIGITS = DATASETS["digits"]
KEY = jax.random.key(0)


def test_a_constant_gradient_has_one_at_every_lag() -> None:
    gradients = np.tile([1e-60, -2e-60], (50, 1))
    np.testing.assert_allclose(autocorrelation(gradients, 49), 1, rtol=1e-12)


def test_white_noise_has_one_and_then_nothing() -> None:
    points, dimensions, lags = 400, 16, 40
    found = autocorrelation(np.random.default_rng(0).normal(size=(points, dimensions)), lags)
    assert found[0] == 1
    # A mean of products of independent standard normal values has the variance 1/number.
    pairs = (points - np.arange(1, lags + 1)) * dimensions
    assert (np.abs(found[1:]) < 4.5 / np.sqrt(pairs)).all()
    assert np.std(found[1:] * np.sqrt(pairs)) == pytest.approx(1, abs=0.4)


def test_a_random_walk_falls_as_its_covariance_does() -> None:
    """E⟨g_i, g_j⟩ = min(i, j) for a walk of unit steps."""
    points, lags = 64, 32
    walks = np.random.default_rng(1).normal(size=(points, 20_000)).cumsum(axis=0)
    found = autocorrelation(walks, lags)
    position = np.arange(1, points + 1)
    covariance = np.minimum(position[:, None], position[None])
    expected = [np.mean(np.diag(covariance, lag)) for lag in range(lags + 1)]
    np.testing.assert_allclose(found, np.array(expected) / expected[0], atol=0.02)


def test_a_turning_gradient_has_the_cosine_of_its_angle() -> None:
    angle = 0.3 * np.arange(100)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(autocorrelation(circle, 20), np.cos(angle[:21]), atol=1e-12)


@given(st.integers(2, 20), st.integers(1, 4), st.integers(0, 2**32 - 1), st.floats(-80, 80))
def test_it_is_its_definition_whatever_the_scale(
    points: int, dimensions: int, seed: int, power: float
) -> None:
    gradients = np.random.default_rng(seed).normal(size=(points, dimensions))
    expected = []
    for lag in range(points):
        terms = [gradients[i] @ gradients[i + lag] for i in range(points - lag)]
        expected.append(sum(terms) / len(terms))
    found = autocorrelation(10.0**power * gradients, points - 1)
    np.testing.assert_allclose(found, np.array(expected) / expected[0], atol=1e-9)


def test_a_gradient_of_zero_has_no_autocorrelation() -> None:
    assert np.isnan(autocorrelation(np.zeros((5, 2)), 3)).all()


def ends() -> tuple[jax.Array, jax.Array]:
    images = first_batch(0).images
    return images[0], images[1]


def test_a_linear_network_has_the_same_gradient_everywhere() -> None:
    model = ModelSpec(depth=8, normalization="none", activation="linear")
    found = line_autocorrelation(make_chain(model, DIGITS, KEY), *ends(), points=16, lags=15)
    np.testing.assert_allclose(found, 1, rtol=1e-4)


@pytest.mark.parametrize(
    "switches",
    [{"residual": False}, {"normalization": "none"}],
    ids=["plain", "unnormalised"],
)
def test_it_is_that_of_the_gradient_of_the_whole_network(switches: dict) -> None:
    model, (start, end) = ModelSpec(depth=8, **switches), ends()
    points, lags = 16, 8
    found = line_autocorrelation(make_chain(model, DIGITS, KEY), start, end, points, lags)
    images = jnp.stack([start + t * (end - start) for t in np.linspace(0, 1, points)])

    graph, variables = nnx.split(Network(model, DIGITS, KEY))
    state = nnx.to_pure_dict(variables)

    def first_logits(images: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(images, train=True)[0][:, 0].sum()

    gradients = np.asarray(jax.jit(jax.grad(first_logits))(images), np.float64)
    gradients = gradients.reshape(points, -1)
    np.testing.assert_allclose(found, autocorrelation(gradients, lags), atol=2e-3)
    assert found[1] < 0.999
