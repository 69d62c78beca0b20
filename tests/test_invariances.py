"""Three gradients under scales that leave the loss alone, on whole networks.

Behind a batch normalisation no scale of pixels, weights or γ changes the loss (up to ε). Signal and
turn must not change either, or as predicted, and the raw gradients must, as predicted.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest
from test_training_step import SHAPE, batch_of, spec_of, start

from resnet_study.data.augment import normalize
from resnet_study.spec import RunSpec
from resnet_study.training.step import TrainState, TrainStep, make_train_step

DEPTH = 8
LAYER = 4
"""The first convolution of a block, counted from 1: what it puts out goes through another
convolution and its normalisation, in plain and in residual networks."""

FACTORS = (0.2, 7.0)
TOLERANCE = 0.01
"""Of float32 through the layers, and of ε beside the variances."""

RATE = 1e-3
"""So small that angles are their own tangents, which is what the factor is of."""

Layers = dict[str, np.ndarray]


def spec_for(residual: bool) -> RunSpec:
    return spec_of(
        **{"model.depth": DEPTH, "model.residual": residual, "optimizer.weight_decay": 0.0}
    )


@functools.cache
def step_of(spec: RunSpec) -> TrainStep:
    return jax.jit(make_train_step(spec, SHAPE))


def observed(spec: RunSpec, state: TrainState, step: TrainStep | None = None) -> Layers:
    """What a step records of every layer, and both forms of the signal."""
    _, metrics = (step or step_of(spec))(state, batch_of(spec, RATE))
    layers = {name: np.asarray(values, float) for name, values in metrics.layers.items()}
    return {
        **layers,
        "signal": layers["weight_norm"] * layers["weight_gradient_norm"],
        "response_signal": layers["response_gradient_norm"] * layers["response_std"],
        "loss": np.full(DEPTH, float(metrics.loss)),
    }


def scaled(state: TrainState, leaf: str, factor: float) -> TrainState:
    """The state with the weights (kernel) or γ (scale) of `LAYER` multiplied."""
    block, conv = divmod(LAYER - 2, 2)
    wanted = f"['blocks'][{block}]['layer{conv + 1}']"
    changed = []

    def change(path: Any, value: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        if not (name.startswith(wanted) and name.endswith(f"['{leaf}']")):
            return value
        changed.append(name)
        return value * factor

    parameters = jax.tree_util.tree_map_with_path(change, state.parameters)
    assert len(changed) == 1
    return state._replace(parameters=parameters)


def check(before: Layers, after: Layers, **factors: dict[int, float]) -> None:
    """Every quantity of every layer is as before, times the factor given for its layer."""
    for name in ("signal", "angular_step", "loss", *factors):
        expected = before[name].copy()
        for layer, factor in factors.get(name, {}).items():
            expected[layer - 1] *= factor
        np.testing.assert_allclose(after[name], expected, rtol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("residual", [False, True])
def test_larger_weights_turn_less_and_pass_the_same_signal(residual: bool, factor: float) -> None:
    spec = spec_for(residual)
    state = start(spec)
    before, after = (observed(spec, s) for s in (state, scaled(state, "kernel", factor)))
    check(
        before,
        after,
        angular_step={LAYER: factor**-2},
        weight_norm={LAYER: factor},
        weight_gradient_norm={LAYER: 1 / factor},
        activation_gradient_norm={LAYER: 1 / factor},
        response_gradient_norm={},
        response_std={},
    )


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("residual", [False, True])
def test_a_scale_before_another_normalisation_changes_raw_gradients_alone(
    residual: bool, factor: float
) -> None:
    spec = spec_for(residual)
    state = start(spec)
    before, after = (observed(spec, s) for s in (state, scaled(state, "scale", factor)))
    check(
        before,
        after,
        scale_rms={LAYER: factor},
        response_gradient_norm={LAYER: 1 / factor},
        response_std={LAYER: factor},
        response_signal={},
        activation_gradient_norm={LAYER + 1: 1 / factor},
        weight_gradient_norm={},
    )


@pytest.mark.parametrize("residual", [False, True])
def test_the_unit_of_the_pixels_changes_the_raw_gradient_of_the_stem_alone(
    residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(residual)
    state = start(spec)
    before = observed(spec, state)
    monkeypatch.setattr(
        "resnet_study.training.step.normalize", lambda *inputs: 255 * normalize(*inputs)
    )
    after = observed(spec, state, jax.jit(make_train_step(spec, SHAPE)))
    check(
        before,
        after,
        activation_gradient_norm={1: 1 / 255},
        weight_gradient_norm={},
        response_gradient_norm={},
    )


@pytest.mark.parametrize("factor", FACTORS)
def test_without_normalisation_the_signal_follows_the_scale(factor: float) -> None:
    """The properties above are those of the normalisation, and the test can fail."""
    spec = spec_of(**{"model.depth": DEPTH, "model.normalization": "none"})
    state = start(spec)
    before, after = (observed(spec, s) for s in (state, scaled(state, "kernel", factor)))
    with pytest.raises(AssertionError, match="signal"):
        check(before, after)
