"""What is fitted to networks at initialisation: laws, growth, paths, and depths with seeds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from resnet_study.phenomena.initialization import fits


@pytest.mark.parametrize("law", fits.LAWS)
def test_every_law_fits_its_own_data_best_and_exactly(law: str) -> None:
    x = np.array([8.0, 20, 32, 56, 110])
    y = {"linear": 3 + 0.7 * x, "power": 0.2 * x**1.6, "exponential": 0.1 * np.exp(0.05 * x)}[law]
    misses = {name: fits.misfit(name, x, np.log(y)) for name in fits.LAWS}
    assert misses[law] < 1e-4
    assert min(misses, key=lambda name: misses[name]) == law
    assert all(miss > 0.01 for name, miss in misses.items() if name != law)


def test_linear_law_finds_the_least_squares_of_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(1.0, 10)
    logs = np.log(2 + 0.5 * x) + 0.1 * rng.normal(size=9)
    slopes = np.linspace(0, 3, 30_001)[:, None]
    rest = logs - np.log1p(slopes * (x - x[0]))
    best = np.sqrt(np.mean((rest - rest.mean(axis=1, keepdims=True)) ** 2, axis=1)).min()
    assert fits.misfit("linear", x, logs) == pytest.approx(best, abs=1e-6)


def test_growth_ignores_jumps_between_stages_and_weighs_them_equally() -> None:
    layers = np.concatenate([[0], np.repeat([1, 2, 3], 4)])
    steps = {1: 1.3, 2: 1.1, 3: 0.9}
    logs = np.zeros(13)
    for index in range(11, -1, -1):
        same = layers[index] == layers[index + 1]
        logs[index] = logs[index + 1] + (np.log(steps[layers[index]]) if same else 5.0)
    part = pd.DataFrame(
        {"depth": 14, "index": np.arange(1, 14), "stage": layers, "value": np.exp(logs)}
    )
    assert fits.growth(part) == pytest.approx((1.3 * 1.1 * 0.9) ** (1 / 3))
    for stage, factor in steps.items():
        assert fits.growth_of_stage(part, stage) == pytest.approx(factor)
    assert fits.growth(part, within_stages=False) > 2
    assert fits.first_over_last(part) == pytest.approx(np.exp(logs[0]))


def test_contribution_of_a_geometric_path_gradient_is_binomial() -> None:
    blocks_of_network, r = 54, 0.25
    k = np.arange(blocks_of_network + 1)
    part = pd.DataFrame({"depth": 110, "index": k, "value": 7.0 * r**k})
    carried = fits.contribution(part)
    expected = stats.binom.pmf(k, blocks_of_network, r / (1 + r))
    np.testing.assert_allclose(carried, expected, atol=1e-12)
    low, high = (math.floor(border) for border in fits.central_interval(carried))
    limits = stats.binom.ppf([0.025, 0.975], blocks_of_network, r / (1 + r))
    assert (low, high) == tuple(limits)
    inside = stats.binom.cdf(high, 54, 0.5) - stats.binom.cdf(low - 1, 54, 0.5)
    assert 0.3 * inside < fits.carrying_path_share(part) < inside


def test_constant_path_gradient_needs_as_many_paths_as_it_carries() -> None:
    part = pd.DataFrame({"depth": 56, "index": np.arange(28), "value": 1.0})
    assert fits.carrying_path_share(part) == pytest.approx(0.95)
    assert fits.carrying_path_share(part, 0.5) == pytest.approx(0.5)


def test_blocks_that_change_the_shape_do_not_count_for_the_norm() -> None:
    n = 3
    values = np.ones(3 * n + 1)
    values[: n + 1] *= 100  # between the inputs of blocks n + 1 and n + 2
    values[: 2 * n + 1] *= 100
    part = pd.DataFrame({"depth": 20, "index": np.arange(1, 3 * n + 2), "value": values})
    ratios = fits.block_log_ratios(part)
    assert list(ratios.index) == [1, 2, 3, 5, 6, 8, 9]
    assert ratios.abs().max() == 0
    assert fits.mean_deviation(part) == 0


def test_rectangle_prefers_all_depths_and_falls_back_on_most_seeds() -> None:
    table = pd.DataFrame({8: [1.0, 2, 3], 20: [1.0, np.nan, 3]}, index=[0, 1, 2])
    assert list(fits.rectangle(table).index) == [0, 2]
    apart = pd.DataFrame({8: [1.0, 2, np.nan], 20: [np.nan, np.nan, 3.0]}, index=[0, 1, 2])
    assert list(fits.rectangle(apart).columns) == [8]
    assert fits.rectangle(pd.DataFrame(dtype=float)).empty
