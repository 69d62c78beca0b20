"""The compiled programs: the pure steps, alone or a chunk of them, for one or several devices."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array

from resnet_study.data.batches import epochs_touched, order_of_epochs
from resnet_study.datasets import DatasetShape
from resnet_study.spec import OptimizerSpec, ProbeSpec, RunSpec, ScheduleSpec
from resnet_study.training.chunks import CAPACITY
from resnet_study.training.devices import Devices
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

CPU_EVALUATION_BATCH = 128
EVALUATION_BATCH = 512
"""Images of an evaluation batch on a CPU and elsewhere; changes results by rounding only."""


class Compiled(NamedTuple):
    """The jitted steps, each compiled when it is first called."""

    with_probes: TrainStep
    without_probes: TrainStep
    evaluation: EvaluationStep


def compiled(spec: RunSpec, shape: DatasetShape, devices: Devices) -> Compiled:
    """The steps for a CPU; runs that differ in seed, rate or schedule only share them."""
    return _compiled(_program_spec(spec), shape, devices)


@functools.lru_cache(maxsize=1)
def _compiled(spec: RunSpec, shape: DatasetShape, devices: Devices) -> Compiled:
    jax.clear_caches()
    everywhere = devices.sharding()
    with_probes, without_probes = (
        jax.jit(
            _train_step(spec, shape, devices, probes), donate_argnums=0, out_shardings=everywhere
        )
        for probes in (True, False)
    )
    evaluation = make_evaluation_step(spec, shape, kernels=devices.kernels)
    return Compiled(with_probes, without_probes, jax.jit(evaluation, out_shardings=everywhere))


class DeviceData(NamedTuple):
    """A data set on the device."""

    images: Array
    """uint8, (N, H, W, C): training, validation and test images end to end."""
    labels: Array
    """int32, (N,)."""
    pixel_mean: Array
    """(H, W, C)."""


class ChunkPrograms(NamedTuple):
    """The jitted programs, each compiled when it is first called."""

    with_probes: Callable[..., tuple[TrainState, StepMetrics]]
    without_probes: Callable[..., tuple[TrainState, StepMetrics]]
    evaluation: Callable[..., EvaluationSums]


def chunk_programs(
    spec: RunSpec, shape: DatasetShape, devices: Devices, largest_split: int
) -> ChunkPrograms:
    """The programs for an accelerator; shared as `compiled` shares its own."""
    return _chunk_programs(_program_spec(spec), shape, devices, largest_split)


@functools.lru_cache(maxsize=1)
def _chunk_programs(
    spec: RunSpec, shape: DatasetShape, devices: Devices, largest_split: int
) -> ChunkPrograms:
    jax.clear_caches()
    everywhere = devices.sharding()
    with_probes, without_probes = (
        jax.jit(
            make_chunk(
                _train_step(spec, shape, devices, probes),
                spec.data.batch_size,
                shape.train_examples,
                devices,
            ),
            donate_argnums=0,
            out_shardings=everywhere,
        )
        for probes in (True, False)
    )
    evaluation = make_evaluation(spec, shape, devices, largest_split)
    return ChunkPrograms(with_probes, without_probes, jax.jit(evaluation, out_shardings=everywhere))


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
        A function of state, data, the keys of order and augmentation, number of the first
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
    spec: RunSpec, shape: DatasetShape, devices: Devices, largest_split: int
) -> Callable[..., EvaluationSums]:
    """Evaluation of a whole split as one function, not yet jitted.

    Returns:
        A function of parameters, statistics, data, position of the first image and number of
        images. It gives the sums of each batch, (most batches,), zero beyond the last.
    """
    step = make_evaluation_step(spec, shape, kernels=devices.kernels)
    size = multiple(EVALUATION_BATCH, len(devices.members))
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
            weights = mask.astype(jnp.float32)
            now = step(parameters, statistics, images, labels, weights, data.pixel_mean)
            return jax.tree.map(lambda s, n: s.at[index].set(n), sums, now)

        empty = EvaluationSums(jnp.zeros(most), jnp.zeros(most))
        batches = (count + size - 1) // size
        return cast(EvaluationSums, jax.lax.fori_loop(0, batches, body, empty))

    return evaluate


def _train_step(spec: RunSpec, shape: DatasetShape, devices: Devices, probes: bool) -> TrainStep:
    return make_train_step(
        spec,
        shape,
        probes=probes,
        kernels=devices.kernels,
        sharding=devices.sharding("batch"),
    )


def _program_spec(spec: RunSpec) -> RunSpec:
    """What the programs depend on; the rest is as in every other run."""
    optimizer = replace(spec.optimizer, learning_rate=OptimizerSpec.learning_rate)
    error = spec.schedule.warmup_error
    rate = spec.schedule.warmup_learning_rate if error else ScheduleSpec.warmup_learning_rate
    schedule = ScheduleSpec(warmup_error=error, warmup_learning_rate=rate)
    # Which layers are recorded when is not theirs; what is recorded is.
    probes = ProbeSpec(extra=spec.probes.extra)
    return RunSpec(spec.model, spec.data, optimizer, schedule, probes)


def multiple(size: int, devices: int) -> int:
    """The next number of images that the devices can share."""
    return math.ceil(size / devices) * devices
