"""Records that were cut, changed, or replaced by something else altogether.

Whatever a file of a run holds, a reader reads the records as they were or says in one line which
file it is.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from tests.campaign.outcome import Trial, command, defect_of

JSON = ("spec.json", "environment.json", "summary.json")
TABLES = ("metrics.parquet", "layers.parquet")

READERS = (
    "status STUDY",
    "compare error STUDY",
    "compare error,signal_ratio STUDY",
    "claims STUDY",
    "publish STUDY COPY",
)
SLOW_READERS = ("report quick STUDY", "figures STUDY --format=png", "explore STUDY")

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**31,
    2**63,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "²",
    "é" * 3000,
    "\ud800",
    "\x00",
    "../..",
    [],
    [[1]],
    {},
    {"a": {"b": 1}},
)
"""In place of any value that a file of JSON holds."""

TEXTS: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'"spec"',
    b"{} {}",
    b"\xff\xfe{\x00}\x00",
    b"\x00" * 100,
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"seed": ' + b"9" * 5000 + b"}",
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"status": "finished", "status": "running"}',
)
"""In place of the whole of it."""


def json_with(rng: random.Random, content: bytes) -> bytes:
    """One value, key or level of a JSON object replaced, added or removed."""
    tree = json.loads(content)
    at = tree
    while True:
        key = rng.choice(list(at) or ["new"])
        if isinstance(at.get(key), dict) and at[key] and rng.random() < 0.8:
            at = at[key]
            continue
        break
    match rng.randrange(4):
        case 0:
            at.pop(key, None)
        case 1:
            at[rng.choice(["new", "status", "²", "a.b", ""])] = rng.choice(VALUES)
        case _:
            at[key] = rng.choice(VALUES)
    # Python writes NaN, Infinity and lone surrogates, and reads them.
    return json.dumps(tree).encode()


def table_with(rng: random.Random, content: bytes) -> bytes:
    """A column of a table dropped, doubled, or of values that it never has."""
    table = parquet.read_table(io.BytesIO(content))
    name = rng.choice(table.column_names)
    at, rows = table.column_names.index(name), table.num_rows
    columns: dict[str, Callable[[], Any]] = {
        "text": lambda: pa.array(["x"] * rows),
        "digits": lambda: pa.array(["7"] * rows),
        "none": lambda: pa.nulls(rows),
        "nan": lambda: pa.array([float("nan")] * rows),
        "infinite": lambda: pa.array([float("inf")] * rows),
        "huge": lambda: pa.array([2**62] * rows),
        "negative": lambda: pa.array([-5] * rows),
        "half": lambda: pa.array([0.5] * rows),
        "truth": lambda: pa.array([True] * rows),
        "bytes": lambda: pa.array([b"\xff"] * rows),
        "lists": lambda: pa.array([[1, 2]] * rows),
        "structs": lambda: pa.array([{"a": 1}] * rows),
        "dates": lambda: pa.array(pd.to_datetime(["2020-01-01"] * rows)),
        "decimals": lambda: pa.array([1] * rows).cast(pa.decimal128(38, 2)),
    }
    kind = rng.choice([*columns, "drop", "double", "add", "none of it", "shuffle", "repeat"])
    if kind in columns:
        table = table.set_column(at, name, columns[kind]())
    elif kind == "drop":
        table = table.remove_column(at)
    elif kind == "double":
        table = table.append_column(name, table.column(at))
    elif kind == "add":
        table = table.append_column(rng.choice(["run_id", "new", "family", ""]), table.column(at))
    elif kind == "none of it":
        table = table.slice(0, 0)
    elif kind == "shuffle":
        table = table.take(rng.sample(range(rows), rows))
    else:
        table = pa.concat_tables([table, table])
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def flipped(rng: random.Random, content: bytes) -> bytes:
    """Some bits changed."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 8, 64])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def special(rng: random.Random, path: Path) -> str:
    """Something that is no file, in its place."""
    path.unlink()
    kind = rng.choice(["fifo", "folder", "zeros", "random", "nowhere", "loop", "parent"])
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "zeros":
            path.symlink_to("/dev/zero")
        case "random":
            path.symlink_to("/dev/urandom")
        case "nowhere":
            path.symlink_to(path.with_name("gone"))
        case "loop":
            path.symlink_to(path.name)
        case _:
            path.symlink_to("..")
    return kind


def damage(rng: random.Random, run: Path) -> str:
    """Damage a file of a run folder; says how."""
    path = run / rng.choice([*JSON, *TABLES, *TABLES])
    content = path.read_bytes()
    kinds = ["cut", "flip", "noise", "change", "change", "change", "replace", "special", "remove"]
    kind = rng.choice(kinds)
    match kind:
        case "cut":
            path.write_bytes(content[: rng.randrange(len(content))])
        case "flip":
            path.write_bytes(flipped(rng, content))
        case "noise":
            path.write_bytes(rng.randbytes(rng.randrange(1, 5000)))
        case "change":
            change = json_with if path.name in JSON else table_with
            path.write_bytes(change(rng, content))
        case "replace":
            path.write_bytes(rng.choice(TEXTS))
        case "special":
            kind = f"special {special(rng, path)}"
        case _:
            path.unlink()
    return f"{kind} {path.name}"


def read_damaged(study: Path, count: int, seed: int, slow: bool = False) -> Iterator[Trial]:
    """Damage a copy of a study again and again and read it.

    Args:
        study: a small study, whole.
        count: how often.
        seed: of what is damaged, how, and which reader reads.
        slow: with those that draw.

    Yields:
        What was done, how the reader ended, and what is wrong with that.
    """
    runs = sorted(path.name for path in (study / "runs").iterdir())
    for index in range(count):
        rng = random.Random(f"{seed} {index}")
        copy, to = study.parent / "damaged", study.parent / "published"
        for folder in (copy, to):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(study, copy)
        name = rng.choice(runs)
        what = damage(rng, copy / "runs" / name)
        reader = rng.choice(SLOW_READERS if slow else READERS)
        words = reader.replace("STUDY", str(copy)).replace("COPY", str(to)).split()
        ended = command(words)
        yield Trial(f"{index}: {what}, {reader}", ended.refused, defect_of(ended, [name]))
