"""What the claims about blocks, correlations and paths at initialisation measure.

As in `gradient_measures`, one number per seed from `Frames.initialization`, and every measure picks
its networks. What is judged where is fixed here, before any number is seen:

- variances and paths: the deepest network; the variances in fully pre-activated blocks, which is
  what the sources analyse, with those of original blocks beside;
- correlations of input gradients: depth 56, or else the deepest that both families have; their
  decay, and the preservation of norms: all depths that most seeds have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from resnet_study.judging.measurement import Measurement, Missing, geometric_mean
from resnet_study.judging.statistics import log_slope, median_interval
from resnet_study.phenomena.initialization import fits, theory
from resnet_study.phenomena.initialization.fits import (
    BN_PLAIN,
    BN_RESIDUAL,
    PREACTIVATED,
    NetworkKind,
)
from resnet_study.phenomena.initialization.gradient_measures import PADDING, SIDES
from resnet_study.records import Frames
from resnet_study.reference import VEIT_BLOCKS, VEIT_SHARE

SLOPE_MARGIN = 0.25
"""Around the 1 that a block adds to the ratio of variances."""

SHORT_PATHS = 0.05
"""Share of all paths below which those that carry the gradient are few (source: `VEIT_SHARE`)."""

DETECTABLE = 0.01
"""Depths at which the correlation of a seed is below are not fitted: along one line of finitely
many images it is noise there, and no number put in its place would have its spread."""

LEAST_BLOCKS = 4
"""Blocks per stage that a comparison of two laws within a stage takes."""

LEAST_DEPTHS = 3
"""Depths that a fit against depth takes."""


def variance_ratio_slope(frames: Frames) -> Measurement | Missing:
    """What a block adds to Var(skip)/Var(branch), minus the 1 of Var(branch)/Var(skip) = 1/l."""
    rows = variance_ratios(frames, PREACTIVATED)
    if not (rows["depth"] > 8).any():
        return Missing(PREACTIVATED.needed("at least 14 layers, best 110; variances by block"))
    depth = int(rows["depth"].max())
    n = (depth - 2) // 6
    slopes = fits.at_depth(rows, depth, fits.within_stage_slope)
    exponents = fits.at_depth(rows, depth, fits.first_stage_exponent)
    carried = theory.preactivation_variance(n)[:n]
    own = fits.per_network(variance_ratios(frames, BN_RESIDUAL), fits.within_stage_slope)
    deepest = max(fits.depths_of(own), default=0)
    originals = median_interval(fits.values_at(own, deepest)) if deepest else None
    numbers = {
        **PREACTIVATED.named(depth),
        "added_per_block": median_interval(slopes),
        "first_stage_exponent": median_interval(exponents),
        "blocks_per_stage": n,
        "expected_exponent": fits.exponent(np.arange(1, n + 1), -np.log(carried)),
        "original_depth": deepest,
        "original_added_per_block": originals,
        "reflected_walk": 1 - 2 / math.pi,
    }
    predicted = ("1 per block, Var(branch)/Var(skip) = 1/l", 0.0)
    return Measurement(
        (slopes - 1,), SLOPE_MARGIN, "within", "per block, minus 1", numbers, predicted
    )


def variance_law(
    frames: Frames, networks: Sequence[NetworkKind], better: str, worse: str
) -> Measurement | Missing:
    """Misfit of a law of the channel variance against block, within stages, minus another's.

    The first of the networks that was measured is judged.
    """
    for network in networks:
        rows = _deepest_variances(frames, network)
        if len(rows):
            break
    else:
        return Missing(networks[0].needed(f"at least {6 * LEAST_BLOCKS + 2} layers"))
    depth = int(rows["depth"].iloc[0])
    misses = {
        law: fits.at_depth(rows, depth, partial(fits.within_stage_misfit, law=law))
        for law in (better, worse)
    }
    factors = fits.at_depth(rows[rows["index"] > 0], depth, _factor_per_block)
    expected = [1 + factor**4 for factor in PADDING]
    numbers = {
        **network.named(depth),
        "misses": {law: fits.root_mean_square(miss) for law, miss in misses.items()},
        "factor_per_block": median_interval(factors),
        "expected_by_stage": expected if network.normalization == "none" else None,
        "expected": geometric_mean(np.array(expected)),
    }
    values = misses[worse] - misses[better]
    return Measurement((values,), 0.0, "above", "ln(variance)", numbers)


def variance_reset(frames: Frames) -> Measurement | Missing:
    """ln of channel variance after over before the two transitions, to lie below 0."""
    rows = _deepest_variances(frames, PREACTIVATED)
    if rows.empty:
        return Missing(PREACTIVATED.needed(f"at least {6 * LEAST_BLOCKS + 2} layers"))
    depth = int(rows["depth"].iloc[0])
    values = fits.at_depth(rows, depth, _fall_at_transitions)
    predicted = _predicted_fall(depth, (1.0, 1.0, 1.0))
    numbers = {
        **PREACTIVATED.named(depth),
        "after_over_before": geometric_mean(np.exp(values)),
        "predicted": predicted,
        "padded": _predicted_fall(depth, padded_branches(0)),
    }
    name = "ln((v/2 + u)/v), v and u being the variances of skip and branch, without borders"
    return Measurement((values,), 0.0, "below", "ln(after/before)", numbers, (name, predicted))


def _deepest_variances(frames: Frames, network: NetworkKind) -> pd.DataFrame:
    """Channel variances of the deepest of these networks, if it has `LEAST_BLOCKS` a stage."""
    rows = fits.rows_of(frames, "channel_variance", network, positive=True)
    return rows[(rows["depth"] >= 6 * LEAST_BLOCKS + 2) & (rows["depth"] == rows["depth"].max())]


def padded_branches(moment: int) -> list[float]:
    """Variance (0) or squared mean (1) of a branch by stage, as `theory.padded_branch` has them."""
    return [theory.padded_branch(side)[moment] for side in SIDES]


def _predicted_fall(depth: int, branches: Sequence[float]) -> float:
    wide = theory.preactivation_variance((depth - 2) // 6, branches)
    index = np.arange(len(wide))
    return _fall_at_transitions(pd.DataFrame({"depth": depth, "index": index, "value": wide}))


def correlation_difference(frames: Frames) -> Measurement | Missing:
    """Correlation of neighbouring input gradients, residual minus plain, at equal depth."""
    tables = neighbour_correlations(frames)
    shared = set(fits.depths_of(tables["plain"])) & set(fits.depths_of(tables["residual"]))
    if not shared:
        needed = "plain and residual networks of equal depth, with BN"
        return Missing(f"gradient autocorrelation at initialisation of {needed}")
    depth = 56 if 56 in shared else max(shared)
    arms = fits.values_at(tables["residual"], depth), fits.values_at(tables["plain"], depth)
    numbers = {"depth": depth, **{family: fits.by_depth(table) for family, table in tables.items()}}
    return Measurement(arms, 0.0, "above", "correlation", numbers)


def correlation_decay(frames: Frames) -> Measurement | Missing:
    """Exponent of that correlation as a power of depth, residual minus plain, to lie above 0."""
    tables = neighbour_correlations(frames)
    shared = sorted(set(fits.depths_of(tables["plain"])) & set(fits.depths_of(tables["residual"])))
    tables = {f: fits.rectangle(table[shared]) for f, table in tables.items()}
    both = [d for d in shared if all((t[d] >= DETECTABLE).all() for t in tables.values() if d in t)]
    if min(table.shape[1] for table in tables.values()) < LEAST_DEPTHS or len(both) < 2:
        needed = (
            f"plain and residual networks with BN at {LEAST_DEPTHS} equal depths, at two of them "
            f"correlated by {DETECTABLE:g} or more"
        )
        return Missing(f"gradient autocorrelation at initialisation of {needed}")
    exponents = {f: fits.by_seed(table[both], fits.exponent) for f, table in tables.items()}
    numbers = {
        "families": {
            f: {"exponent": median_interval(exponents[f]), "correlations": fits.by_depth(table)}
            for f, table in tables.items()
        },
        "fitted": both if len(both) < len(shared) else [],
        "detectable": DETECTABLE,
    }
    arms = exponents["residual"], exponents["plain"]
    return Measurement(arms, 0.0, "above", "exponent of depth", numbers)


def path_gradient_law(frames: Frames) -> Measurement | Missing:
    """Misfit of g(k) as a power of the path length k minus that as an exponential."""
    rows = deepest_paths(frames)
    if rows.empty:
        return Missing(BN_RESIDUAL.needed("any depth, best 110; gradient by path length"))
    depth = int(rows["depth"].iloc[0])
    through = rows[rows["index"] > 0]
    misses = {
        law: fits.at_depth(through, depth, partial(_path_misfit, law=law))
        for law in ("exponential", "power")
    }
    numbers = {
        **BN_RESIDUAL.named(depth),
        "longest": int(through["index"].max()),
        "misses": {law: fits.root_mean_square(miss) for law, miss in misses.items()},
        "factor_per_branch": median_interval(fits.at_depth(through, depth, path_factor)),
    }
    values = misses["power"] - misses["exponential"]
    return Measurement((values,), 0.0, "above", "ln g", numbers)


def gradient_path_share(frames: Frames) -> Measurement | Missing:
    """log10 of the share of paths whose lengths carry 95 % of the gradient."""
    rows = deepest_paths(frames)
    if rows.empty:
        return Missing(BN_RESIDUAL.needed("any depth, best 110; gradient by path length"))
    depth = int(rows["depth"].iloc[0])
    shares = fits.at_depth(rows, depth, fits.carrying_path_share)
    carried = np.mean([fits.contribution(part) for _, part in rows.groupby("seed")], axis=0)
    blocks = len(carried) - 1
    first, last = (math.floor(border) for border in fits.central_interval(carried))
    numbers = {
        **BN_RESIDUAL.named(depth),
        "branches_from": first,
        "branches_to": last,
        "blocks": blocks,
        "mean_length": float(carried @ np.arange(blocks + 1)),
        "percent_of_paths": 100 * geometric_mean(shares),
    }
    theirs = f"{100 * VEIT_SHARE:g} % of a trained network", math.log10(VEIT_SHARE)
    border = math.log10(SHORT_PATHS)
    return Measurement(
        (np.log10(shares),),
        border,
        "below",
        "log10(share)",
        numbers,
        theirs if blocks == VEIT_BLOCKS else None,
    )


def norm_preservation_slope(frames: Frames) -> Measurement | Missing:
    """Exponent of mean |ln(‖∂L/∂x_b‖/‖∂L/∂x_{b+1}‖)| as a power of depth, to lie below 0."""
    rows = fits.rows_of(frames, "block_gradient_norm", BN_RESIDUAL, positive=True)
    table = fits.rectangle(fits.per_network(rows, fits.mean_deviation))
    if table.shape[1] < LEAST_DEPTHS:
        return Missing(BN_RESIDUAL.needed(f"{LEAST_DEPTHS} depths or more, gradients by block"))
    signed = fits.per_network(rows, lambda part: float(np.exp(fits.block_log_ratios(part).mean())))
    numbers = {"mean_deviation": fits.by_depth(table), "mean_ratio": fits.by_depth(signed)}
    exponents = fits.by_seed(table, fits.exponent)
    return Measurement((exponents,), 0.0, "below", "exponent of depth", numbers)


def variance_ratios(frames: Frames, network: NetworkKind) -> pd.DataFrame:
    """Rows of Var(skip)/Var(branch) by block."""
    keys = ["depth", "seed", "index"]
    skip, branch = (
        fits.rows_of(frames, quantity, network, positive=True)
        for quantity in ("skip_variance", "branch_variance")
    )
    both = skip.merge(branch[[*keys, "value"]], on=keys, suffixes=("", "_branch"))
    return both.assign(value=both["value"] / both["value_branch"])


def _factor_per_block(part: pd.DataFrame) -> float:
    """Factor per block within stages, of the rows after the stem."""
    return math.exp(fits.within_stage_slope(part.assign(value=np.log(part["value"]))))


def _fall_at_transitions(part: pd.DataFrame) -> float:
    n = fits.blocks_per_stage(part)
    logs = np.log(part.set_index("index")["value"])
    return float(np.mean([logs[end + 1] - logs[end] for end in (n, 2 * n)]))


def neighbour_correlations(frames: Frames) -> dict[str, pd.DataFrame]:
    """Autocorrelation at lag 1 by seed and depth, of both families with BN."""

    def at_lag_1(part: pd.DataFrame) -> float:
        return float(part.set_index("index")["value"].get(1, math.nan))

    return {
        network.family: fits.per_network(
            fits.rows_of(frames, "gradient_autocorrelation", network), at_lag_1
        )
        for network in (BN_PLAIN, BN_RESIDUAL)
    }


def deepest_paths(frames: Frames) -> pd.DataFrame:
    """Gradient by path length, of the deepest network that it was measured in."""
    rows = fits.rows_of(frames, "path_gradient_norm", BN_RESIDUAL, positive=True)
    return rows[rows["depth"] == rows["depth"].max()]


def path_factor(part: pd.DataFrame) -> float:
    """By what one more branch multiplies the gradient of a path."""
    return math.exp(log_slope(part["index"].to_numpy(float), part["value"].to_numpy(float)))


def _path_misfit(part: pd.DataFrame, law: str) -> float:
    return fits.misfit(law, part["index"].to_numpy(float), np.log(part["value"].to_numpy(float)))
