"""Exact statistics of a few seeds. The unit of replication is the seed, that is the run.

Nothing here assumes a distribution. Networks sometimes fail to start, so that their numbers have
two peaks, and an interval that takes them for normal then decides what it must not
(`benchmarks/verdicts.py`). What holds whatever the distribution is counting: seeds that are drawn
alike and independently fall on one side of a threshold as a coin does, and the number on it is
binomial. Tests of ranks (Wilcoxon, Mann-Whitney, permutation) are sharper but need a symmetric
distribution or two of equal shape; `benchmarks/verdicts.py` shows where they break.

Layers and iterations of one run are not independent of each other: what comes from many layers
(`log_slope`) is reduced to one number per run before any seed is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import scipy

Values = Sequence[float] | npt.NDArray[np.floating[Any]]

K = TypeVar("K")

LARGEST_GROWTH = 20.0
"""ln(last / first) up to which laws of growth are searched: a factor of 5e8."""


class Interval(NamedTuple):
    """A median with its confidence limits, NaN where there are too few numbers for them.

    Attributes:
        estimate: the median of the numbers.
        low, high: two of the numbers.
        level: probability with which such limits hold the true median, at least.
    """

    estimate: float
    low: float = math.nan
    high: float = math.nan
    level: float = math.nan

    @property
    def exists(self) -> bool:
        """Whether there are limits."""
        return not math.isnan(self.level)


def median_interval(values: npt.ArrayLike, alpha: float = 0.05) -> Interval:
    """Median with the widest-tailed pair of order statistics that each miss it at most so often.

    Holds for every distribution, with ties too. The limits are those of the sign test: the low one
    lies above a threshold exactly if `sign_test` rejects at ``alpha`` that at most half of all
    seeds do.

    Args:
        values: one number per seed, shape (n,), without NaN.
        alpha: probability, at most, of missing the true median on one side, so that the level of
            the two limits is at least 1 − 2·alpha.

    Returns:
        NaN for the median of nothing; no limits if even the extremes miss it too often, at 0.05
        for fewer than five numbers.

    Source: Conover 1999, Practical Nonparametric Statistics, section 3.2.
    """
    x = np.sort(np.asarray(values, dtype=float))
    if not len(x):
        return Interval(math.nan)
    missed = scipy.stats.binom.cdf(np.arange(len(x) // 2 + 1), len(x), 0.5)
    rank = int(np.sum(missed <= alpha))
    estimate = float(np.median(x))
    if not rank:
        return Interval(estimate)
    return Interval(estimate, float(x[rank - 1]), float(x[-rank]), float(1 - 2 * missed[rank - 1]))


def sign_test(count: npt.ArrayLike, seeds: npt.ArrayLike) -> np.ndarray:
    """Probability of as many seeds or more on one side if at most half of all seeds fall on it.

    The one-sided p value of the exact binomial test, for every distribution. Counts and numbers of
    seeds may be arrays.
    """
    return np.asarray(scipy.stats.binom.sf(np.asarray(count) - 1, seeds, 0.5))


def share_limits(count: int, seeds: int, alpha: float = 0.05) -> tuple[float, float]:
    """Exact limits of the share of all seeds on a side, each missed at most ``alpha`` often.

    Args:
        count, seeds: seen on that side, and in all, at least 1.
        alpha: as in `median_interval`.

    Source: Clopper and Pearson 1934, Biometrika 26, 404-413.
    """
    limits = scipy.stats.binomtest(count, seeds).proportion_ci(1 - 2 * alpha, method="exact")
    return float(limits.low), float(limits.high)


POWER, MOST_SEEDS = 0.8, 1000


def seeds_needed(share: float, alpha: float = 0.05) -> int | None:
    """Fewest seeds with which the sign test decides with a probability of `POWER`.

    Args:
        share: of all seeds on the side that it decides for.
        alpha: level of the test on one side.

    Returns:
        None if it exceeds `MOST_SEEDS`, as for a share of at most one half.
    """
    seeds = np.arange(1, MOST_SEEDS + 1)
    # The least count that is significant: of at most alpha.
    critical = scipy.stats.binom.isf(alpha, seeds, 0.5) + 1
    enough = scipy.stats.binom.sf(critical - 1, seeds, share) >= POWER
    return int(seeds[np.argmax(enough)]) if share > 0.5 and enough.any() else None


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """p values adjusted for looking at several, by Holm's step-down procedure.

    Rejecting where the adjusted value is at most α keeps the probability of any false rejection
    at most α, however the tests depend on each other.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    largest, adjusted = 0.0, {}
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def log_slope(layers: Values, norms: Values, groups: Sequence[int] | None = None) -> float:
    """Least-squares slope of ln(norm) against layer, of one run at one step.

    Args:
        layers: layer numbers, shape (L,).
        norms: norms, shape (L,); layers whose norm is not positive and finite are left out.
        groups: one number per layer, such as the stage, shape (L,); the slope is then the
            common one within groups, each having its own intercept.

    Returns:
        Change of ln(norm) per layer in forward order; NaN if fewer than three layers or no
        pair within a group is left.
    """
    x, y = np.asarray(layers, dtype=float), np.asarray(norms, dtype=float)
    member = np.zeros(len(x)) if groups is None else np.asarray(groups)
    usable = np.isfinite(y) & (y > 0)
    if usable.sum() < 3:
        return math.nan
    return slope(x[usable], np.log(y[usable]), member[usable])


def slope(x: Values, y: Values, groups: Sequence[int] | npt.NDArray[Any]) -> float:
    """Least-squares slope of y against x within groups, each with its own intercept.

    All of shape (N,); NaN if no pair within a group is left.
    """
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    for group in np.unique(groups):
        inside = groups == group
        x[inside] -= x[inside].mean()
        y[inside] -= y[inside].mean()
    spread = float(x @ x)
    return float(x @ y) / spread if spread > 0 else math.nan


def least_miss(miss: Callable[[float], float]) -> tuple[float, float]:
    """Least miss of a law, and its growth, from 0 to `LARGEST_GROWTH`.

    A grid with a refinement around its best point finds the minimum even where it has several.
    """
    grid = np.linspace(0.0, LARGEST_GROWTH, 201)
    misses = [miss(growth) for growth in grid]
    best = int(np.argmin(misses))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    refined = scipy.optimize.minimize_scalar(miss, around, bounds=around, method="bounded")
    return min((misses[best], float(grid[best])), (float(refined.fun), float(refined.x)))
