"""Verdicts on planted numbers: their rates are those that were promised."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnet_study.judging import claim as verdicts
from resnet_study.judging import judge
from resnet_study.judging.claim import Claim, Finding
from resnet_study.judging.measurement import Measurement, Missing, Side
from resnet_study.judging.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    decision_power,
    seeds_needed,
    welch,
)
from resnet_study.records import Frames, frames_of

NOTHING = frames_of([])
"""No record is needed where the measurement is planted."""


def claim(
    measured: Measurement | Missing | Callable[[], Measurement], name: str = "planted"
) -> Claim:
    def measure(_: Frames) -> Measurement | Missing:
        return measured() if callable(measured) else measured

    return Claim(
        name, "It is so.", "nobody", None, measure, "runs of any depth", of_initialization=True
    )


def measurement(arms: Any, threshold: float = 0.0, side: Side = "above") -> Measurement:
    return Measurement(tuple(np.asarray(a, float) for a in arms), threshold, side, "points")


def conclude(arms: Any, threshold: float = 0.0, side: Side = "above") -> Finding:
    return claim(Missing()).conclude(measurement(arms, threshold, side), 0.95)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what costs time and has no part in a verdict."""
    monkeypatch.setattr(verdicts, "_bootstrap", lambda *_: None)
    monkeypatch.setattr(verdicts, "seeds_needed", lambda *_, **__: None)


@pytest.mark.parametrize(
    ("side", "threshold", "centre", "verdict"),
    [
        ("above", 0.0, 3.0, "reproduced"),
        ("above", 0.0, -3.0, "not reproduced"),
        ("above", 0.0, 0.1, "undecided"),
        ("below", 0.0, -3.0, "reproduced"),
        ("below", 0.0, 3.0, "not reproduced"),
        ("below", 5.0, 3.0, "reproduced"),
        ("within", 5.0, 0.1, "reproduced"),
        ("within", 5.0, -3.0, "reproduced"),
        ("within", 5.0, 4.9, "undecided"),
        ("within", 5.0, -4.9, "undecided"),
        ("within", 5.0, 7.0, "not reproduced"),
        ("within", 5.0, -7.0, "not reproduced"),
        ("within", 0.5, 0.0, "undecided"),
    ],
)
def test_verdict_is_where_the_whole_interval_lies(
    side: Side, threshold: float, centre: float, verdict: str
) -> None:
    # t interval of these: ±1.02.
    spread = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) * 1.04
    finding = conclude([centre + spread], threshold, side)
    assert finding.verdict == verdict
    assert finding.interval == pytest.approx((centre - 1.02, centre + 1.02), abs=0.01)
    assert (finding.needed == "") == (verdict in ("reproduced", "not reproduced"))


@pytest.mark.parametrize("value", [-7.0, -1.0, 0.0, 1.0, 7.0])
@pytest.mark.parametrize("side", ["above", "below", "within"])
@pytest.mark.parametrize("arms", [1, 2])
def test_one_seed_is_at_most_an_indication(value: float, side: Side, arms: int) -> None:
    finding = conclude([[value], [0.0]][:arms], 2.0, side)
    claimed = {"above": value > 2, "below": value < 2, "within": abs(value) < 2}[side]
    assert finding.verdict == ("indicated" if claimed else "undecided")
    assert finding.interval is None
    assert finding.bootstrap is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arms", "side", "threshold", "effect"),
    [
        (1, "above", 0.0, 1.2),
        (1, "below", 1.0, -0.5),
        (2, "above", 0.0, 1.5),
        (2, "below", 1.0, -1.0),
        (1, "within", 1.0, 0.0),
        (1, "within", 1.0, -0.4),
        (2, "within", 2.0, 0.5),
    ],
)
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_planted_effect_is_found_with_the_power_that_is_promised(
    arms: Any, side: Side, threshold: float, effect: float, alpha: float
) -> None:
    band = threshold if side == "within" else None
    distance = effect if band else effect - threshold
    seeds = seeds_needed(1.0, distance, arms, alpha, half_width=band)
    assert seeds is not None
    rng = np.random.default_rng(3)
    draws = 1000
    found = 0
    for _ in range(draws):
        drawn = rng.normal(size=(arms, seeds))
        drawn[0] += effect
        finding = claim(Missing()).conclude(measurement(drawn, threshold, side), 1 - alpha)
        found += finding.verdict == "reproduced"
        assert finding.verdict != "not reproduced"
    promised = decision_power(seeds, 1.0, distance, arms, alpha, band)
    assert 0.8 <= promised < 0.95
    error = math.sqrt(promised * (1 - promised) / draws)
    # Welch's interval has fewer degrees of freedom than the pooled one that power is of.
    assert promised - 3.5 * error - 0.02 * (arms - 1) < found / draws < promised + 3.5 * error


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("shared", [False, True], ids=["independent", "same runs"])
def test_without_effect_any_wrong_verdict_is_as_rare_as_promised(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Nine claims judged together, each exactly on its threshold, where errors are commonest."""
    seeds, rng = 5, np.random.default_rng(4)
    kinds: list[tuple[int, Side]] = [(2, "above"), (2, "below"), (1, "above")] * 2
    kinds += [(1, "below"), (1, "within"), (2, "within")]
    drawn = rng.normal(size=(len(kinds), 2, seeds))

    def planted(index: int) -> Measurement:
        arms, side = kinds[index]
        values = drawn[0 if shared else index][:arms].copy()
        values[0] += 1.0
        return measurement(values, 1.0, side)

    def reader(index: int) -> Callable[[], Measurement]:
        return lambda: planted(index)

    names = [f"claim {index}" for index in range(len(kinds))]
    planted_claims = {name: claim(reader(i), name) for i, name in enumerate(names)}
    decided = ("reproduced", "not reproduced")
    studies, wrong, alone = 600, 0, 0
    for _ in range(studies):
        drawn = rng.normal(size=drawn.shape)
        wrong += any(
            f.verdict in decided for f in judge.judge(list(planted_claims.values()), NOTHING)
        )
        alone += any(planted_claims[n].evaluate(NOTHING).verdict in decided for n in names)
    # Nominal 5 %: standard deviation 0.9 % over 600 studies.
    assert wrong / studies <= 0.05 + 3 * 0.009
    assert wrong > 0
    # What the correction is for: each alone at 95 %.
    assert alone / studies > (0.05 if shared else 0.25)


def test_seeds_needed_for_a_band_decide_it() -> None:
    spread = np.array([-1.0, 0.0, 1.0])
    for centre in (0.3, -0.3, 2.5, -2.5):
        finding = conclude([centre + spread], 1.0, "within")
        assert finding.verdict == "undecided"
        seeds = int(finding.needed.split()[1])
        exact = seeds_needed(1.0, centre, 1, half_width=1.0)
        assert seeds == exact
        assert decision_power(seeds, 1.0, centre, 1, 0.05, 1.0) >= 0.8
    assert "lies on the threshold" in conclude([1.0 + spread], 1.0, "within").needed


def test_bootstrap_stands_beside_and_does_not_decide() -> None:
    two = conclude([[1.0, 3.0]])
    # Resamples of two values: a quarter each are the extremes.
    assert two.bootstrap == (1.0, 3.0)
    assert two.verdict == "undecided"
    first, second = np.random.default_rng(5).normal(size=(2, 6))
    assert conclude([first]).bootstrap == bootstrap_mean(first, 0.95, "BCa")[1:]
    assert conclude([first, second]).bootstrap == bootstrap_difference(first, second)[1:]
    few = conclude([first, second[:4]])
    assert few.bootstrap == bootstrap_difference(first, second[:4], method="percentile")[1:]
    assert few.interval == pytest.approx(welch(first, second[:4])[1:])
    assert conclude([[2.0, 2.0], [1.0, 1.0]]).bootstrap is None


def test_a_claim_about_initialisation_takes_all_records() -> None:
    def seeds(frames: Frames) -> Measurement:
        return measurement([frames.initialization["value"]])

    signals = NOTHING.initialization.assign(value=[1.0, 2.0, 3.0])
    about = Claim("x", "It is so.", "nobody", None, seeds, "runs", of_initialization=True)
    assert about.evaluate(NOTHING._replace(initialization=signals)).n == "3 seeds"


def test_missing_runs_are_named_by_the_claim() -> None:
    nothing = claim(Missing()).conclude(Missing(), 0.95)
    assert (nothing.verdict, nothing.needed) == ("undecided", "runs of any depth")
    why = claim(Missing()).conclude(Missing("runs that converge"), 0.95)
    assert why.needed == "runs that converge: runs of any depth"
    assert why.runs == "runs of any depth"
