"""Residual networks of 110 and 1202 layers: planted effects, warm-ups, published numbers."""

import functools
from dataclasses import replace
from typing import Any

import pytest
from planted import join, planted_frames

from resnet_study import phenomena
from resnet_study.phenomena.degradation import measures
from resnet_study.phenomena.depths import one_warmup_per_depth
from resnet_study.records import Frames

TRAINING = phenomena.claims()["residual_no_degradation_to_110"]
ACCURACY = phenomena.claims()["residual_gains_accuracy_to_110"]
RESPONSES = phenomena.claims()["responses_smaller_with_depth"]
FITS = phenomena.claims()["deepest_fits_training_set"]
OVERFITS = phenomena.claims()["deepest_overfits"]

WARM = {"schedule.warmup_error": 80.0}
SHORT = {"schedule.warmup_iterations": 20}


def residual(
    depths: tuple[int, ...],
    train: dict[int, float],
    test: dict[int, float],
    seeds: int = 5,
    **kwargs: Any,
) -> Frames:
    kwargs = {"error_sd": 0.05, "layers": False, **kwargs}
    return planted_frames(
        depths, seeds, 60, families=("residual",),
        final_error=lambda family, depth: train[depth],
        test_gap=lambda family, depth: test[depth] - train[depth], **kwargs,
    )  # fmt: skip


def paper(seeds: int = 5, **kwargs: Any) -> Frames:
    """Errors as the paper reports them."""
    train = {20: 0.69, 56: 0.3, 110: 0.2}
    return residual((20, 56, 110), train, {20: 8.75, 56: 6.97, 110: 6.61}, seeds, **kwargs)


@functools.cache
def deepest(train: float, test: float) -> Frames:
    return residual(
        (1202,), {1202: train}, {1202: test}, error_sd=0.01, random=5,
        values={"probes.layers_every": 0},
    )  # fmt: skip


def test_planted_gains_to_110_are_found() -> None:
    frames = paper()
    training, accuracy = TRAINING.evaluate(frames), ACCURACY.evaluate(frames)
    assert (training.verdict, accuracy.verdict) == ("reproduced", "reproduced")
    assert training.effect == pytest.approx(-0.49, abs=0.1)
    assert accuracy.effect == pytest.approx(-2.14, abs=0.1)
    assert accuracy.n == "5 of 5 seeds"
    worse = residual((20, 110), {20: 0.5, 110: 4.0}, {20: 8.0, 110: 9.0})
    assert TRAINING.evaluate(worse).verdict == "not reproduced"
    assert ACCURACY.evaluate(worse).verdict == "not reproduced"
    # No substitute for 110: the claim is about it.
    for claim in (TRAINING, ACCURACY):
        to_56 = residual((20, 56), {20: 0.5, 56: 0.5}, {20: 8.0, 56: 7.0})
        assert claim.evaluate(to_56).needed == claim.runs


def test_published_numbers_stand_beside() -> None:
    numbers = ACCURACY.evaluate(paper()).numbers
    assert numbers["paper"][20]["error"] == 8.75
    assert numbers["paper"][110] == {"error": 6.43, "runs": 5, "mean": 6.61, "sd": 0.16}
    found = {row["source"]: (row["errors"], row["best"]) for row in numbers["reproductions"]}
    assert found["nabla0001/resnet"] == ({20: 8.51, 110: 7.14}, False)
    assert found["akamaster/pytorch_resnet_cifar10"] == ({20: 8.27, 110: 6.32}, True)
    # It has no 110.
    assert "a-martyn/resnet" not in found
    both = join(paper(values={"probes.layers_every": 0}), deepest(0.05, 8.0))
    numbers = OVERFITS.evaluate(both).numbers
    assert numbers["paper"][1202]["error"] == 7.93
    assert numbers["reproductions"][0]["errors"] == {110: 6.32, 1202: 6.18}
    assert TRAINING.evaluate(paper()).numbers["paper"] == {20: 0.69, 110: 0.06}


@pytest.mark.parametrize("pair", [(8, 14), (8, 56), (20, 56), (8, 110)])
def test_a_pair_of_depths_that_the_paper_has_not_can_be_judged(pair: tuple[int, int]) -> None:
    frames = planted_frames(pair, 5, layers=False)
    training = replace(
        phenomena.claims()["deeper_plain_higher_training_error"],
        measure=functools.partial(
            measures.training_error_difference,
            family="plain",
            threshold=0.0,
            claimed="above",
            pair=pair,
        ),
    )
    assert training.evaluate(frames).effect is not None
    accuracy = functools.partial(measures.test_error_difference, pair=pair, claimed="above")
    finding = replace(ACCURACY, measure=accuracy).evaluate(frames)
    assert set(finding.numbers["paper"]) == set(pair) - {8, 14}
    assert ("In the paper" in finding.detail) == (pair != (8, 14))


@pytest.mark.parametrize(
    ("train", "test", "fits", "overfits"),
    [
        (0.05, 8.0, "reproduced", "reproduced"),
        (3.0, 8.0, "not reproduced", "reproduced"),
        (0.05, 6.0, "reproduced", "not reproduced"),
        (0.05, 6.61, "reproduced", "undecided"),
    ],
)
def test_1202_layers_fit_and_overfit_are_two_claims(
    train: float, test: float, fits: str, overfits: str
) -> None:
    frames = join(paper(values={"probes.layers_every": 0}), deepest(train, test))
    first, second = FITS.evaluate(frames), OVERFITS.evaluate(frames)
    assert (first.verdict, second.verdict) == (fits, overfits)
    assert first.effect == pytest.approx(train, abs=0.02)
    assert second.effect == pytest.approx(test - 6.61, abs=0.15)
    # The training errors that make it overfitting, or not, stand beside.
    assert second.numbers["train_errors"][1202] == pytest.approx(train, abs=0.02)
    alone = OVERFITS.evaluate(deepest(train, test))
    assert alone.needed == OVERFITS.runs


@pytest.mark.parametrize("deep", [56, 110])
def test_responses_shrink_with_depth(deep: int) -> None:
    def found(slope: float) -> Any:
        frames = planted_frames(
            (20, 44, deep), 5, 10, families=("residual",),
            response_std=lambda family, depth: 1.6 + slope * (depth - 20),
        )  # fmt: skip
        return RESPONSES.evaluate(frames)

    smaller = found(-0.006)
    assert smaller.verdict == "reproduced"
    assert smaller.effect == pytest.approx(-0.006 * (deep - 20), abs=0.06)
    assert smaller.numbers["deep"] == deep
    assert smaller.numbers["paper"] == pytest.approx({20: 1.62, 56: 1.13, 110: 0.987}, rel=5e-3)
    assert found(0.006).verdict == "not reproduced"


def test_a_warm_up_at_depth_110_does_not_part_it_from_20() -> None:
    cold = residual((20,), {20: 0.7}, {20: 8.75})
    warm = residual((110,), {110: 0.2}, {110: 6.6}, values=WARM)
    finding = ACCURACY.evaluate(join(cold, warm))
    assert finding.verdict == "reproduced"
    assert finding.numbers["warmups"] == {110: {"rate": 0.01, "iterations": 0, "error": 80.0}}
    assert "With a warm-up: rate 0.01 until 80 % training error at 110." in finding.detail
    # Any other difference does.
    rate = {**WARM, "optimizer.learning_rate": 0.05}
    slow = residual((110,), {110: 0.2}, {110: 6.6}, values=rate)
    assert ACCURACY.evaluate(join(cold, slow)).needed == ACCURACY.runs
    assert "warm-up" not in ACCURACY.evaluate(paper()).detail


def test_one_warm_up_counts_at_each_depth() -> None:
    depths = (20, 110)
    zero = {20: 0.0, 110: 0.0}
    cold, warm = (
        residual(depths, zero, {20: error, 110: error}, 3, values=values)
        for error, values in ((20.0, None), (10.0, WARM))
    )
    kept, warmups = one_warmup_per_depth(join(cold, warm))
    # Equally many: as in the paper, cold at 20 and warm at 110; never both pooled.
    settings = kept.runs.groupby("depth")["schedule.warmup_error"].unique()
    assert [list(s) for s in settings] == [[0.0], [80.0]]
    assert len(kept.runs) == 6
    assert list(warmups) == [110]
    assert ACCURACY.evaluate(join(cold, warm)).effect == pytest.approx(-10, abs=0.2)
    # Most ended runs go before that.
    many = residual((110,), zero, {110: 30.0}, 5, values=SHORT)
    finding = ACCURACY.evaluate(join(cold, warm, many))
    assert finding.effect == pytest.approx(10, abs=0.2)
    assert finding.numbers["warmups"][110]["iterations"] == 20
    assert "rate 0.01 until iteration 20 at 110" in finding.detail
    stopped = residual((110,), zero, {110: 30.0}, 5, values=SHORT, status="stopped")
    assert ACCURACY.evaluate(join(cold, warm, stopped)).effect == pytest.approx(-10, abs=0.2)


def test_plain_runs_alone_are_no_evidence() -> None:
    plain = planted_frames((20, 110), 2, 60, families=("plain",), layers=False)
    for claim in (TRAINING, ACCURACY, RESPONSES, FITS, OVERFITS):
        assert claim.evaluate(plain).needed == claim.runs
