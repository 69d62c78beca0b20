"""How the steps reach a device: one at a time on a CPU, a chunk per dispatch elsewhere.

Both ways draw the same batches in the same order and hand back the same series of metrics;
`train` and `evaluate` start the work and return a function that waits for its numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from resnet_study.data import Dataset, Split
from resnet_study.data.batches import (
    BatchOrder,
    epochs_touched,
    evaluation_batches,
    order_of_epochs,
)
from resnet_study.datasets import DatasetShape
from resnet_study.spec import OptimizerSpec, ProbeSpec, RunSpec, ScheduleSpec
from resnet_study.training.chunks import CAPACITY, Chunk
from resnet_study.training.devices import Devices
from resnet_study.training.optimizer import learning_rate
from resnet_study.training.step import (
    Batch,
    EvaluationStep,
    EvaluationSums,
    StepMetrics,
    TrainState,
    TrainStep,
    make_evaluation_step,
    make_train_step,
)

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

CPU_EVALUATION_BATCH = 128
EVALUATION_BATCH = 512
"""Images of an evaluation batch on a CPU and elsewhere; changes results by rounding only."""


class Keys(NamedTuple):
    """Random keys of a run, each folded from its seed, so that none depends on another's use."""

    initialization: Array
    order: Array
    augmentation: Array
    dropout: Array


def keys_of(seed: int) -> Keys:
    """The keys of a seed."""
    root = jax.random.key(seed)
    return Keys(*(jax.random.fold_in(root, purpose) for purpose in range(4)))


def shape_of(dataset: Dataset) -> DatasetShape:
    """Its training and test images, after the split."""
    images = dataset.train.images
    height, width, channels = images.shape[1:]
    return DatasetShape(len(images), len(dataset.test), height, width, channels, dataset.classes)


class Program(Protocol):
    """What the loop asks of either way."""

    def train(
        self, state: TrainState, chunk: Chunk
    ) -> tuple[TrainState, Callable[[], StepMetrics]]:
        """Start the iterations of a chunk; `state` is used up.

        Returns:
            The state after it, and what waits for the metrics: NumPy arrays, those of
            `StepMetrics` with an axis for the iterations in front.
        """

    def evaluate(self, state: TrainState, split: SplitName) -> Callable[[], tuple[float, float]]:
        """Start an evaluation on every image of a split, with running statistics.

        Returns:
            What waits for the mean loss and the error in percent.
        """


def program_of(spec: RunSpec, dataset: Dataset, devices: Devices) -> Program:
    """The way for these devices.

    Inside a while loop XLA:CPU falls off its fast convolution, 30-40 times slower, so a CPU
    gets its steps one by one. An accelerator that waits for the host between them idles.
    """
    return (Stepwise if devices.platform == "cpu" else Chunked)(spec, dataset, devices)


class Stepwise:
    """Every step is a dispatch; the host draws the next batch while the device computes.

    Args:
        spec: the run.
        dataset: its data, which stay on the host.
        devices: one or several.
    """

    def __init__(self, spec: RunSpec, dataset: Dataset, devices: Devices) -> None:
        self.spec, self.dataset, self.devices = spec, dataset, devices
        keys = keys_of(spec.seed)
        self.order = BatchOrder(keys.order, len(dataset.train), spec.data.batch_size)
        self.step_keys = devices.replicate((keys.augmentation, keys.dropout))
        self.pixel_mean: Array = devices.replicate(dataset.mean)
        self.programs = programs_of(spec, shape_of(dataset), devices)

    def train(
        self, state: TrainState, chunk: Chunk
    ) -> tuple[TrainState, Callable[[], StepMetrics]]:
        step = self.programs.with_probes if chunk.probes else self.programs.without_probes
        series = []
        for iteration in range(chunk.start, chunk.stop):
            state, metrics = step(state, self.batch(iteration))
            series.append(metrics)
        return state, lambda: jax.tree.map(lambda *m: np.stack(m), *jax.device_get(series))

    def batch(self, iteration: int) -> Batch:
        """What an iteration sees."""
        train, positions = self.dataset.train, self.order.indices(iteration)
        rate = learning_rate(self.spec.optimizer, self.spec.schedule, iteration)
        return Batch(
            self.devices.split(train.images[positions]),
            self.devices.split(train.labels[positions]),
            self.pixel_mean,
            self.devices.replicate(np.asarray(rate, jnp.result_type(float))),
            *self.step_keys,
        )

    def evaluate(self, state: TrainState, split: SplitName) -> Callable[[], tuple[float, float]]:
        images: Split = getattr(self.dataset, split)
        size = _multiple(CPU_EVALUATION_BATCH, len(self.devices.members))
        sums = []
        for positions, mask in evaluation_batches(len(images), size):
            now = self.programs.evaluation(
                state.parameters,
                state.statistics,
                self.devices.split(images.images[positions]),
                self.devices.split(images.labels[positions]),
                self.devices.split(mask),
                self.pixel_mean,
            )
            # One at a time: XLA:CPU would run several at once, each with memory of its own.
            sums.append(jax.device_get(now))
        loss, wrong = np.sum(np.array(sums, np.float64), axis=0)
        return lambda: (float(loss) / len(images), 100 * float(wrong) / len(images))


class Chunked:
    """A chunk of steps is a dispatch; the data stay on the device, the host prepares nothing.

    Shuffling, augmentation and normalisation happen inside the program. The number of steps
    is an argument, so that one compilation serves chunks of every length, and the numbers do
    not depend on where chunks are cut.

    Args:
        spec: the run.
        dataset: its data, copied to every device.
        devices: one or several.
    """

    def __init__(self, spec: RunSpec, dataset: Dataset, devices: Devices) -> None:
        self.spec, self.devices = spec, devices
        splits: list[Split] = [getattr(dataset, name) for name in SPLITS]
        self.sizes = dict(zip(SPLITS, map(len, splits), strict=True))
        parts: list[Any] = [
            np.concatenate([split.images for split in splits]),
            np.concatenate([split.labels for split in splits]),
            dataset.mean,
        ]
        self.data: DeviceData = devices.replicate(DeviceData(*parts))
        keys = keys_of(spec.seed)
        self.keys = devices.replicate((keys.order, keys.augmentation, keys.dropout))
        shape = shape_of(dataset)
        self.programs = programs_of(spec, shape, devices, max(self.sizes.values()))

    def train(
        self, state: TrainState, chunk: Chunk
    ) -> tuple[TrainState, Callable[[], StepMetrics]]:
        program = self.programs.with_probes if chunk.probes else self.programs.without_probes
        epoch, offset = divmod(chunk.start * self.spec.data.batch_size, self.sizes["train"])
        rates = np.zeros(CAPACITY, jnp.result_type(float))
        rates[: len(chunk)] = [
            learning_rate(self.spec.optimizer, self.spec.schedule, iteration)
            for iteration in range(chunk.start, chunk.stop)
        ]
        numbers = (np.int32(epoch), np.int32(offset), rates, np.int32(len(chunk)))
        state, metrics = program(state, self.data, *self.keys, *self.devices.replicate(numbers))
        _start_copy(metrics)
        return state, lambda: jax.tree.map(lambda m: m[: len(chunk)], jax.device_get(metrics))

    def evaluate(self, state: TrainState, split: SplitName) -> Callable[[], tuple[float, float]]:
        first = sum(self.sizes[name] for name in SPLITS[: SPLITS.index(split)])
        count = self.sizes[split]
        which = self.devices.replicate((np.int32(first), np.int32(count)))
        sums = self.programs.evaluation(state.parameters, state.statistics, self.data, *which)
        _start_copy(sums)

        def result() -> tuple[float, float]:
            loss, wrong = (np.sum(part, dtype=np.float64) for part in jax.device_get(sums))
            return float(loss) / count, 100 * float(wrong) / count

        return result


def _start_copy(tree: Any) -> None:
    """Let results come to the host as soon as they are there."""
    # As meant as `jax.device_get`, but jax takes it for an implicit transfer.
    with jax.transfer_guard_device_to_host("allow"):
        for leaf in jax.tree.leaves(tree):
            if leaf.is_fully_addressable:
                leaf.copy_to_host_async()


class Programs(NamedTuple):
    """The jitted programs of a way, each compiled when it is first called."""

    with_probes: Callable[..., tuple[TrainState, StepMetrics]]
    without_probes: Callable[..., tuple[TrainState, StepMetrics]]
    evaluation: Callable[..., EvaluationSums]


def programs_of(
    spec: RunSpec, shape: DatasetShape, devices: Devices, largest_split: int | None = None
) -> Programs:
    """The programs of a run; runs that differ in seed, rate or schedule only share them.

    Args:
        spec, shape, devices: of the run.
        largest_split: most images of an evaluation, for chunks; None for single steps.
    """
    return _programs(_program_spec(spec), shape, devices, largest_split)


@functools.lru_cache(maxsize=1)
def _programs(
    spec: RunSpec, shape: DatasetShape, devices: Devices, largest_split: int | None
) -> Programs:
    jax.clear_caches()
    training: list[Callable[..., Any]] = [
        make_train_step(
            spec,
            shape,
            probes=probes,
            kernels=devices.kernels,
            sharding=devices.sharding("batch"),
        )
        for probes in (True, False)
    ]
    evaluation: Callable[..., Any] = make_evaluation_step(spec, shape, kernels=devices.kernels)
    if largest_split is not None:
        size, examples = spec.data.batch_size, shape.train_examples
        training = [make_chunk(step, size, examples, devices) for step in training]
        evaluation = make_evaluation(evaluation, devices, largest_split)
    jit = functools.partial(jax.jit, out_shardings=devices.sharding())
    with_probes, without_probes = (jit(step, donate_argnums=0) for step in training)
    return Programs(with_probes, without_probes, jit(evaluation))


class DeviceData(NamedTuple):
    """A data set on the device."""

    images: Array
    """uint8, (N, H, W, C): training, validation and test images end to end."""
    labels: Array
    """int32, (N,)."""
    pixel_mean: Array
    """(H, W, C)."""


def make_chunk(
    train_step: TrainStep, batch_size: int, examples: int, devices: Devices
) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Many steps as one function, not yet jitted.

    Args:
        train_step: one step.
        batch_size: images per iteration.
        examples: training images, the first of the data.
        devices: over which each batch is split.

    Returns:
        A function of state, data, the keys of order, augmentation and dropout, number of the first
        epoch, position in it, learning rates (CAPACITY,) and number of steps. It gives the
        state after them and their metrics, (CAPACITY, ...), filled from the front.
    """
    epochs = epochs_touched(CAPACITY, examples, batch_size)
    split = devices.sharding("batch")

    def chunk(
        state: TrainState,
        data: DeviceData,
        order_key: Array,
        augmentation_key: Array,
        dropout_key: Array,
        epoch: Array,
        offset: Array,
        rates: Array,
        count: Array,
    ) -> tuple[TrainState, StepMetrics]:
        order = order_of_epochs(order_key, epoch, epochs, examples)

        def batch(index: Array) -> Batch:
            positions = jax.lax.dynamic_slice(order, (offset + index * batch_size,), (batch_size,))
            if split is not None:
                positions = jax.lax.with_sharding_constraint(positions, split)
            return Batch(
                data.images[positions],
                data.labels[positions],
                data.pixel_mean,
                rates[index],
                augmentation_key,
                dropout_key,
            )

        def body(index: Array, carry: tuple[TrainState, StepMetrics]) -> Any:
            state, series = carry
            state, metrics = train_step(state, batch(index))
            return state, jax.tree.map(lambda s, m: s.at[index].set(m), series, metrics)

        metrics = jax.eval_shape(lambda: train_step(state, batch(jnp.int32(0)))[1])
        series = jax.tree.map(lambda m: jnp.zeros((CAPACITY, *m.shape), m.dtype), metrics)
        return cast(Any, jax.lax.fori_loop(0, count, body, (state, series)))

    return chunk


def make_evaluation(
    step: EvaluationStep, devices: Devices, largest_split: int
) -> Callable[..., EvaluationSums]:
    """Evaluation of a whole split as one function, not yet jitted.

    Returns:
        A function of parameters, statistics, data, position of the first image and number of
        images. It gives the sums of each batch, (most batches,), zero beyond the last.
    """
    size = _multiple(EVALUATION_BATCH, len(devices.members))
    most = math.ceil(largest_split / size)
    split = devices.sharding("batch")

    def evaluate(
        parameters: dict[str, Any],
        statistics: dict[str, Any],
        data: DeviceData,
        first: Array,
        count: Array,
    ) -> EvaluationSums:
        def body(index: Array, sums: EvaluationSums) -> EvaluationSums:
            numbers = index * size + jnp.arange(size, dtype=jnp.int32)
            if split is not None:
                numbers = jax.lax.with_sharding_constraint(numbers, split)
            mask = numbers < count
            positions = first + jnp.where(mask, numbers, 0)
            images, labels = data.images[positions], data.labels[positions]
            weights = mask.astype(float)
            now = step(parameters, statistics, images, labels, weights, data.pixel_mean)
            return jax.tree.map(lambda s, n: s.at[index].set(n), sums, now)

        empty = EvaluationSums(jnp.zeros(most), jnp.zeros(most))
        batches = (count + size - 1) // size
        return cast(EvaluationSums, jax.lax.fori_loop(0, batches, body, empty))

    return evaluate


def _program_spec(spec: RunSpec) -> RunSpec:
    """What the programs depend on; the rest is as in every other run."""
    optimizer = replace(spec.optimizer, learning_rate=OptimizerSpec.learning_rate)
    error = spec.schedule.warmup_error
    rate = spec.schedule.warmup_learning_rate if error else ScheduleSpec.warmup_learning_rate
    schedule = ScheduleSpec(warmup_error=error, warmup_learning_rate=rate)
    # Which layers are recorded when is not theirs; what is recorded is.
    probes = ProbeSpec(extra=spec.probes.extra)
    return RunSpec(spec.model, spec.data, optimizer, schedule, probes)


def _multiple(size: int, devices: int) -> int:
    """The next number of images that the devices can share."""
    return math.ceil(size / devices) * devices
