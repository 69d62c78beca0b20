"""The simulation of verdicts: the rule in use keeps its level, and one that does not is seen."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import verdicts

STUDIES = 4000
NOISE = 4 * math.sqrt(verdicts.ALPHA * (1 - verdicts.ALPHA) / STUDIES)


@pytest.fixture(scope="module")
def found() -> list[verdicts.Rates]:
    return list(verdicts.rates(STUDIES, np.random.default_rng(7)))


def test_no_cell_is_above_its_level(found: list[verdicts.Rates]) -> None:
    used = [rates for rates in found if rates.rule == next(iter(verdicts.RULES))]
    assert len(used) == 21 * len(verdicts.SEEDS)
    assert max(rates.false for rates in used) <= verdicts.ALPHA + NOISE
    assert all(rates.false == rates.true == 0 for rates in used if rates.n < 5)
    assert min(rates.true for rates in used if rates.n == 20) > 0.6


def test_rules_that_break_are_seen_to_break(found: list[verdicts.Rates]) -> None:
    worst = {
        rule: max(rates.false for rates in found if rates.rule == rule) for rule in verdicts.RULES
    }
    assert all(rate > 2 * verdicts.ALPHA for rule, rate in worst.items() if "sign" not in rule)
    normal = [r for r in found if r.distribution == "normal" and r.kind != "band"]
    assert max(r.false for r in normal) <= verdicts.ALPHA + NOISE + 0.01


def test_ranks_are_scipys() -> None:
    rng = np.random.default_rng(3)
    for n in (3, 5, 9):
        first, second = rng.normal(0.8, 1, (2, 40, n))
        cell = verdicts.Cell(first, second, "above", 0.0)
        paired = stats.wilcoxon(cell.effect, alternative="greater", method="exact", axis=1).pvalue
        assert np.array_equal(verdicts.signed_ranks(cell)[0], paired <= verdicts.ALPHA)
        apart = stats.mannwhitneyu(
            first, second, alternative="greater", method="exact", axis=1
        ).pvalue
        assert np.array_equal(verdicts.rank_sums(cell)[0], apart <= verdicts.ALPHA)


def test_several_claims_and_several_looks_keep_the_level() -> None:
    rng = np.random.default_rng(5)
    for shared in (False, True):
        assert verdicts.family_rate(4, 10, shared, 1000, rng) <= verdicts.ALPHA + 2 * NOISE
    assert verdicts.looking_rate(20, STUDIES, rng) <= verdicts.ALPHA + NOISE
    assert verdicts.looking_rate(None, STUDIES, rng) > verdicts.ALPHA + NOISE
