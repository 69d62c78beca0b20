"""`compare`: what it reduces, over what, and how it refuses."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import equal, join, planted_frames

from resnet_study.errors import UserError
from resnet_study.judging.compare import Question, differences, label_of
from resnet_study.judging.compare import compare as medians
from resnet_study.judging.selections import SPREAD, conv_layers, select
from resnet_study.judging.statistics import median_interval
from resnet_study.records import Frames

FRAMES = planted_frames((8, 20, 56), 3, 60)


def compare(frames: Frames, *asked: Any, **more: Any) -> pd.DataFrame:
    return medians(frames, Question(*asked, **more))


def test_error_against_depth_is_the_planted_one() -> None:
    table = compare(FRAMES, "error", split="train")
    assert list(table.columns) == ["family", "depth", *SPREAD]
    assert (table["n"] == 3).all()
    plain = table[table["family"] == "plain"].set_index("depth")["median"]
    assert plain[56] == pytest.approx(36, abs=1)


def test_test_error_of_summary_equals_last_row() -> None:
    left = compare(FRAMES, "error", split="test")
    right = compare(FRAMES, "test_error_last")
    assert left["median"].to_numpy() == pytest.approx(right["median"].to_numpy())


def test_layer_quantity_against_layer_and_depth() -> None:
    by_layer = compare(FRAMES, "response_std", "layer", ["depth=56"])
    assert by_layer.groupby("family")["layer"].apply(list).map(len).tolist() == [55, 55]
    by_depth = compare(FRAMES, "response_std", "depth", ["depth=56"])
    rows = conv_layers(FRAMES.layers[FRAMES.layers["depth"] == 56])
    rows = rows[rows["step"] == rows["step"].max()]
    runs = rows.groupby(["family", "run_id"])["response_std"].mean()
    conv = runs.groupby("family").median()
    assert by_depth["median"].to_numpy() == pytest.approx(conv.to_numpy())


def test_gradient_ratio_at_a_step_and_against_step() -> None:
    start = compare(FRAMES, "gradient_ratio", at_step=0)
    plain = start[start["family"] == "plain"].set_index("depth")["median"]
    assert plain[56] == pytest.approx(1.2**53, rel=0.4)
    steps = compare(FRAMES, "gradient_ratio", "step", ["family=plain", "depth=56"])
    assert steps["step"].tolist() == sorted(FRAMES.layers["step"].unique())
    assert steps["median"].iloc[0] == pytest.approx(plain[56])
    growth = compare(FRAMES, "growth_per_layer", "step", ["family=plain", "depth=56"])
    assert growth["step"].tolist() == steps["step"].tolist()
    assert growth["median"].iloc[[0, -1]].tolist() == pytest.approx([1.2, 0.9], abs=0.01)
    signal, turn = (compare(FRAMES, f"{name}_ratio", at_step=0) for name in ("signal", "turn"))
    # The planted weights grow with the root of the layer.
    assert signal["median"].iloc[2] == pytest.approx(plain[56] * (2 / 55) ** 0.5, rel=1e-6)
    assert turn["median"].iloc[2] == pytest.approx(plain[56] / (2 / 55) ** 0.5, rel=1e-6)
    response = compare(FRAMES, "response_gradient_ratio", at_step=0)
    assert response["median"].to_numpy() == pytest.approx(start["median"].to_numpy())


def test_relative_update_and_loss_against_step() -> None:
    updates = compare(FRAMES, "relative_update", "layer", ["depth=8"], 0, classifier=True)
    one = FRAMES.layers[(FRAMES.layers["depth"] == 8) & (FRAMES.layers["step"] == 0)]
    ratio = (one["update_norm"] / one["weight_norm"]).groupby([one["family"], one["layer"]])
    assert updates["median"].to_numpy() == pytest.approx(ratio.median().to_numpy())
    loss = compare(FRAMES, "loss", "step", split="val")
    assert loss["step"].min() == 0
    assert loss["step"].max() == 60


def test_other_fields_that_differ_become_columns() -> None:
    slow = planted_frames((20,), 2, 60, values={"optimizer.learning_rate": 0.01})
    table = compare(join(FRAMES, slow), "error")
    assert "optimizer.learning_rate" in table
    assert len(table) == 8
    chosen = compare(join(FRAMES, slow), "error", where=["optimizer.learning_rate=0.01"])
    assert "optimizer.learning_rate" not in chosen
    assert chosen["n"].tolist() == [2, 2]


def test_a_field_that_follows_from_the_network_is_a_column_all_the_same() -> None:
    """Not a warm-up of some depths, which is what the paper does; a length or a data set is."""
    for values, shown in (
        ({"schedule.iterations": 90}, True),
        ({"data.name": "synthetic"}, True),
        ({"optimizer.weight_decay": 0.0}, True),
        ({"schedule.warmup_iterations": 10}, False),
    ):
        deep = planted_frames((56,), 3, 60, values=values)
        both = join(planted_frames((8, 20), 3, 60), deep)
        (field,) = values
        assert (field in compare(both, "error")) == shown


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (["model.depth=20, 56"], 4),
        (["model.residual=true"], 3),
        (["model.residual!=true"], 3),
        (["family=plain", "depth=8"], 1),
        (["seed=0,1"], 6),
        (["depth>8"], 4),
        (["depth >= 20", "depth<56"], 2),
        (["depth<=20"], 4),
        (["depth!=8,20"], 2),
        (["seed<0.5"], 6),
    ],
)
def test_where_selects(where: list[str], rows: int) -> None:
    assert len(compare(FRAMES, "error", where=where)) == rows


def test_a_field_as_axis_and_fields_that_tell_apart() -> None:
    slow = planted_frames((20,), 3, 60, values={"optimizer.learning_rate": 0.01})
    both = join(planted_frames((20,), 3, 60), slow)
    table = compare(both, "error", "optimizer.learning_rate")
    assert list(table.columns) == ["family", "depth", "optimizer.learning_rate", *SPREAD]
    assert table["n"].tolist() == [3] * 4
    pooled = compare(both, "error", "optimizer.learning_rate", by=["family"])
    assert list(pooled.columns) == ["family", "optimizer.learning_rate", *SPREAD]
    by_seed = compare(both, "error", "seed", by=["family"])
    assert by_seed["seed"].tolist() == [0, 1, 2] * 2
    everything = compare(both, "error", by=["family"])
    assert everything["n"].tolist() == [6, 6]


def test_the_last_layer_counts_if_asked_for() -> None:
    assert compare(FRAMES, "weight_norm", "layer", ["depth=8"], classifier=True)["layer"].max() == 8


def test_differences_are_of_runs_of_one_seed() -> None:
    frames = planted_frames((8, 20), 6, 60)
    fewer = select(
        frames, frames.runs.index[(frames.runs["seed"] > 0) | frames.runs["model.residual"]]
    )
    table = differences(fewer, Question("error", split="train"), "family")
    assert set(table["difference"]) == {"residual - plain"}
    assert table["n"].tolist() == [5, 5]
    errors = fewer.runs.pivot(index=["depth", "seed"], columns="family", values="train_error_last")
    paired = (errors["residual"] - errors["plain"]).dropna().groupby("depth")
    expected = [median_interval(own) for _, own in paired]
    np.testing.assert_allclose(table[["median", "low", "high", "level"]], expected)
    by_depth = differences(fewer, Question("error", by=["family", "depth"]), "depth")
    assert set(by_depth["difference"]) == {"20 - 8"}
    pd.testing.assert_frame_equal(
        differences(fewer, Question("error", split="train"), "model.residual"), table
    )
    pd.testing.assert_frame_equal(
        differences(fewer, Question("error"), "model.depth"),
        differences(fewer, Question("error"), "depth"),
    )
    few = differences(planted_frames((8,), 2, 60), Question("error"), "family")
    assert few[["low", "high", "level"]].isna().all(axis=None)


def test_differences_stand_in_the_order_of_the_values_and_tell_who_has_no_partner() -> None:
    frames = join(planted_frames((8,), 1, 60), planted_frames((20, 110), 3, 60))
    table = differences(frames, Question("error"), "depth")
    assert list(dict.fromkeys(table["difference"])) == ["20 - 8", "110 - 8"]
    assert table["n"].tolist() == [1] * 4
    (said,) = table.attrs["left_out"]
    assert said.startswith("8 runs whose seed has none with depth=8 left out")
    whole = differences(frames, Question("error", where=["depth=20,110"]), "depth")
    assert whole["n"].tolist() == [3, 3]
    assert whole.attrs["left_out"] == []


def test_axes_name_the_split_and_the_unit() -> None:
    assert label_of(Question("error", split="train")) == "training error (%)"
    assert label_of(Question("error", split="train_clean")) == "clean training error (%)"
    assert label_of(Question("loss", split="val")) == "validation loss (nats)"
    assert label_of(Question("error"), True) == "difference in test error (percentage points)"
    assert label_of(Question("signal_ratio"), True) == "difference in signal ratio"
    assert label_of(Question("test_error_last")) == "test error last (%)"
    assert label_of(Question("signal_ratio")) == "signal ratio"
    assert label_of(Question("angular_step")).endswith("(rad)")


def test_unfinished_runs_are_compared_at_a_step_only() -> None:
    stopped = planted_frames((20,), 2, 60, status="stopped")
    assert set(compare(join(FRAMES, stopped), "error", where=["depth=20"])["n"]) == {3}
    there = compare(join(planted_frames((8,), 3, 60), stopped), "error")
    assert there["depth"].tolist() == [8, 8]
    (said,) = there.attrs["left_out"]
    assert said.startswith("4 runs that did not end left out (plain-20, residual-20)")
    assert compare(FRAMES, "error").attrs["left_out"] == []
    gone = join(planted_frames((8,), 3, 60), planted_frames((20,), 2, 60, status="diverged"))
    (said,) = compare(gone, "error").attrs["left_out"]
    assert said == (
        "4 runs that diverged count with the error of guessing or more (plain-20, residual-20)"
    )
    with pytest.raises(UserError, match="no selected run has finished"):
        compare(stopped, "error")
    assert compare(stopped, "error", at_step=30)["n"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantity": "eror"}, "did you mean error"),
        ({"quantity": "gradient_rato"}, "did you mean gradient_ratio"),
        ({"quantity": "error", "where": ["model.dept=20"]}, "did you mean model.depth"),
        ({"quantity": "error", "where": ["model.depth=32"]}, "recorded are 8, 20, 56"),
        ({"quantity": "error", "where": ["model.depth=deep"]}, "is a number"),
        ({"quantity": "error", "where": ["depth"]}, "write model.depth=20,56 or depth>20"),
        ({"quantity": "error", "where": ["depth>8,20"]}, "write model.depth=20,56 or depth>20"),
        ({"quantity": "error", "where": ["family>plain"]}, "has no order; use = or !="),
        ({"quantity": "error", "where": ["depth>56"]}, "recorded are 8, 20, 56"),
        ({"quantity": "error", "against": "layers"}, "did you mean layer"),
        ({"quantity": "error", "by": ["famly"]}, "did you mean family"),
        ({"quantity": "error", "by": ["step"]}, "unknown field step"),
        ({"quantity": "error", "against": "layer"}, "cannot be compared against layer"),
        ({"quantity": "error", "split": "tset"}, "did you mean test"),
        ({"quantity": "images_per_second", "against": "step"}, "one value per run"),
        ({"quantity": "signal", "split": "train"}, "signal has no splits"),
        ({"quantity": "test_error_last", "split": "test"}, "has no splits"),
        ({"quantity": "error", "classifier": True}, "goes with --against=layer"),
        ({"quantity": "error", "at_step": -5}, "iterations begin at 0"),
        ({"quantity": "error", "against": "step", "at_step": 9}, "shows them all"),
        ({"quantity": "error", "at_step": 40_000}, "no value within a factor of 2 of step 40000"),
    ],
)
def test_user_errors_are_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        compare(FRAMES, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("between", "message"),
    [
        ("famly", "did you mean family"),
        ("data.name", "all runs have"),
        ("seed", "takes runs of one seed"),
    ],
)
def test_differences_that_are_none_are_refused(between: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        differences(FRAMES, Question("error"), between)


def test_a_difference_is_not_the_axis_too() -> None:
    with pytest.raises(UserError, match="is the axis too"):
        differences(FRAMES, Question("error", "family"), "family")


def test_the_steps_that_were_taken_are_told() -> None:
    last = int(FRAMES.metrics["step"].max())
    assert compare(FRAMES, "error", at_step=last + 9).attrs["steps"] == [last]


def test_missing_values_are_no_zeros() -> None:
    table = compare(planted_frames((8,), 2, growth=equal(1.0)), "inactive_fraction", "layer")
    assert table["layer"].max() == 7
    assert np.isfinite(table["median"]).all()
