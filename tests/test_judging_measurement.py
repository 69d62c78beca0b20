"""What a measure may give: anything that cannot be judged or told is refused where it is made."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from resnet_study.errors import UserError
from resnet_study.judging.judge import findings_json
from resnet_study.judging.measurement import Measurement, Missing
from tests.test_judging_claim import NOTHING, claim, measurement


@pytest.mark.parametrize(
    "wrong",
    [
        {"claimed": "inside"},
        {"arms": ()},
        {"arms": ([0.5],)},
        {"arms": pd.Series([0.5])},
        {"arms": (pd.Series(["high"]),)},
        {"threshold": None},
        {"threshold": math.nan},
        {"threshold": -0.1, "claimed": "within"},
        {"unit": None},
        {"numbers": None},
        {"numbers": {1: 2.0}},
        {"numbers": {"share": np.ones(2)}},
        {"theory": 0.3},
        {"theory": ("x", math.nan)},
    ],
    ids=str,
)
def test_a_measurement_that_none_can_judge_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(wrong))}") as error:
        replace(measurement([[1.0]]), **wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"needed": None}, "needed"),
        ({"numbers": {"by_depth": pd.Series([1.0])}}, "numbers: cannot be written"),
        ({"numbers": [1.0]}, "numbers=.*a mapping from names"),
    ],
)
def test_what_cannot_be_told_of_missing_runs_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Missing(**wrong)


def test_where_no_seed_has_a_finite_difference_runs_are_missing() -> None:
    arm = pd.Series([np.inf, np.inf])
    finding = claim(Measurement((arm, arm), 0.0, "above", ""), "x").evaluate(NOTHING)
    assert finding.verdict == "undecided"
    apart = pd.Series([1.0], index=[0]), pd.Series([np.nan, 1.0], index=[0, 1])
    assert claim(Measurement(apart, 0.0, "above", ""), "x").evaluate(NOTHING).effect == 0.0


def test_effects_on_the_threshold_alone_decide_nothing_and_that_is_said() -> None:
    finding = claim(measurement([[1.0] * 5], 1.0), "x").evaluate(NOTHING)
    assert finding.verdict == "undecided"
    assert finding.needed == "effects that do not lie on the threshold, as all of these do"


def test_numbers_of_numpy_are_numbers() -> None:
    arm = pd.Series([1.5, 2.5], index=[0, 1])
    numbers = {
        "share": np.float32(0.5),
        "long": np.longdouble(1.5),
        "depths": {np.int64(8): np.float64(1.0)},
    }
    found = Measurement(
        (arm,), np.float64(1.0), "above", "", numbers, theory=("t", np.float32(2.0))
    )
    own = replace(
        claim(found, "x"), where={"model.depth": np.int64(8), "optimizer.momentum": np.float64(0.9)}
    )
    assert own.where == {"model.depth": 8, "optimizer.momentum": 0.9}
    finding = own.conclude(found, 0.95)
    assert finding.n == "2 of 2 seeds"
    assert "Predicted: 2 (t)" in finding.detail
    assert json.loads(findings_json([finding]))


@pytest.mark.parametrize("given", [None, 0.3, (0.3,), Missing], ids=str)
def test_what_is_no_measurement_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"claim x: its measure gives .*, not a Measurement"):
        claim(given, "x").evaluate(NOTHING)
