"""One run from its spec to its records: train, record, evaluate, checkpoint, resume."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resnet_study import lease, records
from resnet_study.data import Dataset
from resnet_study.environment import describe
from resnet_study.errors import UserError
from resnet_study.models import layers_of, parameter_count
from resnet_study.records import RunWriter, summarize_errors, write_json
from resnet_study.spec import RunSpec
from resnet_study.training import checkpoints, devices
from resnet_study.training.chunks import CAPACITY, Chunk, next_chunk, plan_of
from resnet_study.training.devices import Devices
from resnet_study.training.execution import Execution, save_memory
from resnet_study.training.optimizer import learning_rate, start_warmup, warmed_rate
from resnet_study.training.options import Options, Report, StopFlag
from resnet_study.training.programs import SplitName, keys_of, program_of, shape_of
from resnet_study.training.step import StepMetrics, TrainState, initial_state

__all__ = ["Execution", "Options", "Report", "StopFlag", "keys_of", "train"]

STATUS_SECONDS = 1.0
CHUNK_SECONDS = 0.5
"""What a chunk should take, so that signals, progress and checkpoints come in time."""

EVALUATED: tuple[tuple[str, SplitName], ...] = (
    ("train_clean", "train"),
    ("val", "val"),
    ("test", "test"),
)
"""Names of evaluated splits in the records, and in the data."""


def train(
    spec: RunSpec,
    dataset: Dataset,
    folder: Path,
    options: Options | None = None,
    stop: StopFlag | None = None,
) -> dict[str, Any]:
    """Run one spec in its folder, from its last checkpoint if there is one.

    In a distributed run every process calls this. Process 0 alone reads and writes the folder.

    Args:
        spec: the run.
        dataset: made by `load_dataset` with the spec's data and seed.
        folder: the run folder.
        options: what is no part of the spec.
        stop: ends the run as `stopped` after the current chunk, checkpointed.

    Returns:
        The content of ``summary.json``.

    Raises:
        UserError: if another worker holds the run or took it over, the folder is another run's,
            or the run cannot be computed or continued on these devices.
    """
    options, stop = options or Options(), stop or StopFlag()
    save_memory(spec)
    if not devices.is_main():
        return _follow(spec, dataset, folder, options, stop)
    with _refusing_together():
        held = lease.acquire(folder)
        if held is None:
            raise UserError(
                f"{folder}: another process is working on this run; wait for it or stop it"
            )
    with held:
        with _refusing_together():
            records.check_spec(folder, spec)
            finished = records.read_summary(folder)
            done = finished.get("status") in records.DONE
            start = None if done else _start(spec, dataset, folder, options.execution)
        devices.announce("done" if done else "train")
        if start is None:
            return finished

        def should_stop() -> bool:
            if held.lost:
                # The folder is another worker's now: nothing more may be written to it.
                raise UserError(f"{folder}: another process took this run over")
            return stop.requested

        try:
            loop = _Loop(spec, dataset, folder, options, start)
            return loop.run(should_stop)
        except UserError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            failed = {"status": "failed", "reason": reason}
            write_json(folder / "summary.json", failed)
            options.tracker.finish(failed)
            raise


def _follow(
    spec: RunSpec, dataset: Dataset, folder: Path, options: Options, stop: StopFlag
) -> dict[str, Any]:
    """The part of the other processes of a distributed run: they compute, and write nothing."""
    said = devices.announce()
    if said == "refused":
        raise UserError("process 0 refused this run; see what it says")
    if said == "done":
        return {"status": "finished"}
    chosen = devices.choose(options.execution, spec)
    state = _fresh_state(spec, dataset)
    start = _Start(chosen, state, checkpoints.Progress([], [], 0.0), None)
    options = Options(execution=options.execution)
    return _Loop(spec, dataset, folder, options, start).run(lambda: stop.requested)


@contextmanager
def _refusing_together() -> Iterator[None]:
    """Let the other processes of a distributed run know if this one refuses it."""
    try:
        yield
    except BaseException:
        devices.announce("refused")
        raise


class _Start(NamedTuple):
    """Where a run begins or continues."""

    devices: Devices
    state: TrainState
    progress: checkpoints.Progress
    resume: int | None


def _start(spec: RunSpec, dataset: Dataset, folder: Path, execution: Execution) -> _Start:
    """From the last checkpoint, or from the seed."""
    resume = checkpoints.latest_step(folder / "checkpoints")
    begun = None
    if resume is not None:
        begun = devices.begun_with(records.read_environment(folder))
    try:
        chosen = devices.choose(execution, spec, begun)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    state, progress = _fresh_state(spec, dataset), checkpoints.Progress([], [], 0.0)
    if resume is not None:
        state, progress = checkpoints.restore(folder / "checkpoints", resume, like=state)
    return _Start(chosen, state, progress, resume)


def _fresh_state(spec: RunSpec, dataset: Dataset) -> TrainState:
    return initial_state(spec, shape_of(dataset), keys_of(spec.seed).initialization)


class _Unwritten:
    """What the processes beside process 0 have in place of a `RunWriter`."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, Any]] = []

    def log_metrics(self, step: int, epoch: float, split: str, **values: float) -> None:
        self.metrics.append({"step": step, "epoch": epoch, "split": split, **values})

    def log_layers(self, *arguments: Any) -> None:
        """As `RunWriter.log_layers`."""


class _Flight(NamedTuple):
    """A chunk on its way: started, its numbers not fetched."""

    chunk: Chunk
    metrics: Callable[[], StepMetrics]
    evaluations: Sequence[tuple[str, Callable[[], tuple[float, float]]]]
    """Of the network after the chunk."""
    first: bool
    """Whether its program was compiled for it."""


class _Loop:
    """The state of one running run on the host.

    The numbers of a chunk are fetched when the next one has been started, so that the device
    never waits. What is recorded does not depend on where chunks are cut.
    """

    def __init__(
        self, spec: RunSpec, dataset: Dataset, folder: Path, options: Options, start: _Start
    ) -> None:
        self.spec, self.folder, self.options = spec, folder, options
        self.devices, self.plan = start.devices, plan_of(spec, shape_of(dataset))
        self.examples = len(dataset.train)
        self.evaluated = [named for named in EVALUATED if len(getattr(dataset, named[1]))]
        self.program = program_of(spec, dataset, self.devices)
        # Leaves of process 0, so that every process continues from its checkpoint.
        self.state = self.devices.replicate(devices.from_main(start.state))
        self.parameters = parameter_count(self.state.parameters)
        self.losses, self.errors = list(start.progress.losses), list(start.progress.errors)
        self.earlier_seconds = start.progress.seconds
        self.start = self.taken = int(self.state.step)
        self.rate = self.first_rate()
        self.main = devices.is_main()
        self.writer: RunWriter | _Unwritten = _Unwritten()
        if self.main:
            environment = describe(options.command, dataset.source, dataset.digest)
            environment["execution"] = self.devices.record()
            environment |= options.tracker.start(spec, folder)
            self.writer = RunWriter(folder, spec, environment, start.resume)
        self.began = self.fetched_at = time.monotonic()
        self.steady: tuple[int, float] | None = None
        self.step_seconds: deque[float] = deque(maxlen=8)
        self.compiled: set[bool] = set()
        self.status_at = self.checkpoint_at = self.began

    # A transfer that nobody asked for by `jax.device_put` or `jax.device_get` is an error.
    @jax.transfer_guard("disallow")
    def run(self, should_stop: Callable[[], bool]) -> dict[str, Any]:
        if self.start == 0:
            self.log_evaluations(0, self.evaluate())
        flight: _Flight | None = None
        started, longest = self.start, 1
        while started < self.plan.iterations:
            chunk = next_chunk(self.plan, started, longest)
            before, flight, started = flight, self.dispatch(chunk), chunk.stop
            if before is not None and (bad := self.land(before)) is not None:
                return self.finish("diverged", diverged_at=bad)
            stop, save, seconds = devices.most(
                should_stop(), self.main and self.checkpoint_due(), self.seconds_per_step()
            )
            longest = int(max(1, min(CAPACITY, CHUNK_SECONDS / seconds)))
            if stop or save:
                if (bad := self.land(flight)) is not None:
                    return self.finish("diverged", diverged_at=bad)
                flight = None
                self.checkpoint()
            if stop:
                return self.finish("stopped", step=started)
        if flight is not None and (bad := self.land(flight)) is not None:
            return self.finish("diverged", diverged_at=bad)
        self.checkpoint()
        if self.plan.iterations in self.plan.recorded:
            # One more pass for the layers of the trained network; its update is dropped.
            more = Chunk(self.plan.iterations, self.plan.iterations + 1, probes=True)
            self.log_layers(more, self.dispatch(more).metrics())
        return self.finish("finished")

    def dispatch(self, chunk: Chunk) -> _Flight:
        """Start a chunk, and the evaluations that are due after it."""
        first = chunk.probes not in self.compiled
        self.compiled.add(chunk.probes)
        self.state, metrics = self.program.train(self.state, chunk)
        due = chunk.stop <= self.plan.iterations and self.plan.evaluates(chunk.stop)
        return _Flight(chunk, metrics, self.evaluate() if due else (), first)

    def land(self, flight: _Flight) -> int | None:
        """Wait for a chunk and record it; the step at which the run diverged, if it did.

        Nothing that comes after the first loss that is not finite is recorded.
        """
        chunk, metrics = flight.chunk, flight.metrics()
        losses = np.asarray(metrics.loss, float)
        bad = np.flatnonzero(~np.isfinite(losses))
        kept = len(losses) if not len(bad) else int(bad[0]) + 1
        self.log_layers(chunk, jax.tree.map(lambda m: m[:kept], metrics))
        self.losses += losses[:kept].tolist()
        self.errors += np.asarray(metrics.error, float)[:kept].tolist()
        self.rate = shortest(metrics.learning_rate[kept - 1])
        if len(bad):
            step = chunk.start + int(bad[0])
            # The loss is that of the network after `step` updates; where that many have a row
            # of their own already, which holds the mini-batches before, it gets the next.
            row = step + 1 if step > 0 and self.plan.logs(step) else step
            self.log_training(row)
            return row
        self.taken = chunk.stop
        if self.plan.logs(self.taken):
            self.log_training(self.taken)
        self.log_evaluations(self.taken, flight.evaluations)
        self.measure(flight)
        self.report()
        return None

    def first_rate(self) -> float:
        rate = learning_rate(self.spec.optimizer, self.spec.schedule, 0)
        warmup = start_warmup(self.spec.schedule)
        return shortest(warmed_rate(warmup, self.spec.schedule, jnp.float32(rate)))

    def log_layers(self, chunk: Chunk, metrics: StepMetrics) -> None:
        """Record the layers of the iterations of a chunk that have them."""
        for index, step in enumerate(range(chunk.start, chunk.stop)):
            if step not in self.plan.recorded or index >= len(metrics.loss):
                continue
            values = {k: np.asarray(v[index], np.float64) for k, v in metrics.layers.items()}
            for rows in (self.writer, self.options.tracker):
                rows.log_layers(step, layers_of(self.spec.model.depth), values)

    def log_training(self, step: int) -> None:
        """Add a row: means since the last one."""
        loss, error = float(np.mean(self.losses)), float(np.mean(self.errors))
        self.log_metrics(step, "train", loss=loss, error=error, learning_rate=self.rate)
        self.losses, self.errors = [], []

    def log_metrics(self, step: int, split: str, **values: float) -> None:
        epoch = step * self.spec.data.batch_size / self.examples
        for rows in (self.writer, self.options.tracker):
            rows.log_metrics(step, epoch, split, **values)

    def evaluate(self) -> list[tuple[str, Callable[[], tuple[float, float]]]]:
        """Start the evaluation of every split that has images."""
        return [(name, self.program.evaluate(self.state, split)) for name, split in self.evaluated]

    def log_evaluations(
        self, step: int, evaluations: Sequence[tuple[str, Callable[[], tuple[float, float]]]]
    ) -> None:
        for name, result in evaluations:
            loss, error = result()
            self.log_metrics(step, name, loss=loss, error=error, learning_rate=self.rate)

    def checkpoint_due(self) -> bool:
        return time.monotonic() - self.checkpoint_at >= self.options.checkpoint_seconds

    def checkpoint(self) -> None:
        """Save the state; no chunk is on its way."""
        if isinstance(self.writer, RunWriter):
            # The records first: rows up to the checkpoint must exist when it is resumed.
            self.writer.flush()
            progress = checkpoints.Progress(self.losses, self.errors, self.seconds())
            checkpoints.save(self.folder / "checkpoints", self.state, progress)
        self.checkpoint_at = time.monotonic()

    def seconds(self) -> float:
        return self.earlier_seconds + time.monotonic() - self.began

    def measure(self, flight: _Flight) -> None:
        """Take the time of a chunk that landed."""
        before, self.fetched_at = self.fetched_at, time.monotonic()
        if flight.first:
            # Compilation is no part of the speed.
            self.steady = (self.taken, self.fetched_at)
        else:
            self.step_seconds.append((self.fetched_at - before) / len(flight.chunk))

    def seconds_per_step(self) -> float:
        """The least of late, since evaluations and checkpoints come in between."""
        return min(self.step_seconds, default=CHUNK_SECONDS) or math.inf

    def images_per_second(self) -> float:
        if self.steady is None or self.taken == self.steady[0]:
            return math.nan
        first, began = self.steady
        return (self.taken - first) * self.spec.data.batch_size / (time.monotonic() - began)

    def report(self) -> None:
        """Tell where the run stands, at most once in the interval."""
        now = time.monotonic()
        if not self.main or now - self.status_at < STATUS_SECONDS:
            return
        rows = [row for row in self.writer.metrics if row["split"] == "train"]
        report = Report(
            step=self.taken,
            iterations=self.plan.iterations,
            error=rows[-1]["error"] if rows else math.nan,
            images_per_second=self.images_per_second(),
        )
        write_json(self.folder / "summary.json", {"status": "running", **vars(report)})
        self.options.on_progress(report)
        self.status_at = now

    def finish(self, status: str, **more: Any) -> dict[str, Any]:
        rate = self.images_per_second()
        summary = {
            "status": status,
            **more,
            "iterations": self.plan.iterations,
            "parameters": self.parameters,
            **summarize_errors(records.metrics_frame(self.writer.metrics)),
            "wall_seconds": self.seconds(),
            "images_per_second": rate,
        }
        if not isinstance(self.writer, RunWriter):
            return summary
        self.writer.finish(summary)
        # As it can be read: strict JSON has no NaN.
        written = records.read_summary(self.folder)
        self.options.tracker.finish(written)
        return written


def shortest(value: Any) -> float:
    """A float32 as the shortest decimal that stands for it: 0.1, not 0.10000000149."""
    return float(str(np.float32(value)))
