"""What the loop measures on its way to the records: rows of metrics and layers, and speed."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

import jax
import numpy as np

from resnet_study.models import layers_of
from resnet_study.records import RunWriter
from resnet_study.spec import RunSpec
from resnet_study.tracking.tracker import Tracker
from resnet_study.training.chunks import Chunk, Plan
from resnet_study.training.optimizer import first_rate
from resnet_study.training.step import StepMetrics


class Recording:
    """The rows of a run. A process that writes no records has neither writer nor tracker.

    Args:
        spec, plan: of the run.
        examples: training images.
        writer, tracker: get every row.
        losses, errors: of the iterations since the last row of training metrics.
    """

    def __init__(
        self,
        spec: RunSpec,
        plan: Plan,
        examples: int,
        writer: RunWriter | None,
        tracker: Tracker | None,
        losses: list[float],
        errors: list[float],
    ) -> None:
        self.layers, self.plan = layers_of(spec.model), plan
        self.epochs_per_step = spec.data.batch_size / examples
        self.sinks: list[RunWriter | Tracker] = [s for s in (writer, tracker) if s is not None]
        self.losses, self.errors = list(losses), list(errors)
        self.rate = shortest(first_rate(spec))
        rows = writer.metrics if writer else []
        before = (row["error"] for row in reversed(rows) if row["split"] == "train")
        self.error = next(before, math.nan)

    def chunk(self, chunk: Chunk, metrics: StepMetrics) -> int | None:
        """Record a chunk; the step at which the run diverged, if it did.

        Nothing that comes after the first loss that is not finite is recorded.
        """
        losses = np.asarray(metrics.loss, float)
        bad = np.flatnonzero(~np.isfinite(losses))
        kept = len(losses) if not len(bad) else int(bad[0]) + 1
        self.layer_rows(chunk, jax.tree.map(lambda m: m[:kept], metrics))
        self.losses += losses[:kept].tolist()
        self.errors += np.asarray(metrics.error, float)[:kept].tolist()
        self.rate = shortest(metrics.learning_rate[kept - 1])
        if len(bad):
            step = chunk.start + int(bad[0])
            # The loss is that of the network after `step` updates; where that many have a row
            # of their own already, which holds the mini-batches before, it gets the next.
            row = step + 1 if step > 0 and self.plan.logs(step) else step
            self.training(row)
            return row
        if self.plan.logs(chunk.stop):
            self.training(chunk.stop)
        return None

    def layer_rows(self, chunk: Chunk, metrics: StepMetrics) -> None:
        """Record the layers of the iterations of a chunk that have them."""
        for index, step in enumerate(range(chunk.start, chunk.stop)):
            if step not in self.plan.recorded or index >= len(metrics.loss):
                continue
            values = {k: np.asarray(v[index], np.float64) for k, v in metrics.layers.items()}
            for sink in self.sinks:
                sink.log_layers(step, self.layers, values)

    def training(self, step: int) -> None:
        """Add a row of training metrics: means since the last one."""
        self.error = float(np.mean(self.errors))
        self.row(step, "train", float(np.mean(self.losses)), self.error)
        self.losses, self.errors = [], []

    def row(self, step: int, split: str, loss: float, error: float) -> None:
        """Add a row."""
        epoch = step * self.epochs_per_step
        for sink in self.sinks:
            sink.log_metrics(step, epoch, split, loss=loss, error=error, learning_rate=self.rate)


class Speed:
    """How fast a run is, compilation left out.

    Args:
        batch_size: images of an iteration.
        expected: seconds of an iteration before one has been timed.
    """

    def __init__(self, batch_size: int, expected: float) -> None:
        self.batch_size, self.expected = batch_size, expected
        self.fetched_at = time.monotonic()
        self.steady: tuple[int, float] | None = None
        self.taken = 0
        self.recent: deque[float] = deque(maxlen=8)
        self.compiled: set[bool] = set()

    def landed(self, chunk: Chunk) -> None:
        """Take the time of a chunk whose numbers have come."""
        before, self.fetched_at = self.fetched_at, time.monotonic()
        self.taken = chunk.stop
        if chunk.probes in self.compiled:
            self.recent.append((self.fetched_at - before) / len(chunk))
        else:
            self.compiled.add(chunk.probes)
            self.steady = (chunk.stop, self.fetched_at)

    def seconds_per_step(self) -> float:
        """The least of late, since evaluations and checkpoints come in between."""
        return min(self.recent, default=self.expected) or math.inf

    def images_per_second(self) -> float:
        """Since everything is compiled; NaN before."""
        if self.steady is None or self.taken == self.steady[0]:
            return math.nan
        first, began = self.steady
        return (self.taken - first) * self.batch_size / (time.monotonic() - began)


def shortest(value: Any) -> float:
    """A scalar as the shortest decimal that stands for it in its type: 0.1, not 0.10000000149."""
    return float(str(np.asarray(value)[()]))
