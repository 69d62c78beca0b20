"""Frozen layers: the theory against simulation, planted thaws against the definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_study.datasets import DATASETS
from resnet_study.phenomena.frozen_layers import thaw as frozen
from resnet_study.phenomena.frozen_layers.thaw import INFLATED, equilibrium_step, time_constant
from resnet_study.spec import OptimizerSpec, from_flat
from resnet_study.training.optimizer import sgd
from resnet_study.training.step import Batch, initial_state, make_train_step
from tests.planted_frozen import (
    MOMENTUM,
    RATE,
    equilibrium_norm,
    frozen_frames,
    growth_of,
    thaw_at,
)

DECAY = 0.005


# Theory.


@settings(max_examples=30)
@given(st.floats(0.01, 0.2), st.floats(0.0, 0.95), st.floats(1e-5, 1e-3))
def test_weights_without_gradient_decay_with_the_time_constant(
    rate: float, momentum: float, decay: float
) -> None:
    """v ← μv + λw, w ← w − ηv in float64 against exp(−ηλt/(1−μ))."""
    tau = time_constant(rate, momentum, decay)
    start = math.ceil(20 / (1 - momentum))  # the velocity has built up
    weight, velocity, norms = 1.0, 0.0, []
    for _ in range(start + 2000):
        norms.append(weight)
        velocity = momentum * velocity + decay * weight
        weight -= rate * velocity
    measured = math.log(norms[start] / norms[-1]) / (len(norms) - 1 - start)
    # The next order of the slow root of r² − (1 + μ − ηλ)r + μ = 0, relative to the first.
    order = rate * decay / (1 - momentum) ** 2
    assert measured * tau == pytest.approx(1, rel=1e-6 + 1.5 * order)


def test_the_error_of_the_time_constant_is_the_one_that_is_documented() -> None:
    half = 1 + 0.9 - 5e-4
    root = (half + math.sqrt(half**2 - 4 * 0.9)) / 2
    assert -math.log(root) * time_constant(0.1, 0.9, 0.005) == pytest.approx(1.05, abs=0.005)


def test_the_optimizer_of_the_project_decays_so_too() -> None:
    optimizer = sgd(OptimizerSpec(momentum=0.9, weight_decay=1e-3))
    weight = jnp.ones(3)
    state = optimizer.init(weight)

    @jax.jit
    def step(weight: jax.Array, state: optax.OptState) -> tuple[jax.Array, optax.OptState]:
        direction, state = optimizer.update(jnp.zeros(3), state, weight)
        return weight - 0.1 * direction, state

    norms = []
    for _ in range(600):
        norms.append(float(weight[0]))
        weight, state = step(weight, state)
    assert norms[100] / norms[500] == pytest.approx(math.exp(400 / 1000), rel=5e-3)


def sphere(
    grown: float, iterations: int, decay: float = DECAY, scale: float = 0.05
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SGD on a function of direction alone with independent gradients, in float64.

    Returns:
        Norm, effective step and angle turned, by iteration.
    """
    rng = np.random.default_rng(0)
    weight = rng.normal(size=500)
    weight *= grown / np.linalg.norm(weight)
    velocity = np.zeros_like(weight)
    rows = []
    for _ in range(iterations):
        norm = np.linalg.norm(weight)
        gradient = rng.normal(size=weight.size)
        gradient -= (gradient @ weight) / norm**2 * weight
        gradient *= scale / norm / np.linalg.norm(gradient)
        velocity = MOMENTUM * velocity + gradient + decay * weight
        following = weight - RATE * velocity
        turned = weight @ following / norm / np.linalg.norm(following)
        step = RATE * np.linalg.norm(gradient) / math.sqrt(1 - MOMENTUM**2) / norm
        rows.append((norm, step, math.acos(min(1.0, turned))))
        weight = following
    norms, steps, angles = np.array(rows).T
    return norms, steps, angles


def test_the_effective_step_is_the_angle_and_settles_at_the_equilibrium() -> None:
    """Wan et al. 2020, arXiv 2006.08419: √(2ηλ/(1+μ))."""
    _, steps, angles = sphere(1.0, 2500)
    expected = equilibrium_step(RATE, MOMENTUM, DECAY)
    assert steps[1500:].mean() == pytest.approx(expected, rel=0.05)
    assert angles[1500:].mean() == pytest.approx(expected, rel=0.05)


def test_an_inflated_layer_thaws_when_predicted() -> None:
    """From the growth where the layer began in balance, from the effective step wherever."""
    tau, level = time_constant(RATE, MOMENTUM, DECAY), equilibrium_step(RATE, MOMENTUM, DECAY)
    balanced = sphere(1.0, 2500)[0][1500:].mean()
    for grown in (10.0, 50.0):
        _, steps, _ = sphere(grown * balanced, 1500)
        thaw = int(np.argmax(steps >= 0.5 * level))
        assert thaw == pytest.approx(tau * math.log(grown), rel=0.15)
        assert thaw == pytest.approx(tau / 2 * math.log(0.5 * level / steps[0]), rel=0.1)


def test_a_real_step_inflates_the_weights_of_normalised_layers_and_turns_them_less() -> None:
    """‖w'‖² = ‖w‖² + η²‖g‖² without momentum and decay; k times the weights turn k² times less."""
    values = {
        "model.depth": 8,
        "model.residual": False,
        "data.name": "synthetic",
        "data.batch_size": 16,
        "optimizer.momentum": 0.0,
        "optimizer.weight_decay": 0.0,
    }
    spec = from_flat(values)
    rng = np.random.default_rng(0)
    shape = DATASETS["synthetic"]
    batch = Batch(
        images=jnp.asarray(rng.integers(0, 256, (16, 8, 8, 3)), jnp.uint8),
        labels=jnp.asarray(rng.integers(0, 10, 16), jnp.int32),
        pixel_mean=jnp.full((8, 8, 3), 0.5),
        learning_rate=jnp.float32(0.1),
        augmentation_key=jax.random.key(1),
        dropout_key=jax.random.key(2),
    )
    step = jax.jit(make_train_step(spec, shape))
    state = initial_state(spec, shape, jax.random.key(0))
    following, first = step(state, batch)
    _, second = step(following, batch)
    before, update, after = (
        np.asarray(values, float)[:-1]
        for values in (
            first.layers["weight_norm"],
            first.layers["update_norm"],
            second.layers["weight_norm"],
        )
    )
    np.testing.assert_allclose(after**2, before**2 + update**2, rtol=1e-5)
    assert (after > before).all()

    def scaled(path: tuple[object, ...], leaf: jax.Array) -> jax.Array:
        return 4 * leaf if leaf.ndim == 4 else leaf

    larger = state._replace(parameters=jax.tree_util.tree_map_with_path(scaled, state.parameters))
    _, slow = step(larger, batch)
    ratio = np.asarray(slow.layers["update_norm"] / slow.layers["weight_norm"], float)[:-1]
    np.testing.assert_allclose(ratio, update / before / 16, rtol=0.02)


# Definitions on planted records.


def test_motion_is_the_formula() -> None:
    frames = frozen_frames(seeds=1)
    motion = frozen.layer_motion(frames)
    rows = frames.layers[frames.layers["layer"] < 44]
    assert len(motion) == len(rows)
    gradient, norm = rows["weight_gradient_norm"], rows["weight_norm"]
    np.testing.assert_allclose(motion["effective"], RATE * gradient / norm / math.sqrt(0.19))
    start = rows[rows["step"] == 0].set_index("layer")["weight_norm"]
    np.testing.assert_allclose(motion["growth"], norm / rows["layer"].map(start).to_numpy())
    # The last quarter of 43 layers is 33 to 43; none of them was inflated.
    late = motion[(motion["step"] == 100) & (motion["layer"] >= 33)]
    np.testing.assert_allclose(late["relative"], 1)


def test_rows_that_are_not_finite_are_left_out_of_the_motion() -> None:
    frames = frozen_frames(seeds=1)
    frames.layers.loc[frames.layers["step"] == 100, "weight_gradient_norm"] = np.nan
    motion = frozen.layer_motion(frames)
    assert 100 not in set(motion["step"])
    assert np.isfinite(motion[["growth", "effective", "relative"]]).all(axis=None)


def test_the_rate_of_a_warm_up_enters_the_effective_step() -> None:
    warm = frozen.layer_motion(frozen_frames(seeds=1, values={"schedule.warmup_iterations": 400}))
    rates = warm.groupby("step")["rate"].first()
    assert rates[0] == rates[380] == 0.01
    assert rates[400] == rates[1500] == 0.1


@pytest.mark.parametrize("decay", [0.002, 0.005])
def test_a_planted_thaw_is_found_and_predicted(decay: float) -> None:
    table = frozen.thaw_table(frozen_frames((decay,), 1, 3000)).set_index("layer")
    star = equilibrium_norm(1.0, decay)
    tau = time_constant(RATE, MOMENTUM, decay)
    assert (table["start"] == 55).all()  # 40 and 60 are farther from 50 on the logarithmic scale
    own = table[table["judged"].astype(bool)]
    assert len(own) > 10
    for layer, row in own.iterrows():
        true = thaw_at(growth_of(int(str(layer)), 44), star, decay)
        # The first record that is not earlier, at a cadence of 20 iterations.
        assert 0 <= row["thaw"] - true <= 20, layer
        assert row["growth"] >= INFLATED
        assert row["from_growth"] == pytest.approx(55 + tau * math.log(row["growth"]))
        # The gradient at given norm is planted as constant, the law that this prediction assumes;
        # what it leaves out is the growth that sets in before half of the equilibrium.
        assert row["from_step"] == pytest.approx(true, abs=0.1 * tau + 15)
    grown = table["growth"] >= INFLATED
    assert set(own.index) == set(
        table.index[grown & (table["early"] < 0.1 * equilibrium_step(RATE, MOMENTUM, decay))]
    )


def test_layers_that_did_not_grow_are_not_judged() -> None:
    # All are slow, because their gradient is small; none was inflated.
    table = frozen.thaw_table(frozen_frames(seeds=1, growth=lambda layer, depth: 1, balance=0.1))
    assert (table["early"] < 0.1 * equilibrium_step(RATE, MOMENTUM, DECAY)).all()
    assert not table["judged"].any()


def test_runs_without_decay_or_with_warm_up_have_no_prediction() -> None:
    assert frozen.thaw_table(frozen_frames((0.0,), 1)).empty
    warm = {"schedule.warmup_iterations": 400}
    assert frozen.thaw_table(frozen_frames(seeds=1, values=warm)).empty


def test_nothing_after_a_drop_of_the_rate_counts() -> None:
    dropped = frozen.thaw_table(frozen_frames(seeds=1, values={"schedule.first_drop": 600}))
    whole = frozen.thaw_table(frozen_frames(seeds=1))
    assert dropped["end"].max() < 600 < whole["end"].min()
    before = whole["thaw"].where(whole["thaw"] <= dropped["end"])
    pd.testing.assert_series_equal(dropped["thaw"], before)


def test_one_large_gradient_is_no_thaw() -> None:
    frames = frozen_frames(seeds=1)
    true = frozen.thaw_table(frames)["thaw"]
    frames.layers.loc[frames.layers["step"] == 100, "weight_gradient_norm"] *= 1e6
    late = true > 200
    assert late.sum() > 10
    found = frozen.thaw_table(frames)["thaw"]
    pd.testing.assert_series_equal(found[late], true[late])


def censored(table: pd.DataFrame, end: float) -> pd.DataFrame:
    return table.assign(thaw=table["thaw"].where(table["thaw"] <= end), end=end)


@pytest.mark.parametrize(("share", "finite"), [(1.0, True), (0.7, True), (0.3, False)])
def test_the_median_of_a_run_lies_between_its_bounds(share: float, finite: bool) -> None:
    table = frozen.thaw_table(frozen_frames(seeds=1))
    own = table[table["judged"].astype(bool)]
    full = np.log2(own["thaw"] / own["from_growth"]).median()
    cut = censored(table, float(own["thaw"].quantile(share)))
    bounds = frozen.thaw_ratios(cut, "from_growth").iloc[0]
    assert bounds["low"] <= full + 1e-9
    assert bounds["high"] >= full - 1e-9
    assert (bounds["low"] == bounds["high"]) == (share == 1)
    assert math.isfinite(bounds["high"]) == finite
    assert bounds["layers"] == len(own)
    assert bounds["thawed"] == pytest.approx(share * len(own), abs=1)


def test_order_of_thaw_is_correlated_with_its_prediction() -> None:
    row = frozen.thaw_ratios(frozen.thaw_table(frozen_frames(seeds=1)), "from_growth").iloc[0]
    assert row["rank"] > 0.98
    assert row["seed"] == 0


def test_last_thaw_is_that_of_the_slowest_layer() -> None:
    table = frozen.thaw_table(frozen_frames(seeds=2))
    own = table[table["judged"].astype(bool)]
    last = frozen.last_thaw(table)
    assert last["seen"].all()
    pd.testing.assert_series_equal(
        last["iteration"], own.groupby("run_id")["thaw"].max(), check_names=False
    )
    cut = frozen.last_thaw(censored(table, 700.0))
    assert not cut["seen"].any()
    assert (cut["iteration"] == 700).all()
