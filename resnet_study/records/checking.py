"""What a file of a run may hold: a value of another kind is refused where it is read.

Behind this nothing asks again whether an error is a number or an iteration an integer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_study import runtime
from resnet_study.errors import UserError, is_number, shown
from resnet_study.files import read_json
from resnet_study.records.columns import MEASURED, STATUSES, SUMMARY_COUNTS, SUMMARY_NUMBERS

if TYPE_CHECKING:
    import pyarrow as pa

_TEXTS = (
    "split",
    "name",
    "quantity",
    "family",
    "normalization",
    "initialization",
    "activation",
    "block_order",
)
_INTEGERS = ("step", "layer", "stage", "block", "depth", "width", "images", "seed", "index")
_ENVIRONMENT: dict[type, tuple[str, ...]] = {
    dict: ("device", "execution", "git", "packages", "settings", "wandb", "data_digest"),
    str: ("data", "command", "started"),
    list: ("previous",),
}


def read_summary(folder: Path) -> dict[str, Any]:
    """``summary.json`` of a run folder; empty if there is none yet.

    Raises:
        UserError: if it cannot be read, or a value in it is not of its kind.
    """
    file = folder / "summary.json"
    summary = read_json(file)
    for name, value in summary.items():
        if needed := _needed(name, value):
            raise UserError(f"{file}: {name}={shown(value)}: {needed}; restore or remove it")
    return summary


def read_environment(folder: Path) -> dict[str, Any]:
    """``environment.json`` of a run folder; empty if there is none yet.

    Raises:
        UserError: if it cannot be read, or a value in it is not of its kind.
    """
    file = folder / "environment.json"
    environment = read_json(file)
    for kind, names in _ENVIRONMENT.items():
        for name in names:
            value = environment.get(name, kind())
            if not isinstance(value, kind):
                needed = f"{kind.__name__} is needed"
                raise UserError(f"{file}: {name}={shown(value)}: a {needed}; restore or remove it")
    return environment


def _needed(name: str, value: Any) -> str | None:
    """What a value should be; None if it is."""
    if name == "status":
        known = isinstance(value, str) and value in STATUSES
        return None if known else f"valid are {', '.join(STATUSES)}"
    if name == "bytes":
        sizes = isinstance(value, dict) and all(type(size) is int for size in value.values())
        return None if sizes else "bytes of each table are needed"
    if value is None:
        return None
    if name in SUMMARY_COUNTS:
        # More is no exact float, as which pandas may hold it.
        counts = type(value) is int and 0 <= value < 2**53
        return None if counts else "a count is needed"
    if name in SUMMARY_NUMBERS:
        return None if is_number(value) else "a finite number is needed"
    return None


def problem_of_table(schema: pa.Schema, rows: int, needed: Iterable[str]) -> str | None:
    """Why a table is not one of ours; None if it may be.

    Args:
        schema: of the file.
        rows: that it says it has.
        needed: columns that it must have.
    """
    # A file of some kilobytes can claim any number.
    if (size := 8 * rows * len(schema)) > (there := runtime.memory()):
        claimed = f"{rows:,} rows of {len(schema)} columns, {size / 1e9:,.3g} GB"
        return f"claims {claimed}, and there are {there / 1e9:,.3g} GB"
    return _problem_of_schema(schema, rows > 0, tuple(needed))


@functools.lru_cache(maxsize=64)
def _problem_of_schema(schema: pa.Schema, rows: bool, needed: tuple[str, ...]) -> str | None:
    """Of the columns alone, which are the same in most runs."""
    import pyarrow as pa

    if len(set(schema.names)) < len(schema):
        return "has a column twice"
    if missing := [name for name in needed if name not in schema.names]:
        return f"has no column {', '.join(missing)}"
    is_number = (pa.types.is_floating, pa.types.is_integer, pa.types.is_null)
    # An empty column has no type.
    for field in schema if rows else ():
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if field.name in _TEXTS:
            fits, what = pa.types.is_string(kind) or pa.types.is_large_string(kind), "text"
        elif field.name in _INTEGERS:
            fits, what = pa.types.is_integer(kind), "integers"
        elif field.name in needed or field.name in MEASURED:
            fits, what = any(is_kind(kind) for is_kind in is_number), "numbers"
        else:
            # A study's own probes, or columns that somebody else added.
            fits, what = not pa.types.is_nested(kind), "values without parts"
        if not fits:
            return f"column {field.name} holds {field.type} and no {what}"
    return None
