"""Dropout on the shortcut: its masks, its mean, and when there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study.architecture import ModelSpec, check_model
from resnet_study.datasets import DATASETS
from resnet_study.errors import UserError
from resnet_study.models import Network, Recorder
from resnet_study.models.blocks import Block
from resnet_study.models.shortcuts import dropout
from resnet_study.spec import from_flat
from resnet_study.training.programs import keys_of
from resnet_study.training.step import Batch, initial_state, make_train_step
from tests.drawn import normal

SHAPE = DATASETS["synthetic"]
DROPOUT = ModelSpec(depth=8, width=4, shortcut_scaling="dropout", dropout_ratio=0.25)
KEY = jax.random.key(5)


def test_dropout_keeps_a_value_or_none_and_its_mean_is_the_expectation() -> None:
    values = normal(0, (2, 3, 3, 4))
    keys = jax.random.split(KEY, 4000)
    dropped = np.asarray(jax.vmap(lambda key: dropout(values, 0.25, key))(keys))
    x, expected = np.asarray(values), np.asarray(dropout(values, 0.25, None))
    assert ((dropped == x) | (dropped == 0)).all()
    np.testing.assert_array_equal(expected, np.float32(0.75) * x)
    # Five standard deviations of a mean over 4,000 draws.
    error = 5 * np.sqrt(0.25 * 0.75 / 4000) * np.abs(x)
    assert (np.abs(dropped.mean(0) - expected) < error).all()
    # Every value by itself: no two masks, pixels or channels go together.
    masks = (dropped == 0).reshape(4000, -1)
    together = np.corrcoef(masks.T) - np.eye(masks.shape[1])
    assert np.abs(together).max() < 6 / np.sqrt(4000)


@pytest.mark.parametrize(("stride", "outputs"), [(1, 4), (2, 8)])
def test_a_block_drops_of_its_shortcut_alone(stride: int, outputs: int) -> None:
    """He et al. 2016, Figure 2 f, from the weights of the block without dropout."""
    x = normal(1, (4, 4, 4, 4))
    bare, made = (
        Block(arm, 4, outputs, stride, jax.random.key(0), False)
        for arm in (replace(DROPOUT, shortcut_scaling="none", dropout_ratio=0.5), DROPOUT)
    )
    branch, skip = bare.branch(x, Recorder(), train=True), bare.skip(x, train=True)
    assert skip is not None
    found = made(x, Recorder(), train=True, dropout_key=KEY)
    np.testing.assert_allclose(found, jax.nn.relu(branch + dropout(skip, 0.25, KEY)), atol=1e-5)
    # Without a key, in evaluation and in what is measured at initialisation, the expectation.
    found = made(x, Recorder(), train=True)
    np.testing.assert_allclose(found, jax.nn.relu(branch + 0.75 * skip), atol=1e-5)


def test_every_block_draws_for_itself_and_the_same_key_draws_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network(replace(DROPOUT, depth=14), SHAPE, jax.random.key(0))
    keys: list[Any] = []

    def called(self: Block, x: jax.Array, *_: Any, dropout_key: jax.Array | None, **__: Any) -> Any:
        keys.append(dropout_key if dropout_key is None else jax.random.key_data(dropout_key))
        return x

    monkeypatch.setattr(Block, "__call__", called)
    monkeypatch.setattr(Network, "end", lambda self, x, *_, **__: x)
    for dropout_key in (KEY, KEY, None):
        network(jnp.zeros((1, 8, 8, 3)), train=True, dropout_key=dropout_key)
    drawn = [np.asarray(key).tobytes() for key in keys[:12]]
    assert len(set(drawn)) == len(network.blocks) == 6
    assert drawn[:6] == drawn[6:]
    assert keys[12:] == [None] * 6


@pytest.mark.slow
def test_a_step_draws_from_the_runs_key_and_its_own_number() -> None:
    """Another step, another seed: other masks."""
    values = {"model.shortcut_scaling": "dropout", "model.depth": 8, "model.width": 4}
    spec = from_flat({**values, "data.name": "synthetic", "data.batch_size": 16})
    step = jax.jit(make_train_step(spec, SHAPE, probes=False))
    state = initial_state(spec, SHAPE, keys_of(0).initialization)
    random = np.random.default_rng(0)
    batch = Batch(
        jnp.asarray(random.integers(0, 256, (16, 8, 8, 3), np.uint8)),
        jnp.arange(16, dtype=jnp.int32) % 10,
        jnp.full((8, 8, 3), 0.5),
        jnp.float32(0.1),
        keys_of(0).augmentation,
        keys_of(0).dropout,
    )
    first = step(state, batch)[1].loss
    assert step(state, batch)[1].loss == first
    assert step(state._replace(step=jnp.int32(1)), batch)[1].loss != first
    assert step(state, batch._replace(dropout_key=keys_of(1).dropout))[1].loss != first


REFUSED = [
    ({"dropout_ratio": 0.2, "shortcut_scaling": "none"}, "there is no dropout"),
    ({"dropout_ratio": 0.0}, "above 0 to below 1"),
    ({"dropout_ratio": 1.0}, "above 0 to below 1"),
    ({"shortcut": "C"}, "option C has none"),
    ({"residual": False}, "plain network has no shortcuts"),
    ({"gate_bias": 0.0}, "there is no gate"),
    ({"block_order": "full-preactivation"}, "original order"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED, ids=lambda v: str(v)[:40])
def test_dropout_without_meaning_is_refused(fields: dict, reason: str) -> None:
    check_model(DROPOUT)
    with pytest.raises(UserError, match=r"^model\.\w+=") as caught:
        check_model(replace(DROPOUT, **fields))
    assert reason in str(caught.value)
