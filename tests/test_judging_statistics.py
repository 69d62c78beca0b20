"""Statistics against scipy, published power tables and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from resnet_study.judging.statistics import (
    holm,
    log_slope,
    median_interval,
    seeds_needed,
    share_limits,
    sign_test,
)


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
    ("share", "alpha", "n"),
    # By hand: 1/2^n ≤ alpha; at 0.9 the least n for which 8 of 8 or 7 of 8 are 80 % likely.
    [(1.0, 0.05, 5), (1.0, 0.025, 6), (1.0, 0.01, 7), (0.9, 0.05, 8)],
)
def test_seeds_needed_by_hand(share: float, alpha: float, n: int) -> None:
    assert seeds_needed(share, alpha) == n


def test_seeds_needed_at_the_ends() -> None:
    assert seeds_needed(0.3) is seeds_needed(0.5) is seeds_needed(0.51) is None


def test_holm_by_hand_and_monotone() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@pytest.mark.parametrize(
    ("count", "seeds", "p"),
    # By hand: 1/2^n, (1 + n)/2^n, (1 + n + n(n − 1)/2)/2^n.
    [(1, 1, 1 / 2), (5, 5, 1 / 32), (9, 10, 11 / 1024), (8, 10, 56 / 1024), (0, 7, 1.0)],
)
def test_sign_test_is_the_exact_binomial_one(count: int, seeds: int, p: float) -> None:
    assert sign_test(count, seeds) == pytest.approx(p)
    assert stats.binomtest(count, seeds, 0.5, "greater").pvalue == pytest.approx(p)


def test_median_interval_by_hand() -> None:
    five = median_interval([3.0, 1.0, 2.0, 90.0, 4.0])
    assert five == pytest.approx((3.0, 1.0, 90.0, 1 - 2 / 32))
    # P(Bin(10, 1/2) ≤ 1) = 11/1024 ≤ 5 %, P(≤ 2) = 56/1024 is not.
    assert median_interval(range(10)) == pytest.approx((4.5, 1.0, 8.0, 1 - 22 / 1024))
    assert not median_interval(range(4)).exists
    assert math.isnan(median_interval([]).estimate)


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=25),
    st.integers(-3, 3),
    st.sampled_from([0.05, 0.0125, 0.2]),
)
def test_interval_and_sign_test_decide_alike(
    values: list[int], threshold: int, alpha: float
) -> None:
    x = np.array(values, dtype=float)
    interval, n = median_interval(x, alpha), len(x)
    assert (interval.low > threshold) == (sign_test(np.sum(x > threshold), n) <= alpha)
    assert (interval.high < threshold) == (sign_test(np.sum(x < threshold), n) <= alpha)


def test_limits_of_a_share_are_where_the_binomial_tail_is_alpha() -> None:
    low, high = share_limits(4, 5, 0.05)
    assert stats.binom.sf(3, 5, low) == pytest.approx(0.05)
    assert stats.binom.cdf(4, 5, high) == pytest.approx(0.05)
    assert share_limits(5, 5, 0.05) == pytest.approx((0.05**0.2, 1.0))
