"""One run from its spec to its records: train, record, evaluate, checkpoint, resume."""

from __future__ import annotations

import functools
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from resnet_study import lease, records
from resnet_study.data import Dataset, Split
from resnet_study.data.batches import BatchOrder, evaluation_batches
from resnet_study.environment import describe
from resnet_study.errors import UserError
from resnet_study.models import layers_of, parameter_count
from resnet_study.optimizers import learning_rate, start_warmup, warmed_rate
from resnet_study.probes import recorded_steps
from resnet_study.records import RunWriter, summarize_errors, write_json
from resnet_study.spec import DatasetShape, OptimizerSpec, RunSpec, ScheduleSpec
from resnet_study.tracking import Tracker
from resnet_study.training import checkpoints
from resnet_study.training.step import (
    Batch,
    EvaluationStep,
    StepMetrics,
    TrainState,
    TrainStep,
    initial_state,
    make_evaluation_step,
    make_train_step,
)

EVALUATION_BATCH = 128
STATUS_SECONDS = 1.0


@dataclass(frozen=True)
class Report:
    """Where a run stands, for a progress display.

    Attributes:
        step: updates taken, of `iterations`.
        error: training error of the last row, percent; NaN before the first.
        images_per_second: since the first step of this process.
    """

    step: int
    iterations: int
    error: float
    images_per_second: float


@dataclass(frozen=True)
class Options:
    """What cannot change the numbers of a run.

    Attributes:
        command: command line for ``environment.json``.
        checkpoint_seconds: wall time between checkpoints.
        on_progress: called about once a second.
        tracker: gets the rows of the records as they are made.
    """

    command: str = ""
    checkpoint_seconds: float = 60.0
    on_progress: Callable[[Report], None] = lambda report: None
    tracker: Tracker = field(default_factory=Tracker)


class Keys(NamedTuple):
    """Random keys of a run, each folded from its seed, so that none depends on another's use."""

    initialization: jax.Array
    order: jax.Array
    augmentation: jax.Array


def keys_of(seed: int) -> Keys:
    """The keys of a seed."""
    root = jax.random.key(seed)
    return Keys(*(jax.random.fold_in(root, purpose) for purpose in range(3)))


class StopFlag:
    """Turns signals into a request to stop after the current step.

    A second signal ends the process at once; the last checkpoint stays.
    """

    requested = False

    def _handle(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listening(self, *signals: signal.Signals) -> Iterator[StopFlag]:
        """Handle these signals within the block; only the main thread can."""
        previous = {number: signal.signal(number, self._handle) for number in signals}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def train(
    spec: RunSpec,
    dataset: Dataset,
    folder: Path,
    options: Options | None = None,
    stop: StopFlag | None = None,
) -> dict[str, Any]:
    """Run one spec in its folder, from its last checkpoint if there is one.

    Args:
        spec: the run.
        dataset: made by `load_dataset` with the spec's data and seed.
        folder: the run folder.
        options: what cannot change the numbers.
        stop: ends the run as `stopped` after the current step, checkpointed.

    Returns:
        The content of ``summary.json``.

    Raises:
        UserError: if another worker holds the run or took it over, or the folder is another
            run's.
    """
    options, stop = options or Options(), stop or StopFlag()
    held = lease.acquire(folder)
    if held is None:
        raise UserError(f"{folder}: another process is working on this run; wait for it or stop it")
    with held:
        records.check_spec(folder, spec)
        finished = records.read_summary(folder)
        if finished.get("status") in ("finished", "diverged"):
            return finished
        loop = _Loop(spec, dataset, folder, options)

        def should_stop() -> bool:
            if held.lost:
                # The folder is another worker's now: nothing more may be written to it.
                raise UserError(f"{folder}: another process took this run over")
            return stop.requested

        try:
            return loop.run(should_stop)
        except UserError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            failed = {"status": "failed", "reason": reason}
            write_json(folder / "summary.json", failed)
            options.tracker.finish(failed)
            raise


class _Loop:
    """The state of one running run on the host."""

    def __init__(self, spec: RunSpec, dataset: Dataset, folder: Path, options: Options) -> None:
        self.spec, self.dataset, self.folder, self.options = spec, dataset, folder, options
        images = dataset.train.images
        height, width, channels = images.shape[1:]
        self.shape = DatasetShape(
            len(images), len(dataset.test), height, width, channels, dataset.classes
        )
        keys = keys_of(spec.seed)
        self.order = BatchOrder(keys.order, len(images), spec.data.batch_size)
        self.augmentation_key = keys.augmentation
        self.pixel_mean = jnp.asarray(dataset.mean)
        self.train_step, self.evaluation_step = compiled_steps(spec, self.shape)
        self.iterations = cast(int, spec.schedule.iterations)
        self.layer_steps = frozenset(
            recorded_steps(self.iterations, cast(int, spec.probes.layers_every))
        )
        self.losses: list[Any] = []
        self.errors: list[Any] = []
        self.rate: Any = self.first_rate()
        self.earlier_seconds = 0.0
        resume = checkpoints.latest_step(folder / "checkpoints")
        self.state = initial_state(spec, self.shape, keys.initialization)
        if resume is not None:
            self.state, progress = checkpoints.restore(
                folder / "checkpoints", resume, like=self.state
            )
            self.losses, self.errors = list(progress.losses), list(progress.errors)
            self.earlier_seconds = progress.seconds
        self.start = self.taken = resume or 0
        self.parameters = parameter_count(self.state.parameters)
        environment = describe(options.command, dataset.source)
        environment |= options.tracker.start(spec, folder, resume)
        self.writer = RunWriter(folder, spec, environment, resume)
        self.began = time.monotonic()
        self.steady: tuple[int, float] | None = None
        self.status_at = self.checkpoint_at = self.began

    def run(self, should_stop: Callable[[], bool]) -> dict[str, Any]:
        if self.start == 0:
            self.evaluate(0)
        for step in range(self.start, self.iterations):
            self.state, metrics = self.train_step(self.state, self.batch(step))
            self.losses.append(metrics.loss)
            self.errors.append(metrics.error)
            self.rate = metrics.learning_rate
            if step in self.layer_steps:
                self.log_layers(step, metrics)
            self.taken = taken = step + 1
            if taken % cast(int, self.spec.probes.log_every) == 0 or taken == self.iterations:
                diverged_at = self.log_training(taken)
                if diverged_at is not None:
                    return self.finish("diverged", diverged_at=diverged_at)
            if taken % cast(int, self.spec.probes.evaluate_every) == 0 or taken == self.iterations:
                self.evaluate(taken)
            self.report(taken)
            if should_stop():
                self.checkpoint()
                return self.finish("stopped", step=taken)
        self.checkpoint()
        if self.iterations in self.layer_steps:
            # One more pass for the layers of the trained network; its update is dropped.
            _, metrics = self.train_step(self.state, self.batch(self.iterations))
            self.log_layers(self.iterations, metrics)
        return self.finish("finished")

    def batch(self, step: int) -> Batch:
        positions = self.order.indices(step)
        rate = learning_rate(self.spec.optimizer, self.spec.schedule, step)
        return Batch(
            images=jnp.asarray(self.dataset.train.images[positions]),
            labels=jnp.asarray(self.dataset.train.labels[positions]),
            pixel_mean=self.pixel_mean,
            learning_rate=jnp.float32(rate),
            augmentation_key=self.augmentation_key,
        )

    def first_rate(self) -> float:
        rate = learning_rate(self.spec.optimizer, self.spec.schedule, 0)
        warmup = start_warmup(self.spec.schedule)
        return float(warmed_rate(warmup, self.spec.schedule, jnp.float32(rate)))

    def epoch(self, step: int) -> float:
        return step * self.spec.data.batch_size / self.order.examples

    def log_layers(self, step: int, metrics: StepMetrics) -> None:
        values = {name: np.asarray(v, np.float64) for name, v in metrics.layers.items()}
        for rows in (self.writer, self.options.tracker):
            rows.log_layers(step, layers_of(self.spec.model.depth), values)

    def log_training(self, step: int) -> int | None:
        """Add a row of training metrics; the step whose loss is not finite, if there is one."""
        losses, errors = (np.asarray(jax.device_get(v), float) for v in (self.losses, self.errors))
        bad = np.flatnonzero(~np.isfinite(losses))
        row = step if not len(bad) else step - len(losses) + int(bad[0])
        kept = slice(None) if not len(bad) else slice(0, int(bad[0]) + 1)
        self.log_metrics(
            row,
            "train",
            loss=float(losses[kept].mean()),
            error=float(errors[kept].mean()),
            learning_rate=shortest(self.rate),
        )
        self.losses, self.errors = [], []
        return row if len(bad) else None

    def log_metrics(self, step: int, split: str, **values: float) -> None:
        for rows in (self.writer, self.options.tracker):
            rows.log_metrics(step, self.epoch(step), split, **values)

    def evaluate(self, step: int) -> None:
        rate = shortest(self.rate)
        for name, split in (
            ("train_clean", self.dataset.train),
            ("val", self.dataset.val),
            ("test", self.dataset.test),
        ):
            if len(split):
                loss, error = evaluate(self.evaluation_step, self.state, split, self.pixel_mean)
                self.log_metrics(step, name, loss=loss, error=error, learning_rate=rate)

    def checkpoint(self) -> None:
        # The records first: rows up to the checkpoint must exist when it is resumed.
        self.writer.flush()
        losses, errors = ([float(x) for x in v] for v in (self.losses, self.errors))
        checkpoints.save(
            self.folder / "checkpoints",
            self.state,
            checkpoints.Progress(losses, errors, self.seconds()),
        )
        self.checkpoint_at = time.monotonic()

    def seconds(self) -> float:
        return self.earlier_seconds + time.monotonic() - self.began

    def images_per_second(self, step: int) -> float:
        if self.steady is None or step == self.steady[0]:
            return math.nan
        first, began = self.steady
        return (step - first) * self.spec.data.batch_size / (time.monotonic() - began)

    def report(self, step: int) -> None:
        """Tell where the run stands and checkpoint, at most once in their intervals."""
        now = time.monotonic()
        if self.steady is None:
            # The first step compiles; speed is that of the others.
            jax.block_until_ready(self.state.step)
            self.steady = (step, time.monotonic())
        if now - self.status_at >= STATUS_SECONDS:
            rows = [row for row in self.writer.metrics if row["split"] == "train"]
            report = Report(
                step=step,
                iterations=self.iterations,
                error=rows[-1]["error"] if rows else math.nan,
                images_per_second=self.images_per_second(step),
            )
            write_json(self.folder / "summary.json", {"status": "running", **vars(report)})
            self.options.on_progress(report)
            self.status_at = now
        if now - self.checkpoint_at >= self.options.checkpoint_seconds:
            self.checkpoint()

    def finish(self, status: str, **more: Any) -> dict[str, Any]:
        rate = self.images_per_second(self.taken)
        summary = {
            "status": status,
            **more,
            "iterations": self.iterations,
            "parameters": self.parameters,
            **summarize_errors(records.metrics_frame(self.writer.metrics)),
            "wall_seconds": self.seconds(),
            "images_per_second": rate,
        }
        self.writer.finish(summary)
        # As it can be read: strict JSON has no NaN.
        written = records.read_summary(self.folder)
        self.options.tracker.finish(written)
        return written


def shortest(value: Any) -> float:
    """A float32 as the shortest decimal that stands for it: 0.1, not 0.10000000149."""
    return float(str(np.float32(value)))


def evaluate(
    step: EvaluationStep, state: TrainState, split: Split, pixel_mean: jax.Array
) -> tuple[float, float]:
    """Mean loss and error in percent over every image of a split, with running statistics."""
    loss = wrong = 0.0
    for positions, mask in evaluation_batches(len(split), EVALUATION_BATCH):
        images, labels = (jnp.asarray(v[positions]) for v in (split.images, split.labels))
        sums = step(
            state.parameters, state.statistics, images, labels, jnp.asarray(mask), pixel_mean
        )
        loss += float(sums.loss)
        wrong += float(sums.wrong)
    return loss / len(split), 100 * wrong / len(split)


def compiled_steps(spec: RunSpec, shape: DatasetShape) -> tuple[TrainStep, EvaluationStep]:
    """The jitted steps; runs that differ in seed, rate or schedule only share them."""
    optimizer = replace(spec.optimizer, learning_rate=OptimizerSpec.learning_rate)
    error = spec.schedule.warmup_error
    rate = spec.schedule.warmup_learning_rate if error else ScheduleSpec.warmup_learning_rate
    schedule = ScheduleSpec(warmup_error=error, warmup_learning_rate=rate)
    same = RunSpec(spec.model, spec.data, optimizer, schedule)
    return _compiled_steps(same, shape)


@functools.lru_cache(maxsize=1)
def _compiled_steps(spec: RunSpec, shape: DatasetShape) -> tuple[TrainStep, EvaluationStep]:
    jax.clear_caches()
    train_step = jax.jit(make_train_step(spec, shape), donate_argnums=0)
    return train_step, jax.jit(make_evaluation_step(spec, shape))
