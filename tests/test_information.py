"""Probes of what layers still say: against NumPy, at their fixed points, and without a trace."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study import probes
from resnet_study.datasets import DATASETS
from resnet_study.errors import UserError
from resnet_study.judging.measurement import Missing
from resnet_study.phenomena.information import probes as information
from resnet_study.phenomena.information.claims import CLAIMS
from resnet_study.probes import Passes, Probe
from resnet_study.spec import RunSpec, from_flat
from resnet_study.training.step import (
    Batch,
    StepMetrics,
    TrainState,
    graph_of,
    initial_state,
    make_train_step,
    passes_of,
)
from tests.drawn import normal
from tests.planted import planted_frames

SHAPE = DATASETS["digits"]
LABELS = jnp.array([0, 1, 0, 1, 2, 2, 0, 1])
NAMES = [probe.name for probe in information.PROBES]


def spec_of(extra: str = "") -> RunSpec:
    probes.register(information.PROBES)
    return from_flat(
        {
            "model.depth": 8,
            "model.width": 2,
            "model.residual": False,
            "data.batch_size": 8,
            "probes.extra": extra,
            "schedule.iterations": 10,
        }
    )


def passes(images: jax.Array, labels: jax.Array = LABELS) -> Passes:
    spec = spec_of()
    state = initial_state(spec, SHAPE, jax.random.key(0))
    graph = graph_of(spec.model, SHAPE)
    return passes_of(graph, state, images, labels, jax.random.key(1), "xla")


@pytest.mark.slow
def test_gradients_of_equal_halves_agree_and_of_opposite_labels_less() -> None:
    half, labels = normal(0, (4, 8, 8, 1)), jnp.array([0, 1, 2, 3])
    twice = passes(jnp.concatenate([half, half]), jnp.concatenate([labels, labels]))
    of = information.GRADIENT_AGREEMENT.of_passes
    assert of is not None
    np.testing.assert_allclose(of(twice), np.ones(8), atol=1e-5)
    other = twice._replace(labels=jnp.concatenate([labels, labels + 4]))
    assert np.all(np.abs(of(other)) < 1)


def test_a_copy_without_noise_is_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    given = passes(normal(0, (8, 8, 8, 1)))
    of = information.COPY_CORRELATION.of_passes
    assert of is not None
    noisy = np.asarray(of(given))
    monkeypatch.setattr(information, "NOISE", 0.0)
    np.testing.assert_allclose(of(given), np.ones(8), atol=1e-5)
    assert np.all((noisy > -1) & (noisy < 1))


def test_the_contrast_of_classes_is_that_of_numpy() -> None:
    response = np.random.default_rng(0).normal(size=(8, 3, 3, 2))
    seen: list[jax.Array] = []

    def responses(images: jax.Array, statistic) -> jax.Array:
        seen.append(statistic(jnp.asarray(response, jnp.float32)))
        return seen[-1]

    given = passes(normal(0, (8, 8, 8, 1)))._replace(responses=responses)
    of = information.CLASS_CONTRAST.of_passes
    assert of is not None
    rows = response.reshape(8, -1)
    correlation = (rows @ rows.T) / np.outer(*[np.linalg.norm(rows, axis=1)] * 2)
    same = np.equal.outer(LABELS, LABELS)
    within, between = same & ~np.eye(8, dtype=bool), ~same
    expected = correlation[within].mean() - correlation[between].mean()
    np.testing.assert_allclose(of(given), expected, rtol=1e-5)


@pytest.mark.slow
def test_further_passes_change_neither_training_nor_other_probes() -> None:
    """Bit for bit on a CPU, or it would be another experiment."""

    def step(extra: str) -> tuple[TrainState, StepMetrics]:
        spec = spec_of(extra)
        state = initial_state(spec, SHAPE, jax.random.key(0))
        images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1)).astype(np.uint8)
        keys = [jax.random.key(i) for i in (3, 4)]
        batch = Batch(images, LABELS, np.zeros((8, 8, 1), np.float32), np.float32(0.1), *keys)
        return jax.jit(make_train_step(spec, SHAPE))(state, batch)

    (state, metrics), (bare, plainly) = step(",".join(NAMES)), step("")
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(bare), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert set(metrics.layers) - set(plainly.layers) == set(NAMES)
    assert all(metrics.layers[name].shape == (8,) for name in NAMES)


def test_a_probe_has_one_function() -> None:
    with pytest.raises(UserError, match="give one of function, of_response and of_passes, not 2"):
        Probe("two", "", function=lambda o: o, of_passes=lambda p: p)


def test_claims_are_judged_on_records_with_the_probes_alone() -> None:
    frames = planted_frames((20, 56), 5, 100)
    for claim in CLAIMS:
        assert isinstance(claim.best(frames), Missing)
    planted = frames._replace(
        layers=frames.layers.assign(
            gradient_agreement=0.1,
            copy_correlation=frames.layers["step"].map(lambda step: 0.99 if step else 0.3),
            class_contrast=frames.layers["depth"].map({20: 0.5, 56: 0.02}),
        )
    )
    assert [claim.evaluate(planted).verdict for claim in CLAIMS] == ["reproduced"] * len(CLAIMS)
    turned = planted._replace(
        layers=planted.layers.assign(
            gradient_agreement=-0.1, copy_correlation=0.7, class_contrast=0.5
        )
    )
    assert {claim.evaluate(turned).verdict for claim in CLAIMS} == {"not reproduced"}

    # Where the shallow network has no contrast, there is none to be lost.
    none = planted._replace(
        layers=planted.layers.assign(
            class_contrast=frames.layers["depth"].map({20: -0.1, 56: -0.05})
        )
    )
    lost = next(claim for claim in CLAIMS if claim.name == "classes_lost_after_10_steps")
    assert lost.evaluate(none).verdict == "undecided"
