"""Gradients block by block, against whole networks, finite differences and closed forms."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.models import Network, Recorder
from resnet_study.phenomena.initialization.arms import GRADIENTS, InitializationArm, SeededArm
from resnet_study.phenomena.initialization.chain import Part, backpropagate, make_chain, propagate
from resnet_study.phenomena.initialization.measuring import first_batch, measure_arm
from resnet_study.spec import RunSpec
from resnet_study.tensors import arithmetic
from resnet_study.training.programs import keys_of
from resnet_study.training.step import Batch, initial_state, make_train_step

DIGITS = DATASETS["digits"]
KEY = jax.random.key(0)


def images(number: int = 8) -> jax.Array:
    return first_batch(0).images[:number]


def labels(number: int = 8) -> jax.Array:
    return first_batch(0).labels[:number]


def test_norms_are_those_that_training_records_before_its_first_step() -> None:
    """The same seed, differentiated as a whole by the training step, in float64."""
    seed = 3
    model = ModelSpec(depth=8, block_order="full-preactivation")
    spec = RunSpec(model=replace(model, precision="float64"), seed=seed)
    keys = keys_of(seed)
    with arithmetic("float64"):
        batch = first_batch(seed)
        state = initial_state(spec, DIGITS, keys.initialization)
        whole = Batch(
            # Images that normalise to those of the batch.
            images=(batch.images + 1) * 255,
            labels=batch.labels,
            pixel_mean=jnp.ones(()),
            learning_rate=jnp.asarray(0.1, float),
            augmentation_key=keys.augmentation,
            dropout_key=keys.dropout,
        )
        _, metrics = jax.jit(make_train_step(spec, DIGITS))(state, whole)
    found = measure_arm(SeededArm(InitializationArm(model, GRADIENTS), (seed,)))
    norms = found[found["quantity"] == "activation_gradient_norm"]["value"]
    expected = metrics.layers["activation_gradient_norm"][:-1]
    np.testing.assert_allclose(norms, expected, rtol=1e-10)


@pytest.mark.parametrize(
    "switches",
    [
        {"residual": False, "activation": "tanh"},
        {"block_order": "full-preactivation"},
        {"normalization": "none", "initialization": "uniform"},
    ],
    ids=["plain", "pre-activated", "rescaled"],
)
@pytest.mark.parametrize("index", [0, 2])
def test_block_gradients_equal_finite_differences_in_float64(switches: dict, index: int) -> None:
    model = ModelSpec(depth=8, width=2, **switches)
    few, wanted = images(2), labels(2)
    chain = make_chain(model, DIGITS, KEY)
    gradient = backpropagate(chain, propagate(chain, few), wanted)
    graph, variables = nnx.split(Network(model, DIGITS, KEY))
    state = nnx.to_pure_dict(variables)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), state)

        def begin(x: jax.Array) -> jax.Array:
            network = nnx.merge(graph, exact)
            x = network.begin(x, Recorder(), train=True)
            for block in list(network.blocks)[:index]:
                x = block(x, Recorder(), train=True)
            return x

        def loss(x: jax.Array) -> jax.Array:
            network = nnx.merge(graph, exact)
            for block in list(network.blocks)[index:]:
                x = block(x, Recorder(), train=True)
            chances = jax.nn.log_softmax(network.end(x, Recorder(), train=True))
            return -chances[jnp.arange(2), wanted].mean()

        start = jax.jit(begin)(jnp.asarray(few, jnp.float64))
        steps = 1e-6 * jnp.eye(start.size).reshape(-1, *start.shape)
        both = jax.jit(lambda s: [jax.vmap(loss)(start[None] + sign * s) for sign in (1, -1)])
        up, down = both(steps)
        slopes = np.asarray(up - down) / 2e-6
    assert start.dtype == slopes.dtype == np.float64
    assert gradient.blocks[index] == pytest.approx(np.linalg.norm(slopes), rel=1e-3)


def test_without_branches_a_preactivated_block_keeps_the_gradient_exactly() -> None:
    """He et al. 2016 (arXiv 1603.05027), equation 5: the shortcut alone hands the gradient on."""
    chain = make_chain(ModelSpec(depth=14, block_order="full-preactivation"), DIGITS, KEY)
    silent = []
    for graph, state in chain.blocks:
        conv = {"conv": jax.tree.map(jnp.zeros_like, state["layer2"]["conv"])}
        silent.append(Part(graph, {**state, "layer2": {**state["layer2"], **conv}}))
    chain = chain._replace(blocks=tuple(silent))
    norms = backpropagate(chain, propagate(chain, images()), labels()).blocks
    within = np.ones(6, bool)
    # Blocks 3 and 5 subsample.
    within[[2, 4]] = False
    ratios = norms[:-1] / norms[1:]
    np.testing.assert_array_equal(ratios[within], 1)
    # A subsampling shortcut drops channels, and with them their gradient, if they have any.
    assert (ratios[~within] <= 1 + 1e-6).all()
    assert norms[-1] > 0


def padding_profile(profile: np.ndarray, stride: int) -> np.ndarray:
    """Mean squared gradient per pixel in front of a 3x3 convolution with weights of variance
    1/(9 · inputs), zero padding and equal squared gradient in all channels behind it.

    Args:
        profile: behind it, (M, M), times the number of channels.
        stride: 1 or 2.

    Returns:
        (M · stride, M · stride), times the number of channels.
    """
    side = len(profile) * stride
    spread = np.zeros((side + 2, side + 2))
    for (row, column), value in np.ndenumerate(profile):
        top, left = row * stride, column * stride
        spread[top : top + 3, left : left + 3] += value / 9
    return spread[1:-1, 1:-1]


@pytest.mark.parametrize(
    ("initialization", "gain"), [("uniform", 3**-0.5), ("lecun", 1.0)], ids=["uniform", "lecun"]
)
def test_gradient_of_a_linear_network_falls_as_theory_says(
    initialization: str, gain: float
) -> None:
    """Glorot & Bengio 2010, section 4.2.1: per layer by the root of fan_in times the variance of
    the weights, 1/√3 for the uniform initialisation, times what the padding swallows."""
    depth = 14
    model = ModelSpec(
        depth=depth,
        residual=False,
        width=64,
        normalization="none",
        activation="linear",
        initialization=initialization,  # type: ignore[arg-type]
    )
    # Behind the last block the gradient is that of the mean over pixels.
    profile, swallowed = np.full((2, 2), 0.25), [1.0]
    for layer in range(depth - 1, 1, -1):
        # Layers 2 + 2n and 2 + 4n have stride 2.
        profile = padding_profile(profile, 2 if layer in (6, 10) else 1)
        swallowed.append(profile.sum())
    rates = []
    for seed in range(3):
        chain = make_chain(model, DIGITS, jax.random.key(seed))
        norms = backpropagate(chain, propagate(chain, images()), labels()).layers
        kept = norms[0] / norms[-1] / np.sqrt(swallowed[-1])
        rates.append(kept ** (1 / (depth - 2)))
    # Squared norms of 64 channels scatter by about √(2/64) per layer, twelve layers, one root.
    error = 0.5 * np.sqrt(2 / 64) / np.sqrt(depth - 2) / np.sqrt(len(rates))
    assert abs(np.mean(rates) / gain - 1) < 3 * error
    assert 3 * error < 0.05
