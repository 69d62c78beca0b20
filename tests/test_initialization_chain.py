"""The network as a chain of parts: its signal against NumPy, and numbers of any size."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.models import Network, Recorder
from resnet_study.phenomena.initialization.chain import (
    Chain,
    Part,
    backpropagate,
    is_homogeneous,
    make_chain,
    propagate,
)
from resnet_study.phenomena.initialization.measuring import first_batch

DIGITS = DATASETS["digits"]
KEY = jax.random.key(0)


def images(number: int = 8) -> jax.Array:
    return first_batch(0).images[:number]


def labels(number: int = 8) -> jax.Array:
    return first_batch(0).labels[:number]


def times(chain: Chain, factor: float) -> Chain:
    """The chain with every parameter multiplied by a factor."""

    def part(part: Part) -> Part:
        return Part(part.graph, jax.tree.map(lambda leaf: leaf * factor, part.state))

    return chain._replace(ends=part(chain.ends), blocks=tuple(part(b) for b in chain.blocks))


@pytest.mark.parametrize(
    "switches",
    [{}, {"block_order": "full-preactivation"}, {"normalization": "none"}],
    ids=["original", "pre-activated", "rescaled"],
)
def test_moments_equal_numpy_on_the_arrays_of_the_network(switches: dict) -> None:
    # At depth 8 every block is the first of its stage.
    model = ModelSpec(depth=14 if switches.get("block_order") else 8, **switches)
    network, chain = Network(model, DIGITS, KEY), make_chain(model, DIGITS, KEY)
    found = propagate(chain, images())
    x = network.begin(images(), Recorder(), train=True)
    outputs, branches, skips = [x], [], []
    for block in network.blocks:
        branch, skip = block.branch(x, Recorder(), train=True), block.skip(x, train=True)
        assert skip is not None
        x = block.join(branch, skip, Recorder(), train=True)
        outputs.append(x)
        branches.append(branch)
        skips.append(skip)

    def variances(arrays: list[jax.Array]) -> list[float]:
        return [np.asarray(a, np.float64).var(axis=(0, 1, 2)).mean() for a in arrays]

    squares = [np.square(np.asarray(a, np.float64).mean(axis=(0, 1, 2))).mean() for a in outputs]
    np.testing.assert_allclose(found.mean_squares, squares, rtol=1e-4)
    np.testing.assert_allclose(found.variances, variances(outputs), rtol=1e-4)
    np.testing.assert_allclose(found.branches, variances(branches), rtol=1e-4)
    np.testing.assert_allclose(found.skips, variances(skips), rtol=1e-4)
    for kept, exponent, x in zip(found.inputs, found.exponents, outputs, strict=True):
        np.testing.assert_allclose(np.ldexp(kept, exponent), x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalization", ["none", "batch"])
@pytest.mark.parametrize("activation", ["relu", "linear", "tanh", "sigmoid"])
def test_which_networks_are_positively_homogeneous(normalization: str, activation: str) -> None:
    model = ModelSpec(depth=8, width=4, normalization=normalization, activation=activation)  # type: ignore[arg-type]
    network = Network(model, DIGITS, KEY)
    once, thrice = (network(scale * images(), train=True)[0] for scale in (1.0, 3.0))
    assert np.allclose(3 * once, thrice, rtol=1e-3, atol=1e-4) == is_homogeneous(model)


@pytest.mark.parametrize(
    "switches",
    [
        {"subsampling": "max"},
        {"block": "bottleneck", "depth": 11},
        *(
            pytest.param(switches, marks=pytest.mark.slow)
            for switches in (
                {"pooling": "max"},
                {"shortcut_scaling": "constant"},
                {"shortcut_scaling": "exclusive-gating", "gate_bias": 0.0},
                {
                    "shortcut_scaling": "shortcut-only-gating",
                    "normalization": "none",
                    "gate_bias": 0.0,
                },
                {"shortcut_scaling": "dropout"},
            )
        ),
    ],
    ids=str,
)
def test_the_chain_rule_gives_the_gradient_of_the_whole_network(switches: dict) -> None:
    """At every layer, as the taps have it, and at the images but for a power of two. Of dropout
    there is the expectation."""
    model = ModelSpec(**{"depth": 8, "width": 4, **switches})
    network, chain = Network(model, DIGITS, KEY), make_chain(model, DIGITS, KEY)
    wanted = labels()
    found = backpropagate(chain, propagate(chain, images()), wanted)
    graph, variables = nnx.split(network)
    state = nnx.to_pure_dict(variables)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def differentiated(x: jax.Array, taps: jax.Array) -> jax.Array:
        logits, _ = nnx.merge(graph, state)(x, taps, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, wanted).mean()

    at_images, taps = differentiated(images(), jnp.zeros((model.depth, 2)))
    np.testing.assert_allclose(found.layers, taps[:-1, 0], rtol=1e-4)
    directions = [x / np.linalg.norm(x) for x in (found.images, at_images)]
    np.testing.assert_allclose(directions[0], directions[1], atol=1e-5)


def test_rescaling_the_signal_changes_nothing_that_is_reported() -> None:
    model = ModelSpec(depth=8, normalization="none", initialization="lecun")
    chain = make_chain(model, DIGITS, KEY)
    assert chain.homogeneous
    plainly = chain._replace(homogeneous=False)
    signal, other = propagate(chain, images()), propagate(plainly, images())
    assert signal.exponents.any()
    assert not other.exponents.any()
    for a, b in ((signal.variances, other.variances), (signal.skips, other.skips)):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    gradients = [backpropagate(c, s, labels()) for c, s in ((chain, signal), (plainly, other))]
    np.testing.assert_allclose(gradients[0].layers, gradients[1].layers, rtol=1e-4)
    np.testing.assert_allclose(gradients[0].blocks, gradients[1].blocks, rtol=1e-4)


def test_nothing_underflows_far_below_what_float32_holds() -> None:
    """Weights times 2^-20 instead of 2^-10: with logits of 0 in both, the gradient at layer l
    falls by 2^-10 for each of the depth - l weights behind it, exactly."""
    depth = 14
    model = ModelSpec(depth=depth, residual=False, normalization="none")
    chain = make_chain(model, DIGITS, KEY)
    small, smaller = (times(chain, 2.0**power) for power in (-10, -20))
    signals = [propagate(c, images()) for c in (small, smaller)]
    norms = [
        backpropagate(c, s, labels()).layers for c, s in zip((small, smaller), signals, strict=True)
    ]
    assert norms[1][0] < 1e-70
    assert np.isnan(signals[1].skips).all()
    behind = depth - np.arange(1, depth)
    np.testing.assert_allclose(norms[1] / norms[0], np.ldexp(1.0, -10 * behind), rtol=1e-6)
    # The variance of a block's output has gone through the weights of 1 + 2b layers.
    through = 1 + 2 * np.arange(len(chain.blocks) + 1)
    falls = signals[1].variances / signals[0].variances
    np.testing.assert_allclose(falls, np.ldexp(1.0, -20 * through), rtol=1e-6)


def test_equal_blocks_share_one_program() -> None:
    chain = make_chain(ModelSpec(depth=20), DIGITS, KEY)
    graphs = [hash(block.graph) for block in chain.blocks]
    assert len(set(graphs[:3])) == len(set(graphs[4:6])) == len(set(graphs[7:])) == 1
    deeper = make_chain(ModelSpec(depth=26), DIGITS, KEY)
    assert {block.graph for block in deeper.blocks} == {block.graph for block in chain.blocks}
    assert deeper.ends.graph == chain.ends.graph
