"""One arm of the measurement: a network, its seeds, every quantity asked for.

`measure_network` measures any network, a trained one too, on any images.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from resnet_study.architecture import ModelSpec, Precision
from resnet_study.data import Dataset, load_dataset
from resnet_study.data.augment import normalize
from resnet_study.data.batches import BatchOrder
from resnet_study.datasets import DATASETS
from resnet_study.phenomena.initialization.arms import (
    BATCH,
    GRADIENTS,
    LINES,
    MODEL_COLUMNS,
    MOMENTS,
    PATH_BATCH,
    PATH_LENGTHS,
    PATHS,
    QUANTITIES,
    VARIANCES,
    InitializationArm,
    SeededArm,
)
from resnet_study.phenomena.initialization.chain import Chain, backpropagate, make_chain, propagate
from resnet_study.phenomena.initialization.paths import path_gradient_norms
from resnet_study.phenomena.initialization.shattering import line_autocorrelation
from resnet_study.records import INITIALIZATION_COLUMNS
from resnet_study.spec import DataSpec
from resnet_study.tensors import arithmetic
from resnet_study.training.programs import keys_of

PRECISIONS: tuple[tuple[Precision, Set[str]], ...] = (
    ("float64", set(QUANTITIES) - set(PATH_LENGTHS)),
    ("float32", set(PATH_LENGTHS)),
)
"""What is measured in which. Single paths are of residual networks, where rounding stays small
(0.007 % of a value, median of residual-110, seed 0), and would take most of the time in float64."""

Values = tuple[str, int, np.ndarray, np.ndarray]
"""Quantity, first index, stages and values; the index counts on from the first."""


class MiniBatch(NamedTuple):
    """A mini-batch: images (N, H, W, channels), mean subtracted, and labels (N,)."""

    images: Array
    labels: Array


def measure_arm(seeded: SeededArm) -> pd.DataFrame:
    """Measure one arm, from the weights and images of training in float32.

    Returns:
        Columns `INITIALIZATION_COLUMNS`, rows by seed, then quantity, then index.
    """
    arm = seeded.arm
    tables = [table_of(_measure(arm, seed), arm.model, arm.images, seed) for seed in seeded.seeds]
    return pd.concat(tables, ignore_index=True)


def first_batch(seed: int, images: int = BATCH) -> MiniBatch:
    """The digits of the first step of a training with this seed and default data.

    A smaller mini-batch holds the first images of a larger one.
    """
    return batch_of(_digits(seed), seed, images)


@functools.lru_cache(maxsize=8)
def _digits(seed: int) -> Dataset:
    return load_dataset(DataSpec(name="digits", batch_size=BATCH), seed)


def batch_of(dataset: Dataset, seed: int, images: int = BATCH) -> MiniBatch:
    """The first images that a training with this seed sees, not augmented; all if too few."""
    size = min(images, len(dataset.train))
    order = BatchOrder(keys_of(seed).order, len(dataset.train), size)
    batch = dataset.train.take(order.indices(0))
    pixels = normalize(jnp.asarray(batch.images), jnp.asarray(dataset.mean))
    return MiniBatch(pixels, jnp.asarray(batch.labels))


def stages_of(model: ModelSpec, per_block: int) -> np.ndarray:
    """Stages 1, 2, 3, each repeated for its n blocks times `per_block`."""
    return np.repeat([1, 2, 3], model.blocks_per_stage * per_block)


def _measure(arm: InitializationArm, seed: int) -> list[Values]:
    measured: list[Values] = []
    for precision, quantities in PRECISIONS:
        if not (wanted := quantities & set(arm.quantities)):
            continue
        with arithmetic(precision):
            model = replace(arm.model, precision=precision)
            chain = make_chain(model, DATASETS["digits"], keys_of(seed).initialization)
            batch = first_batch(seed, arm.images)
            measured += measure_network(chain, model, batch, wanted, seed)
    return measured


def measure_network(
    chain: Chain, model: ModelSpec, batch: MiniBatch, wanted: Set[str], seed: int
) -> Iterator[Values]:
    """Measure a network as it is.

    Args:
        chain, model: the network, normalising with the statistics of each mini-batch, and its spec.
        batch: the mini-batch; the pairs and the images for paths are its first ones.
        wanted: quantities of `arms` that have a meaning for it.
        seed: of the choice of paths.
    """
    if wanted & {*GRADIENTS, *MOMENTS, *VARIANCES}:
        for values in _whole_network(model, chain, batch, bool(wanted & set(GRADIENTS))):
            if values[0] in wanted:
                yield values
    if "gradient_autocorrelation" in wanted:
        pairs = batch.images[: 2 * LINES].reshape(LINES, 2, *batch.images.shape[1:])
        lines = [line_autocorrelation(chain, start, end) for start, end in pairs]
        mean = np.mean(lines, axis=0)
        yield "gradient_autocorrelation", 0, np.zeros(len(mean), int), mean
    if "path_gradient_norm" in wanted:
        few = MiniBatch(*(part[:PATH_BATCH] for part in batch))
        forward = propagate(chain, few.images)
        norms = path_gradient_norms(chain, forward, few.labels, PATHS, seed)
        yield "path_gradient_norm", 0, np.zeros(len(norms), int), norms


def _whole_network(
    model: ModelSpec, chain: Chain, batch: MiniBatch, backward: bool
) -> Iterator[Values]:
    """What one forward pass tells, and one backward pass."""
    layers, blocks = (stages_of(model, each) for each in (model.layers_per_block, 1))
    from_stem, to_end = (np.concatenate(s) for s in (([0], blocks), (blocks, [3])))
    forward = propagate(chain, batch.images)
    if backward:
        gradient = backpropagate(chain, forward, batch.labels)
        stages = np.concatenate([[0], layers])
        yield "activation_gradient_norm", 1, stages, gradient.layers
        yield "block_gradient_norm", 1, to_end, gradient.blocks
    yield "branch_variance", 1, blocks, forward.branches
    yield "skip_variance", 1, blocks, forward.skips
    yield "channel_mean_square", 0, from_stem, forward.mean_squares
    yield "channel_variance", 0, from_stem, forward.variances


def table_of(measured: Iterable[Values], model: ModelSpec, images: int, seed: int) -> pd.DataFrame:
    """What was measured of one network, in the columns of the records."""
    parts = [
        pd.DataFrame(
            {
                "quantity": quantity,
                "index": np.arange(first, first + len(values)),
                "stage": stages,
                "value": np.asarray(values, np.float64),
            }
        )
        for quantity, first, stages, values in measured
    ]
    settings = {name: getattr(model, name) for name in MODEL_COLUMNS}
    table = pd.concat(parts, ignore_index=True).assign(**settings, family=model.family)
    return table.assign(images=images, seed=seed)[list(INITIALIZATION_COLUMNS)]
