"""What the claims about information measure: one number per run, from comparable runs."""

from __future__ import annotations

import pandas as pd

from resnet_study.judging.measurement import (
    FAMILIES,
    Measurement,
    Missing,
    Side,
    arms_by_depth,
    medians,
)
from resnet_study.judging.selections import columns_of, layer_quantity, rows_reached
from resnet_study.phenomena.depths import deep_depth
from resnet_study.probes import FIRST
from resnet_study.records import KEYS, Frames

EARLY_LAYERS, EARLY_ITERATIONS = 10, (10, 100)
"""A single cosine of two gradients is noisy: those of layers 2 to 10 at every recorded iteration
from 10 to 100 are averaged."""


def at_last(group: Frames, quantity: str, iteration: int) -> pd.DataFrame:
    """A quantity at the last convolution at the recorded step nearest to an iteration.

    Returns:
        ``run_id, family, depth, seed, step, value``.
    """
    layers = group.layers_with(*columns_of(quantity))
    rows = rows_reached(group, layers[layers["layer"] == layers["depth"] - 1], iteration)
    return rows[[*KEYS, "step"]].assign(value=layer_quantity(rows, quantity))


def correlation_of_copies(
    group: Frames, iteration: int, threshold: float, claimed: Side
) -> Measurement | Missing:
    """Correlation of an image and its copy at the last convolution of a deep plain network."""
    return _of_deep_plain(at_last(group, "copy_correlation", iteration), threshold, claimed)


def contrast_lost(group: Frames, iteration: int, part: float) -> Measurement | Missing:
    """Class contrast at the last convolution, deep plain minus a part of that of plain-20."""
    table = at_last(group, "class_contrast", iteration)
    plain = arms_by_depth(table, "plain", "value")
    depth = deep_depth(plain)
    if depth is None or 20 not in plain:
        return Missing()
    numbers = {**_numbers(table, depth), "part": part}
    if plain[20].median() <= 0:
        return Missing("a contrast in plain-20 that could be lost", numbers)
    arms = (plain[depth], part * plain[20])
    return Measurement(arms, 0.0, "below", "difference of correlations", numbers)


def early_agreement(group: Frames, threshold: float) -> Measurement | Missing:
    """Mean agreement of gradients of the first layers of a deep plain network, early on."""
    first, last = EARLY_ITERATIONS
    layers = group.layers_with("gradient_agreement")
    rows = layers[
        layers["layer"].between(FIRST, EARLY_LAYERS) & layers["step"].between(first, last)
    ]
    rows = rows[[*KEYS, "step"]].assign(value=layer_quantity(rows, "gradient_agreement"))
    table = rows.groupby([*KEYS], as_index=False, observed=True)[["step", "value"]].mean()
    return _of_deep_plain(table, threshold, "above")


def _of_deep_plain(table: pd.DataFrame, threshold: float, claimed: Side) -> Measurement | Missing:
    plain = arms_by_depth(table, "plain", "value")
    depth = deep_depth(plain)
    if depth is None:
        return Missing()
    return Measurement((plain[depth],), threshold, claimed, "correlation", _numbers(table, depth))


def _numbers(table: pd.DataFrame, depth: int) -> dict[str, object]:
    """The depth that is judged, when it was recorded, and medians over seeds of every network."""
    arms = {f: arms_by_depth(table, f, "value") for f in FAMILIES}
    steps = sorted({round(step) for step in table.loc[table["depth"] == depth, "step"]})
    return {"depth": depth, "steps": steps, **{f: medians(arms[f]) for f in FAMILIES}}
