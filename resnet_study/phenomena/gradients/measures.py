"""What the claims about gradients measure: one number per run, from comparable runs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from resnet_study.architecture import plain_of
from resnet_study.judging import selections
from resnet_study.judging.measurement import (
    FAMILIES,
    Measurement,
    Missing,
    Side,
    arms_by_depth,
    medians,
)
from resnet_study.judging.selections import rows_at, rows_reached
from resnet_study.phenomena.depths import deep_depth
from resnet_study.phenomena.gradients import theory
from resnet_study.probes import FIRST, GRADIENTS
from resnet_study.records import Frames

BORDERS = {"signal": 30.0, "turn": 10.0}
"""Factor within which a quantity at layer 2 is called healthy beside the last convolution; below
its inverse it has vanished, above it exploded. The paper gives no number. These two were written
down in `experiments/cifar10_night.py` before any of its runs had ended."""


def predicted_growth(runs: pd.DataFrame) -> theory.Growth | None:
    """What theory predicts for the plain networks of comparable runs, whether there are any."""
    first = runs.iloc[:1]
    model = plain_of(selections.models_of(first)[0])
    return theory.growth_of(model, int(first["data.batch_size"].iloc[0]))


def plain_growth_at_initialization(group: Frames) -> Measurement | Missing:
    """Growth of the activation-gradient norm per layer toward the input at step 0."""
    arms = arms_by_depth(selections.growth_per_layer(group), "plain", "growth")
    if not arms:
        return Missing()
    depth = 56 if 56 in arms else max(arms)
    within = arms_by_depth(
        selections.growth_per_layer(group, within_stages=True), "plain", "growth"
    )[depth]
    factors = medians(arms)
    numbers = {
        "depth": depth,
        "factor": factors.pop(depth),
        "factor_within_stages": float(within.median()),
        "factors_elsewhere": factors,
    }
    growth = predicted_growth(group.runs)
    predicted = (growth.name, growth.factor) if growth else None
    return Measurement((arms[depth],), 1.0, "above", "factor per layer", numbers, predicted)


def residual_ratio_at_initialization(group: Frames) -> Measurement | Missing:
    """log10 of the gradient at layer 2 over that at the last convolution, over depth; residual.

    Growth by a constant factor per layer, even 1.1, exceeds one unit per layer from 44
    layers on; growth in proportion to depth, at up to one unit per layer, does not.
    """
    ratios = rows_at(selections.over_last(group, "activation_gradient_norm"), 0)
    arms = {f: arms_by_depth(ratios, f, "ratio", positive=True) for f in FAMILIES}
    depth = deep_depth(arms["residual"])
    if depth is None:
        return Missing()
    numbers = {"depth": depth, **{f: medians(arms[f]) for f in FAMILIES}}
    values = np.log10(arms["residual"][depth] / depth)
    return Measurement((values,), 0.0, "below", "log10(ratio/depth)", numbers)


def in_training(
    group: Frames, quantity: str, iterations: int | None, claimed: Side, depth: int | None = None
) -> Measurement | Missing:
    """log10 of signal or turn at layer 2 over the same at the last convolution of a plain network.

    A run that recorded the quantity but has no finite ratio there, because it is not finite or
    because the run diverged before, is neither healthy nor vanished: it counts with the largest
    float32. A ratio of 0 is one that underflowed.

    Args:
        group: comparable runs.
        quantity: a key of `BORDERS`.
        iterations: the recorded step nearest to it; None: the last one of runs that ended.
        claimed: ``within`` the border: healthy; ``below`` its inverse: vanished.
        depth: of the network; by default that of the claims about deep ones.
    """
    ratios = _ratios(group, quantity, iterations)
    arms = {family: arms_by_depth(ratios, family, "ratio", positive=True) for family in FAMILIES}
    plain = arms["plain"]
    chosen = depth if depth in plain else None if depth else deep_depth(plain)
    if chosen is None:
        return Missing()
    border = math.log10(BORDERS[quantity])
    values = np.log10(plain[chosen])
    states = {"healthy": abs(values) < border, "vanished": values <= -border}
    counts = {name: int(state.sum()) for name, state in states.items()}
    by_family = {family: medians(arms[family]) for family in FAMILIES}
    judged = ratios[(ratios["family"] == "plain") & (ratios["depth"] == chosen)]
    numbers = {
        "quantity": quantity,
        "iteration": iterations,
        "depth": chosen,
        "steps": sorted({int(step) for step in judged["step"].dropna()}),
        "border": BORDERS[quantity],
        "ratio": by_family["plain"].pop(chosen),
        "states": {**counts, "exploded": len(values) - sum(counts.values())},
        "plain_elsewhere": by_family["plain"],
        "residual": by_family["residual"],
        "without_finite_ratio": int(judged["lost"].sum()),
        "lowest": _lowest(group, GRADIENTS[quantity], judged["step"].dropna()),
    }
    threshold = border if claimed == "within" else -border
    return Measurement((values,), threshold, claimed, "log10(layer 2/last)", numbers)


def _lowest(group: Frames, quantity: str, steps: pd.Series) -> dict[str, float]:
    """``layer`` from `FIRST` on at which it is least, and its ``ratio`` to the last convolution.

    Of the medians over runs, each at its own step; empty where nothing is finite.
    """
    layers = group.layers_with(*selections.columns_of(quantity))
    rows = selections.conv_layers(
        layers[layers["run_id"].isin(steps.index) & layers["step"].isin(steps)]
    )
    rows = rows[rows["step"] == selections.of_run(rows, steps)]
    values = rows.assign(value=selections.layer_quantity(rows, quantity)).pivot(
        index="layer", columns="run_id", values="value"
    )
    if values.empty:
        return {}
    ratios = (values / values.iloc[-1]).loc[FIRST:].median(axis=1)
    ratios = ratios[np.isfinite(ratios)]
    return {"layer": int(ratios.idxmin()), "ratio": float(ratios.min())} if len(ratios) else {}


def _ratios(group: Frames, quantity: str, iterations: int | None) -> pd.DataFrame:
    """``family, depth, seed, step, ratio`` and ``lost``, of each run that recorded it at all."""
    group = selections.ended(group) if iterations is None else group
    runs, every = group.runs, selections.over_last(group, GRADIENTS[quantity])
    recorded = every.loc[every["ratio"].notna(), "run_id"].unique()
    at = rows_at(every, None) if iterations is None else rows_reached(group, every, iterations)
    at = at.astype({"run_id": str}).set_index("run_id")
    table = runs.loc[runs.index.isin(recorded), ["family", "depth", "seed", "status"]].join(
        at[["step", "ratio"]]
    )
    diverged = table["status"].eq("diverged")
    # A run that stopped before says nothing; of one that diverged it is known how it went on.
    table = table[table["step"].notna() | diverged]
    gone = diverged if iterations is None else diverged & table["step"].isna()
    table["lost"] = gone | ~np.isfinite(table["ratio"].astype(float))
    table["ratio"] = table["ratio"].mask(table["lost"], float(np.finfo(np.float32).max))
    return table
