"""One run from its spec to its records: train, record, evaluate, checkpoint, resume."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from resnet_study import lease, records
from resnet_study.data import Dataset
from resnet_study.environment import describe
from resnet_study.errors import UserError, told
from resnet_study.files import write_json
from resnet_study.models import parameter_count
from resnet_study.records import RunWriter, integrity, summarize_errors
from resnet_study.spec import RunSpec
from resnet_study.tensors import arithmetic
from resnet_study.training import checkpoints, devices
from resnet_study.training.chunks import CAPACITY, Chunk, next_chunk, plan_of
from resnet_study.training.devices import Devices
from resnet_study.training.options import Execution, Host, Options, Standing
from resnet_study.training.programs import SplitName, keys_of, program_of, shape_of
from resnet_study.training.recording import Recording, Speed
from resnet_study.training.step import StepMetrics, TrainState, initial_state

STATUS_SECONDS = 1.0
CHUNK_SECONDS = 0.5
"""What a chunk should take, so that interrupts, progress and checkpoints come in time."""

EVALUATED: tuple[tuple[str, SplitName], ...] = (
    ("train_clean", "train"),
    ("val", "val"),
    ("test", "test"),
)
"""Names of evaluated splits in the records, and in the data."""

Evaluations = Sequence[tuple[str, Callable[[], tuple[float, float]]]]
"""Split in the records, and what waits for loss and error."""


def train(
    spec: RunSpec,
    dataset: Dataset,
    folder: Path,
    options: Options | None = None,
    host: Host | None = None,
) -> dict[str, Any]:
    """Run one spec in its folder, from its last checkpoint if there is one.

    In a distributed run every process calls this. Process 0 alone reads and writes the folder.

    Args:
        spec: the run.
        dataset: made by `load_dataset` with the spec's data and seed.
        folder: the run folder.
        options: what is no part of the spec.
        host: what this process has for the run.

    Returns:
        The content of ``summary.json``; its ``status`` alone beside process 0.

    Raises:
        UserError: if another worker holds the run or took it over, the folder is another run's,
            records of it were lost, or it cannot be computed or continued on these devices.
    """
    try:
        with arithmetic(spec.model.precision):
            return _train(spec, dataset, folder, options or Options(), host or Host())
    except UserError:
        # A run that was refused at once is none: it leaves no empty folder.
        with suppress(OSError):
            folder.rmdir()
        raise


def _train(
    spec: RunSpec, dataset: Dataset, folder: Path, options: Options, host: Host
) -> dict[str, Any]:
    devices.save_memory(spec)
    if not devices.is_main():
        said = devices.announce()
        if said == "refused":
            raise UserError("process 0 refused this run; see what it says")
        if said == "done":
            return {"status": "finished"}
        start = _start(spec, dataset, None, options.execution)
        return _Loop(spec, dataset, start, options, host).run(lambda: host.stop.requested)
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
            if finished.get("status") in records.DONE:
                records.write_spec(folder, spec)
                if problem := integrity.problem_of(folder):
                    raise UserError(problem)
                devices.announce("done")
                return finished
            start = _start(spec, dataset, folder, options.execution)
        devices.announce("train")

        def should_stop() -> bool:
            if held.lost:
                # The folder is another worker's now: nothing more may be written to it.
                raise UserError(f"{folder}: another process took this run over")
            return host.stop.requested

        try:
            return _Loop(spec, dataset, start, options, host).run(should_stop)
        except UserError:
            raise
        except Exception as error:
            failed = {"status": "failed", "reason": told(error)}
            write_json(folder / "summary.json", failed)
            host.tracker.finish(failed)
            raise


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
    folder: Path | None
    """None in a process that writes no records."""
    state: TrainState
    progress: checkpoints.Progress
    resume: int | None


def _start(spec: RunSpec, dataset: Dataset, folder: Path | None, execution: Execution) -> _Start:
    """From the last checkpoint in the folder, or from the seed."""
    begun = _begun(folder) if folder else None
    try:
        chosen = devices.choose(execution, spec, begun)
    except UserError as error:
        raise UserError(f"{folder}: {error}" if folder else str(error)) from None
    state = initial_state(spec, shape_of(dataset), keys_of(spec.seed).initialization)
    if folder:
        recorded = partial(integrity.problem_at, folder, spec)
        found = checkpoints.restore_newest(folder / "checkpoints", state, recorded)
        if found is not None:
            return _Start(chosen, folder, *found, resume=int(found[0].step))
        if reached := integrity.check_afresh(folder):
            said = f"{folder}: had come to iteration {reached:,} but has no checkpoint"
            print(f"{said}; it begins again", file=sys.stderr)
    return _Start(chosen, folder, state, checkpoints.Progress([], [], 0.0), None)


def _begun(folder: Path) -> dict[str, Any] | None:
    """With what a run was begun that goes on from a checkpoint."""
    if not checkpoints.steps(folder / "checkpoints"):
        return None
    environment = records.read_environment(folder)
    if not environment:
        raise UserError(
            f"{folder}/environment.json: is missing, which says with what kernels and devices this "
            f"run was begun; restore it, or remove {folder} to train it again"
        )
    return devices.begun_with(environment)


class _Flight(NamedTuple):
    """A chunk on its way: started, its numbers not fetched."""

    chunk: Chunk
    metrics: Callable[[], StepMetrics]
    evaluations: Evaluations
    """Of the network after the chunk."""


class _Loop:
    """A running run on the host.

    The numbers of a chunk are fetched when the next one has been started, so that the device
    never waits. What is recorded does not depend on where chunks are cut.
    """

    def __init__(
        self, spec: RunSpec, dataset: Dataset, start: _Start, options: Options, host: Host
    ) -> None:
        self.options, self.host = options, host
        self.plan = plan_of(spec, shape_of(dataset))
        self.program = program_of(spec, dataset, start.devices)
        self.evaluated = [named for named in EVALUATED if len(getattr(dataset, named[1]))]
        # Leaves of process 0, so that every process continues from its checkpoint.
        self.state = start.devices.replicate(devices.from_main(start.state))
        self.writer: RunWriter | None = None
        if start.folder is not None:
            environment = describe(host.command, dataset.source, dataset.digest)
            environment["execution"] = start.devices.record()
            environment |= host.tracker.start(spec, start.folder, environment, start.resume)
            self.writer = RunWriter(start.folder, spec, environment, start.resume)
        self.recording = Recording(
            spec,
            self.plan,
            len(dataset.train),
            self.writer,
            host.tracker if self.writer else None,
            start.progress.losses,
            start.progress.errors,
        )
        self.speed = Speed(spec.data.batch_size, expected=CHUNK_SECONDS)
        self.reported_at = self.saved_at = time.monotonic()
        self.began = time.monotonic() - start.progress.seconds

    # What reaches the device is put there by `jax.device_put`; anything else is an error. The other
    # direction is not guarded: on a CPU, where this is tested, it is no transfer.
    @jax.transfer_guard_host_to_device("disallow")
    def run(self, should_stop: Callable[[], bool]) -> dict[str, Any]:
        started, longest = int(jax.device_get(self.state.step)), 1
        if started == 0:
            self.record_evaluations(0, self.evaluate())
        flight: _Flight | None = None
        while started < self.plan.iterations:
            chunk = next_chunk(self.plan, started, longest)
            before, flight, started = flight, self.dispatch(chunk), chunk.stop
            if before is not None and (bad := self.land(before)) is not None:
                return self.finish("diverged", diverged_at=bad)
            stop, save, seconds = devices.most(
                should_stop(), self.checkpoint_due(), self.speed.seconds_per_step()
            )
            longest = int(max(1, min(CAPACITY, CHUNK_SECONDS / seconds)))
            if stop or save or started == self.plan.iterations:
                if (bad := self.land(flight)) is not None:
                    return self.finish("diverged", diverged_at=bad)
                flight = None
                self.checkpoint()
            if stop:
                return self.finish("stopped", step=started)
        if self.plan.iterations in self.plan.recorded:
            # One more pass for the layers of the trained network; its update is dropped.
            more = Chunk(self.plan.iterations, self.plan.iterations + 1, probes=True)
            self.recording.layer_rows(more, self.dispatch(more).metrics())
        return self.finish("finished")

    def dispatch(self, chunk: Chunk) -> _Flight:
        """Start a chunk, and the evaluations that are due after it."""
        self.state, metrics = self.program.train(self.state, chunk)
        due = chunk.stop <= self.plan.iterations and self.plan.evaluates(chunk.stop)
        return _Flight(chunk, metrics, self.evaluate() if due else ())

    def land(self, flight: _Flight) -> int | None:
        """Wait for a chunk and record it; the step at which the run diverged, if it did."""
        taken = flight.chunk.stop
        if (bad := self.recording.chunk(flight.chunk, flight.metrics())) is not None:
            return bad
        self.record_evaluations(taken, flight.evaluations)
        self.speed.landed(flight.chunk)
        self.report(taken)
        return None

    def evaluate(self) -> Evaluations:
        """Start the evaluation of every split that has images."""
        return [(name, self.program.evaluate(self.state, split)) for name, split in self.evaluated]

    def record_evaluations(self, step: int, evaluations: Evaluations) -> None:
        for name, result in evaluations:
            self.recording.row(step, name, *result())

    def checkpoint_due(self) -> bool:
        """Process 0 decides for all."""
        return (
            self.writer is not None
            and time.monotonic() - self.saved_at >= self.options.checkpoint_seconds
        )

    def checkpoint(self) -> None:
        """Save the state; no chunk is on its way."""
        if self.writer is not None:
            # The records first: rows up to the checkpoint must exist when it is resumed.
            self.writer.flush()
            seconds = time.monotonic() - self.began
            losses, errors = self.recording.losses, self.recording.errors
            progress = checkpoints.Progress(losses, errors, seconds)
            checkpoints.save(self.writer.folder / "checkpoints", self.state, progress)
        self.saved_at = time.monotonic()

    def report(self, taken: int) -> None:
        """Tell where the run stands, at most once in the interval."""
        now = time.monotonic()
        if self.writer is None or now - self.reported_at < STATUS_SECONDS:
            return
        rate = self.speed.images_per_second()
        standing = Standing(taken, self.plan.iterations, self.recording.error, rate)
        write_json(self.writer.folder / "summary.json", {"status": "running", **vars(standing)})
        self.reported_at = now
        # To show where a run stands must not end it.
        with suppress(Exception):
            self.host.on_progress(standing)

    def finish(self, status: str, **more: Any) -> dict[str, Any]:
        if self.writer is None:
            return {"status": status}
        summary = {
            "status": status,
            **more,
            "iterations": self.plan.iterations,
            "parameters": parameter_count(self.state.parameters),
            **summarize_errors(records.metrics_frame(self.writer.metrics)),
            "wall_seconds": time.monotonic() - self.began,
            "images_per_second": self.speed.images_per_second(),
        }
        self.writer.finish(summary)
        # As it can be read: strict JSON has no NaN.
        written = records.read_summary(self.writer.folder)
        self.host.tracker.finish(written)
        return written
