"""Verdicts on planted numbers: their rates are those that were promised."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from resnet_study import phenomena
from resnet_study.errors import UserError
from resnet_study.judging.claim import BATCH_NORMALIZATION, Claim, Finding
from resnet_study.judging.judge import judge
from resnet_study.judging.measurement import Measurement, Missing, Side
from resnet_study.judging.verdict import effects, tally
from resnet_study.records import Frames, frames_of
from resnet_study.studies.study import Study
from tests.planted import join, planted_frames

NOTHING = frames_of([])
"""No record is needed where the measurement is planted."""

DECIDED = ("reproduced", "not reproduced")


def claim(measured: Measurement | Missing, name: str = "planted", fact: str = "") -> Claim:
    return Claim(
        name,
        "It is so.",
        "nobody",
        None,
        lambda _: measured,
        "runs of any depth",
        of_initialization=True,
        fact=fact,
    )


def measurement(arms: Any, threshold: float = 0.0, side: Side = "above") -> Measurement:
    return Measurement(tuple(pd.Series(a, dtype=float) for a in arms), threshold, side, "points")


def conclude(arms: Any, threshold: float = 0.0, side: Side = "above") -> Finding:
    return claim(measurement(arms, threshold, side)).evaluate(NOTHING)


def agreeing(holds: int, seeds: int, name: str, fact: str = "") -> Claim:
    """A claim that some of the seeds bear out."""
    return claim(measurement([[1.0] * holds + [-1.0] * (seeds - holds)]), name, fact)


def verdicts(claims: Sequence[Claim], **options: Any) -> dict[str, str]:
    return {finding.claim: finding.verdict for finding in judge(claims, NOTHING, **options)}


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
def test_verdict_is_on_which_side_the_seeds_lie(
    side: Side, threshold: float, centre: float, verdict: str
) -> None:
    spread = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    finding = conclude([centre + spread], threshold, side)
    assert finding.verdict == verdict
    assert finding.effect == pytest.approx(centre)
    assert finding.interval == pytest.approx((centre - 1, centre + 1))
    assert finding.confidence == pytest.approx(1 - 2 / 2**5)
    assert (finding.needed == "") == (verdict in DECIDED)


@pytest.mark.parametrize("value", [-7.0, -1.0, 0.0, 1.0, 7.0])
@pytest.mark.parametrize("side", ["above", "below", "within"])
@pytest.mark.parametrize("arms", [1, 2])
@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_few_seeds_are_at_most_an_indication(
    value: float, side: Side, arms: int, seeds: int
) -> None:
    finding = conclude([[value] * seeds, [0.0] * seeds][:arms], 2.0, side)
    claimed = {"above": value > 2, "below": value < 2, "within": abs(value) < 2}[side]
    assert finding.verdict == ("indicated" if claimed else "undecided")
    assert finding.interval is None
    assert finding.needed.startswith("5 seeds")


def test_an_arm_without_spread_is_as_good_as_any_other() -> None:
    assert conclude([[1.0, 2.0, 4.0, 8.0, 9.0], [0.0] * 5]).verdict == "reproduced"
    assert conclude([[1.0] * 5, [0.0] * 5]).verdict == "reproduced"
    # On the border: neither.
    assert conclude([[0.0] * 5, [0.0] * 5]).verdict == "undecided"
    assert conclude([[0.0] * 3 + [1.0] * 2, [0.0] * 5]).verdict == "undecided"


def test_arms_are_subtracted_seed_by_seed() -> None:
    first = pd.Series([5.0, 1.0, 3.0, 9.0], index=[4, 0, 2, 2])
    second = pd.Series([1.0, 2.0, 3.0], index=[0, 4, 2])
    found = effects(Measurement((first, second), 0.0, "above", ""))
    # Seed 2 was run twice in the first arm: its median 6.
    assert found.to_dict() == {0: 0.0, 2: 3.0, 4: 3.0}
    apart = Measurement((first[:2], second.set_axis([7, 8, 9])), 0.0, "above", "")
    assert effects(apart).to_dict() == {0: 0.0, 4: 3.0}
    missing = Measurement((pd.Series([math.nan, 1.0]), pd.Series([0.0, 0.0])), 0.0, "above", "")
    assert effects(missing).to_dict() == {1: 1.0}


@given(st.integers(0, 20), st.integers(1, 20), st.sampled_from([0.9, 0.95, 0.99]))
def test_verdict_and_interval_are_those_of_scipys_binomial_test(
    holds: int, seeds: int, confidence: float
) -> None:
    holds = min(holds, seeds)
    finding = agreeing(holds, seeds, "x").evaluate(NOTHING, confidence)
    p = [stats.binomtest(count, seeds, 0.5, "greater").pvalue for count in (holds, seeds - holds)]
    assert (finding.verdict == "reproduced") == (p[0] <= 1 - confidence)
    assert (finding.verdict == "not reproduced") == (p[1] <= 1 - confidence)
    assert (finding.verdict == "indicated") == (holds == seeds and p[0] > 1 - confidence)
    assert (finding.interval is None) == (0.5**seeds > 1 - confidence)


@pytest.mark.parametrize("shared", [False, True], ids=["independent", "same runs"])
@pytest.mark.slow
def test_any_wrong_verdict_of_a_family_is_as_rare_as_promised(shared: bool) -> None:
    """Three primary claims, of seeds that fail now and then, each exactly on its border."""
    rng, studies, wrong, alone = np.random.default_rng(4), 500, [0, 0], 0
    sides: list[Side] = ["above", "below", "above"]
    for _ in range(studies):
        drawn = rng.normal(size=(3, 9)) + 50 * (rng.random((3, 9)) < 0.2)
        # Median of this mixture: P(N < x) = 1/2 / 0.8.
        drawn = (drawn[[0, 0, 0]] if shared else drawn) - stats.norm.ppf(0.625)
        family = [
            claim(measurement([values], 0.0, side), f"claim {i}")
            for i, (values, side) in enumerate(zip(drawn, sides, strict=True))
        ]
        words = verdicts(family, primary=family).values()
        for direction, word in enumerate(DECIDED):
            wrong[direction] += word in words
        alone += any(c.evaluate(NOTHING).verdict == DECIDED[0] for c in family)
    error = math.sqrt(0.05 * 0.95 / studies)
    assert max(wrong) / studies <= 0.05 + 3 * error
    # What Holm is for: 9 of 9 or 8 of 9 seeds, 2 % each, of three.
    assert alone > max(wrong)


def test_primary_claims_share_the_level_whatever_is_asked_for() -> None:
    first, second, third = (agreeing(5, 5, name) for name in "abc")
    assert verdicts([first], primary=[first]) == {"a": "reproduced"}
    # 1/32 is more than 5 % / 2: five seeds are too few for two claims.
    both = {"a": "indicated", "b": "indicated"}
    assert verdicts([first, second], primary=[first, second]) == both
    assert verdicts([first], primary=[first, second]) == {"a": "indicated"}
    assert verdicts([third, first], primary=[first]) == {
        "c": "exploratory: supported",
        "a": "reproduced",
    }
    assert verdicts([agreeing(0, 5, "d")]) == {"d": "exploratory: contradicted"}


def test_holm_steps_down() -> None:
    # 1/1024 is at most 5 % / 2; then 11/1024 counts alone.
    strong, weak = agreeing(10, 10, "strong"), agreeing(9, 10, "weak")
    assert set(verdicts([strong, weak], primary=[strong, weak]).values()) == {"reproduced"}
    weaker = agreeing(5, 5, "weaker")
    words = verdicts([weaker, strong, weak], primary=[weaker, strong, weak])
    assert set(words.values()) == {"reproduced"}


def test_claims_that_are_one_by_algebra_count_once() -> None:
    twins = [agreeing(5, 5, "he", "draw"), agreeing(5, 5, "lecun", "draw")]
    assert set(verdicts(twins, primary=twins).values()) == {"reproduced"}


def test_a_primary_claim_without_records_counts() -> None:
    absent = claim(Missing(), "absent")
    found = verdicts([agreeing(5, 5, "a")], primary=[agreeing(5, 5, "a"), absent])
    assert found == {"a": "indicated"}


@given(st.lists(st.booleans(), min_size=8, max_size=8), st.integers(0, 8))
def test_what_is_decided_early_stays_decided(sides: list[bool], there: int) -> None:
    values = np.where(sides, 1.0, -1.0)
    planted = [claim(measurement([values[:n]])) for n in (there, 8)] if there else []
    early, late = (
        (judge([c], NOTHING, [c], range(8))[0].verdict for c in planted) if planted else ("", "")
    )
    assert early not in DECIDED or early == late


def test_missing_seeds_are_said_and_further_ones_make_it_sequential() -> None:
    five = agreeing(5, 5, "a")
    finding = judge([five], NOTHING, [five], range(7))[0]
    assert (finding.verdict, finding.n) == ("indicated", "5 of 5 seeds, 7 declared")
    assert verdicts([five], primary=[five], seeds=range(4)) == {"a": "sequential: supported"}
    assert tally(measurement([[1.0, -1.0]]), range(9)).p_values == pytest.approx(
        (1 - 1 / 2**9, 1 - 1 / 2**9)
    )


@pytest.mark.parametrize(("holds", "seeds"), [(4, 5), (1, 5), (5, 7), (12, 20)])
def test_seeds_that_are_needed_decide_with_the_power_promised(holds: int, seeds: int) -> None:
    finding = agreeing(holds, seeds, "x").evaluate(NOTHING)
    n = int(finding.needed.split()[1])
    assert n > seeds
    share = max(holds, seeds - holds) / seeds
    critical = next(k for k in range(n + 1) if stats.binom.sf(k - 1, n, 0.5) <= 0.05)
    assert stats.binom.sf(critical - 1, n, share) >= 0.8
    assert "as evenly" in agreeing(2, 4, "x").evaluate(NOTHING).needed


def test_what_the_seeds_say_of_all_seeds_is_in_the_detail() -> None:
    detail = agreeing(4, 5, "x").evaluate(NOTHING).detail
    limits = stats.binomtest(4, 5).proportion_ci(0.9, "exact")
    assert f"{100 * limits.low:.0f} to {100 * limits.high:.0f} %" in detail
    assert "p = 0.19" in detail


def test_a_claim_about_initialisation_takes_all_records() -> None:
    def seeds(frames: Frames) -> Measurement:
        return measurement([frames.initialization["value"]])

    signals = NOTHING.initialization.assign(value=[1.0, 2.0, 3.0], seed=[0, 1, 2])
    about = Claim("x", "It is so.", "nobody", None, seeds, "runs", of_initialization=True)
    assert about.evaluate(NOTHING._replace(initialization=signals)).n == "3 of 3 seeds"


def test_missing_runs_are_named_by_the_claim() -> None:
    nothing = claim(Missing()).evaluate(NOTHING)
    assert (nothing.verdict, nothing.needed) == ("undecided", "runs of any depth")
    why = claim(Missing("runs that converge")).evaluate(NOTHING)
    assert why.needed == "runs that converge: runs of any depth"
    assert why.runs == "runs of any depth"


def test_a_claim_takes_all_runs_unless_it_says_which() -> None:
    kinds = [{"model.normalization": kind} for kind in ("batch", "none")]
    frames = join(*(planted_frames((8,), 3, layers=False, values=kind) for kind in kinds))
    taken = []

    def runs(group: Frames) -> Measurement:
        taken.append(set(group.runs["model.normalization"]))
        return measurement([[1.0]])

    about = Claim("x", "It is so.", "nobody", None, runs, "runs", ("model.normalization",))
    about.evaluate(frames)
    replace(about, where=BATCH_NORMALIZATION).evaluate(frames)
    assert taken == [{"batch", "none"}, {"batch"}]


def test_every_claim_of_the_package_says_which_networks_it_is_about() -> None:
    trained = [claim for claim in phenomena.claims().values() if not claim.of_initialization]
    assert trained
    assert all(claim.where for claim in trained)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"where": {"model.residul": False}}, "claim x: no field model.residul.*model.residual"),
        ({"may_differ": ("optimizer.weight_deca",)}, "claim x: no field .*optimizer.weight_decay"),
        ({"where": {"model.depth": "20"}}, "claim x: where model.depth.*type int"),
        ({"where": {"model.residual": 0}}, "claim x: where model.residual=0.*type bool"),
        ({"where": {"model.normalization": "batchnorm"}}, "valid are batch"),
        ({"where": {"schedule.iterations": "50%"}}, "schedule.iterations.*type int"),
        ({"where": {"data.augmentation": "auto"}}, "claim x: where data.augmentation=auto"),
        ({"may_differ": None}, "claim x: .*may_differ is a tuple"),
        ({"quote": 3}, "claim x: quote=3 is no text"),
        ({"series": "signal"}, "claim x: its name does not begin with series=signal"),
    ],
)
def test_what_no_run_can_have_is_refused_when_the_claim_is_made(
    wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        replace(claim(Missing(), "x"), **wrong)


@pytest.mark.parametrize("part", ["words", "answer"])
def test_a_template_that_is_none_is_refused_before_training(part: str) -> None:
    wrong = replace(claim(Missing(), "x"), **{part: "Share {{ share"})
    with pytest.raises(UserError, match=f"claim x: {part} is no template"):
        Study("s", "S", "?", claims=(wrong,)).check({0})


def test_mistakes_of_a_measure_or_template_are_told_in_one_line() -> None:
    def fails(_: Frames) -> Measurement:
        return measurement([[{}["share"]]])

    wrong = replace(claim(Missing(), "x"), measure=fails)
    with pytest.raises(UserError, match=r"x: its measure fails \(KeyError: 'share' \(test_judging"):
        judge([wrong], NOTHING)
    named = replace(measurement([[1.0]]), numbers={"share": 1.0})
    for part in ("words", "answer"):
        with pytest.raises(UserError, match=f"claim x: {part}: UndefinedError: 'shar'"):
            judge([replace(claim(named, "x"), **{part: "{{ shar }}"})], NOTHING)


def test_an_arm_is_by_seed_and_not_by_layer() -> None:
    frames = planted_frames((8,), 2)
    taken = {
        "seed": frames.layers.groupby("seed")["weight_norm"].mean(),
        "row": frames.layers["weight_norm"],
        "run": frames.layers.groupby("run_id", observed=True)["weight_norm"].mean(),
    }
    for index, arm in taken.items():
        own = replace(claim(measurement([arm]), "x"), of_initialization=False)
        own = replace(own, measure=lambda _, arm=arm: Measurement((arm,), 0.0, "above", ""))
        if index == "seed":
            assert own.evaluate(frames).n == "2 of 2 seeds"
        else:
            with pytest.raises(UserError, match="whose index is not by seed"):
                own.evaluate(frames)


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]], ids=str)
def test_an_arm_without_a_number_is_missing(values: list[float]) -> None:
    finding = conclude([values])
    assert (finding.verdict, finding.n) == ("undecided", "none")


def test_an_empty_arm_is_missing_whatever_its_type() -> None:
    found = Measurement((pd.Series([], dtype=object),), 0.0, "above", "")
    assert claim(found, "x").evaluate(NOTHING).verdict == "undecided"
