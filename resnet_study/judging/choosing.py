"""Which runs: selections such as ``family=plain``, ``depth>20`` or ``seed!=0``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from resnet_study.errors import UserError
from resnet_study.judging.selections import select
from resnet_study.names import nearest_hint
from resnet_study.records import Frames

ORDERS: dict[str, Callable[[pd.Series, float], pd.Series]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}

_SELECTION = re.compile(r"\s*([\w.]+)\s*(>=|<=|!=|=|>|<)\s*(.*\S)\s*")


class Selection(NamedTuple):
    """A field of ``runs``, how it is compared, and with which values: one for an order."""

    field: str
    sign: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.field}{self.sign}{','.join(self.values)}"


def selection(text: str) -> Selection:
    """Out of ``model.depth=20,56``, ``depth>20`` and the like.

    Raises:
        UserError: for anything else.
    """
    match = _SELECTION.fullmatch(text)
    values = tuple(value.strip() for value in match[3].split(",")) if match else ()
    if not match or not all(values) or (match[2] in ORDERS and len(values) > 1):
        raise UserError(f"--where {text}: write model.depth=20,56 or depth>20 or seed!=0")
    return Selection(match[1], match[2], values)


def choose(frames: Frames, selections: Sequence[Selection]) -> Frames:
    """The records of the runs that match every selection.

    Raises:
        UserError: for an unknown field, a value that the field cannot have, and if nothing matches.
    """
    runs = frames.runs
    for one in selections:
        if one.field not in runs:
            hint = nearest_hint(one.field, map(str, runs.columns))
            raise UserError(f"--where {one}: unknown field {one.field}; {hint}")
        matching = runs[_matches(runs[one.field], one)]
        if not len(matching):
            present = ", ".join(map(str, sorted(runs[one.field].unique())))
            raise UserError(f"--where {one}: no such run; recorded are {present}")
        runs = matching
    return select(frames, runs.index)


def _matches(column: pd.Series, wanted: Selection) -> pd.Series:
    if is_bool_dtype(column) and wanted.sign not in ORDERS:
        lower = [value.lower() for value in wanted.values]
        found = column.map(lambda value: str(value).lower()).isin(lower)
    elif is_numeric_dtype(column) and not is_bool_dtype(column):
        try:
            numbers = [float(value) for value in wanted.values]
        except ValueError:
            example = f"give numbers such as {column.iloc[0]}"
            raise UserError(f"--where {wanted}: {wanted.field} is a number; {example}") from None
        if wanted.sign in ORDERS:
            return ORDERS[wanted.sign](column, numbers[0])
        found = column.isin(numbers)
    elif wanted.sign in ORDERS:
        raise UserError(f"--where {wanted}: {wanted.field} has no order; use = or !=")
    else:
        found = column.astype(str).isin(wanted.values)
    return ~found if wanted.sign == "!=" else found
