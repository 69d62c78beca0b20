"""Statistics against scipy, published power tables and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from resnet_study.judging.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    decision_power,
    holm,
    log_slope,
    mean_interval,
    seeds_needed,
    welch,
)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.994])
@pytest.mark.parametrize("sizes", [(2, 2), (3, 5), (10, 4)])
def test_welch_is_scipys(sizes: tuple[int, int], confidence: float) -> None:
    rng = np.random.default_rng(sizes)
    a, b = rng.normal(3, 1, sizes[0]), rng.normal(2, 4, sizes[1])
    limits = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    assert welch(a, b, confidence) == pytest.approx((a.mean() - b.mean(), limits.low, limits.high))


def test_mean_interval_is_scipys() -> None:
    x = np.random.default_rng(1).normal(5, 2, 6)
    limits = stats.ttest_1samp(x, 0).confidence_interval(0.9)
    assert mean_interval(x, 0.9) == pytest.approx((x.mean(), limits.low, limits.high))


@pytest.mark.parametrize("a", [[], [1.0], [2.0, 2.0]])
def test_no_interval_from_one_run_or_without_spread(a: list[float]) -> None:
    assert not mean_interval(a).exists
    assert not welch(a, [1.0, 1.0]).exists
    assert not bootstrap_mean(a).exists
    assert not bootstrap_difference(a, [1.0, 1.0]).exists


def test_welch_with_spread_in_one_arm_only_has_that_arms_interval() -> None:
    spread = [1.0, 2.0, 4.0]
    both, one = welch(spread, [0.0, 0.0]), mean_interval(spread)
    assert both == pytest.approx(one)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_bootstrap_is_seeded_and_covers(method: str) -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        x = rng.exponential(size=30)
        interval = bootstrap_mean(x, 0.9, method, resamples=400, seed=trial)  # type: ignore[arg-type]
        covered += interval.low < 1.0 < interval.high
    # Binomial(200, 0.9) has standard deviation 4.2; small-sample undercoverage of a few percent.
    assert 160 <= covered <= 194
    again = bootstrap_mean(x, 0.9, method, resamples=400, seed=trial)  # type: ignore[arg-type]
    assert again == interval


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_bootstrap_of_a_difference_is_that_of_resampling_both_arms(method: str) -> None:
    rng = np.random.default_rng(7)
    a, b = rng.exponential(size=12), rng.normal(size=8)
    means = [rng.choice(x, (40_000, len(x))).mean(axis=1) for x in (a, b)]
    limits = np.quantile(means[0] - means[1], [0.05, 0.95])
    interval = bootstrap_difference(a, b, 0.9, method)  # type: ignore[arg-type]
    assert interval.estimate == pytest.approx(a.mean() - b.mean())
    # Skewness moves the BCa limits a little; the percentile ones only by resampling noise.
    assert interval[1:] == pytest.approx(limits, abs=0.03 if method == "percentile" else 0.15)
    swapped = bootstrap_difference(b, a, 0.9, method)  # type: ignore[arg-type]
    assert swapped[1:] == pytest.approx((-interval.high, -interval.low), abs=0.03)


def test_bootstrap_is_too_narrow_with_few_runs_and_right_with_many() -> None:
    """Why it does not decide a claim: 95 % intervals of three runs per arm hold 80 %."""
    rng = np.random.default_rng(8)
    for runs, low, high in ((3, 0.73, 0.86), (30, 0.90, 0.98)):
        covered = 0
        for trial in range(250):
            a, b = rng.normal(size=(2, runs))
            interval = bootstrap_difference(a, b, 0.95, "percentile", 1999, trial)
            covered += interval.low < 0 < interval.high
        assert low <= covered / 250 <= high


def test_slope_is_recovered_and_ignores_unusable_layers() -> None:
    layers = np.arange(1.0, 56)
    norms = 3.0 * 1.211**-layers
    assert log_slope(layers, norms) == pytest.approx(-math.log(1.211))
    norms[[3, 10, 20]] = [0.0, math.nan, math.inf]
    assert log_slope(layers, norms) == pytest.approx(-math.log(1.211))
    assert math.isnan(log_slope(layers[:2], norms[:2]))


def test_slope_within_groups_ignores_jumps_between_them() -> None:
    layers, stage = np.arange(30.0), np.repeat([1, 2, 3], 10)
    norms = 0.9**layers * np.array([1.0, 100.0, 7.0])[stage - 1]
    assert log_slope(layers, norms, stage.tolist()) == pytest.approx(math.log(0.9))
    assert log_slope(layers, norms) != pytest.approx(math.log(0.9), rel=0.05)


@pytest.mark.parametrize(
    ("arms", "d", "n"),
    # Cohen 1988, table 2.4.1 and G*Power: two-sided, level 0.05, power 0.8.
    [(2, 0.5, 64), (2, 0.8, 26), (2, 1.0, 17), (1, 0.5, 34), (1, 0.8, 15)],
)
def test_seeds_needed_agrees_with_published_tables(arms: int, d: float, n: int) -> None:
    assert seeds_needed(2.0, -2.0 * d, arms) == n  # type: ignore[arg-type]


def test_seeds_needed_at_the_ends() -> None:
    assert seeds_needed(1.0, 0.0) is None
    assert seeds_needed(1.0, 1e-4) is None
    assert seeds_needed(1e-6, 50.0) == 2
    assert seeds_needed(0.0, 1.0) == 2


@pytest.mark.parametrize("effect", [0.0, 0.6, -1.8])
@pytest.mark.parametrize("arms", [1, 2])
def test_power_for_a_band_is_that_of_simulated_intervals(arms: int, effect: float) -> None:
    rng, runs, half_width = np.random.default_rng(9), 7, 1.2
    means = effect + rng.normal(size=20_000) * math.sqrt(arms / runs)
    freedom = arms * (runs - 1)
    errors = np.sqrt(rng.chisquare(freedom, 20_000) / freedom * arms / runs)
    half = stats.t.ppf(0.975, freedom) * errors
    inside = (means - half > -half_width) & (means + half < half_width)
    outside = (means - half > half_width) | (means + half < -half_width)
    decided = np.mean(inside if abs(effect) < half_width else outside)
    power = decision_power(runs, 1.0, effect, arms, 0.05, half_width)  # type: ignore[arg-type]
    assert power == pytest.approx(decided, abs=0.012)


def test_seeds_needed_for_a_band() -> None:
    for effect in (0.0, 0.5, -0.5, 1.5, -1.5):
        runs = seeds_needed(1.0, effect, 1, half_width=1.0)
        assert runs is not None
        assert decision_power(runs, 1.0, effect, 1, 0.05, 1.0) >= 0.8
        assert decision_power(runs - 1, 1.0, effect, 1, 0.05, 1.0) < 0.8
    # Near one border only that one counts, as for a plain threshold.
    assert seeds_needed(0.1, 0.9, 1, half_width=1.0) == seeds_needed(0.1, 0.1, 1)
    assert seeds_needed(1.0, -1.0, 1, half_width=1.0) is None
    assert seeds_needed(0.0, 0.3, 2, half_width=1.0) == 2


def test_holm_by_hand_and_monotone() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = holm([0.2, math.nan, 0.001])
    assert adjusted[[0, 2]] == pytest.approx([0.2, 0.002])
    assert math.isnan(adjusted[1])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
