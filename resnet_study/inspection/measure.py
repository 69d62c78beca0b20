"""One network in the tidy columns of records of initialisation: what is measured before training,
of trained networks too.

The quantities of `resnet_study.phenomena.initialization.arms`, on the first mini-batch of the
network's own data, not augmented, normalising with the statistics of the batch, and with the
expectation of dropout in place of its masks; with them

====================== =====================================================================
response_mean,         over all entries of the response y_l of layer l = 1..depth, see
response_std           `resnet_study.probes`
inactive_fraction      zeros after the nonlinearity that follows layer l = 1..depth - 1
====================== =====================================================================

and those of `resnet_study.inspection.lesions`, on test images with running statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from resnet_study.architecture import ModelSpec
from resnet_study.data import Dataset
from resnet_study.inspection import lesions
from resnet_study.inspection.inspected import Inspected, in_its_arithmetic
from resnet_study.models import layers_of
from resnet_study.phenomena.initialization import fits
from resnet_study.phenomena.initialization.arms import PATH_LENGTHS, QUANTITIES, VARIANCES
from resnet_study.phenomena.initialization.chain import take_apart
from resnet_study.phenomena.initialization.measuring import (
    MiniBatch,
    Values,
    batch_of,
    measure_network,
    table_of,
)
from resnet_study.records import INITIALIZATION_COLUMNS
from resnet_study.training.devices import Devices

COLUMNS = ("data", "run_id", "step", *INITIALIZATION_COLUMNS)
"""``step``: updates taken, empty where a file of weights does not tell."""


def quantities_of(model: ModelSpec) -> list[str]:
    """What of the quantities at initialisation has a meaning for a network."""
    left_out = () if model.residual else (*VARIANCES, *PATH_LENGTHS)
    return [name for name in QUANTITIES if name not in left_out]


@in_its_arithmetic
def measure(
    network: Inspected, dataset: Dataset, where: Devices, images: int, samples: int
) -> pd.DataFrame:
    """Measure a network.

    Args:
        network, where: of `resnet_study.inspection.inspected.on_devices`.
        dataset: of its run.
        images: of the test split on which lesions are tested, see `lesions.images_of`; 0 leaves
            them out.
        samples: of random lesions.

    Returns:
        Columns `COLUMNS`, one row per value.
    """
    batch = batch_of(dataset, network.spec.seed)
    chain = take_apart(network.module(), network.model)
    wanted = quantities_of(network.model)
    parts = [
        *measure_network(chain, network.model, batch, set(wanted), network.spec.seed),
        *_responses(network, batch),
    ]
    if images:
        few = lesions.images_of(dataset.test, images)
        parts += lesions.measure(network, few, dataset.mean, where, samples)
    table = table_of(parts, network.model, len(batch.images), network.spec.seed)
    step = pd.array([network.step] * len(table), dtype="Int64")
    spec = network.spec
    return table.assign(data=spec.data.name, run_id=spec.run_id, step=step)[list(COLUMNS)]


def _responses(network: Inspected, batch: MiniBatch) -> Iterator[Values]:
    """Statistics of the responses of every layer, of one forward pass."""
    layers = layers_of(network.model)
    _, responses = network.module()(batch.images, jnp.zeros((len(layers), 2)), train=True)
    assert responses is not None
    stages = np.array([layer.stage for layer in layers])
    yield "response_mean", 1, stages, np.asarray(responses.mean)
    yield "response_std", 1, stages, np.asarray(responses.std)
    yield "inactive_fraction", 1, stages[:-1], np.asarray(responses.inactive)[:-1]


class SummaryNumber(NamedTuple):
    """A number that sums up a quantity.

    Attributes:
        what: in words, with its source.
        value: itself; NaN where it cannot be told.
        unit: % or none.
    """

    what: str
    value: float
    unit: str


def summary(table: pd.DataFrame) -> Iterator[SummaryNumber]:
    """What the table says in short, of one network; what was not measured is left out."""

    def of(quantity: str) -> pd.DataFrame:
        rows = table[table["quantity"] == quantity]
        return rows.astype({"value": float}).sort_values("index", ignore_index=True)

    if len(rows := of("activation_gradient_norm")):
        ratio = _ratio(rows["value"].iloc[1], rows["value"].iloc[-1])
        yield SummaryNumber("gradient at layer 2 over that at the last convolution", ratio, "")
    if len(rows := of("block_gradient_norm")):
        deviation = fits.mean_deviation(rows) if (rows["value"] > 0).all() else float("nan")
        yield SummaryNumber("mean |ln| of norm ratios of blocks (Zaeemzadeh 2018)", deviation, "")
    if len(rows := of("gradient_autocorrelation")):
        yield SummaryNumber(
            "gradient autocorrelation at lag 1 (Balduzzi 2017)", rows["value"][1], ""
        )
    if len(rows := of("path_gradient_norm")):
        yield from _paths(rows)
    if len(rows := of("intact_error")):
        yield SummaryNumber(
            "error of the whole network on the images of lesions", rows["value"][0], "%"
        )
    for unit in ("block", "layer"):
        if len(rows := of(f"{unit}_deletion_error")):
            what = f"error without one {unit} (Veit 2016)"
            yield SummaryNumber(f"{what}, median", float(rows["value"].median()), "%")
            yield SummaryNumber(f"{what}, largest", float(rows["value"].max()), "%")


def _paths(rows: pd.DataFrame) -> Iterator[SummaryNumber]:
    shares = fits.contribution(rows)
    low, high = (int(border) for border in fits.central_interval(shares))
    length = float(shares @ np.arange(len(shares)))
    yield SummaryNumber(
        "paths that carry 95 % of the gradient (Veit 2016), share of all",
        100 * fits.carrying_path_share(rows),
        "%",
    )
    yield SummaryNumber("... fewest branches of these", low, "")
    yield SummaryNumber("... most branches of these", min(high, len(shares) - 1), "")
    yield SummaryNumber("... branches weighted by gradient, mean", length, "")


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("nan")
