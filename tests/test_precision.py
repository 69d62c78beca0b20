"""The precision of convolutions: what the compiler is told, and what rounding it brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study.data import load_dataset
from resnet_study.datasets import DATASETS
from resnet_study.models import weights_of
from resnet_study.models.layers import convolve
from resnet_study.records import read_run
from resnet_study.spec import RunSpec, from_flat
from resnet_study.training.loop import train
from resnet_study.training.programs import keys_of
from resnet_study.training.step import Batch, TrainState, initial_state, make_train_step
from tests.drawn import normal

SHAPE = DATASETS["synthetic"]
UNDEFINED_IN_HEAD = ("inactive_fraction", "scale_rms", "shift_rms")
EPSILON = 2.0**-8
"""Relative rounding error of bfloat16, which keeps 8 bits."""


def spec_of(**values: Any) -> RunSpec:
    base = {"model.depth": 8, "data.name": "synthetic", "data.batch_size": 32}
    return from_flat({**base, **values})


def step_and_arguments(spec: RunSpec) -> tuple[Any, TrainState, Batch]:
    data = load_dataset(spec.data, spec.seed)
    batch = Batch(
        jnp.asarray(data.train.images[:32]),
        jnp.asarray(data.train.labels[:32]),
        jnp.asarray(data.mean),
        jnp.float32(0.1),
        keys_of(0).augmentation,
        keys_of(0).dropout,
    )
    state = initial_state(spec, SHAPE, keys_of(0).initialization)
    return make_train_step(spec, SHAPE), state, batch


def products(spec: RunSpec) -> list[Any]:
    """Every convolution and matrix product of a step, forward and backward."""
    found: list[Any] = []

    def visit(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("conv_general_dilated", "dot_general"):
                found.append(equation)
            for value in equation.params.values():
                for inner in value if isinstance(value, tuple | list) else (value,):
                    if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                        visit(getattr(inner, "jaxpr", inner))

    step, state, batch = step_and_arguments(spec)
    visit(jax.make_jaxpr(step)(state, batch).jaxpr)
    assert len(found) > 20
    return found


@pytest.mark.parametrize("shortcut", ["A", "C"])
def test_float32_asks_for_full_precision_in_every_product(shortcut: str) -> None:
    """jax otherwise multiplies in TF32 on NVIDIA GPUs and in bfloat16 on TPUs."""
    highest = (jax.lax.Precision.HIGHEST,) * 2
    for product in products(spec_of(**{"model.shortcut": shortcut})):
        assert product.params["precision"] == highest
        assert {v.aval.dtype for v in product.invars} == {jnp.dtype("float32")}


def test_tf32_is_asked_for_in_convolutions_and_not_in_the_classifier() -> None:
    found = products(spec_of(**{"model.precision": "tf32"}))
    precisions = [product.params["precision"][0] for product in found]
    # The classifier forward, and its two gradients.
    assert precisions.count(jax.lax.Precision.HIGHEST) == 3
    assert set(precisions) == {jax.lax.Precision.HIGH, jax.lax.Precision.HIGHEST}


def test_bfloat16_is_in_the_convolutions_alone() -> None:
    spec = spec_of(**{"model.precision": "bfloat16", "model.shortcut": "C"})
    counts = {"classifier": 0, "bfloat16": 0, "float32": 0}
    for product in products(spec):
        classifier = any(10 in v.aval.shape for v in (*product.invars, *product.outvars))
        (kind,) = {v.aval.dtype.name for v in product.invars}
        counts["classifier" if classifier else kind] += 1
        assert kind == "bfloat16" or product.params["precision"][0] == jax.lax.Precision.HIGHEST
    # Each convolution is there twice: for accelerators, and between rounded ends for CPUs.
    assert counts["bfloat16"] == counts["float32"] > 20
    assert counts["classifier"] == 3


@pytest.mark.parametrize(("side", "stride"), [(8, 1), (8, 2), (2, 1)])
def test_a_bfloat16_convolution_rounds_its_ends_and_not_its_sum(side: int, stride: int) -> None:
    """What is left on rounded inputs is one rounding of the output and of both gradients, or of
    the parts of which a kernel's is made on a map of 2x2. With sums in bfloat16 the error would
    grow with their 288 terms and more."""
    x, kernel = (
        np.asarray(normal(seed, shape, jnp.bfloat16), np.float32)
        for seed, shape in enumerate(((16, side, side, 32), (3, 3, 32, 32)))
    )

    def product(precision: str) -> tuple[Any, ...]:
        y, pull_back = jax.vjp(lambda a, b: convolve(a, b, stride, precision), x, kernel)
        g = normal(2, y.shape, jnp.bfloat16).astype(jnp.float32)
        return (y, *pull_back(g))

    for low, full in zip(product("bfloat16"), product("float32"), strict=True):
        in_parts = side == 2 and low.shape == kernel.shape
        assert low.dtype == jnp.float32
        error = np.abs(np.asarray(low) - np.asarray(full))
        # Up to four parts are rounded before they are added.
        size = 4 * np.sqrt(np.mean(np.square(full))) if in_parts else 0.0
        assert (error <= EPSILON * (np.abs(full) + size)).all()
        assert error.max() > 0


@pytest.mark.parametrize(
    ("activation", "tolerance"),
    [
        ("tanh", 8 * EPSILON),
        pytest.param("relu", (8 * EPSILON) ** 0.5, marks=pytest.mark.slow),
    ],
)
def test_bfloat16_gradients_are_near_those_of_float32(activation: str, tolerance: float) -> None:
    """In direction and length; probes stay float32.

    Each of the 8 layers may add a relative error of 2^-8. ReLU passes on or blocks whole
    gradients: a share of its gates as large as that error flips, and the norm of what they
    change goes with the root of their number.
    """
    steps = {}
    for precision in ("float32", "bfloat16"):
        values = {"model.precision": precision, "model.activation": activation}
        step, state, batch = step_and_arguments(spec_of(**values))
        following, metrics = jax.jit(step)(state, batch)
        moved = [
            np.asarray(b, float) - np.asarray(a, float)
            for a, b in zip(
                weights_of(state.parameters), weights_of(following.parameters), strict=True
            )
        ]
        steps[precision] = moved, metrics
        for leaf in (*jax.tree.leaves(following.parameters), *jax.tree.leaves(metrics)):
            assert leaf.dtype == jnp.float32
        for name, values in metrics.layers.items():
            if name != "gradient_velocity_cosine":  # undefined at step 0
                assert np.isfinite(values[: 7 if name in UNDEFINED_IN_HEAD else 8]).all(), name
    (full, full_metrics), (low, low_metrics) = steps["float32"], steps["bfloat16"]
    for a, b in zip(full, low, strict=True):
        assert 0 < np.linalg.norm(a - b) < tolerance * np.linalg.norm(a)
    assert float(low_metrics.loss) == pytest.approx(float(full_metrics.loss), rel=8 * EPSILON)
    for name, values in full_metrics.layers.items():
        np.testing.assert_allclose(
            low_metrics.layers[name], values, rtol=8 * EPSILON, atol=8 * EPSILON, err_msg=name
        )


@pytest.mark.slow
def test_bfloat16_trains(tmp_path: Path) -> None:
    values = {"schedule.iterations": 40, "data.batch_size": 64, "model.precision": "bfloat16"}
    spec = spec_of(**values)
    summary = train(spec, load_dataset(spec.data, spec.seed), tmp_path)
    assert summary["status"] == "finished"
    # The synthetic classes can be learnt; chance is 90 %.
    assert summary["train_clean_error_last"] < 20
    layers = read_run(tmp_path).layers
    layers = layers[layers.step > 0].drop(columns=["name", *UNDEFINED_IN_HEAD])
    assert np.isfinite(layers).all(axis=None)


def test_the_precision_is_part_of_the_run_and_its_default_is_not() -> None:
    assert len({spec_of(**{"model.precision": p}).run_id for p in ("tf32", "bfloat16")}) == 2
    assert spec_of(**{"model.precision": "float32"}).run_id == spec_of().run_id
