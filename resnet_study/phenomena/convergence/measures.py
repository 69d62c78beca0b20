"""What the claims about slow convergence of plain networks measure.

*Exponentially low convergence rates* (He et al. 2015, section 4.1): the iterations T until the
training error stays at or below `LEVEL`, against depth d, under two laws with two parameters
each, neither falling with depth:

- linear: T = a + b·d, with a + b·d > 0 at the shallowest depth;
- exponential: ln T = a + b·d.

Both are fitted to ln T by least squares, so that they are compared on one scale, under the same
noise (a constant relative spread of T) and with equally many parameters: for normal noise in
ln T the fit is maximum likelihood, and the law with the smaller misfit has the larger
likelihood. The effect is the misfit of the linear law minus that of the exponential one, in
natural logarithms of iterations: one number per seed, from its networks of all depths.

A run that never reaches the level is *censored*: T is known to lie beyond the end of its
schedule. Its depth is not left out, which would hide the very slowness that is asked about. It
enters as that bound: a law that predicts an earlier T misses by the difference, one that
predicts a later T does not miss. The misfits without those depths are given too.
Where T lies beyond the first drop of the learning rate it is what it is: nothing is corrected.

*Three times longer* (footnote of section 4.1): plain networks of both depths at two lengths of
schedule, equal in everything else and in shape.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from resnet_study import reference
from resnet_study.judging.measurement import (
    Arm,
    Measurement,
    Missing,
    arms_by_depth,
    ended_counts,
)
from resnet_study.judging.selections import (
    comparable_groups,
    early_error,
    ended,
    final_error,
    iterations_to_error,
)
from resnet_study.judging.statistics import least_miss
from resnet_study.phenomena.depths import depth_pair, families_at_one_depth
from resnet_study.records import Frames

LEVEL = 20.0
"""Training error in percent that ends the count of iterations: the upper edge of the paper's
Figure 6, so that the same can be read off it."""

LEAST_DEPTHS = 4
"""Depths that a comparison of two laws with two parameters takes."""

LEAST_REACHED = 3
"""Depths that at least one seed must have brought to `LEVEL`: two points are on any law."""

LONGER = 3
"""How many times longer the long schedule is at least."""


class Law(NamedTuple):
    """A fitted law.

    Attributes:
        misfit: root mean square over the depths of the miss in ln(iterations).
        growth: ln of iterations at the deepest over those at the shallowest, by the law.
    """

    misfit: float
    growth: float


def iterations_against_depth(group: Frames) -> Measurement | Missing:
    """Misfit of the linear law minus that of the exponential one, per seed, to lie above 0."""
    table = iterations_to_error(ended(group), LEVEL)
    table = table[table["family"] == "plain"]
    horizon = group.runs["schedule.iterations"].astype(float).reindex(table.index)
    times = table.pivot(index="seed", columns="depth", values="iterations")
    ends = table.assign(horizon=horizon).pivot(index="seed", columns="depth", values="horizon")
    seeds, depths = _rectangle(ends)
    times, ends = times.loc[seeds, depths], ends.loc[seeds, depths]
    if len(depths) < LEAST_DEPTHS:
        return Missing()
    reached = times.notna()
    if reached.sum(axis=1).max() < LEAST_REACHED:
        return Missing(
            f"plain runs that reach {LEVEL:g} % training error at {LEAST_REACHED} depths or more"
        )
    fits = _fits(times, ends)
    linear, exponential = (pd.Series([fit.misfit for fit in fits[law]], seeds) for law in LAWS)
    growth = float(np.median([fit.growth for fit in fits["exponential"]]))
    all_reached = times.dropna(axis=1)
    fewer = len(depths) > all_reached.shape[1] >= LEAST_REACHED
    counts = ended_counts(group._replace(runs=group.runs[group.runs["family"] == "plain"]))
    numbers = {
        "level": LEVEL,
        "seeds": len(seeds),
        "iterations": {
            d: float(middle) if math.isfinite(middle) else None
            for d, middle in times[depths].fillna(math.inf).median().items()
        },
        "never_reached": {d: int((~reached[d]).sum()) for d in depths if not reached[d].all()},
        "misses": _misses(fits),
        "factor_per_layer": float(np.exp(growth / (depths[-1] - depths[0]))),
        "misses_where_all_reached": _misses(_fits(all_reached, all_reached)) if fewer else None,
        "depths_all_reached": all_reached.shape[1],
        "left_out": sorted(set(table["depth"]) - set(depths)),
        "paper": published_iterations(),
        "diverged_plain": counts["diverged"],
        "not_ended": counts["not_ended"],
    }
    return Measurement((linear - exponential,), 0.0, "above", "ln(iterations)", numbers)


def linear_law(depths: Sequence[int], times: np.ndarray, horizon: np.ndarray) -> Law:
    """Least squares of ln T to ln(a + b·d), b ≥ 0; see the module for censored runs.

    Of ascending depths, iterations (NaN where the level was never reached) and those until which
    these were trained, each of shape (D,).
    """
    # T rises from 1 to exp(u) times its value at the shallowest depth, along a line.
    return _fit(lambda u, x: np.log1p(np.expm1(u) * x), depths, times, horizon)


def exponential_law(depths: Sequence[int], times: np.ndarray, horizon: np.ndarray) -> Law:
    """Least squares of ln T to a + b·d, b ≥ 0; arguments as in `linear_law`."""
    return _fit(lambda u, x: u * x, depths, times, horizon)


LAWS = {"linear": linear_law, "exponential": exponential_law}


def early_error_difference(group: Frames) -> Measurement | Missing:
    """Training error over the first quarter of the run, plain minus residual."""
    found = families_at_one_depth(early_error(group), "error")
    if found is None:
        return Missing()
    arms, numbers = found
    return Measurement(arms, 0.0, "above", "percentage points", {**numbers, **ended_counts(group)})


def longer_schedule_training_error(group: Frames) -> Measurement | Missing:
    """Final training error, deep minus shallow plain network, after the long schedule.

    Of runs that differ in depth, family, seed and `LENGTH_FIELDS` only.
    """
    lengths = [
        (part, arms_by_depth(final_error(part, "train"), "plain", "error"))
        for part in comparable_groups(group)
    ]
    found: dict[tuple[int, int, int], Any] = {}
    for (long, after), (short, before) in itertools.product(lengths, lengths):
        pair = depth_pair({d: after[d] for d in set(after) & set(before)})
        if pair and _same_shape_longer(long.runs, short.runs):
            smaller = min(len(after[depth]) for depth in pair)
            # Most seeds, then the longest schedule against the longest that it is thrice of.
            rank = (smaller, _length(long.runs), _length(short.runs))
            found.setdefault(rank, (long, short, after, before, pair))
    if not found:
        return Missing()
    long, short, after, before, pair = found[max(found)]
    shallow, deep = pair
    numbers = {
        "shallow": shallow,
        "deep": deep,
        "short": _ends(short, before, pair),
        "long": _ends(long, after, pair),
        **ended_counts(long),
    }
    return Measurement((after[deep], after[shallow]), 0.0, "above", "percentage points", numbers)


def _ends(part: Frames, errors: dict[int, Arm], pair: tuple[int, int]) -> dict[str, Any]:
    """``iterations``, and by depth ``errors`` and ``runs``; ``gap``, deep minus shallow."""
    ends = {depth: float(errors[depth].median()) for depth in pair}
    return {
        "iterations": _length(part.runs),
        "errors": ends,
        "runs": {depth: len(errors[depth]) for depth in pair},
        "gap": ends[pair[1]] - ends[pair[0]],
    }


def _length(runs: pd.DataFrame) -> int:
    return int(runs["schedule.iterations"].iloc[0])


def _same_shape_longer(long: pd.DataFrame, short: pd.DataFrame) -> bool:
    """Whether one schedule is the other stretched at least `LONGER` times.

    Durations in epochs or percent are rounded to iterations, so each may be off by half of one.
    """
    lengths = _length(long), _length(short)
    if lengths[0] <= lengths[1] or lengths[0] + 0.5 <= LONGER * (lengths[1] - 0.5):
        return False
    drops = ("schedule.first_drop", "schedule.second_drop")
    return all(
        abs(float(long[drop].iloc[0]) / lengths[0] - float(short[drop].iloc[0]) / lengths[1])
        <= 1 / lengths[1]
        for drop in drops
    )


def _rectangle(recorded: pd.DataFrame) -> tuple[list[int], list[int]]:
    """Seeds and depths of which every pair is recorded: most seeds, then most depths."""
    have = {
        seed: frozenset(recorded.columns[recorded.loc[seed].notna()]) for seed in recorded.index
    }
    sets = {a & b for a in have.values() for b in have.values()}
    shared = {
        depths: [seed for seed, own in have.items() if depths <= own]
        for depths in sets
        if len(depths) >= LEAST_DEPTHS
    }
    if not shared:
        return [], []
    chosen = max(shared, key=lambda d: (len(shared[d]), len(d), sorted(d)))
    return sorted(shared[chosen]), sorted(int(d) for d in chosen)


def _fit(
    shape: Callable[[float, np.ndarray], np.ndarray],
    depths: Sequence[int],
    times: np.ndarray,
    horizon: np.ndarray,
) -> Law:
    """Least squares of ln T to c + shape(u, x), over c and over u (`least_miss`).

    x goes from 0 at the shallowest depth to 1 at the deepest, where the shape is u. For every u the
    best c is exact (`_squares`).
    """
    x = np.asarray(depths, dtype=float)
    x = (x - x[0]) / (x[-1] - x[0])
    censored = np.isnan(times)
    y = np.log(np.maximum(np.where(censored, horizon, times), 1.0))
    least, growth = least_miss(lambda u: _squares(y - shape(u, x), censored))
    return Law(float(np.sqrt(least / len(y))), growth)


def _squares(z: np.ndarray, censored: np.ndarray) -> float:
    """Least sum of squares of z − c over c, where a censored z counts only if it exceeds c."""
    counted = list(z[~censored])
    if not counted:
        return 0.0
    for bound in sorted(z[censored], reverse=True):
        # Every bound that counts raises c, so the next smaller one is the next to be asked.
        if bound <= np.mean(counted):
            break
        counted.append(bound)
    return float(np.sum((np.asarray(counted) - np.mean(counted)) ** 2))


def _fits(times: pd.DataFrame, ends: pd.DataFrame) -> dict[str, list[Law]]:
    """Both laws fitted to every seed of tables of seeds by depths."""
    depths = [int(str(depth)) for depth in times]
    rows = list(zip(times.to_numpy(float), ends.to_numpy(float), strict=True))
    return {name: [law(depths, *row) for row in rows] for name, law in LAWS.items()}


def _misses(fits: dict[str, list[Law]]) -> dict[str, float]:
    """Root mean squares over seeds."""
    return {
        law: float(np.sqrt(np.mean(np.square([fit.misfit for fit in own]))))
        for law, own in fits.items()
    }


def published_iterations() -> dict[str, Any]:
    """The same of the paper's Figure 6, a single run per depth: ``iterations`` and ``misses``.

    Depth 110 is not displayed there, above 60 % at the end, and counts as not reached in 64,000;
    ``misses_without_110`` leaves it out.
    """
    ends = reference.fig6_ends()
    plain = ends[ends["family"] == "plain"].sort_values("depth").set_index("depth")
    times = plain[["iterations_until_train_20_percent"]].astype(float).T
    horizon = pd.DataFrame(64_000.0, times.index, times.columns)
    return {
        "iterations": times.iloc[0].dropna().to_dict(),
        "misses": _misses(_fits(times, horizon)),
        "misses_without_110": _misses(_fits(times.drop(columns=110), horizon.drop(columns=110))),
    }
