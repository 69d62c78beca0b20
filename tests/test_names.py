"""Hints stay short and lose nothing that is near, whatever is typed and whatever is known."""

from __future__ import annotations

import pytest

from resnet_study.errors import UserError
from resnet_study.names import FEW, MOST, counted, integers, nearest, nearest_hint
from resnet_study.spec import parameter_types

DOTTED = [f"schedule.quantity_of_some_kind_{i}" for i in range(40)]


@pytest.mark.parametrize("typed", ["", "zzz", "sch", "schedule.quantity_of_some_kind_99", "--x"])
@pytest.mark.parametrize("count", range(1, 41))
def test_a_hint_counts_every_name_and_stays_short(typed: str, count: int) -> None:
    known = DOTTED[:count]
    hint = nearest_hint(typed, known)
    assert len(hint) < MOST + FEW * len(DOTTED[-1])
    named = sum(name in hint.replace("?", ",").replace(" ", ",").split(",") for name in known)
    others = int(hint.split(" others")[0].split()[-1]) if " others" in hint else 0
    begun = [name for name in known if typed and name.startswith(typed)]
    assert named >= 1
    if "known are" in hint:
        assert named + others == count
    elif begun:
        assert named + others == len(begun)


def test_few_names_are_all_told_beside_the_nearest() -> None:
    hint = nearest_hint("seven", ["one", "seventh"])
    assert hint == "did you mean seventh? Known are one, seventh"
    assert nearest("seven", ["one", "seventh"]) == "seventh"
    assert nearest("seven", []) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lr", "optimizer.learning_rate"),
        ("--optimizer.lr", "optimizer.learning_rate"),
        ("wd", "optimizer.weight_decay"),
        ("optimizer.momentun", "optimizer.momentum"),
    ],
)
def test_first_letters_stand_for_a_name(typed: str, meant: str) -> None:
    known = list(parameter_types())
    assert nearest(typed, known) == meant
    assert nearest_hint(typed, known) == f"did you mean {meant}?"


def test_things_are_counted() -> None:
    assert [counted(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]


def test_whole_numbers_are_read_and_others_refused() -> None:
    assert integers("--at", "0, -7,12") == [0, -7, 12]
    for text in ("", "1,", "1.5", "one", "9" * 19):
        with pytest.raises(UserError, match=r"--at=.*write whole numbers"):
            integers("--at", text)
