"""The training step: its update, its purity, what it records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study import probes
from resnet_study.data import load_dataset
from resnet_study.datasets import DATASETS
from resnet_study.errors import UserError
from resnet_study.models import weights_of
from resnet_study.records import PROBES
from resnet_study.spec import OptimizerSpec, RunSpec, from_flat
from resnet_study.training.programs import keys_of
from resnet_study.training.step import (
    Batch,
    TrainState,
    graph_of,
    initial_state,
    make_evaluation_step,
    make_train_step,
    optimizer_of,
)

SHAPE = DATASETS["synthetic"]


def spec_of(**values) -> RunSpec:
    base = {"model.depth": 8, "data.name": "synthetic", "data.batch_size": 32}
    return from_flat({**base, **values})


def batch_of(spec: RunSpec, rate: float = 0.1) -> Batch:
    data = load_dataset(spec.data, spec.seed)
    return Batch(
        images=jnp.asarray(data.train.images[:32]),
        labels=jnp.asarray(data.train.labels[:32]),
        pixel_mean=jnp.asarray(data.mean),
        learning_rate=jnp.float32(rate),
        augmentation_key=keys_of(spec.seed).augmentation,
        dropout_key=keys_of(spec.seed).dropout,
    )


def start(spec: RunSpec) -> TrainState:
    return initial_state(spec, SHAPE, keys_of(spec.seed).initialization)


def test_update_is_that_of_sgd_with_momentum_and_decay() -> None:
    """Two steps against the formula in float64, with gradients of a step without decay."""
    spec = spec_of()
    bare = replace(spec, optimizer=OptimizerSpec(momentum=0.0, weight_decay=0.0))
    gradient_step = jax.jit(make_train_step(bare, SHAPE))
    step = jax.jit(make_train_step(spec, SHAPE))
    batch, state = batch_of(spec), start(spec)
    velocity = [np.zeros(w.shape) for w in weights_of(state.parameters)]
    for _ in range(2):
        # With a rate of 1, no momentum and no decay, the step is minus the gradient.
        moved, _ = gradient_step(state, batch._replace(learning_rate=jnp.float32(1)))
        before = [np.asarray(w, float) for w in weights_of(state.parameters)]
        gradients = [
            w - np.asarray(v, float)
            for w, v in zip(before, weights_of(moved.parameters), strict=True)
        ]
        following, metrics = step(state, batch)
        velocity = [
            0.9 * v + g + 1e-4 * w for v, g, w in zip(velocity, gradients, before, strict=True)
        ]
        for w, v, new in zip(before, velocity, weights_of(following.parameters), strict=True):
            np.testing.assert_allclose(new, w - 0.1 * v, atol=2e-6)
        np.testing.assert_allclose(
            metrics.layers["weight_gradient_norm"],
            [np.linalg.norm(g) for g in gradients],
            rtol=1e-3,
        )
        np.testing.assert_allclose(
            metrics.layers["update_norm"], [np.linalg.norm(0.1 * v) for v in velocity], rtol=1e-3
        )
        np.testing.assert_allclose(
            metrics.layers["weight_norm"], [np.linalg.norm(w) for w in before], rtol=1e-5
        )
        state = following
    assert int(state.step) == 2


def test_fixup_moves_biases_and_multipliers_at_a_tenth_of_the_rate() -> None:
    """Against the gradient that the same step records, without momentum and decay."""
    spec = spec_of(
        **{"model.normalization": "none", "model.branch_scaling": "fixup"},
        **{"optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0},
    )
    other = replace(spec, model=replace(spec.model, branch_scaling="none"))
    slow, usual = optimizer_of(spec), optimizer_of(other)
    state = start(spec)
    gradients = jax.tree.map(jnp.ones_like, state.parameters)
    moved, _ = slow.update(gradients, slow.init(state.parameters), state.parameters)
    whole, _ = usual.update(gradients, usual.init(state.parameters), state.parameters)
    leaves = jax.tree_util.tree_leaves_with_path(moved)
    kinds = {path[-1].key for path, _ in leaves}
    assert {"kernel", "bias", "shift", "scale"} <= kinds
    for (path, value), expected in zip(leaves, jax.tree.leaves(whole), strict=True):
        factor = 1.0 if path[-1].key == "kernel" else 0.1
        np.testing.assert_allclose(value, factor * np.asarray(expected), rtol=1e-6)
    # It adds no number to a checkpoint.
    trees = [jax.tree.leaves(optimizer.init(state.parameters)) for optimizer in (slow, usual)]
    assert len(trees[0]) == len(trees[1])


def test_recorded_gradient_is_that_of_the_loss_alone() -> None:
    plain, decayed = spec_of(), spec_of(**{"optimizer.weight_decay": 0.5})
    layers = [
        jax.jit(make_train_step(s, SHAPE))(start(s), batch_of(s))[1].layers
        for s in (plain, decayed)
    ]
    for name in ("weight_gradient_norm", "activation_gradient_norm", "response_gradient_norm"):
        np.testing.assert_array_equal(layers[0][name], layers[1][name])
    assert (layers[1]["update_norm"] > 2 * layers[0]["update_norm"]).any()


def test_probes_are_the_recorded_ones_and_change_nothing() -> None:
    spec = spec_of()
    with_probes, without = (
        jax.jit(make_train_step(spec, SHAPE, probes=p))(start(spec), batch_of(spec))
        for p in (True, False)
    )
    assert set(with_probes[1].layers) == set(PROBES)
    assert all(value.shape == (8,) for value in with_probes[1].layers.values())
    assert without[1].layers == {}
    for a, b in zip(*map(jax.tree.leaves, (with_probes[0], without[0])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_built_in_probe_sees_all_that_one_of_ones_own_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = probes.Probe(
        "largest_update",
        "largest |Δw_l|",
        function=lambda o: o.by_layer(lambda u: jnp.max(jnp.abs(u)), o.updates),
    )
    monkeypatch.setattr(probes, "BUILT_IN", (*probes.BUILT_IN, own))
    spec = spec_of()
    state = start(spec)
    following, metrics = make_train_step(spec, SHAPE)(state, batch_of(spec))
    ends = zip(weights_of(following.parameters), weights_of(state.parameters), strict=True)
    expected = [float(jnp.max(jnp.abs(after - before))) for after, before in ends]
    np.testing.assert_allclose(metrics.layers["largest_update"], expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "function", "told"),
    [
        (
            "function",
            lambda o: 1 / 0,
            r"wrong: fails \(ZeroDivisionError.*\(test_",
        ),
        ("function", lambda o: o.weight_norm, "probe wrong: fails .*weight_norm"),
        ("function", lambda o: o.weight_norms[:3], "probe wrong: gives"),
        ("function", lambda o: o.weight_norms * 1j, "probe wrong: gives complex"),
        ("of_response", lambda y: y.foo, "probe wrong: fails"),
        ("of_response", lambda y: y, r"probe wrong: gives \(.*, not one number"),
        ("of_response", lambda y: "3", "probe wrong: gives str, not one number"),
        ("of_passes", lambda p: p.gradient(), "probe wrong: fails"),
    ],
)
def test_a_wrong_probe_is_named(
    kind: str, function: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = probes.Probe("wrong", "", **{kind: function})
    monkeypatch.setitem(probes._extra, "wrong", wrong)
    spec = spec_of(**{"probes.extra": "wrong"})
    with pytest.raises(UserError, match=told):
        jax.eval_shape(make_train_step(spec, SHAPE), start(spec), batch_of(spec))


def test_without_normalisation_output_and_response_are_one() -> None:
    spec = spec_of(**{"model.normalization": "none"})
    layers = jax.jit(make_train_step(spec, SHAPE))(start(spec), batch_of(spec))[1].layers
    np.testing.assert_array_equal(
        layers["activation_gradient_norm"], layers["response_gradient_norm"]
    )


def test_augmentation_differs_between_steps_and_seeds_and_repeats() -> None:
    spec = spec_of(**{"data.augmentation": "crop-flip", "data.crop_padding": 2})
    step = jax.jit(make_train_step(spec, SHAPE, probes=False))
    state, batch = start(spec), batch_of(spec)
    first = step(state, batch)[1].loss
    assert step(state, batch)[1].loss == first
    assert step(state._replace(step=jnp.int32(1)), batch)[1].loss != first
    other = batch._replace(augmentation_key=keys_of(1).augmentation)
    assert step(state, other)[1].loss != first


def test_evaluation_ignores_what_is_masked() -> None:
    spec = spec_of()
    step = jax.jit(make_evaluation_step(spec, SHAPE))
    state, batch = start(spec), batch_of(spec)
    arguments = (state.parameters, state.statistics)
    mask = jnp.arange(32) < 20
    masked = step(*arguments, batch.images, batch.labels, mask.astype(float), batch.pixel_mean)
    spoiled = batch.images.at[20:].set(0)
    same = step(*arguments, spoiled, batch.labels, mask.astype(float), batch.pixel_mean)
    assert masked.loss == pytest.approx(float(same.loss), rel=1e-6)
    assert masked.wrong == same.wrong
    rest = step(*arguments, batch.images, batch.labels, 1.0 - mask, batch.pixel_mean)
    every = step(*arguments, batch.images, batch.labels, jnp.ones(32), batch.pixel_mean)
    assert masked.wrong + rest.wrong == every.wrong
    assert float(masked.loss + rest.loss) == pytest.approx(float(every.loss), rel=1e-5)


def test_keys_of_one_seed_differ_from_each_other_and_from_another_seed() -> None:
    keys = [jax.random.key_data(key).tobytes() for s in (0, 1) for key in keys_of(s)]
    assert len(set(keys)) == 8


@pytest.mark.parametrize(
    "arm", [{}, {"model.residual": False}, {"model.shortcut_scaling": "dropout"}], ids=str
)
def test_a_network_that_was_drawn_has_the_structure_of_one_that_was_not(
    arm: dict[str, Any],
) -> None:
    spec, shape, other = from_flat(arm), DATASETS["digits"], from_flat({"model.depth": 8})
    initial_state(other, shape, jax.random.key(0))
    undrawn = graph_of(spec.model, shape)
    initial_state(spec, shape, jax.random.key(0))
    assert graph_of(spec.model, shape) == undrawn
    assert graph_of(other.model, shape) != undrawn
