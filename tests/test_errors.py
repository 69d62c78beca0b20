"""Messages quote a value in at most a line, whatever it is."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from resnet_study.errors import SHOWN, UserError, is_number, require, shown

RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)
LAUGHS: list[Any] = ["ha"]
for _ in range(30):
    LAUGHS = [LAUGHS] * 10


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        "two\nlines",
        10**5000,
        -(16**5000),
        [10**5000],
        list(range(10**6)),
        {i: "y" * 1000 for i in range(1000)},
        b"z" * 10**6,
        {"a", "b"},
        RECURSIVE,
        LAUGHS,
        datetime.date(2020, 1, 1),
        float("nan"),
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_shown_on_a_line(value: Any) -> None:
    assert 0 < len(shown(value)) <= SHOWN + 3
    with pytest.raises(UserError) as caught:
        require(False, "model.depth", value, "a rule")
    message = str(caught.value)
    assert message.startswith("model.depth=")
    assert message.endswith(": a rule")
    assert "\n" not in message


def test_short_values_are_shown_as_they_are() -> None:
    for value, text in ((3, "3"), (-3, "-3"), (0.1, "0.1"), (True, "True"), ("a b", "a b")):
        assert shown(value) == text
    assert shown([3, "a"]) == "[3, 'a']"
    assert shown(datetime.date(2020, 1, 1)) == "2020-01-01"
    assert shown(10**5000) == "10^5000"


def test_a_number_is_finite_as_a_float() -> None:
    assert all(is_number(value) for value in (0, -1, 1e308, 10**308))
    assert not any(is_number(v) for v in (10**309, float("inf"), float("nan"), True, "1", None))
