"""Intervals, slopes and power. The unit of replication is the seed, that is the run.

Layers and iterations of one run are not independent of each other: every function here
takes one number per run, and what comes from many layers (`log_slope`) is reduced to one
number per run before any interval is formed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

Values = Sequence[float] | npt.NDArray[np.floating]


class Interval(NamedTuple):
    """An estimate with its confidence limits, NaN where the data give none."""

    estimate: float
    low: float
    high: float

    @property
    def exists(self) -> bool:
        """Whether both limits are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def mean_interval(values: Values, confidence: float = 0.95) -> Interval:
    """Mean with the t interval.

    Args:
        values: one number per run.
        confidence: two-sided level.

    Returns:
        The limits are NaN for fewer than two runs, and for runs without any spread: equal
        numbers (an error of exactly 0 %, say) do not mean that the next one will be equal.
    """
    x = np.asarray(values, dtype=float)
    error = _standard_error(x)
    return _t_interval(float(np.mean(x)) if len(x) else math.nan, error, len(x) - 1, confidence)


def welch(first: Values, second: Values, confidence: float = 0.95) -> Interval:
    """Difference of means, first − second, with Welch's t interval (unequal variances).

    Degrees of freedom after Satterthwaite. Limits are NaN if an arm has fewer than two runs
    or neither arm has any spread (see `mean_interval`).

    Source: Welch 1947, Biometrika 34, 28-35.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not len(a) or not len(b):
        return Interval(math.nan, math.nan, math.nan)
    difference = float(np.mean(a) - np.mean(b))
    errors = np.array([_standard_error(a), _standard_error(b)])
    variance = float(np.sum(errors**2))
    freedom = math.nan
    if variance > 0:
        freedom = variance**2 / float(np.sum(errors**4 / (np.array([len(a), len(b)]) - 1)))
    return _t_interval(difference, math.sqrt(variance), freedom, confidence)


BCA_RUNS = 5
"""Runs per arm from which a bootstrap interval is corrected for bias and skewness. Both
corrections are estimated from the runs; from fewer (126 distinct resamples of 5, 35 of 4) they
are noise, and the percentile interval is taken as it is."""


def bootstrap_mean(
    values: Values,
    confidence: float = 0.95,
    method: Literal["percentile", "BCa"] = "BCa",
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Mean with a bootstrap interval over runs.

    For drawing bands where normality is doubtful, and to set beside a t interval. With fewer
    than about ten runs it is too narrow whatever the method, because resampling cannot show
    what few runs did not show; the claims are therefore decided by t intervals.

    Args:
        values: one number per run.
        confidence: two-sided level.
        method: percentile, or bias-corrected and accelerated (Efron 1987).
        resamples: number of bootstrap samples.
        seed: of the resampling; equal seeds give equal intervals.
    """
    return _bootstrap([np.asarray(values, dtype=float)], confidence, method, resamples, seed)


def bootstrap_difference(
    first: Values,
    second: Values,
    confidence: float = 0.95,
    method: Literal["percentile", "BCa"] = "BCa",
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Difference of means, first − second, with a bootstrap interval; arms are resampled apart.

    Too narrow with few runs, as `bootstrap_mean` is. Limits are NaN if an arm has fewer than
    two runs or neither arm has any spread.
    """
    arms = [np.asarray(first, dtype=float), np.asarray(second, dtype=float)]
    return _bootstrap(arms, confidence, method, resamples, seed)


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
    x, y, member = x[usable], np.log(y[usable]), member[usable]
    for group in np.unique(member):
        inside = member == group
        x[inside] -= x[inside].mean()
        y[inside] -= y[inside].mean()
    spread = float(x @ x)
    return float(x @ y) / spread if len(x) >= 3 and spread > 0 else math.nan


def seeds_needed(
    sd: float,
    effect: float,
    arms: Literal[1, 2] = 2,
    alpha: float = 0.05,
    power: float = 0.8,
    limit: int = 10_000,
    half_width: float | None = None,
) -> int | None:
    """Runs per arm that a two-sided t interval needs to decide.

    Args:
        sd, effect, arms, alpha, half_width: as in `decision_power`.
        power: probability of a decision that is asked for.
        limit: give up beyond so many.

    Returns:
        The smallest number, at least 2; None if it exceeds ``limit``.
    """
    distance = effect if half_width is None else abs(effect) - half_width
    if distance == 0 or not math.isfinite(sd) or not math.isfinite(effect):
        return None
    if sd == 0 or decision_power(2, sd, effect, arms, alpha, half_width) >= power:
        return 2
    low, high = 2, 4
    while decision_power(high, sd, effect, arms, alpha, half_width) < power:
        low, high = high, 2 * high
        if low >= limit:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if decision_power(middle, sd, effect, arms, alpha, half_width) >= power:
            high = middle
        else:
            low = middle
    return high if high <= limit else None


def decision_power(
    runs: int,
    sd: float,
    effect: float,
    arms: Literal[1, 2] = 2,
    alpha: float = 0.05,
    half_width: float | None = None,
) -> float:
    """Probability that the t interval leaves the threshold, or lies wholly in or out of a band.

    Args:
        runs: runs per arm, at least 2.
        sd: standard deviation between runs of an arm, above 0 (for two arms the root mean
            square).
        effect: true difference from the threshold, or from the centre of the band, in the
            unit of ``sd``.
        arms: two arms of equal size, or one arm against a fixed number.
        alpha: one minus the two-sided level of the interval.
        half_width: of the band; an effect inside it is decided by an interval inside it, one
            outside it by an interval outside it (two one-sided tests, each at alpha/2).

    Noncentral t by averaging a normal tail over quantiles of the variance estimate: scipy's own
    noncentral t returns NaN for large shifts, which do occur here, and a band needs the joint
    probability anyway.
    """
    freedom = arms * (runs - 1)
    error = sd * math.sqrt(arms / runs)
    shift = abs(effect) / error
    half = float(scipy.stats.t.ppf(1 - alpha / 2, freedom)) * _scale(freedom)
    normal = scipy.stats.norm
    if half_width is None:
        decided = normal.sf(half - shift) + normal.cdf(-half - shift)
    elif abs(effect) > half_width:
        border = half_width / error
        decided = normal.sf(border + half - shift) + normal.cdf(-border - half - shift)
    else:
        room = np.maximum(half_width / error - half, 0.0)
        decided = normal.cdf(room - shift) - normal.cdf(-room - shift)
    return float(np.mean(decided))


def holm(p_values: Values) -> np.ndarray:
    """p values adjusted for looking at several, by Holm's step-down procedure.

    Rejecting where the adjusted value is at most α keeps the probability of any false
    rejection at most α. NaN stays NaN and does not count.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), math.nan)
    order = [i for i in np.argsort(p) if not math.isnan(p[i])]
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def _standard_error(x: np.ndarray) -> float:
    return float(np.std(x, ddof=1) / math.sqrt(len(x))) if len(x) > 1 else math.nan


def _t_interval(estimate: float, error: float, freedom: float, confidence: float) -> Interval:
    if not error > 0:
        return Interval(estimate, math.nan, math.nan)
    half = error * float(scipy.stats.t.ppf((1 + confidence) / 2, freedom))
    return Interval(estimate, estimate - half, estimate + half)


@functools.lru_cache(maxsize=512)
def _scale(freedom: int) -> np.ndarray:
    """Quantiles of the estimated over the true standard deviation, shape (400,)."""
    quantiles = (np.arange(400) + 0.5) / 400
    return np.sqrt(scipy.stats.chi2.ppf(quantiles, freedom) / freedom)


def _bootstrap(
    arms: Sequence[np.ndarray],
    confidence: float,
    method: Literal["percentile", "BCa"],
    resamples: int,
    seed: int,
) -> Interval:
    if not all(len(arm) for arm in arms):
        return Interval(math.nan, math.nan, math.nan)
    estimate = float(arms[0].mean() - sum(arm.mean() for arm in arms[1:]))
    errors = [_standard_error(arm) for arm in arms]
    if any(math.isnan(error) for error in errors) or not any(errors):
        return Interval(estimate, math.nan, math.nan)

    def statistic(*samples: np.ndarray, axis: int) -> np.ndarray:
        first, *second = (sample.mean(axis) for sample in samples)
        return first - second[0] if second else first

    result = scipy.stats.bootstrap(
        arms,
        statistic,
        confidence_level=confidence,
        n_resamples=resamples,
        method=method,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    limits = result.confidence_interval
    return Interval(estimate, float(limits.low), float(limits.high))
