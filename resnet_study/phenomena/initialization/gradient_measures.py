"""What the claims about gradients by layer at initialisation measure: one number per seed.

Those about blocks, paths and correlations are in `block_measures`. Nothing is trained: the records
are `Frames.initialization`. Every measure takes all records and picks its networks itself. What is
judged where is fixed here, before any number is seen:

- factors per layer (`growth_deviation`): all 3x3 layers, within stages, at depth 56, or else the
  deepest of at least 20;
- laws against depth (`ratio_law`, `ratio_exponent`): all depths, of the seeds that have them all;
- vanishing (`vanished_ratio`): depth 56, or else the deepest of at least 44.

A prediction of a number counts as reproduced if the number lies within a margin of it: the
theory is for infinitely wide layers, these have 16 to 64 channels. Whether the prediction itself
lies in the interval is said beside. Intervals among the numbers are of one median alone.

The theory of He and of Glorot & Bengio counts the inputs n of a unit. On the small maps of the
digits, 8, 4 and 2 pixels wide, many units have fewer than 9 pixels of inputs, so that their
formula gives less without normalisation; it is judged with the inputs that there are
(`theory.padding_factor`), and what it gives without borders stands beside. With batch normalisation
it is the other way round: what is judged is the formula as published, without borders, and the
same with zero padding (`theory.padded_bn_growth`), which was worked out when the
measured factors had been seen, stands beside. `size_measures` judges that on other networks.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from resnet_study.datasets import DATASETS
from resnet_study.judging.measurement import Measurement, Missing, geometric_mean
from resnet_study.judging.statistics import median_interval
from resnet_study.phenomena.depths import MINIMUM_DEEP
from resnet_study.phenomena.gradients import theory
from resnet_study.phenomena.initialization import fits
from resnet_study.phenomena.initialization.fits import BN_RESIDUAL, NetworkKind
from resnet_study.records import Frames

FACTOR_MARGIN = 5.0
"""Percent of the predicted factor per layer: over 20 layers a factor of e either way."""

EXPONENT_MARGIN = 0.25
"""Around an exponent of 1 (a ratio in proportion to depth): half way to 1/2 and 3/2. It was 0.5,
which let √depth pass at its border, when the exponent was first seen."""

RATIO_FACTOR = 2.0
"""Either way of a predicted first/last ratio. A factor per layer that is 5 % off is one of 14 over
54 layers."""

LEAST_DEPTHS = 4
"""Depths that a comparison of two laws with two parameters takes."""

_SIDE = DATASETS["digits"].height

SIDES = (_SIDE, _SIDE // 2, _SIDE // 4)
"""Maps of the three stages; networks are measured on digits."""

PADDING = tuple(theory.padding_factor(side) for side in SIDES)
"""Factor per layer of zero padding, by stage, without normalisation."""

VANISHED = 0.1
"""First/last gradient ratio below which the gradient of networks without normalisation is said to
vanish."""


def without_normalization(
    family: str, initialization: str, activation: str = "relu"
) -> NetworkKind:
    """A network without normalisation."""
    return NetworkKind(family, "none", initialization, activation)


def growth_deviation(
    frames: Frames, network: NetworkKind, formula: str, predicted: float, whole: bool = False
) -> Measurement | Missing:
    """Percent by which the factor per layer toward the input departs from a prediction.

    Args:
        frames, network: which plain networks of the records.
        formula, predicted: the factor per layer where no unit lies at a border.
        whole: log10 of the factor to the power of as many layers as the network has, over the same
            of the predicted one, instead. The steps between stages are in neither.
    """
    rows = fits.rows_of(frames, "activation_gradient_norm", network)
    factors = fits.per_network(rows, fits.growth)
    depth = judged_depth(factors, 20)
    if depth is None:
        return Missing(network.needed("depth 56 (or another of at least 20)"))
    values = fits.values_at(factors, depth)
    stages = [
        fits.at_depth(rows, depth, partial(fits.growth_of_stage, stage=stage))
        for stage in (1, 2, 3)
    ]
    jumps = fits.at_depth(rows, depth, partial(fits.growth, within_stages=False))
    padded = network.normalization == "none"
    expected = [predicted * factor for factor in (PADDING if padded else (1.0, 1.0, 1.0))]
    pooled = math.prod(expected) ** (1 / 3)
    beside = None if padded else padded_growth()
    numbers = {
        **network.named(depth),
        "factor": median_interval(values),
        "predicted": pooled,
        "factor_by_stage": [float(factor.mean()) for factor in stages],
        "predicted_by_stage": expected if padded else None,
        "factor_with_jumps": float(jumps.mean()),
        "sides": SIDES,
        "formula": formula,
        "predicted_without_borders": predicted,
        "padded_by_stage": beside,
        "padded": beside and math.prod(beside) ** (1 / 3),
        "factors_elsewhere": fits.by_depth(factors.drop(columns=depth)),
    }
    if whole:
        effect = (values / pooled).map(math.log10) * (depth - 2)
        unit = f"log10(measured/predicted) over {depth - 2} layers"
    else:
        effect = 100 * (values / pooled - 1)
        unit = "% off the predicted factor per layer"
    margin = math.log10(RATIO_FACTOR) if whole else FACTOR_MARGIN
    name = f"no deviation from {pooled:.4g}, {formula}{', with padding' if padded else ''}"
    return Measurement((effect,), margin, "within", unit, numbers, (name, 0.0))


def padded_growth() -> list[float]:
    """Factor per layer with batch normalisation and zero padding, by stage."""
    return [theory.padded_bn_growth(side) for side in SIDES]


def slower_than(frames: Frames, network: NetworkKind, other: NetworkKind) -> Measurement | Missing:
    """ln(factor per layer) of a plain network minus that of another, to lie below 0.

    Both without normalisation and of one initialisation, so that padding cancels.
    """
    both = [
        fits.per_network(fits.rows_of(frames, "activation_gradient_norm", n), fits.growth)
        for n in (network, other)
    ]
    shared = set(fits.depths_of(both[0])) & set(fits.depths_of(both[1]))
    depth = judged_depth(both[0][sorted(shared)], 20)
    if depth is None:
        return Missing(f"{network.needed('depth 56')}; {other.needed('the same depth')}")
    arms = [fits.values_at(table, depth) for table in both]
    numbers = {
        "depth": depth,
        "networks": [
            {
                "setting": one.setting,
                "factor": median_interval(arm),
                "factors_elsewhere": fits.by_depth(table.drop(columns=depth)),
            }
            for one, arm, table in zip((network, other), arms, both, strict=True)
        ],
    }
    predicted = math.log(math.sqrt(theory.PASSED[network.activation]))
    predicted -= math.log(math.sqrt(theory.PASSED[other.activation]))
    name = f"ln of √E[φ′²], {network.activation} at most, over that of {other.activation}"
    logs = np.log(arms[0]), np.log(arms[1])
    return Measurement(logs, 0.0, "below", "ln(factor per layer)", numbers, (name, predicted))


def vanished_ratio(frames: Frames, family: str) -> Measurement | Missing:
    """log10 of the first/last gradient ratio under LeCun initialisation, no normalisation.

    To lie below log10(`VANISHED`) in plain networks and above it in residual ones.
    """
    networks = {init: without_normalization(family, init) for init in ("he", "lecun", "uniform")}
    tables = {
        init: fits.per_network(
            fits.rows_of(frames, "activation_gradient_norm", network), fits.first_over_last
        )
        for init, network in networks.items()
    }
    depth = judged_depth(tables["lecun"], MINIMUM_DEEP)
    if depth is None:
        needed = f"depth 56 (or another of at least {MINIMUM_DEEP})"
        return Missing(networks["lecun"].needed(needed))
    ratios = {i: fits.by_depth(table, geometric_mean) for i, table in tables.items() if table.size}
    numbers = {"family": family, "depth": depth, "ratios": ratios}
    values = np.log10(fits.values_at(tables["lecun"], depth))
    border = math.log10(VANISHED)
    if family == "residual":
        return Measurement((values,), border, "above", "log10(first/last)", numbers)
    predicted = math.log10(padded_ratio(depth, theory.LECUN_RELU_FACTOR))
    named = (f"1/√2 per layer and zero padding, {depth - 2} layers", predicted)
    return Measurement((values,), border, "below", "log10(first/last)", numbers, named)


def padded_ratio(depth: int, factor: float) -> float:
    """Predicted first/last ratio without normalisation, zero padding included."""
    layers = (depth - 2) // 3
    return theory.first_last_ratio(depth, factor) * math.prod(p**layers for p in PADDING)


def ratio_law(frames: Frames, family: str, better: str, worse: str) -> Measurement | Missing:
    """Misfit of one law of the first/last ratio against depth minus that of another, with BN."""
    network = NetworkKind(family)
    table = _ratios(frames, network)
    if isinstance(table, Missing):
        return table
    misses = {law: fits.by_seed(table, partial(fits.misfit, law)) for law in (better, worse)}
    numbers = {
        "family": family,
        "ratios": fits.by_depth(table, geometric_mean),
        "misses": {law: fits.root_mean_square(miss) for law, miss in misses.items()},
        "factor_per_layer": median_interval(np.exp(fits.by_seed(table, fits.rate))),
        "blocks": block_ratios(frames, network),
    }
    values = misses[worse] - misses[better]
    return Measurement((values,), 0.0, "above", "ln(ratio)", numbers)


def ratio_exponent(frames: Frames) -> Measurement | Missing:
    """Exponent of the first/last ratio as a power of depth in residual networks with BN, − 1."""
    table = _ratios(frames, BN_RESIDUAL)
    if isinstance(table, Missing):
        return table
    exponents = fits.by_seed(table, fits.exponent)
    numbers = {
        "family": "residual",
        "ratios": fits.by_depth(table, geometric_mean),
        "exponent": median_interval(exponents),
        "blocks": block_ratios(frames, BN_RESIDUAL),
    }
    predicted = ("an exponent of 1, in proportion to depth", 0.0)
    unit = "exponent of depth, minus 1"
    return Measurement((exponents - 1,), EXPONENT_MARGIN, "within", unit, numbers, predicted)


def block_ratios(frames: Frames, network: NetworkKind) -> dict[str, Any]:
    """The same from block to block, without the stem and the difference of a block's two layers.

    Not judged: ‖∂L/∂x‖ at the input of the first block over that at the output of the last.

    Returns:
        ``ratios`` by depth, ``exponent`` of depth and ``misses`` of two laws; empty if there are
        fewer than `LEAST_DEPTHS` depths.
    """
    rows = fits.rows_of(frames, "block_gradient_norm", network)
    table = fits.rectangle(fits.per_network(rows, fits.first_over_last_block))
    if table.shape[1] < LEAST_DEPTHS:
        return {}
    misses = {
        law: fits.root_mean_square(fits.by_seed(table, partial(fits.misfit, law)))
        for law in ("power", "exponential")
    }
    return {
        "ratios": fits.by_depth(table, geometric_mean),
        "exponent": median_interval(fits.by_seed(table, fits.exponent)),
        "misses": misses,
    }


def judged_depth(table: pd.DataFrame, least: int) -> int | None:
    """56 if there is a number for it, else the deepest of at least so many layers."""
    depths = [d for d in fits.depths_of(table) if d >= least]
    return 56 if 56 in depths else max(depths, default=None)


def _ratios(frames: Frames, network: NetworkKind) -> pd.DataFrame | Missing:
    """First/last ratio by seed and depth, without holes."""
    rows = fits.rows_of(frames, "activation_gradient_norm", network)
    table = fits.rectangle(fits.per_network(rows, fits.first_over_last))
    if table.shape[1] < LEAST_DEPTHS:
        return Missing(network.needed(f"at least {LEAST_DEPTHS} depths"))
    return table
