"""Numbers in words, and for machines."""

from __future__ import annotations

import json
import math

import jinja2
import numpy as np
import pytest

from resnet_study.files import strict
from resnet_study.judging.statistics import Interval
from resnet_study.judging.words import in_words, number, two_digits


def test_numbers_print_with_three_digits_or_as_asked() -> None:
    numbers = {"a": 0.123456, "n": 12345, "by_depth": {56: 2.0, 8: 0.5}, "gone": None}
    assert (
        in_words("{{ a }}, {{ n }}, {{ by_depth }}", numbers) == "0.123, 12345, 0.5 at 8, 2 at 56"
    )
    assert (
        in_words('{{ a|number(".1f", " %") }} of {{ n|number(",") }}', numbers) == "0.1 % of 12,345"
    )
    assert in_words("x\n{% if gone is none %}  y{% endif %}\n", numbers) == "x y"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00154, "0.0015"),
        (0.67, "0.67"),
        (1.96, "2.0"),
        (30.4, "30"),
        (119.7, "120"),
        (-7613, "-7,600"),
        (9.51e-5, "9.5·10⁻⁵"),
        (1.23e12, "1.2·10¹²"),
        (0.0, "0.0"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_titles_have_no_exponents_of_computers(value: float, text: str) -> None:
    assert two_digits(value) == text


def test_intervals_names_and_sequences() -> None:
    assert number(Interval(1.0, 0.5, 2.0, 0.9375)) == "1 (94 % interval 0.5 to 2)"
    assert number(Interval(1.0, math.nan, math.nan)) == "1"
    assert number({"power": 0.1, "exponential": 0.2}) == "power 0.1, exponential 0.2"
    assert number([0.5, None, np.float32(2)]) == "0.5, none, 2"


def test_a_number_that_there_is_not_is_no_silence() -> None:
    with pytest.raises(jinja2.UndefinedError):
        in_words("{{ missing }}", {"a": 1})


def test_the_group_that_was_judged_is_told_where_there_are_several() -> None:
    assert in_words("", {"a": 1}) == ""
    several = {"groups": 2, "judged_group": {"data.batch_size": "64", "seed": "0"}}
    told = in_words("", several)
    assert told == "Of 2 groups of comparable runs, judged: data.batch_size=64, seed=0."


def test_plain_is_strict_json() -> None:
    numbers = {
        56: np.float64(0.5),
        "n": np.int64(3),
        "interval": Interval(1.0, math.nan, math.inf),
        "list": (np.float32(0.25), math.nan, "text", None, True),
    }
    text = json.dumps(strict(numbers), allow_nan=False)
    assert json.loads(text) == {
        "56": 0.5,
        "n": 3,
        "interval": {"estimate": 1.0, "low": None, "high": None, "level": None},
        "list": [0.25, None, "text", None, True],
    }
