"""Statistics against scipy, published power tables and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from resnet_study.analysis.statistics import (
    bootstrap_mean,
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


def test_holm_by_hand_and_monotone() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = holm([0.2, math.nan, 0.001])
    assert adjusted[[0, 2]] == pytest.approx([0.2, 0.002])
    assert math.isnan(adjusted[1])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
