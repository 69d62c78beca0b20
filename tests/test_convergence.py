"""Slow convergence: planted laws are told apart, and what was never reached is not hidden."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import join, planted_frames
from scipy import optimize

from resnet_study import phenomena
from resnet_study.judging.judge import Finding
from resnet_study.judging.measurement import Measurement
from resnet_study.phenomena.convergence.measures import (
    LAWS,
    exponential_law,
    iterations_against_depth,
    linear_law,
)
from resnet_study.records import Frames

RATES = phenomena.claims()["convergence_exponentially_slow"]
LONGER = phenomena.claims()["longer_schedule_no_cure"]
DEGRADATION = phenomena.claims()["deeper_plain_higher_training_error"]

DEPTHS = (8, 14, 20, 32, 44)
FAR = np.full(len(DEPTHS), 1e9)


def linear(depth: int) -> float:
    """Iterations until 20 % error."""
    return 20.0 * (depth - 4)


def exponential(depth: int) -> float:
    return 40.0 * math.exp(0.08 * depth)


def effect(times: Sequence[float] | np.ndarray, horizon: np.ndarray = FAR) -> float:
    t = np.asarray(times, dtype=float)
    depths = DEPTHS[: len(t)]
    h = horizon[: len(t)]
    return linear_law(depths, t, h).misfit - exponential_law(depths, t, h).misfit


def test_each_law_fits_its_own_times_exactly() -> None:
    line, curve = ([law(d) for d in DEPTHS] for law in (linear, exponential))
    assert linear_law(DEPTHS, np.array(line), FAR).misfit == pytest.approx(0, abs=1e-4)
    fit = exponential_law(DEPTHS, np.array(curve), FAR)
    assert fit.misfit == pytest.approx(0, abs=1e-4)
    assert fit.growth == pytest.approx(0.08 * (44 - 8), abs=1e-3)
    assert effect(curve) > 0.1
    assert effect(line) < -0.1


def test_falling_times_fit_neither_law_better() -> None:
    for law in LAWS.values():
        fit = law(DEPTHS, np.array([90.0, 70, 50, 40, 30]), FAR)
        assert fit.growth == 0
        assert fit.misfit == pytest.approx(np.std(np.log([90, 70, 50, 40, 30])))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(1, 1e4), min_size=4, max_size=5), st.floats(0.1, 100))
def test_misfits_do_not_depend_on_the_unit_of_time(times: list[float], unit: float) -> None:
    scaled = np.array(times) * unit + 0.0
    if scaled.min() < 1:
        scaled, times = scaled / scaled.min(), (np.array(times) / min(times)).tolist()
    assert effect(scaled) == pytest.approx(effect(times), abs=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_fit_is_the_least_squares_that_a_general_optimiser_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.sort(np.exp(rng.uniform(3, 8, len(DEPTHS))))
    horizon = np.full(len(DEPTHS), times[3])
    times[rng.integers(3, 5) :] = np.nan
    x = (np.array(DEPTHS) - 8.0) / 36.0
    y = np.log(np.where(np.isnan(times), horizon, times))

    def squares(parameters: np.ndarray, shape: Any) -> float:
        miss = y - parameters[0] - shape(abs(parameters[1]), x)
        return float(np.sum(np.where(np.isnan(times), np.maximum(miss, 0), miss) ** 2))

    shapes = (lambda u, x: np.log1p(np.expm1(u) * x), lambda u, x: u * x)
    for law, shape in zip(LAWS.values(), shapes, strict=True):
        found = min(
            optimize.minimize(
                squares, start, (shape,), method="Nelder-Mead",
                options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000},
            ).fun
            for start in ((4.0, 0.5), (5.0, 2.0), (4.0, 6.0))
        )  # fmt: skip
        assert law(DEPTHS, times, horizon).misfit == pytest.approx(
            math.sqrt(found / len(DEPTHS)), abs=2e-4
        )


def test_a_censored_depth_counts_as_a_bound() -> None:
    curve = np.array([exponential(d) for d in DEPTHS])
    truncated = np.where(curve > 1000, np.nan, curve)
    horizon = np.full(len(DEPTHS), 1000.0)
    assert np.isnan(truncated).sum() == 1
    # A line through the others passes the deepest before the bound; dropping it loses that.
    assert effect(truncated, horizon) > effect(truncated[:4]) * math.sqrt(4 / 5) + 0.01
    # A later bound is stronger evidence, one that both laws exceed is none.
    assert effect(truncated, np.full(5, 1300.0)) > effect(truncated, horizon)
    assert effect(truncated, np.full(5, 2.0)) == pytest.approx(
        effect(truncated[:4]) * math.sqrt(4 / 5), abs=1e-4
    )
    # A line that has not passed the bound at the censored depth is not held against it.
    line = np.array([linear(d) for d in DEPTHS])
    line[-1] = np.nan
    assert effect(line, np.full(5, 700.0)) < -0.05
    # Nothing was reached: nothing is known.
    assert [law(DEPTHS, np.full(5, np.nan), FAR).misfit for law in LAWS.values()] == [0, 0]


@pytest.mark.parametrize(
    ("law", "verdict"), [(exponential, "reproduced"), (linear, "not reproduced")]
)
@pytest.mark.parametrize("censored", [False, True])
def test_planted_laws_are_told_apart_and_hardly_ever_confused(
    law: Any, verdict: str, censored: bool
) -> None:
    rng = np.random.default_rng(11)
    horizon = np.full(len(DEPTHS), 1000.0 if censored else 1e9)
    if law is linear and censored:
        horizon[:] = 700.0
    verdicts = []
    for _ in range(30):
        noise = np.exp(0.1 * rng.normal(size=(5, len(DEPTHS))))
        times = np.array([law(d) for d in DEPTHS]) * noise
        times = np.where(times > horizon, np.nan, times)
        values = pd.Series([effect(row, horizon) for row in times])
        measured = Measurement((values,), 0.0, "above", "ln(iterations)")
        verdicts.append(RATES.conclude(measured, 0.95).verdict)
    wrong = {"reproduced", "not reproduced"} - {verdict}
    assert verdicts.count(verdict) >= 24
    # Nominal at most 5 % on the wrong side.
    assert sum(v in wrong for v in verdicts) <= 1


def test_times_that_do_not_depend_on_depth_decide_nothing() -> None:
    rng = np.random.default_rng(12)
    for _ in range(20):
        times = 100 * np.exp(0.3 * rng.normal(size=(5, len(DEPTHS))))
        values = pd.Series([effect(row) for row in times])
        measured = Measurement((values,), 0.0, "above", "ln(iterations)")
        assert RATES.conclude(measured, 0.95).verdict in ("undecided", "indicated")


def rates(law: Any, depths: tuple[int, ...] = DEPTHS, seeds: int = 5, **kwargs: Any) -> Frames:
    """Plain networks of which the error falls from 90 to 1 %: 20 % after 2.2 halvings.

    Where that takes more than the 1000 iterations there are, it ends at 50 %.
    """
    total = 1000
    halvings = math.log2(89 / 19)
    return planted_frames(
        depths, seeds, total, families=("plain",), layers=False, error_sd=0.0,
        final_error=lambda family, depth: 1.0 if law(depth) < total else 50.0,
        halving=lambda family, depth: law(depth) / halvings / total,
        halving_sd=0.05, **kwargs,
    )  # fmt: skip


def test_planted_records_give_the_verdict_and_the_times() -> None:
    finding = RATES.evaluate(rates(lambda d: exponential(d) / 2))
    assert finding.verdict == "reproduced"
    assert finding.n == "5 of 5 seeds"
    assert finding.numbers["never_reached"] == {}
    assert finding.numbers["factor_per_layer"] == pytest.approx(np.exp(0.08), abs=0.005)
    finding = RATES.evaluate(rates(linear, random=1))
    assert finding.verdict == "not reproduced"


def test_published_times_stand_beside() -> None:
    paper = RATES.evaluate(rates(linear, seeds=1)).numbers["paper"]
    assert paper["iterations"] == {20: 3900, 32: 7600, 44: 15300, 56: 19400}
    depths, times = [20, 32, 44, 56, 110], np.array([3900, 7600, 15300, 19400, np.nan])
    for count, name in ((5, "misses"), (4, "misses_without_110")):
        misses = [
            law(depths[:count], times[:count], np.full(count, 64e3)).misfit for law in LAWS.values()
        ]
        assert list(paper[name].values()) == pytest.approx(misses)


def test_never_reached_is_said_and_counts() -> None:
    full = RATES.evaluate(rates(exponential))
    assert full.numbers["never_reached"] == {44: 5}
    assert full.numbers["iterations"][44] is None
    assert full.numbers["depths_all_reached"] == 4
    assert full.verdict == "reproduced"
    assert full.effect is not None
    shallow = RATES.evaluate(rates(exponential, DEPTHS[:4]))
    assert shallow.effect is not None
    assert full.effect > shallow.effect + 0.02


def test_a_diverged_run_was_never_there() -> None:
    frames = rates(lambda d: exponential(d) / 2)
    runs = frames.runs.copy()
    deepest = runs.index[runs["depth"] == 44]
    runs.loc[deepest, "status"] = "diverged"
    early = ~frames.metrics["run_id"].isin(deepest) | (frames.metrics["step"] < 100)
    finding = RATES.evaluate(frames._replace(runs=runs, metrics=frames.metrics[early]))
    assert finding.numbers["never_reached"] == {44: 5}
    assert finding.numbers["diverged_plain"] == 5
    runs.loc[deepest, "status"] = "stopped"
    stopped = RATES.evaluate(frames._replace(runs=runs, metrics=frames.metrics[early]))
    assert 44 not in stopped.numbers["iterations"]


def test_runs_that_do_not_suffice() -> None:
    assert RATES.evaluate(rates(linear, DEPTHS[:3])).needed == RATES.runs
    slow = RATES.evaluate(rates(lambda d: 300.0 * d))
    assert slow.effect is None
    assert slow.needed.startswith("plain runs that reach 20 % training error at 3 depths")
    # Depths of which only some seeds were run are left out, by name.
    more = join(rates(linear, seeds=5), rates(linear, (56,), seeds=2))
    measured = iterations_against_depth(more)
    assert isinstance(measured, Measurement)
    assert len(measured.arms[0]) == 5
    assert measured.numbers["left_out"] == [56]


@functools.cache
def lengths(
    iterations: int, deep_error: float, seeds: int = 5, deep: int = 56, **values: Any
) -> Frames:
    return planted_frames(
        (20, deep), seeds, iterations, families=("plain",), layers=False, random=iterations,
        final_error=lambda family, depth: deep_error if depth == deep else 10.0,
        values={name.replace("__", "."): value for name, value in values.items()},
    )  # fmt: skip


def longer(*frames: Frames) -> Finding:
    return LONGER.evaluate(join(*frames))


def test_a_longer_schedule_is_judged_by_its_own_difference() -> None:
    still = longer(lengths(100, 40.0), lengths(300, 30.0))
    assert still.verdict == "reproduced"
    assert still.effect == pytest.approx(20, abs=1)
    assert still.n == "5 of 5 seeds"
    short, long = still.numbers["short"], still.numbers["long"]
    assert (short["iterations"], long["iterations"]) == (100, 300)
    assert (short["errors"][56], long["errors"][56]) == pytest.approx((40, 30), abs=0.5)
    assert longer(lengths(100, 40.0), lengths(300, 10.0)).verdict == "undecided"
    assert longer(lengths(100, 40.0), lengths(300, 5.0)).verdict == "not reproduced"


def test_a_longer_schedule_is_thrice_as_long_and_of_the_same_shape() -> None:
    base = lengths(100, 40.0)
    for other in (
        lengths(299, 30.0, schedule__first_drop="30%"),
        lengths(290, 30.0),
        lengths(100, 30.0),
        lengths(300, 30.0, optimizer__learning_rate=0.05),
        lengths(300, 30.0, deep=44),
        lengths(101, 30.0),
    ):
        finding = longer(base, other)
        assert (finding.verdict, finding.needed) == ("undecided", LONGER.runs)
    # Of few iterations rounding is much, and none is longer than itself.
    one = lengths(1, 30.0, optimizer__nesterov=True), lengths(1, 40.0, optimizer__nesterov=False)
    for frames in (one, (lengths(2, 40.0), lengths(4, 30.0))):
        assert longer(*frames).verdict == "undecided"
    # Epochs are rounded to iterations: 10.1 of them each here.
    epochs = longer(lengths(101, 40.0), lengths(303, 30.0), lengths(909, 20.0))
    assert epochs.effect == pytest.approx(10, abs=1)
    assert epochs.numbers["short"]["iterations"] == 303
    # Other cadences of recording follow the length and do not matter.
    assert longer(base, lengths(300, 30.0, probes__log_every=10)).verdict == "reproduced"
    # Most seeds go before length.
    few = longer(base, lengths(300, 30.0), lengths(900, 20.0, seeds=2))
    assert few.n == "5 of 5 seeds"
    assert few.effect == pytest.approx(20, abs=1)


def test_lengths_are_joined_for_this_claim_alone() -> None:
    both = join(lengths(100, 40.0, seeds=4), lengths(300, 30.0))
    finding = DEGRADATION.evaluate(both)
    assert finding.n == "5 of 5 seeds"
    assert finding.effect == pytest.approx(20, abs=1)
    assert finding.numbers["judged_group"]["schedule.iterations"] == "300"
