"""How the steps reach a device: one at a time on a CPU, a chunk per dispatch elsewhere.

Both ways draw the same batches in the same order and hand back the same series of metrics;
`train` and `evaluate` start the work and return a function that waits for its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

from resnet_study.data import Dataset, Split
from resnet_study.data.batches import BatchOrder, evaluation_batches
from resnet_study.datasets import DatasetShape
from resnet_study.spec import RunSpec
from resnet_study.training.chunks import CAPACITY, Chunk
from resnet_study.training.compiled import (
    CPU_EVALUATION_BATCH,
    DeviceData,
    chunk_programs,
    compiled,
    multiple,
)
from resnet_study.training.devices import Devices
from resnet_study.training.optimizer import learning_rate
from resnet_study.training.step import Batch, StepMetrics, TrainState

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class Keys(NamedTuple):
    """Random keys of a run, each folded from its seed, so that none depends on another's use."""

    initialization: Array
    order: Array
    augmentation: Array


def keys_of(seed: int) -> Keys:
    """The keys of a seed."""
    root = jax.random.key(seed)
    return Keys(*(jax.random.fold_in(root, purpose) for purpose in range(3)))


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
        self.augmentation_key = devices.replicate(keys.augmentation)
        self.pixel_mean: Array = devices.replicate(dataset.mean)
        self.compiled = compiled(spec, shape_of(dataset), devices)

    def train(
        self, state: TrainState, chunk: Chunk
    ) -> tuple[TrainState, Callable[[], StepMetrics]]:
        step = self.compiled.with_probes if chunk.probes else self.compiled.without_probes
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
            images=self.devices.split(train.images[positions]),
            labels=self.devices.split(train.labels[positions]),
            pixel_mean=self.pixel_mean,
            learning_rate=self.devices.replicate(np.float32(rate)),
            augmentation_key=self.augmentation_key,
        )

    def evaluate(self, state: TrainState, split: SplitName) -> Callable[[], tuple[float, float]]:
        images: Split = getattr(self.dataset, split)
        size = multiple(CPU_EVALUATION_BATCH, len(self.devices.members))
        sums = []
        for positions, mask in evaluation_batches(len(images), size):
            now = self.compiled.evaluation(
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
        self.keys = devices.replicate((keys.order, keys.augmentation))
        shape = shape_of(dataset)
        self.programs = chunk_programs(spec, shape, devices, max(self.sizes.values()))

    def train(
        self, state: TrainState, chunk: Chunk
    ) -> tuple[TrainState, Callable[[], StepMetrics]]:
        program = self.programs.with_probes if chunk.probes else self.programs.without_probes
        epoch, offset = divmod(chunk.start * self.spec.data.batch_size, self.sizes["train"])
        rates = np.zeros(CAPACITY, np.float32)
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
