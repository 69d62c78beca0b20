"""One table of many runs as a frame: read when it is asked for, column by column, and kept.

Ten thousand runs have ten million rows of layers, and most questions are about two columns of them
or about none. So reading a study reads nothing of its tables; a question then reads the columns
that it needs, of the runs that it is about, and further questions about these find them there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from resnet_study.errors import UserError
from resnet_study.records import integrity
from resnet_study.records.columns import KEYS

Key = tuple[str, int, int]
"""Family, depth and seed of a run."""

BATCH = 64
"""Files whose rows are joined before they are put in place: more take more memory until then."""

Version = tuple[int, int, int]
"""What tells a file from the one that takes its place: its number, time and size."""


@dataclass(frozen=True)
class Rows:
    """One table of some runs, of which nothing is read before `frame`.

    Attributes:
        keys: of each run, by its id.
        files: of the runs that have the table.
        required: columns that every file must have, and every frame has.
        usual: columns of a frame without rows.
        blocks: what was read so far, of these runs and those that they were selected from.
    """

    keys: Mapping[str, Key]
    files: Mapping[str, Path]
    required: tuple[str, ...]
    usual: tuple[str, ...]
    blocks: list[_RunRows] = field(default_factory=list)

    def of(self, run_ids: Collection[str]) -> Rows:
        """Those of some of the runs; what is read for the ones is there for the others."""
        return replace(self, keys={run: key for run, key in self.keys.items() if run in run_ids})

    def frame(self, names: Iterable[str] | None = None) -> pd.DataFrame:
        """`KEYS`, `required` and the columns named, as far as recorded; by default every one."""
        keys = {run: key for run, key in self.keys.items() if run in self.files}
        wanted = None if names is None else list(dict.fromkeys([*self.required, *names]))
        table = self._holding(keys).rows(keys, wanted, self.required)
        return table if len(table) else pd.DataFrame(columns=[*KEYS, *(wanted or self.usual)])

    def _holding(self, keys: Mapping[str, Key]) -> _RunRows:
        """The smallest block that holds these runs, or a new one of these alone."""
        if holding := [block for block in self.blocks if keys.keys() <= block.keys.keys()]:
            return min(holding, key=lambda block: len(block.keys))
        new = _RunRows(keys, [self.files[run] for run in keys])
        self.blocks[:] = [b for b in self.blocks if not b.keys.keys() <= keys.keys()] + [new]
        return new


class _RunRows:
    """All rows of some runs, with the columns that were asked for so far."""

    def __init__(self, keys: Mapping[str, Key], files: Sequence[Path]) -> None:
        self.keys, self.files = keys, files
        self.table = pd.DataFrame()
        self.lengths = np.zeros(len(keys), int)
        self.versions: list[Version] = []
        # None: every column that there is.
        self.asked: set[str] | None = set()
        # Columns that any of the files has; empty before the first is read.
        self.there: frozenset[str] = frozenset()

    def rows(
        self, keys: Mapping[str, Key], names: Sequence[str] | None, required: Sequence[str]
    ) -> pd.DataFrame:
        """Columns of some of the runs."""
        if self.asked is not None and (names is None or not self.asked.issuperset(names)):
            self._read(names, required)
        table = self.table
        if names is not None:
            table = table[[name for name in (*KEYS, *names) if name in table]]
        if len(keys) == len(self.keys):
            # Without copying the numbers, and yet nobody's changes reach another's.
            return table.copy(deep=False)
        own = np.array([run in keys for run in self.keys])
        taken = table[own.repeat(self.lengths)].reset_index(drop=True)
        return with_keys(keys, self.lengths[own], taken)

    def _read(self, names: Sequence[str] | None, required: Sequence[str]) -> None:
        """Add the columns that are not there yet."""
        assert self.asked is not None
        new = None if names is None else [name for name in names if name not in self.asked]
        if new is not None and self.there and not self.there.intersection(new):
            # A probe that nobody recorded: no reason to open every file again.
            self.asked.update(new)
            return
        held: Mapping[str, Any] = {} if new is None else {str(n): self.table[n] for n in self.table}
        found = read_columns(self.files, new, required)
        if held and found.versions != self.versions:
            # A live run wrote in between: rows of two times do not belong together.
            held, new = {}, [*self.asked, *(new or ())]
            found = read_columns(self.files, new, required)
        self.versions, self.lengths, self.there = found.versions, found.lengths, found.there
        self.table = with_keys(self.keys, found.lengths, {**held, **found.columns})
        self.asked = None if new is None else {*self.asked, *new}


class Columns(NamedTuple):
    """Columns of several files, one after the other.

    Attributes:
        versions: of the files that were read.
        lengths: rows of each file.
        columns: by name, as arrays; text as a categorical.
        there: names of all that any of the files has.
    """

    versions: list[Version]
    lengths: np.ndarray
    columns: dict[str, Any]
    there: frozenset[str]


def with_keys(
    keys: Mapping[str, Key], lengths: np.ndarray, columns: Mapping[str, Any] | pd.DataFrame
) -> pd.DataFrame:
    """Rows with `KEYS` in front.

    Args:
        keys: of each run.
        lengths: rows of each run; they follow each other.
        columns: by name.
    """
    rows = [(run, *key) for (run, key), length in zip(keys.items(), lengths, strict=True) if length]
    if not rows:
        return pd.DataFrame(columns=[*KEYS, *columns])
    front: dict[str, Any] = {}
    for name, values in zip(KEYS, zip(*rows, strict=True), strict=True):
        once = pd.Categorical(values) if isinstance(values[0], str) else np.array(values)
        front[name] = once.repeat(lengths[lengths > 0])
    others = {str(name): values for name, values in columns.items() if name not in KEYS}
    # Without a copy: of ten thousand runs there is no memory for two.
    return pd.DataFrame({**front, **others}, copy=False)


def read_columns(
    files: Sequence[Path], names: Sequence[str] | None, required: Sequence[str]
) -> Columns:
    """Read columns of several parquet files that may lack some; by default all.

    Raises:
        UserError: naming the file that is none, lacks a required column, or has one of another
            kind than the others.
    """
    versions: list[Version] = []
    lengths: list[int] = []
    columns: dict[str, _Column] = {}
    schema, filled = None, 0
    there: set[str] = set()
    first: dict[str, Path] = {}
    needed = [name for name in required if names is None or name in names]
    for start in range(0, len(files), BATCH):
        tables = {}
        for file in files[start : start + BATCH]:
            table, state, every = integrity.read_columns(file, names, needed)
            there.update(every)
            versions.append((state.st_ino, state.st_mtime_ns, state.st_size))
            lengths.append(table.num_rows)
            # One without rows has columns without a type.
            if table.num_rows:
                tables[file] = table
        if tables:
            joined, schema = _joined(tables, schema, first)
            expected = (filled + joined.num_rows) * len(files) // len(lengths)
            for name in joined.column_names:
                columns.setdefault(name, _Column()).put(filled, _values(joined[name]), expected)
            filled += joined.num_rows
    values = {name: column.whole(filled) for name, column in columns.items()}
    return Columns(versions, np.array(lengths, int), values, frozenset(there))


class _Column:
    """Numbers or words that come in parts; NaN where none came.

    Numbers are put in their place at once: to join all parts in the end takes twice the memory.
    Room that is not written to takes none, so that there may be more than is needed.
    """

    def __init__(self) -> None:
        self.numbers, self.filled = np.empty(0), 0
        self.words: dict[int, pd.Categorical] = {}

    def put(self, start: int, part: Any, expected: int) -> None:
        """Add a part that begins at a row, where so many rows are expected in the end."""
        if isinstance(part, pd.Categorical):
            self.words[start] = part
        elif part is not None:
            held, stop = self.numbers[: self.filled], start + len(part)
            before: list[Any] = [
                *([held] if len(held) else []),
                *([np.nan] if start > len(held) else []),
            ]
            kind = np.result_type(part, *before)
            if kind != held.dtype or stop > len(self.numbers):
                self.numbers = np.empty(max(stop, 5 * expected // 4), kind)
                self.numbers[: len(held)] = held
            if start > len(held):
                self.numbers[len(held) : start] = np.nan
            self.numbers[start:stop] = part
            self.filled = stop

    def whole(self, length: int) -> Any:
        """All of so many rows."""
        if not self.words:
            self.put(length, self.numbers[:0], length)
            return self.numbers[:length]
        kind = next(iter(self.words.values())).dtype
        parts, stop = [], 0
        for start, part in self.words.items():
            parts += [pd.Categorical.from_codes([-1] * (start - stop), dtype=kind), part]
            stop = start + len(part)
        parts.append(pd.Categorical.from_codes([-1] * (length - stop), dtype=kind))
        return pd.api.types.union_categoricals(parts, sort_categories=True)


def _joined(tables: Mapping[Path, Any], schema: Any, first: dict[str, Path]) -> tuple[Any, Any]:
    """One table of several, and the kinds of its columns and of those before.

    Args:
        tables: by file.
        schema: of the tables before; None if there are none.
        first: the file from which each column's kind is known; the new ones are added.
    """
    import pyarrow as pa

    for file, table in tables.items():
        if schema is None or not schema.equals(table.schema):
            schema = _unified(schema or table.schema, file, table.schema, first)
    try:
        return pa.concat_tables(tables.values(), promote_options="permissive"), schema
    except pa.ArrowException as error:
        # Such as an integer that is no exact float, where other runs have floats.
        raise integrity.unreadable(_misfit(tables, schema), error) from None


def _unified(schema: Any, file: Path, own: Any, first: dict[str, Path]) -> Any:
    """The kinds of the columns of a file and of those before it."""
    import pyarrow as pa

    for column in own:
        known = schema.field(column.name) if column.name in schema.names else column
        before = first.setdefault(column.name, file)
        try:
            pair = [pa.schema([known]), pa.schema([column])]
            pa.unify_schemas(pair, promote_options="permissive")
        except pa.ArrowException:
            # Which of the two is the wrong one is not known here.
            raise UserError(
                f"{file}: column {column.name} holds {column.type}, but {known.type} in {before}; "
                "restore the one that is wrong, or remove its folder to train that run again"
            ) from None
    return pa.unify_schemas([schema, own], promote_options="permissive")


def _misfit(tables: Mapping[Path, Any], schema: Any) -> Path:
    """The first file whose values do not fit in the kinds that all have in common."""
    import pyarrow as pa

    for file, table in tables.items():
        try:
            for name in table.column_names:
                table[name].cast(schema.field(name).type)
        except pa.ArrowException:
            return file
    return next(iter(tables))


def _values(column: Any) -> Any:
    """An array of what arrow read, NaN where nothing is; None for a column of nothing."""
    from pyarrow import types

    if types.is_null(column.type):
        return None
    if types.is_string(column.type) or types.is_large_string(column.type):
        return pd.Categorical(column.dictionary_encode().to_pandas())
    return column.to_numpy()
