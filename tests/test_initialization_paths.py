"""Gradients along single paths, against products of Jacobians and their sum."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.models import Network, Recorder
from resnet_study.phenomena.initialization.chain import backpropagate, make_chain, propagate
from resnet_study.phenomena.initialization.measuring import first_batch
from resnet_study.phenomena.initialization.paths import (
    path_gradient_norms,
    path_gradients,
    random_paths,
)

DIGITS = DATASETS["digits"]
KEY = jax.random.key(0)
ALL = np.array(list(itertools.product([False, True], repeat=3)))
"""The eight paths through three blocks."""

MODELS = pytest.mark.parametrize(
    "switches",
    [{}, {"block_order": "full-preactivation"}, {"normalization": "none"}],
    ids=["original", "pre-activated", "unnormalised"],
)


def batch_of(switches: dict) -> tuple[ModelSpec, jax.Array, jax.Array]:
    batch = first_batch(0)
    return ModelSpec(depth=8, width=4, **switches), batch.images[:6], batch.labels[:6]


def by_masks(model: ModelSpec, images: jax.Array, labels: jax.Array) -> Callable[..., jax.Array]:
    """Gradient at the input of the first block by differentiating the whole network.

    Returns:
        A function of the weights of branches and shortcuts in the backward pass alone, (3,)
        each.
    """
    graph, variables = nnx.split(Network(model, DIGITS, KEY))
    state = nnx.to_pure_dict(variables)

    def weighted(x: jax.Array, weight: jax.Array) -> jax.Array:
        return weight * x + jax.lax.stop_gradient((1 - weight) * x)

    def loss(x: jax.Array, branches: jax.Array, skips: jax.Array) -> jax.Array:
        network = nnx.merge(graph, state)
        for block, branch, skip in zip(network.blocks, branches, skips, strict=True):
            paths = block.branch(x, Recorder(), train=True), block.skip(x, train=True)
            a, b = (weighted(p, w) for p, w in zip(paths, (branch, skip), strict=True))
            x = block.join(a, b, Recorder(), train=True)
        logits = network.end(x, Recorder(), train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    start = nnx.merge(graph, state).begin(images, Recorder(), train=True)
    gradient = jax.jit(jax.grad(loss))
    return lambda branches, skips: gradient(start, jnp.array(branches), jnp.array(skips))


@MODELS
def test_each_path_is_its_part_of_the_gradient_and_all_paths_are_the_whole(switches: dict) -> None:
    """Veit et al. 2016, section 3: two ways at each of three blocks, eight paths."""
    model, images, labels = batch_of(switches)
    reference = by_masks(model, images, labels)
    chain = make_chain(model, DIGITS, KEY)
    signal = propagate(chain, images)
    gradients, exponents = path_gradients(chain, signal, labels, ALL)
    paths = np.ldexp(np.asarray(gradients, np.float64), exponents[:, None, None, None, None])
    for path, found in zip(ALL, paths, strict=True):
        expected = reference(1.0 * path, 1.0 - path)
        np.testing.assert_allclose(found, expected, atol=1e-4 * float(jnp.abs(expected).max()))

    whole = np.asarray(reference([1.0] * 3, [1.0] * 3), np.float64)
    np.testing.assert_allclose(paths.sum(axis=0), whole, atol=1e-5 * np.abs(whole).max())
    total = backpropagate(chain, signal, labels).blocks[0]
    assert np.linalg.norm(paths.sum(axis=0)) == pytest.approx(total, rel=1e-4)
    # No path is the whole, so the sum says something.
    assert all(not np.allclose(path, whole, rtol=0.1) for path in paths)


def test_the_mean_of_a_length_is_that_of_its_paths() -> None:
    model, images, labels = batch_of({})
    chain = make_chain(model, DIGITS, KEY)
    signal = propagate(chain, images)
    gradients, exponents = path_gradients(chain, signal, labels, ALL)
    norms = np.ldexp(np.linalg.norm(np.asarray(gradients).reshape(8, -1), axis=1), exponents)
    by_path = {tuple(path): value for path, value in zip(ALL, norms, strict=True)}
    found = path_gradient_norms(chain, signal, labels, samples=4, seed=7)
    drawn = [random_paths(3, 7, sample) for sample in range(4)]
    expected = [np.mean([by_path[tuple(paths[k])] for paths in drawn]) for k in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_paths_are_drawn_evenly_and_again_the_same() -> None:
    draws = np.stack([random_paths(6, 1, sample) for sample in range(600)])
    assert (draws.sum(axis=2) == np.arange(7)).all()
    # Every block is on a path of k branches with probability k / 6.
    shares = draws.mean(axis=0)
    spread = np.sqrt(np.arange(7) / 6 * (1 - np.arange(7) / 6) / 600)
    assert (np.abs(shares - np.arange(7)[:, None] / 6) <= 4.5 * spread[:, None]).all()
    np.testing.assert_array_equal(random_paths(6, 1, 5), draws[5])
    assert (random_paths(54, 1, 0) != random_paths(54, 2, 0)).any()
