"""The update and the schedule against the formulas, in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.models import Network
from resnet_study.spec import OptimizerSpec, RunSpec, ScheduleSpec
from resnet_study.training.optimizer import (
    WARMUP_BATCHES,
    continue_warmup,
    learning_rate,
    sgd,
    start_warmup,
    warmed_rate,
)


@settings(max_examples=25)
@given(
    st.floats(0, 0.99),
    st.floats(0, 0.01),
    st.lists(st.floats(0.001, 0.5), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_sgd_is_the_formula(
    momentum: float, decay: float, rates: list[float], seed: int, nesterov: bool
) -> None:
    """v ← μ v + (g + λ w), w ← w − η v, with a rate that changes at any step; with Nesterov's
    momentum w ← w − η (g + λ w + μ v)."""
    random = np.random.default_rng(seed)
    weights: Any = {"a": random.normal(size=(3, 2)), "b": random.normal(size=4)}
    velocity = {name: np.zeros_like(w) for name, w in weights.items()}
    optimizer = sgd(OptimizerSpec(momentum=momentum, weight_decay=decay, nesterov=nesterov))
    ours = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights)
    state = optimizer.init(ours)
    for rate in rates:
        gradients = {name: random.normal(size=w.shape) for name, w in weights.items()}
        for name, gradient in gradients.items():
            decayed = gradient + decay * weights[name]
            velocity[name] = momentum * velocity[name] + decayed
            step = decayed + momentum * velocity[name] if nesterov else velocity[name]
            weights[name] = weights[name] - rate * step
        float32 = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), gradients)
        direction, state = optimizer.update(float32, state, ours)
        ours = optax.apply_updates(ours, jax.tree.map(lambda v, r=rate: -r * v, direction))
    for name, weight in weights.items():
        np.testing.assert_allclose(ours[name], weight, rtol=2e-5, atol=2e-5)


def test_the_gradient_itself_is_not_decayed() -> None:
    """What is recorded as the gradient of the loss stays free of weight decay."""
    optimizer = sgd(OptimizerSpec(weight_decay=0.5))
    weights, gradient = {"w": jnp.ones(3)}, {"w": jnp.full(3, 2.0)}
    direction, _ = optimizer.update(gradient, optimizer.init(weights), weights)
    np.testing.assert_array_equal(gradient["w"], 2.0)
    np.testing.assert_allclose(direction["w"], 2.5)


def test_decay_can_spare_what_is_no_weight() -> None:
    """Kernels of every layer decay; biases, scales and shifts do not."""
    dataset = DATASETS["synthetic"]
    model = Network(ModelSpec(depth=8, shortcut="B"), dataset, jax.random.key(0))
    parameters = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    nothing = jax.tree.map(jnp.zeros_like, parameters)
    for where, everything in (("all", True), ("weights", False)):
        optimizer = sgd(OptimizerSpec(weight_decay=1.0, weight_decay_on=where))  # type: ignore[arg-type]
        direction, _ = optimizer.update(nothing, optimizer.init(parameters), parameters)
        decayed = {
            jax.tree_util.keystr(path): bool(jnp.any(leaf != 0))
            for path, leaf in jax.tree_util.tree_leaves_with_path(direction)
        }
        kernels = {name: moved for name, moved in decayed.items() if "kernel" in name}
        assert len(kernels) == 8 + 2
        assert all(kernels.values())
        scales = {name: moved for name, moved in decayed.items() if "scale" in name}
        assert len(scales) == 7 + 2
        assert set(scales.values()) == {everything}


def test_a_warm_up_of_fixed_length_never_raises_the_rate() -> None:
    schedule = ScheduleSpec(iterations=10, first_drop=2, second_drop=10, warmup_iterations=4)
    for base, expected in ((0.5, [0.01] * 4), (0.05, [0.01, 0.01, 0.005, 0.005])):
        optimizer = OptimizerSpec(learning_rate=base)
        rates = [learning_rate(optimizer, schedule, step) for step in range(6)]
        np.testing.assert_allclose(rates, [*expected, base / 10, base / 10])


@settings(max_examples=25)
@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=200), st.integers(1, 99))
def test_a_warm_up_ends_once_the_mean_error_is_low(errors: list[float], threshold: int) -> None:
    schedule = ScheduleSpec(warmup_error=float(threshold))
    warmup = start_warmup(schedule)
    following = jax.jit(continue_warmup, static_argnums=1)
    seen = [100.0] * WARMUP_BATCHES
    over = False
    for step, error in enumerate(errors):
        rate = warmed_rate(warmup, schedule, jnp.float32(0.1))
        assert float(rate) == pytest.approx(0.1 if over else 0.01)
        warmup = following(warmup, schedule, step, error)
        seen = [*seen[1:], error]
        mean = np.mean(seen)
        if abs(mean - threshold) < 1e-3:
            return  # too close to call in float32
        over = over or mean < threshold


def test_the_schedule_of_the_paper() -> None:
    """He et al. 2015, section 4.2: 0.1, divided by 10 at 32k and 48k of 64k iterations."""
    spec = RunSpec()
    rates = [learning_rate(spec.optimizer, spec.schedule, step) for step in range(64_000)]
    expected = np.repeat([0.1, 0.01, 0.001], [32_000, 16_000, 16_000])
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


@given(
    st.integers(1, 2000),
    st.integers(0, 100),
    st.integers(0, 100),
    st.floats(0.01, 1),
    st.floats(1e-3, 1),
)
def test_the_schedule_keeps_its_shape_at_any_length(
    iterations: int, one: int, other: int, factor: float, rate: float
) -> None:
    first, second = sorted((one, other))
    spec = RunSpec(
        optimizer=OptimizerSpec(learning_rate=rate),
        schedule=ScheduleSpec(iterations, f"{first}%", f"{second}%", factor),
    )
    for step in range(iterations):
        # A drop takes effect at its iteration, rounded; half an iteration either way is open.
        drops = [share * iterations / 100 for share in (first, second)]
        if any(abs(step - drop) <= 1 for drop in drops):
            continue
        expected = rate * factor ** sum(step > drop for drop in drops)
        assert learning_rate(spec.optimizer, spec.schedule, step) == pytest.approx(expected)


def test_a_drop_takes_effect_at_its_iteration() -> None:
    schedule = ScheduleSpec(iterations=10, first_drop=3, second_drop=3, drop_factor=0.5)
    rates = [learning_rate(OptimizerSpec(learning_rate=8.0), schedule, step) for step in (2, 3)]
    assert rates == [8.0, 2.0]
    always = ScheduleSpec(iterations=10, first_drop=10, second_drop=10)
    assert {learning_rate(OptimizerSpec(), always, step) for step in range(10)} == {0.1}
