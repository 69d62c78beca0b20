"""The update and the schedule against the formulas, in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_study.optimizers import learning_rate, sgd
from resnet_study.spec import OptimizerSpec, RunSpec, ScheduleSpec


@settings(max_examples=25)
@given(
    st.floats(0, 0.99),
    st.floats(0, 0.01),
    st.lists(st.floats(0.001, 0.5), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_sgd_is_the_formula(momentum: float, decay: float, rates: list[float], seed: int) -> None:
    """v ← μ v + (g + λ w), w ← w − η v, with a rate that changes at any step."""
    random = np.random.default_rng(seed)
    weights: Any = {"a": random.normal(size=(3, 2)), "b": random.normal(size=4)}
    velocity = {name: np.zeros_like(w) for name, w in weights.items()}
    optimizer = sgd(OptimizerSpec(momentum=momentum, weight_decay=decay))
    ours = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights)
    state = optimizer.init(ours)
    for rate in rates:
        gradients = {name: random.normal(size=w.shape) for name, w in weights.items()}
        for name, gradient in gradients.items():
            velocity[name] = momentum * velocity[name] + (gradient + decay * weights[name])
            weights[name] = weights[name] - rate * velocity[name]
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
