"""Selections, on records whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import equal, join, planted_frames

from resnet_study.judging.keeping import per_group
from resnet_study.judging.selections import (
    SPREAD,
    comparable_groups,
    early_error,
    final_error,
    growth_per_layer,
    iterations_to_error,
    layer_quantity,
    median_over_seeds,
    over_last,
    rows_at,
    rows_reached,
    select,
    step_nearest,
    varying_fields,
)
from resnet_study.records import Frames


def with_train_curve(rows: list[tuple[int, float]], status: str = "finished") -> Frames:
    """One run of 100 iterations with a given training curve."""
    frames = planted_frames((20,), 1, 100, families=("plain",), status=status, layers=False)
    curve = frames.metrics.iloc[: len(rows)].assign(
        split="train", step=[s for s, _ in rows], error=[e for _, e in rows]
    )
    return frames._replace(metrics=curve)


def test_final_error_recovers_what_was_planted() -> None:
    frames = planted_frames((8, 20, 56), 4, final_error=lambda f, d: d / 2, error_sd=0.0)
    table = final_error(frames, "train")
    assert len(table) == 24
    assert (table["error"] - table["depth"] / 2).abs().max() < 1e-9
    test = final_error(frames, "test")
    assert (test["error"] - table["error"]).to_numpy() == pytest.approx(np.full(24, 5.0))


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([(1, 40.0), (2, 50.0), (3, np.nan)], 90.0),
        ([(1, 40.0), (2, 95.0), (3, np.nan)], 95.0),
        ([(1, np.nan)], 90.0),
        ([], 90.0),
    ],
)
def test_a_diverged_run_counts_with_the_error_of_guessing_or_worse(
    rows: list[tuple[int, float]], error: float
) -> None:
    frames = with_train_curve(rows, "diverged")
    assert final_error(frames, "train")["error"].tolist() == [error]


@pytest.mark.parametrize("status", ["stopped", "failed", "running"])
def test_runs_that_have_not_ended_do_not_count(status: str) -> None:
    assert final_error(with_train_curve([(1, 40.0)], status), "train").empty
    assert early_error(with_train_curve([(1, 40.0)], status)).empty


def test_finished_run_without_the_split_is_left_out() -> None:
    assert final_error(with_train_curve([(1, 40.0)]), "test").empty


def test_early_error_is_the_mean_over_mini_batches() -> None:
    # Windows (0, 10], (10, 20], (20, 40]: to iteration 25 they weigh 10, 10 and 5.
    frames = with_train_curve([(0, 99.0), (10, 80.0), (20, 60.0), (40, 40.0), (100, 0.0)])
    assert early_error(frames)["error"].tolist() == [pytest.approx((800 + 600 + 200) / 25)]


def test_early_error_of_a_diverged_run_holds_its_last_value() -> None:
    frames = with_train_curve([(10, 80.0), (20, np.nan)], "diverged")
    assert early_error(frames)["error"].tolist() == [pytest.approx(80.0)]
    assert early_error(with_train_curve([], "diverged"))["error"].tolist() == [90.0]


def test_iterations_to_error_wants_it_to_stay() -> None:
    curve = [(10, 50.0), (20, 19.0), (30, 21.0), (40, 20.0), (50, 3.0)]
    assert iterations_to_error(with_train_curve(curve), 20)["iterations"].tolist() == [40]
    never = iterations_to_error(with_train_curve([*curve, (60, np.nan)]), 20)
    assert never["iterations"].isna().all()


@given(st.sets(st.integers(0, 70_000), min_size=1), st.integers(0, 70_000))
def test_step_nearest_is_recorded_near_and_no_other_is_nearer(steps: set[int], wanted: int) -> None:
    found = step_nearest(steps, wanted)
    factor = {s: max(s + 1, wanted + 1) / min(s + 1, wanted + 1) for s in steps}
    if found is None:
        assert min(factor.values()) >= 2 - 1e-9
    else:
        assert factor[found] == pytest.approx(min(factor.values()))
        assert factor[found] < 2


def test_step_nearest_on_the_recorded_steps() -> None:
    fibonacci = [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144]
    assert [step_nearest(fibonacci, k) for k in (0, 1, 10, 100)] == [0, 1, 8, 89]
    assert step_nearest(fibonacci[1:], 0) is None
    assert step_nearest(fibonacci, 400) is None


def test_rows_at_leaves_out_runs_that_stopped_too_early() -> None:
    long, short = planted_frames((20,), 1, 200), planted_frames((20,), 1, 10)
    rows = rows_at(join(long, short).layers, 100)
    assert set(rows["run_id"]) == set(long.runs.index)
    last = rows_at(join(long, short).layers, None).groupby("run_id")["step"].unique()
    assert sorted(int(s[0]) for s in last) == [10, 10, 200, 200]


def test_growth_and_ratio_recover_what_was_planted() -> None:
    frames = planted_frames((20, 56), 3, growth=equal(1.15), growth_sd=0.0)
    growth = growth_per_layer(frames)
    assert len(growth) == 12
    # 55 layers with 2 % noise in the norm; the slope of 20 is less certain.
    assert growth["growth"].to_numpy() == pytest.approx(np.full(12, 1.15), rel=0.005)
    ratio = over_last(frames, "activation_gradient_norm")
    at_start = ratio[ratio["step"] == 0]
    expected = 1.15 ** (at_start["depth"].to_numpy() - 3.0)
    assert at_start["ratio"].to_numpy() == pytest.approx(expected, rel=0.12)
    assert len(ratio) == frames.layers.groupby("run_id")["step"].nunique().sum()


def test_growth_within_stages_leaves_out_the_jumps() -> None:
    frames = planted_frames((56,), 2, growth=equal(1.1), growth_sd=0.0)
    jump = frames.layers["stage"].map({0: 1.0, 1: 50.0, 2: 9.0, 3: 1.0, 4: 1.0})
    layers = frames.layers.assign(
        activation_gradient_norm=frames.layers["activation_gradient_norm"] * jump
    )
    frames = frames._replace(layers=layers)
    within = growth_per_layer(frames, within_stages=True)["growth"]
    assert within.to_numpy() == pytest.approx(np.full(4, 1.1), rel=0.005)
    assert growth_per_layer(frames)["growth"].min() > 1.15


def test_quantities_that_follow_from_two_columns() -> None:
    layers = planted_frames((8,), 1).layers
    expected = layers["update_norm"].to_numpy() / layers["weight_norm"].to_numpy()
    assert layer_quantity(layers, "relative_update").to_numpy() == pytest.approx(expected)
    expected = layers["weight_gradient_norm"].to_numpy() * layers["weight_norm"].to_numpy()
    assert layer_quantity(layers, "signal").to_numpy() == pytest.approx(expected)
    assert layer_quantity(layers.drop(columns="weight_norm"), "signal").isna().all()


def test_comparable_groups_do_not_mix_settings() -> None:
    usual = planted_frames((20, 56), 2, layers=False)
    slow = planted_frames((20,), 2, layers=False, values={"optimizer.learning_rate": 0.01})
    frames = join(usual, slow)
    assert varying_fields(frames.runs) == ["optimizer.learning_rate"]
    groups = comparable_groups(frames)
    assert [len(g.runs) for g in groups] == [8, 4]
    for group in groups:
        assert varying_fields(group.runs) == []
        assert set(group.metrics["run_id"]) == set(group.runs.index)


def test_what_follows_from_the_length_of_a_schedule_tells_nothing_apart() -> None:
    def of(iterations: int, first_drop: int) -> Frames:
        values = {"schedule.first_drop": first_drop, "probes.evaluate_every": iterations // 2}
        return planted_frames((20,), 2, iterations, layers=False, values=values)

    short, long, later = of(200, 100), of(600, 300), of(600, 400)
    runs = join(short, long).runs
    assert varying_fields(runs) == ["schedule.iterations"]
    assert [len(g.runs) for g in comparable_groups(join(short, long))] == [4, 4]
    fields = ["schedule.iterations", "schedule.first_drop"]
    assert varying_fields(join(short, long, later).runs) == fields
    assert len(comparable_groups(join(short, long, later))) == 3
    assert varying_fields(join(short, later).runs) == fields  # another fraction
    # Of one length nothing follows from it.
    assert varying_fields(join(long, later).runs) == ["schedule.first_drop"]


def test_named_fields_may_differ_within_a_comparable_group() -> None:
    usual = planted_frames((20,), 2, layers=False)
    warm = planted_frames((56,), 2, layers=False, values={"schedule.warmup_error": 80.0})
    slow = planted_frames((56,), 1, layers=False, values={"optimizer.learning_rate": 0.01})
    frames = join(usual, warm, slow)
    assert [len(g.runs) for g in comparable_groups(frames)] == [4, 4, 2]
    groups = comparable_groups(frames, ["schedule.warmup_error"])
    assert [len(g.runs) for g in groups] == [8, 2]
    assert varying_fields(groups[0].runs) == ["schedule.warmup_error"]


def test_a_run_read_twice_counts_once() -> None:
    frames = planted_frames((20,), 2)
    once, twice = (select(f, frames.runs.index) for f in (frames, join(frames, frames)))
    for a, b in zip(once, twice, strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_median_over_seeds_counts_what_is_there() -> None:
    table = pd.DataFrame({"depth": [8] * 4 + [20, 56], "x": [1.0, 3.0, 90.0, np.nan, 7.0, np.nan]})
    result = median_over_seeds(table, "x", ["depth"])
    assert result["depth"].tolist() == [8, 20]
    found = [tuple(row) for row in result[list(SPREAD)].to_numpy().tolist()]
    assert found == [(3, 1, 90, 3), (7, 7, 7, 1)]


def test_what_is_kept_of_records_is_theirs_and_each_callers_own() -> None:
    """Asked again nothing is computed; other records, other words and changed copies are apart."""
    asked = []

    @per_group
    def rows(frames: Frames, name: str) -> pd.DataFrame:
        asked.append(name)
        return frames.runs[[name]]

    frames = planted_frames(depths=(8,), seeds=1, layers=False)
    one = rows(frames, "depth")
    one["mine"] = 1
    assert list(rows(frames, "depth")) == ["depth"]
    assert list(rows(frames, "seed")) == ["seed"]
    assert asked == ["depth", "seed"]
    fewer = select(frames, frames.runs.index[:1])
    assert len(rows(fewer, "depth")) == 1
    assert asked == ["depth", "seed", "depth"]


def test_what_a_run_has_not_reached_is_not_taken_for_it() -> None:
    """A record near the wanted one counts if nothing nearer can follow."""
    for status, at_100 in (("running", 0), ("stopped", 0), ("finished", 2), ("diverged", 2)):
        frames = planted_frames((8,), 1, 300, status=status)
        cut = frames._replace(layers=frames.layers[frames.layers["step"] <= 60])
        assert len(rows_reached(cut, cut.layers, 100)["run_id"].unique()) == at_100
        assert len(rows_reached(cut, cut.layers, 55)["run_id"].unique()) == 2
        pd.testing.assert_frame_equal(
            rows_reached(frames, frames.layers, 100), rows_at(frames.layers, 100)
        )
