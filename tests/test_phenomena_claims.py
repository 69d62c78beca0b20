"""Claims: planted effects are found, absent ones are called at the nominal rate."""

import functools
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import equal, join, planted_frames, planted_study, with_errors

from resnet_study import phenomena
from resnet_study.errors import UserError
from resnet_study.judging.judge import Finding, findings_json, judge, read_findings
from resnet_study.judging.measurement import Measurement, Missing
from resnet_study.phenomena.gradients import claims as gradients
from resnet_study.records import Frames

DEGRADATION = "deeper_plain_higher_training_error"
EXPLOSION = "gradients_explode_at_initialization_plain_bn"
ABOUT_RUNS = ("degradation", "gradients", "responses", "convergence")
CLAIMS = {
    claim.name: claim
    for phenomenon in ABOUT_RUNS
    for claim in importlib.import_module(f"resnet_study.phenomena.{phenomenon}.claims").CLAIMS
}
HEALTHY = tuple(claim.name for claim in gradients.SIGNAL_HEALTHY)
VANISHED = tuple(claim.name for claim in gradients.TURN_VANISHED)
VANISHED_110 = tuple(claim.name for claim in gradients.SIGNAL_VANISHED_110)
EARLY = (VANISHED[0], VANISHED_110[0])
"""At step 1 the planted gradients still explode."""

COMMITTED = (
    DEGRADATION,
    "residual_no_degradation",
    "residual_converges_faster",
    "residual_responses_smaller",
    EXPLOSION,
    "gradients_at_initialization_residual_mild",
    *HEALTHY,
    *VANISHED,
)
"""The claims of the committed study, first and in this order."""

SPARSE = {"probes.layers_every": 50}
"""Leaves 8 as the recorded step nearest to 10."""


@functools.cache
def study(seeds: int) -> Frames:
    """Records of all that is planted; not to be changed."""
    return planted_study(seeds)


@functools.cache
def without_layers(depth: int) -> Frames:
    return planted_frames((depth,), 2, layers=False, families=("plain",))


@functools.cache
def without_normalization() -> Frames:
    return planted_frames((20, 56), 2, values={"model.normalization": "none"})


def grid(seeds: int, families: tuple[str, ...] = ("plain",)) -> Frames:
    """Runs of depths 20 and 56 with few rows, to be given other errors many times."""
    return planted_frames((20, 56), seeds, 4, families=families, layers=False)


def degradation(frames: Frames, draw: int, difference: float, sd: float = 1.0) -> Finding:
    """Finding where plain-56 truly lies ``difference`` above plain-20."""
    noise = np.random.default_rng(draw).normal(50, sd, len(frames.runs))
    errors = noise + difference * (frames.runs["depth"] == 56)
    return CLAIMS[DEGRADATION].evaluate(with_errors(frames, errors.to_dict()))


def test_every_planted_effect_is_found() -> None:
    found = [claim.evaluate(study(5)) for claim in CLAIMS.values()]
    verdicts = {finding.claim: finding.verdict for finding in found}
    # Planted over 54 layers: growth 1.2 at step 0, 1.15 at step 1, 0.9 from step 5 on.
    absent = dict.fromkeys((*EARLY, *HEALTHY), "not reproduced")
    assert verdicts == dict.fromkeys(CLAIMS, "reproduced") | absent
    for finding in found:
        assert finding.n in ("5 of 5 seeds", "0 of 5 seeds")
        assert finding.needed == ""
        assert finding.interval is not None
        assert finding.effect is not None
        assert finding.interval[0] < finding.effect < finding.interval[1]
        assert finding.confidence == pytest.approx(1 - 2 / 2**5)
        assert finding.runs == CLAIMS[finding.claim].runs


def test_committed_claims_are_there_and_every_claim_says_its_runs() -> None:
    assert set(COMMITTED) <= set(CLAIMS)
    assert len({*HEALTHY, *VANISHED, *VANISHED_110}) == 15
    for name, claim in CLAIMS.items():
        assert claim.name == name
        assert "runs" in claim.runs
        assert "5 seeds or more" in claim.runs


def test_opposite_effects_are_not_reproduced() -> None:
    frames = planted_frames(
        (20, 56),
        5,
        1000,
        final_error=lambda family, depth: 60.0 - depth if family == "plain" else 2.0 + depth,
        growth=lambda family, depth, step: 0.9 if family == "plain" else 1.2,
        response_std=lambda family, depth: 1.0 if family == "plain" else 2.0,
        halving=lambda family, depth: 0.05 if family == "plain" else 0.2,
    )
    found = {name: CLAIMS[name].evaluate(frames).verdict for name in COMMITTED}
    expected = dict.fromkeys(COMMITTED, "not reproduced") | dict.fromkeys(VANISHED, "reproduced")
    assert found == expected


@pytest.mark.slow
def test_absent_effect_is_called_at_most_at_the_nominal_rate() -> None:
    frames = grid(5)
    findings = [degradation(frames, draw, 0.0) for draw in range(200)]
    for word in ("reproduced", "not reproduced"):
        # 1/32 of the studies each: 6.25 of 200, standard deviation 2.5.
        assert 0 < sum(f.verdict == word for f in findings) <= 15
    assert {f.verdict for f in findings} == {"reproduced", "not reproduced", "undecided"}


def test_equivalence_needs_the_upper_bound_below_the_margin() -> None:
    def found(difference: float, sd: float) -> str:
        frames = planted_frames(
            (20, 56), 5, 10, families=("residual",), layers=False, error_sd=sd,
            final_error=lambda family, depth: 50 + difference * (depth == 56),
        )  # fmt: skip
        return CLAIMS["residual_no_degradation"].evaluate(frames).verdict

    assert found(0.5, 0.05) == "reproduced"
    assert found(-3.0, 0.5) == "reproduced"
    assert found(0.0, 3.0) == "undecided"
    assert found(3.0, 0.2) == "not reproduced"


def test_growth_is_recovered_and_held_against_theory() -> None:
    for planted, inside in ((1.2114, "inside"), (1.15, "outside")):
        frames = planted_frames((8, 56), 6, 10, families=("plain",), growth=equal(planted))
        finding = CLAIMS[EXPLOSION].evaluate(frames)
        assert finding.effect == pytest.approx(planted, abs=0.005)
        assert f"{inside} the interval" in finding.detail
        assert "1.211" in finding.detail


def test_inflated_weights_stop_the_turn_and_not_the_signal() -> None:
    frames = planted_frames((20, 44), 5, families=("plain",), growth=equal(1.0), values=SPARSE)
    layers = frames.layers
    # ∂L/∂w falls as 1/‖w‖, so the signal stays; the angle falls as 1/‖w‖².
    early = (layers["layer"] == 2) & (layers["step"] > 0)
    layers.loc[early, "weight_norm"] *= 40.0
    layers.loc[early, ["weight_gradient_norm", "activation_gradient_norm"]] /= 40.0
    layers.loc[early, "angular_step"] /= 40.0**2
    signal, turn = (CLAIMS[names[1]].evaluate(frames) for names in (HEALTHY, VANISHED))
    assert (signal.verdict, turn.verdict) == ("reproduced", "reproduced")
    assert turn.effect == pytest.approx(-2 * np.log10(40) + 0.5 * np.log10(43 / 2), abs=0.1)
    assert (turn.numbers["depth"], turn.numbers["steps"]) == (44, [8])
    assert signal.numbers["states"] == {"healthy": 5, "vanished": 0, "exploded": 0}
    assert turn.numbers["states"] == {"healthy": 0, "vanished": 5, "exploded": 0}
    assert set(signal.numbers["plain_elsewhere"]) == {20}


def test_what_was_not_recorded_is_no_evidence() -> None:
    frames = planted_frames((56,), 3, families=("plain",), growth=equal(0.9))
    one = frames.layers["run_id"] == frames.runs.index[0]
    frames.layers.loc[one, "angular_step"] = np.nan
    assert CLAIMS[VANISHED[1]].evaluate(frames).n == "2 of 2 seeds"
    old = frames._replace(layers=frames.layers.drop(columns="angular_step"))
    assert CLAIMS[VANISHED[1]].evaluate(old).effect is None
    assert CLAIMS[HEALTHY[1]].evaluate(old).n == "0 of 3 seeds"


def test_underflow_counts_as_vanished() -> None:
    frames = planted_frames((56,), 3, families=("plain",), growth=equal(0.9), values=SPARSE)
    zero = (frames.layers["layer"] == 2) & (frames.layers["step"] == 8)
    frames.layers.loc[zero & (frames.layers["seed"] > 0), "angular_step"] = 0.0
    finding = CLAIMS[VANISHED[1]].evaluate(frames)
    assert finding.n == "3 of 3 seeds"
    assert finding.effect is not None
    assert finding.effect < -10


@pytest.mark.parametrize("name", CLAIMS)
def test_one_seed_gives_at_most_an_indication(name: str) -> None:
    finding = CLAIMS[name].evaluate(study(1))
    absent = (*EARLY, *HEALTHY)
    assert finding.verdict == ("undecided" if name in absent else "indicated")
    assert finding.interval is None
    assert finding.needed.startswith("5 seeds")


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("depth", [8, 26])
def test_missing_runs_leave_it_undecided_and_are_named(name: str, depth: int) -> None:
    finding = CLAIMS[name].evaluate(without_layers(depth))
    assert finding.verdict == "undecided"
    assert finding.effect is None
    assert finding.needed == CLAIMS[name].runs


@pytest.mark.parametrize("name", CLAIMS)
def test_runs_without_normalisation_are_no_evidence(name: str) -> None:
    needed = f"runs with model.normalization=batch: {CLAIMS[name].runs}"
    assert CLAIMS[name].evaluate(without_normalization()).needed == needed


@pytest.mark.parametrize(
    ("growth", "verdict"),
    [(1.0, "reproduced"), (1.03, "reproduced"), (1.15, "not reproduced"), (0.9, "not reproduced")],
)
def test_a_healthy_signal_is_judged_from_both_sides(growth: float, verdict: str) -> None:
    frames = planted_frames((20, 56), 5, 1000, families=("plain",), growth=equal(growth))
    for name in HEALTHY:
        finding = CLAIMS[name].evaluate(frames)
        assert finding.verdict == verdict
        # From layer 2 to layer 55; the planted weights grow with the root of the layer.
        expected = 53 * np.log10(growth) + 0.5 * np.log10(2 / 55)
        assert finding.effect == pytest.approx(expected, abs=0.12)
        assert np.log10(finding.numbers["ratio"]) == pytest.approx(finding.effect)


def test_signal_and_turn_are_judged_at_the_step_they_name() -> None:
    planted = {1: 1.1, 8: 1.05, 100: 0.95, 1000: 0.9, 1200: 0.85}

    def growth(family: str, depth: int, step: int) -> float:
        return planted.get(step, 3.0)

    frames = planted_frames((56,), 2, 1200, families=("plain",), growth=growth, values=SPARSE)
    effects = [CLAIMS[name].evaluate(frames).effect for name in HEALTHY]
    expected = 53 * np.log10(list(planted.values())) + 0.5 * np.log10(2 / 55)
    assert effects == pytest.approx(expected, abs=0.15)


def test_a_run_without_finite_gradients_is_neither_healthy_nor_vanished() -> None:
    frames = planted_frames((56,), 5, 1000, families=("plain",), growth=equal(1.0))
    runs, one = frames.runs.copy(), frames.runs.index[0]
    verdicts = [CLAIMS[name].evaluate(frames).verdict for name in HEALTHY]
    assert verdicts == ["reproduced"] * 5
    # One run diverges at iteration 4: healthy before, not after.
    runs.loc[one, "status"] = "diverged"
    kept = (frames.layers["run_id"] != one) | (frames.layers["step"] < 4)
    cut = frames._replace(runs=runs, layers=frames.layers[kept])
    found = [CLAIMS[name].evaluate(cut) for name in HEALTHY]
    assert [f.verdict for f in found] == ["reproduced"] + ["undecided"] * 4
    assert [f.n for f in found] == ["5 of 5 seeds"] + ["4 of 5 seeds"] * 4
    assert [f.numbers["without_finite_ratio"] for f in found[1:]] == [1] * 4
    assert [f.numbers["states"]["exploded"] for f in found[1:]] == [1] * 4
    # Runs that have not ended say nothing about the end.
    runs["status"] = "stopped"
    assert CLAIMS[HEALTHY[-1]].evaluate(frames._replace(runs=runs)).effect is None
    assert CLAIMS[HEALTHY[0]].evaluate(frames._replace(runs=runs)).verdict == "reproduced"


def test_the_layer_in_which_a_quantity_is_lowest_is_told() -> None:
    frames = planted_frames((20, 56), 5, 60)
    layers = frames.layers.copy()
    at = (layers["family"] == "plain") & (layers["depth"] == 56) & (layers["layer"] == 20)
    layers.loc[at, "weight_gradient_norm"] = 0.0
    for name in (HEALTHY[0], HEALTHY[-1]):
        finding = CLAIMS[name].evaluate(frames._replace(layers=layers))
        assert finding.numbers["lowest"] == {"layer": 20, "ratio": 0.0}
        assert "lowest at layer 20" in finding.answer


def test_too_few_seeds_say_how_many_would_decide() -> None:
    finding = degradation(grid(9), 8, 0.3)
    assert finding.verdict == "undecided"
    assert int(finding.needed.split()[1]) > 9


def test_settings_are_not_mixed_and_the_choice_is_said() -> None:
    usual = planted_frames((20, 56), 3, layers=False, error_sd=0.1)
    slow = planted_frames(
        (20, 56), 2, layers=False, final_error=equal(80), values={"optimizer.learning_rate": 0.01}
    )
    finding = CLAIMS[DEGRADATION].evaluate(join(usual, slow))
    alone = CLAIMS[DEGRADATION].evaluate(usual)
    assert (finding.effect, finding.interval) == (alone.effect, alone.interval)
    assert finding.numbers["judged_group"] == {"optimizer.learning_rate": "0.1"}
    assert "optimizer.learning_rate=0.1" in finding.detail
    # A group that cannot answer does not stand in the way of one that can.
    plain_only = planted_frames((8, 14, 20, 26), 3, layers=False, families=("plain",),
                                values={"data.batch_size": 64})  # fmt: skip
    assert CLAIMS[DEGRADATION].evaluate(join(usual, plain_only)).effect == alone.effect


def test_unfinished_runs_are_left_out_and_diverged_ones_count() -> None:
    good = planted_frames((20,), 3, families=("plain",), layers=False)
    stopped = planted_frames((56,), 3, families=("plain",), layers=False, status="stopped")
    finding = CLAIMS[DEGRADATION].evaluate(join(good, stopped))
    assert finding.verdict == "undecided"
    assert finding.effect is None
    diverged = planted_frames((56,), 3, families=("plain",), layers=False, status="diverged")
    diverged = diverged._replace(metrics=diverged.metrics.iloc[:0])
    finding = CLAIMS[DEGRADATION].evaluate(join(good, diverged))
    assert finding.effect == pytest.approx(90, abs=1)
    assert finding.numbers["diverged"] == 3


def test_depth_rules() -> None:
    def numbers(*depths: int) -> Mapping[str, Any]:
        frames = planted_frames(depths, 2, families=("plain",), layers=False)
        return CLAIMS[DEGRADATION].evaluate(frames).numbers

    assert numbers(8, 20, 44, 56, 110)["deep"] == 56
    assert numbers(20, 44, 110)["deep"] == 110
    assert set(numbers(8, 20, 32, 56)["above_shallow_elsewhere"]) == {8, 32}
    assert numbers(20, 56)["paper"] == {20: 1.39, 56: 5.67}


def test_measurements_have_one_number_per_run() -> None:
    for claim in CLAIMS.values():
        measured = claim.best(study(5))
        assert isinstance(measured, Measurement)
        assert all(arm.shape == (5,) for arm in measured.arms)
    assert isinstance(CLAIMS[DEGRADATION].measure(planted_frames((8,), 1, layers=False)), Missing)


def test_unknown_claim_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean signal_healthy_after_1_step"):
        phenomena.chosen("claim", phenomena.claims(), ["signal_healty_after_1_step"])


@pytest.mark.parametrize("confidence", [0.0, 0.3, 1.0, 95.0])
def test_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(UserError, match=r"0\.5 to below 1"):
        judge([CLAIMS[DEGRADATION]], planted_frames((8,), 1, layers=False), confidence=confidence)


def test_json_holds_everything() -> None:
    frames: Frames = planted_frames((20, 56), 5, layers=False)
    findings = judge([*CLAIMS.values(), CLAIMS[DEGRADATION]], frames)
    assert [f.claim for f in findings] == list(CLAIMS)
    rows = json.loads(findings_json(findings))
    assert [row["verdict"] for row in rows] == [f.verdict for f in findings]
    assert rows[-1]["effect"] is None
    assert rows[-1]["interval"] is None
    assert rows[0]["runs"] == CLAIMS[DEGRADATION].runs
    numbers = json.loads(json.dumps(dict(findings[0].numbers)))
    assert rows[0]["numbers"] == numbers


def test_findings_are_read_as_they_were_written(tmp_path: Path) -> None:
    findings = judge(list(CLAIMS.values()), planted_frames((20, 56), 2, 60, layers=False))
    (tmp_path / "findings.json").write_text(findings_json(findings))
    read = read_findings(tmp_path / "findings.json")
    assert list(read) == list(CLAIMS)
    assert findings_json(list(read.values())) == findings_json(findings)
    assert read_findings(tmp_path / "none.json") == {}


def test_analysis_loads_no_jax() -> None:
    program = """
import importlib, pkgutil, sys
for name in ("reference", "judging", "drawing", "report"):
    package = importlib.import_module(f"resnet_study.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"jax", "jaxlib", "flax", "optax", "orbax"}))
print("resnet_study.judging.judge" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["", "True"]


def test_every_claim_has_a_name_of_its_own_and_says_what_it_takes() -> None:
    everything = phenomena.claims()
    assert CLAIMS.items() <= everything.items()
    for name, claim in everything.items():
        assert claim.name == name
        assert claim.runs
        assert claim.statement.endswith((".", ")"))
