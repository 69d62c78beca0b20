"""Every arm of the family by the property that defines it."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.models import Network, Recorder
from resnet_study.models.blocks import ACTIVATIONS, Block
from resnet_study.models.shortcuts import Shortcut
from tests.drawn import normal

SHAPE = DATASETS["synthetic"]
ORDERS = (
    "original",
    "norm-after-addition",
    "activation-before-addition",
    "activation-only-preactivation",
    "full-preactivation",
)


def network(**model) -> tuple[Network, jax.Array]:
    images = normal(1, (4, 8, 8, 3))
    depth = 11 if model.get("block") == "bottleneck" else 8
    return Network(ModelSpec(**{"depth": depth, **model}), SHAPE, jax.random.key(0)), images


def block(order: str, first: bool = False) -> tuple[Block, jax.Array]:
    """A block of two 8-channel layers, and an input of mixed signs."""
    made = Block(ModelSpec(block_order=order), 8, 8, 1, jax.random.key(0), first)  # type: ignore[arg-type]
    return made, normal(1, (4, 4, 4, 8))


@pytest.mark.parametrize("order", ORDERS)
def test_what_a_block_without_a_branch_does_to_its_input(order: str) -> None:
    """He et al. 2016, Figure 4: only the last three orders leave the identity path clean."""
    made, x = block(order)
    made.layer2.conv.kernel[...] = jnp.zeros_like(made.layer2.conv.kernel[...])
    y = made(x, Recorder(), train=True)
    mean, variance = (f(x, axis=(0, 1, 2), keepdims=True) for f in (jnp.mean, jnp.var))
    expected = {
        "original": jax.nn.relu(x),
        "norm-after-addition": jax.nn.relu((x - mean) / jnp.sqrt(variance + 1e-5)),
    }.get(order, x)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_activation_before_addition_only_ever_adds() -> None:
    made, x = block("activation-before-addition")
    assert (made(x, Recorder(), train=True) >= x).all()
    for order in ORDERS[3:]:
        made, x = block(order)
        assert (made(x, Recorder(), train=True) < x).any()


@pytest.mark.parametrize("order", ORDERS[3:])
def test_a_preactivated_branch_sees_its_input_through_the_nonlinearity(order: str) -> None:
    """Of a block's input only f(x), or f(N(x)), enters the branch; not in the first block, where
    the stem has done it."""
    made, x = block(order)
    # Whatever is below zero, or the scale and mean of everything.
    unseen = {"activation-only-preactivation": jnp.where(x < 0, 2 * x, x)}
    changed = unseen.get(order, 5 * x + 3)
    branches = [made.branch(v, Recorder(), train=True) for v in (x, changed)]
    np.testing.assert_allclose(branches[1], branches[0], atol=2e-3)
    first, x = block(order, first=True)
    assert first.before is None
    branches = [first.branch(v, Recorder(), train=True) for v in (x, jax.nn.relu(x))]
    assert not np.allclose(branches[1], branches[0], atol=1e-2)


def test_the_orders_differ_and_count_the_same_layers() -> None:
    outputs = []
    for order in ORDERS:
        model, images = network(depth=14, block_order=order)
        taps = jnp.zeros((14, 2))
        logits, responses = model(images, taps, train=True)
        outputs.append(np.asarray(logits))
        assert responses is not None
        for values in (responses.mean, responses.std, responses.inactive):
            assert values.shape == (14,)
        assert np.isfinite(np.asarray(responses.inactive)[:-1]).all()
    for index, one in enumerate(outputs):
        for other in outputs[:index]:
            assert not np.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "linear"])
def test_activations_are_their_functions(activation: str) -> None:
    x = np.linspace(-3, 3, 7)
    expected = {
        "relu": np.maximum(x, 0),
        "tanh": np.tanh(x),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "linear": x,
    }[activation]
    np.testing.assert_allclose(ACTIVATIONS[activation](jnp.asarray(x)), expected, atol=1e-6)


def test_a_linear_network_is_linear() -> None:
    model, images = network(activation="linear", normalization="none")
    zero, one, two = (model(scale * images, train=True)[0] for scale in (0.0, 1.0, 2.0))
    np.testing.assert_allclose(two - zero, 2 * (one - zero), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [{"branch_scaling": "skipinit", "normalization": "none"}, {"branch_scaling": "rezero"}],
    ids=["skipinit", "rezero"],
)
@pytest.mark.parametrize("order", ["original", "full-preactivation"])
def test_a_branch_that_starts_at_zero_leaves_the_identity(model: dict, order: str) -> None:
    """At the start every residual block passes its input on, and only the factors have a
    gradient in it."""
    made, images = network(depth=14, block_order=order, **model)
    recorder = Recorder()
    x = made.begin(images, recorder, train=True)
    np.testing.assert_allclose(made.blocks[0](x, recorder, train=True), x, atol=1e-6)

    def loss(m: Network) -> jax.Array:
        return jnp.square(m(images, train=True)[0]).sum()

    gradients = nnx.grad(loss)(made)
    for part in (gradients.blocks[index] for index in range(6)):
        assert not part.layer1.conv.kernel[...].any()
        assert float(part.layer2.scale[...]) != 0
    assert gradients.stem.conv.kernel[...].any()


def test_fixup_starts_at_the_identity_with_a_silent_classifier() -> None:
    model, images = network(depth=14, normalization="none", branch_scaling="fixup")
    logits, _ = model(images, train=True)
    assert not logits.any()
    x = model.begin(images, Recorder(), train=True)
    np.testing.assert_array_equal(model.blocks[0](x, Recorder(), train=True), x)
    # Three scalars in front of convolutions and classifier, after them, and a factor each.
    scalars = [leaf for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)) if leaf.ndim == 0]
    assert len(scalars) == 1 + 6 * 5 + 1


def test_average_subsampling_keeps_the_mean() -> None:
    spec = ModelSpec(subsampling="average")
    x = normal(0, (2, 6, 6, 4))
    y = Shortcut(spec, 4, 8, 2, jax.random.key(0))(x, train=True)
    np.testing.assert_allclose(y[..., 2:6].mean((1, 2)), x.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(y[0, 0, 0, 2:6], x[0, :2, :2].mean((0, 1)), atol=1e-6)
    same = Shortcut(spec, 4, 4, 1, jax.random.key(0))
    np.testing.assert_array_equal(same(x, train=True), x)


def test_max_subsampling_keeps_the_largest_pixel_and_shares_its_gradient() -> None:
    made = Shortcut(ModelSpec(subsampling="max"), 4, 8, 2, jax.random.key(0))
    x = normal(0, (2, 6, 6, 4))
    y = made(x, train=True)
    assert y.shape == (2, 3, 3, 8)
    np.testing.assert_array_equal(y[:, 1, 2, 2:6], x[:, 2:4, 4:6].max((1, 2)))
    assert not y[..., :2].any()
    assert not y[..., 6:].any()
    gradient = jax.grad(lambda x: made(x, train=True).sum())
    windows = gradient(x).reshape(2, 3, 2, 3, 2, 4)
    np.testing.assert_array_equal(windows.sum((2, 4)), 1)
    np.testing.assert_array_equal(windows.max((2, 4)), 1)
    # Behind a rectifier whole windows are 0, and none of their pixels comes first.
    np.testing.assert_array_equal(gradient(jnp.zeros_like(x)), 0.25)
    same = Shortcut(ModelSpec(subsampling="max"), 4, 4, 1, jax.random.key(0))
    np.testing.assert_array_equal(same(x, train=True), x)


@pytest.mark.parametrize("order", ["original", "full-preactivation"])
def test_pooling_is_the_mean_or_the_maximum_of_the_last_map(order: str) -> None:
    """And nothing else differs: the classifier sees the one or the other."""
    last: dict[str, jax.Array] = {}
    for pooling in ("average", "max"):
        made, images = network(block_order=order, pooling=pooling)
        x = made.begin(images, Recorder(), train=True)
        for part in made.blocks:
            x = part(x, Recorder(), train=True)
        if made.last_norm is not None:
            x = jax.nn.relu(made.last_norm(x, train=True)[0])
        seen = {"average": x.mean((1, 2)), "max": x.max((1, 2))}[pooling]
        logits, _ = made(images, train=True)
        np.testing.assert_allclose(logits, made.head(seen), atol=1e-5)
        last[pooling] = logits
    assert not np.allclose(last["average"], last["max"], atol=1e-2)


@pytest.mark.parametrize(
    ("scaling", "of_skip", "of_branch"),
    [
        ("constant", lambda g: 0.5, lambda g: 0.5),
        ("exclusive-gating", lambda g: 1 - g, lambda g: g),
        ("shortcut-only-gating", lambda g: 1 - g, lambda g: 1.0),
    ],
)
@pytest.mark.parametrize(("stride", "outputs"), [(1, 8), (2, 16)])
def test_a_scaled_block_adds_its_two_paths_with_their_factors(
    scaling: str, of_skip, of_branch, stride: int, outputs: int
) -> None:
    """He et al. 2016, Figure 2 a to d, from the weights of the block without factors."""
    arms = (ModelSpec(), ModelSpec(shortcut_scaling=scaling, gate_bias=-1.0))  # type: ignore[arg-type]
    key, x = jax.random.key(0), normal(1, (4, 4, 4, 8))
    bare, made = (Block(arm, 8, outputs, stride, key, False) for arm in arms)
    gate = jnp.zeros(())
    if made.gate is not None:
        kernel = made.gate.conv.kernel[...][0, 0]
        pixels = x[:, ::stride, ::stride]
        gate = jax.nn.sigmoid(jnp.einsum("nhwi,io->nhwo", pixels, kernel) - 1)
    branch, skip = bare.branch(x, Recorder(), train=True), bare.skip(x, train=True)
    expected = jax.nn.relu(of_skip(gate) * skip + of_branch(gate) * branch)
    np.testing.assert_allclose(made(x, Recorder(), train=True), expected, atol=1e-5)


def test_a_closed_gate_leaves_the_shortcut_and_the_branch_as_the_paper_has_them() -> None:
    """At a bias far below 0 g is 0: the one loses its branch, the other is the network without."""
    bare, images = network()
    for scaling in ("exclusive-gating", "shortcut-only-gating"):
        made, _ = network(shortcut_scaling=scaling, gate_bias=-40.0)
        logits = [m(images, train=True)[0] for m in (made, bare)]
        same = np.allclose(*logits, atol=1e-5)
        assert same == (scaling == "shortcut-only-gating")


ARMS: list[dict] = [
    *({"block_order": order} for order in ORDERS),
    {"residual": False},
    {"shortcut": "C"},
    {"subsampling": "average"},
    {"subsampling": "max"},
    {"pooling": "max"},
    {"shortcut_scaling": "constant"},
    {"shortcut_scaling": "exclusive-gating", "gate_bias": 0.0},
    {"shortcut_scaling": "shortcut-only-gating", "gate_bias": -1.0},
    {"batch_norm_images": 2},
    {"normalization": "layer"},
    {"normalization": "group"},
    {"normalization": "none", "activation": "sigmoid", "initialization": "glorot"},
    {"normalization": "none", "activation": "tanh", "initialization": "delta-orthogonal"},
    {"normalization": "none", "branch_scaling": "skipinit"},
    {"branch_scaling": "rezero", "block_order": "full-preactivation"},
    {"normalization": "none", "branch_scaling": "fixup"},
    {"shortcut_scaling": "dropout"},
    {"block": "bottleneck", "residual": False},
    {"block": "bottleneck", "shortcut_scaling": "exclusive-gating"},
    {"block": "bottleneck", "shortcut": "B", "block_order": "full-preactivation"},
    {"block": "bottleneck", "shortcut": "B", "block_order": "activation-only-preactivation"},
    {"block": "bottleneck", "normalization": "none", "branch_scaling": "fixup"},
]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: "-".join(map(str, arm.values())))
def test_gradients_are_those_of_finite_differences(arm: dict) -> None:
    """Along a random direction in all parameters at once, in float64."""
    with jax.enable_x64():
        model, images = network(**arm)
        graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
        parameters, statistics = (nnx.to_pure_dict(state) for state in states)
        seeds = itertools.count()

        def noise(leaf: jax.Array) -> jax.Array:
            return normal(next(seeds), leaf.shape, jnp.float64)

        # Away from zeros and ones, where factors and shifts hide mistakes.
        parameters = jax.tree.map(lambda p: p.astype(jnp.float64) + 0.1 * noise(p), parameters)
        direction = jax.tree.map(noise, parameters)
        images, target = images.astype(jnp.float64), jnp.arange(10.0)

        @jax.jit
        @jax.value_and_grad
        def loss(parameters: dict) -> jax.Array:
            fresh = jax.tree.map(jnp.copy, statistics)
            merged = nnx.merge(graph, parameters, fresh)
            logits, _ = merged(images, train=True, dropout_key=jax.random.key(7))
            return jnp.mean(jax.nn.log_softmax(logits) @ target)

        def moved(h: float) -> float:
            return float(loss(jax.tree.map(lambda p, d: p + h * d, parameters, direction))[0])

        _, gradient = loss(parameters)
        slope = sum(
            float(jnp.vdot(g, d))
            for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        h = 1e-8  # few units cross their kink, and rounding is still far below the tolerance
        assert slope == pytest.approx((moved(h) - moved(-h)) / (2 * h), rel=1e-4, abs=1e-6)
