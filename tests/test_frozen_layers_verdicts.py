"""Claims about frozen layers: planted thaws are judged by what was planted."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest

from resnet_study.judging.claim import Claim, Finding
from resnet_study.judging.measurement import Measurement, Missing
from resnet_study.judging.verdict import tally
from resnet_study.phenomena.frozen_layers import measures as frozen_measures
from resnet_study.phenomena.frozen_layers.claims import CLAIMS
from resnet_study.phenomena.frozen_layers.measures import _within_band
from resnet_study.phenomena.frozen_layers.thaw import INFLATED
from resnet_study.records import Frames
from tests.planted import join
from tests.planted_frozen import (
    frozen_frames,
    growth_of,
)


def claim(measure: Callable[[Frames], Measurement | Missing], fields: tuple[str, ...]) -> Claim:
    return Claim("name", "statement", "source", None, measure, "runs", fields)


FROM_GROWTH = partial(frozen_measures.thaw_time, predicted="from_growth")
FROM_STEP = partial(frozen_measures.thaw_time, predicted="from_step")
GROWTH_WITHOUT_WARMUP = partial(frozen_measures.growth_difference, gentle="warm-up")
GROWTH_AT_FULL_RATE = partial(frozen_measures.growth_difference, gentle="low rate")


def judged(
    measure: Callable[[Frames], Measurement | Missing],
    frames: Frames,
    fields: tuple[str, ...] = frozen_measures.DECAY_FIELDS,
) -> Finding:
    return claim(measure, fields).evaluate(frames)


def test_a_thaw_as_predicted_is_reproduced_with_the_seed_as_unit() -> None:
    frames = frozen_frames(seeds=5, noise=0.3)
    for measure in (FROM_GROWTH, FROM_STEP):
        finding = judged(measure, frames)
        assert finding.verdict == "reproduced"
        assert finding.n == "5 of 5 seeds"
        assert finding.numbers["runs"] == 5


def test_a_thaw_that_takes_four_times_as_long_is_not_reproduced() -> None:
    finding = judged(
        FROM_GROWTH,
        frozen_frames(seeds=5, iterations=5000, delay=4, noise=0.1),
    )
    assert finding.verdict == "not reproduced"
    assert finding.effect is not None
    assert finding.effect == pytest.approx(math.log2(4), abs=0.5)


def test_censored_runs_are_decided_by_the_less_favourable_bound_or_not_at_all() -> None:
    measure = FROM_GROWTH
    # Some layers are open, and it does not matter.
    some = judged(measure, frozen_frames(seeds=5, iterations=600, noise=0.1))
    assert some.verdict == "reproduced"
    assert some.numbers["open_runs"] == 5
    # Most are open at a time at which they might still be in time.
    most = judged(measure, frozen_frames(seeds=5, iterations=300, noise=0.1))
    assert most.verdict == "undecided"
    assert "longer runs" in most.needed
    # What was measured is told nevertheless.
    assert most.numbers["layers"] > most.numbers["thawed"]
    # All are open at about three times the prediction: outside of the band anyway.
    late = judged(measure, frozen_frames(seeds=5, iterations=2600, delay=16, noise=0.1))
    assert late.verdict == "not reproduced"
    assert late.numbers["open_runs"] == 5


def test_bounds_that_straddle_the_band_decide_nothing() -> None:
    def found(low: float, high: float) -> Measurement | Missing:
        bounds = pd.DataFrame(
            {"low": [low, low + 0.01], "high": [high, high + 0.01], "seed": [0, 1]}
        )
        return _within_band(bounds, "why", {})

    for low, high, judged_value in (
        (0.2, 0.2, 0.2),
        (0.2, 0.6, 0.6),
        (-0.6, -0.2, -0.6),
        (1.2, 1.8, 1.2),
        (1.2, math.inf, 1.2),
        (-1.8, -1.2, -1.2),
        (-math.inf, -1.2, -1.2),
    ):
        measured = found(low, high)
        assert isinstance(measured, Measurement)
        assert measured.arms[0].tolist() == pytest.approx([judged_value, judged_value + 0.01])
    for low, high in (
        *((0.2, 1.5), (0.2, math.inf), (-math.inf, 0.2), (-math.inf, math.inf)),
        *((-2.6, math.inf), (-math.inf, 2.6), (-2.6, 2.6)),
    ):
        assert isinstance(found(low, high), Missing)


def test_a_run_that_is_open_counts_against_both_sides_and_the_others_decide() -> None:
    bounds = pd.DataFrame({"low": [0.2] * 9 + [0.3], "high": [0.2] * 9 + [math.inf]})
    found = tally(_within_band(bounds.assign(seed=range(10)), "why", {}))
    assert (found.holds, found.fails, found.seeds) == (9, 0, 10)
    bounds = pd.DataFrame({"low": [0.5, 0.6, 1.5, 1.6, 1.7], "high": [math.inf] * 5})
    assert isinstance(_within_band(bounds.assign(seed=range(5)), "why", {}), Missing)
    bounds = pd.DataFrame({"low": [0.5] + [1.5] * 9, "high": [math.inf] * 10})
    found = tally(_within_band(bounds.assign(seed=range(10)), "why", {}))
    assert (found.holds, found.fails, found.seeds) == (0, 9, 10)


@pytest.mark.parametrize("iterations", [100, 150, 200, 250, 300])
def test_runs_that_are_too_short_decide_nothing(iterations: int) -> None:
    finding = judged(FROM_GROWTH, frozen_frames(seeds=5, iterations=iterations))
    assert finding.verdict == "undecided"
    assert "nan" not in finding.detail
    assert "inf" not in finding.detail


def test_a_shorter_pilot_is_no_second_measurement_of_a_seed() -> None:
    whole = frozen_frames((0.0, 0.005), 5, 1500)
    both = join(whole, frozen_frames((0.0, 0.005), 5, 300))
    for name in (
        "frozen_layers_thaw_as_weights_shrink",
        "training_error_falls_with_thaw",
        "layers_stay_frozen_without_weight_decay",
    ):
        measure = next(claim.measure for claim in CLAIMS if claim.name == name)
        own, with_pilot = (judged(measure, frames) for frames in (whole, both))
        assert (own.effect, own.n, own.numbers) == (
            with_pilot.effect,
            with_pilot.n,
            with_pilot.numbers,
        )


def test_a_longer_run_that_has_begun_takes_no_result_away() -> None:
    whole = frozen_frames((0.0, 0.005), 5, 1500)
    begun = frozen_frames((0.0, 0.005), 5, 7000)
    begun = begun._replace(runs=begun.runs.assign(status="running"))
    often = frozen_frames((0.0, 0.005), 2, 1500, values={"probes.log_every": 5}, first_seed=5)
    drops = frozen_frames((0.005,), 5, 1500, values={"schedule.first_drop": 700})
    own = frozen_measures._deep_plain(whole).runs.index
    assert set(frozen_measures._deep_plain(join(whole, begun)).runs.index) == set(own)
    assert len(frozen_measures._deep_plain(join(whole, often)).runs) == 14
    chosen = frozen_measures._deep_plain(join(whole, drops)).runs
    assert not chosen.duplicated(["depth", "optimizer.weight_decay", "seed"]).any()


def test_bounds_that_are_no_numbers_decide_nothing() -> None:
    for low, high in ((math.nan, math.nan), (-math.inf, -math.inf)):
        bounds = pd.DataFrame({"low": [low] * 5, "high": [high] * 5, "seed": range(5)})
        assert isinstance(_within_band(bounds, "why", {}), Missing)


def test_runs_that_have_not_ended_do_not_tell_growth() -> None:
    values = {"schedule.warmup_learning_rate": 0.01, "schedule.warmup_iterations": 100}
    frames = join(frozen_frames(seeds=5), frozen_frames(seeds=5, values=values))
    running = frames._replace(runs=frames.runs.assign(status="running"))
    fields = frozen_measures.GENTLE_FIELDS
    assert judged(GROWTH_WITHOUT_WARMUP, frames, fields).effect is not None
    assert judged(GROWTH_WITHOUT_WARMUP, running, fields).effect is None


def test_the_decay_with_most_seeds_is_judged_and_the_others_are_named() -> None:
    frames = join(
        frozen_frames((0.005,), 5, noise=0.2), frozen_frames((0.002,), 2, 2500, noise=0.2)
    )
    finding = judged(FROM_GROWTH, frames)
    assert finding.n == "5 of 5 seeds"
    numbers = finding.numbers
    assert (numbers["depth"], numbers["weight_decay"], numbers["runs"]) == (44, 0.005, 5)
    (other,) = numbers["other_arms"]
    assert (other["depth"], other["weight_decay"], other["runs"]) == (44, 0.002, 2)


def test_no_frozen_layer_is_no_evidence() -> None:
    flat = frozen_frames(seeds=2, growth=lambda layer, depth: 1.0)
    finding = judged(FROM_GROWTH, flat)
    assert finding.verdict == "undecided"
    assert "a layer that froze" in finding.needed
    shallow = judged(FROM_GROWTH, frozen_frames(seeds=2, depth=20))
    assert shallow.effect is None


def falls_at(iteration: int) -> Callable[[int], float]:
    return lambda step: 90.0 if step < iteration else 30.0


@pytest.mark.parametrize(("iteration", "verdict"), [(850, "reproduced"), (100, "not reproduced")])
def test_error_that_falls_with_the_thaw_is_told_from_one_that_does_not(
    iteration: int, verdict: str
) -> None:
    frames = frozen_frames(seeds=5, noise=0.2, error=falls_at(iteration))
    control = frozen_frames((0.0,), 2, error=falls_at(300))
    finding = judged(frozen_measures.error_at_thaw, join(frames, control))
    assert finding.verdict == verdict
    without = {"runs": 2, "fell": 2, "iteration": 300, "last": 1500}
    assert finding.numbers["without_decay"] == without


def test_error_that_never_falls_is_undecided() -> None:
    finding = judged(frozen_measures.error_at_thaw, frozen_frames(seeds=5))
    assert finding.verdict == "undecided"
    assert "longer runs" in finding.needed


@pytest.mark.parametrize(
    ("without", "with_decay", "verdict"),
    [
        (800, 300, "reproduced"),
        (9999, 300, "reproduced"),  # never, so even later than is known
        (300, 800, "not reproduced"),
        (300, 9999, "not reproduced"),
        (9999, 9999, "undecided"),
    ],
)
def test_learning_without_a_thaw_speaks_against_frozen_layers_as_its_cause(
    without: int, with_decay: int, verdict: str
) -> None:
    def arm(decay: float, iteration: int) -> Frames:
        # Seeds that fall one row apart.
        return join(
            *(
                frozen_frames((decay,), 1, error=falls_at(iteration + 20 * k), first_seed=k)
                for k in range(5)
            )
        )

    frames = join(arm(0.0, without), arm(0.005, with_decay))
    finding = judged(frozen_measures.error_without_thaw, frames)
    assert finding.verdict == verdict
    if verdict == "undecided":
        assert "longer runs" in finding.needed


def test_first_below_is_the_first_row_below_the_level() -> None:
    frames = frozen_frames(seeds=1, error=lambda step: 40.0 if step in (300, 900) else 60.0)
    assert frozen_measures.first_below(frames, 50.0).iloc[0].tolist() == [300, True, 1500]
    assert frozen_measures.first_below(frames, 10.0).iloc[0].tolist() == [1500, False, 1500]


def test_layers_that_stay_frozen_without_decay_are_counted() -> None:
    frames = frozen_frames((0.0, 0.005), 5, noise=0.8)
    finding = judged(frozen_measures.frozen_without_decay, frames)
    measured = frozen_measures.frozen_without_decay(frames)
    assert isinstance(measured, Measurement)
    grown = np.array([growth_of(layer, 44) for layer in range(1, 44)])
    inflated = grown >= INFLATED
    # Without decay e ∝ 1/G² for good: frozen are those with G² above ten.
    expected = (grown[inflated] ** 2 > 10).mean()
    assert measured.arms[0].mean() == pytest.approx(expected, abs=0.1)
    assert measured.arms[1].mean() < 0.05
    assert finding.verdict == "reproduced"
    assert finding.numbers["time_constants"] == pytest.approx(7.5)


def gentle(values: dict[str, object], grown: float, error: float, seeds: int = 5) -> Frames:
    def growth(layer: int, depth: int) -> float:
        return grown ** (1 if layer == 2 else 0.5)

    return frozen_frames(
        (0.0,),
        seeds,
        600,
        growth=growth,
        error=lambda step: error + 0.1 * (step % 7),
        values=values,
    )


LOW = {"optimizer.learning_rate": 0.01}
WARM = {"schedule.warmup_iterations": 400}


def noisy(frames: Frames) -> Frames:
    """Spread between the runs in what is measured."""
    runs = list(frames.runs.index)
    by_run = dict(zip(runs, np.random.default_rng(0).normal(1, 0.02, len(runs)), strict=True))
    for table, name in ((frames.layers, "weight_norm"), (frames.metrics, "error")):
        later = table["step"] > 0
        table.loc[later, name] *= table.loc[later, "run_id"].map(by_run)
    return frames


def test_warm_up_and_low_rate_are_held_against_the_full_rate() -> None:
    frames = noisy(join(gentle({}, 50, 60), gentle(WARM, 5, 40), gentle(LOW, 2, 70)))
    fields = frozen_measures.GENTLE_FIELDS
    expected = {
        GROWTH_WITHOUT_WARMUP: (math.log(50 / 5), "reproduced"),
        GROWTH_AT_FULL_RATE: (math.log(50 / 2), "reproduced"),
        partial(frozen_measures.error_difference, gentle="warm-up"): (20.0, "reproduced"),
        partial(frozen_measures.error_difference, gentle="low rate"): (-10.0, "not reproduced"),
    }
    for measure, (effect, verdict) in expected.items():
        finding = judged(measure, frames, fields)
        assert finding.effect == pytest.approx(effect, rel=0.2)
        assert finding.verdict == verdict
        assert finding.n in ("5 of 5 seeds", "0 of 5 seeds")


def test_a_warm_up_at_the_rate_of_the_run_is_none() -> None:
    frames = noisy(join(gentle({}, 50, 60), gentle({**LOW, **WARM}, 2, 70)))
    fields = frozen_measures.GENTLE_FIELDS
    low = judged(GROWTH_AT_FULL_RATE, frames, fields)
    assert low.effect == pytest.approx(math.log(25), rel=0.1)
    warm = judged(GROWTH_WITHOUT_WARMUP, frames, fields)
    assert warm.effect is None


def test_every_claim_tells_its_numbers() -> None:
    warm = {"schedule.warmup_iterations": 100, "schedule.warmup_learning_rate": 0.01}
    frames = join(
        frozen_frames((0.0, 0.005), 2, error=falls_at(300)),
        frozen_frames((0.005,), 2, values=warm),
        frozen_frames((0.005,), 2, values={"optimizer.learning_rate": 0.01}),
    )
    for one in CLAIMS:
        finding = one.evaluate(frames)
        assert finding.numbers, one.name
        assert finding.detail.startswith("plain-44 "), one.name
