"""Rows on their way to the records, and speed without compilation."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from resnet_study.data import load_dataset
from resnet_study.spec import from_flat
from resnet_study.tracking.tracker import Tracker
from resnet_study.training import recording
from resnet_study.training.chunks import Chunk, plan_of
from resnet_study.training.programs import shape_of
from resnet_study.training.recording import Recording, Speed, shortest
from resnet_study.training.step import StepMetrics

ITERATIONS = 24


class Rows(Tracker):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, float, float]] = []
        self.layers: list[tuple[int, float]] = []

    def log_metrics(self, step: int, epoch: float, split: str, **values: float) -> None:
        self.metrics.append((step, values["loss"], values["error"]))

    def log_layers(self, step, layers, probes) -> None:  # type: ignore[no-untyped-def]
        assert len(layers) == 8
        self.layers.append((step, float(probes["weight_norm"][0])))


def recorded(cuts: list[int], losses: np.ndarray) -> tuple[Rows, int | None]:
    """The rows of a run whose chunks end at `cuts`, and where it diverged."""
    values = {"schedule.iterations": ITERATIONS, "probes.log_every": 5, "probes.layers_every": 7}
    spec = from_flat({"model.depth": 8, "data.name": "synthetic", **values})
    data, rows = load_dataset(spec.data, spec.seed), Rows()
    plan = plan_of(spec, shape_of(data))
    made = Recording(spec, plan, len(data.train), None, rows, [], [])
    steps = np.arange(ITERATIONS, dtype=float)
    for start, stop in zip([0, *cuts], [*cuts, ITERATIONS], strict=True):
        layers = {"weight_norm": np.tile(steps[start:stop, None], 8)}
        rate = np.full(stop - start, 0.1, np.float32)
        metrics = StepMetrics(losses[start:stop], 10 * steps[start:stop], rate, layers)  # type: ignore[arg-type]
        bad = made.chunk(Chunk(start, stop, probes=True), metrics)
        if bad is not None:
            return rows, bad
    return rows, None


@pytest.mark.parametrize("bad", [None, 3, 5, 12])
def test_rows_do_not_depend_on_where_chunks_are_cut(bad: int | None) -> None:
    """A chunk ends at every row at the latest; beside that it may end anywhere."""
    losses = np.arange(ITERATIONS, dtype=float)
    if bad is not None:
        losses[bad:] = math.nan
    whole, diverged = recorded([5, 10, 15, 20], losses)
    pieces, again = recorded([1, 2, 5, 6, 10, 13, 15, 19, 20], losses)
    np.testing.assert_equal(
        (pieces.metrics, pieces.layers, again), (whole.metrics, whole.layers, diverged)
    )
    assert (diverged is None) == (bad is None)
    if bad is None:
        assert [step for step, *_ in whole.metrics] == [5, 10, 15, 20, 24]
        # Means over the iterations since the row before.
        assert whole.metrics[0][1:] == (2.0, 20.0)
        assert whole.metrics[-1][1] == np.mean([20, 21, 22, 23])
        assert all(value == step for step, value in whole.layers)
    else:
        assert max(step for step, _ in whole.layers) <= bad


def test_speed_leaves_compilation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(recording.time, "monotonic", lambda: now[0])
    speed = Speed(batch_size=100, expected=7.0)
    assert speed.seconds_per_step() == 7.0
    for stop, seconds, probes in ((1, 50.0, True), (2, 30.0, False), (12, 5.0, False)):
        now[0] += seconds
        speed.landed(Chunk(stop - (10 if stop == 12 else 1), stop, probes))
        if stop == 1:
            assert math.isnan(speed.images_per_second())
    assert speed.seconds_per_step() == 0.5
    assert speed.images_per_second() == 100 * 10 / 5.0


@pytest.mark.parametrize("value", [0.1, 0.01, 1e-5, 0.3])
def test_a_float32_is_written_as_it_is_read(value: float) -> None:
    assert shortest(jax.numpy.float32(value)) == value
