"""Run folders read back as tidy frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from resnet_study.errors import UserError
from resnet_study.files import folders_below, read_text, refuse_missing
from resnet_study.records import integrity
from resnet_study.records.checking import read_environment, read_summary
from resnet_study.records.columns import (
    DONE,
    EARLIER_INITIALIZATION,
    INITIALIZATION_COLUMNS,
    INITIALIZATION_FOLDERS,
    KEYS,
    LAYER_COLUMNS,
    METRIC_COLUMNS,
    PROBES,
)
from resnet_study.records.rows import Key, Rows, with_keys
from resnet_study.spec import RunSpec, from_json

NOT_MEASURED = pd.DataFrame(columns=list(INITIALIZATION_COLUMNS))


class Frames:
    """Records of many runs as tidy frames; rows are read when they are asked for.

    Attributes:
        runs: one row per run, indexed by ``run_id``: ``family`` (plain, residual), ``depth``,
            ``seed``, every spec field under its dotted name, every scalar of the summary
            (``status``, ``test_error_last``, ...), and ``folder``.
        metrics: rows of every ``metrics.parquet`` with ``run_id``, ``family``, ``depth``,
            ``seed`` in front.
        layers: rows of every ``layers.parquet``, likewise.
        initialization: what was measured without a run, columns `INITIALIZATION_COLUMNS`.
    """

    def __init__(
        self,
        runs: pd.DataFrame,
        metrics: pd.DataFrame | Rows,
        layers: pd.DataFrame | Rows,
        initialization: pd.DataFrame = NOT_MEASURED,
    ) -> None:
        self.runs, self.initialization = runs, initialization
        self._metrics, self._layers = metrics, layers

    @property
    def metrics(self) -> pd.DataFrame:
        return self._metrics.frame() if isinstance(self._metrics, Rows) else self._metrics

    @property
    def layers(self) -> pd.DataFrame:
        return self._layers.frame() if isinstance(self._layers, Rows) else self._layers

    def layers_with(self, *columns: str) -> pd.DataFrame:
        """`layers` with at least `LAYER_COLUMNS` and these columns, as far as recorded."""
        rows = self._layers
        return rows.frame(columns) if isinstance(rows, Rows) else rows

    def of(self, runs: pd.DataFrame) -> Frames:
        """The records of some of the `runs`, each step, split and layer once."""
        ids = set(runs.index.tolist())
        metrics = _of(self._metrics, ids, ["run_id", "step", "split"])
        layers = _of(self._layers, ids, ["run_id", "step", "layer"])
        return Frames(runs, metrics, layers, self.initialization)

    def _replace(self, **changes: pd.DataFrame | Rows) -> Frames:
        """As of a named tuple."""
        own = {"runs": self.runs, "metrics": self._metrics, "layers": self._layers}
        return Frames(**{**own, "initialization": self.initialization, **changes})  # type: ignore

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return iter((self.runs, self.metrics, self.layers, self.initialization))


def _of(
    rows: pd.DataFrame | Rows, run_ids: Collection[str], once: list[str]
) -> pd.DataFrame | Rows:
    if isinstance(rows, Rows):
        return rows.of(run_ids)
    return rows[rows["run_id"].isin(list(run_ids))].drop_duplicates(once)


@dataclass(frozen=True)
class Run:
    """One run folder, read."""

    folder: Path
    spec: RunSpec
    environment: dict[str, Any]
    summary: dict[str, Any]
    metrics: pd.DataFrame
    layers: pd.DataFrame


class Outline(NamedTuple):
    """What a run folder says of its run beside its tables."""

    folder: Path
    spec: RunSpec
    summary: Mapping[str, Any]


AnyRun = TypeVar("AnyRun", Run, Outline)


def read_run(folder: Path) -> Run:
    """Read one run folder, finished or not.

    Raises:
        UserError: if the folder is no run or a file of it cannot be read.
    """
    spec_file = folder / "spec.json"
    if not spec_file.is_file():
        runs = sorted(path.parent for path in folder.glob("runs/*/spec.json"))
        hint = f"; it is a study, of which a run is {runs[0]}" if runs else ""
        raise UserError(f"{folder}: not a run folder (no spec.json){hint}")
    return Run(
        folder=folder,
        spec=read_spec(spec_file),
        environment=read_environment(folder),
        summary=read_summary(folder),
        metrics=read_table(folder / "metrics.parquet", METRIC_COLUMNS),
        layers=read_table(folder / "layers.parquet", (*LAYER_COLUMNS, *PROBES)),
    )


def read_whole(folder: Path) -> Run:
    """Read one run folder of whose records nothing was lost.

    Raises:
        UserError: as `read_run`, or if they do not reach what its summary or its checkpoints say.
    """
    if problem := integrity.problem_of(folder):
        raise UserError(problem)
    return read_run(folder)


def read_outline(folder: Path) -> Outline:
    """Read of one run folder of whose records nothing was lost all but its tables.

    Raises:
        UserError: as `read_whole`.
    """
    summary = read_summary(folder)
    if problem := integrity.problem_of(folder, summary):
        raise UserError(problem)
    return Outline(folder, read_spec(folder / "spec.json"), summary)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Run folders at or below the given paths, also through links, sorted by name, each once.

    Raises:
        UserError: if a path does not exist, none of them holds a run, or one holds the records of
            a run without its spec.
    """
    paths = list(paths)
    runs, _ = _find(paths)
    if not runs:
        raise _nothing(paths)
    return runs


def _nothing(paths: Sequence[Path]) -> UserError:
    where = ", ".join(map(str, paths))
    return UserError(f"{where}: no runs found; make some with `resnet-study reproduce quick`")


def _find(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Run folders by name, and the files of what was measured at initialisation."""
    for path in paths:
        if not path.is_dir():
            refuse_missing(path.parent)
            what = "is a file, no folder" if path.exists() else "no such folder"
            raise UserError(f"{path}: {what}; give a study (results/quick) or run folders")
    runs, files = [], []
    for folder, names in folders_below(*paths):
        if "spec.json" in names:
            runs.append(folder)
        elif problem := integrity.without_spec(folder):
            raise UserError(problem)
        if folder.name in INITIALIZATION_FOLDERS:
            tables = (n for n in sorted(names) if n.endswith(".parquet") and n[0] != ".")
            files += [folder / name for name in tables]
    return sorted(runs, key=lambda folder: folder.name), files


def read_frames(paths: Iterable[Path]) -> Frames:
    """Read every run, and what was measured at initialisation, at or below the given paths.

    Of the tables of runs nothing is read before it is asked for.

    Raises:
        UserError: as `find_runs` and `read_whole`; what was measured at initialisation is enough.
    """
    paths = list(paths)
    found, files = _find(paths)
    if not files and not found:
        raise _nothing(paths)
    tables = [_read_initialization(file) for file in files]
    ordered, chosen = _by_id([read_outline(folder) for folder in found])
    keys = _keys(chosen)

    def rows(name: str, required: Sequence[str], more: Sequence[str] = ()) -> Rows:
        there = {run_id: run.folder / name for run_id, run in chosen.items()}
        there = {run_id: file for run_id, file in there.items() if file.exists()}
        return Rows(keys, there, tuple(required), (*required, *more))

    return Frames(
        _table_of(ordered),
        rows("metrics.parquet", METRIC_COLUMNS),
        rows("layers.parquet", LAYER_COLUMNS, PROBES),
        pd.concat(tables, ignore_index=True) if tables else NOT_MEASURED,
    )


def _read_initialization(file: Path) -> pd.DataFrame:
    own = [name for name in INITIALIZATION_COLUMNS if name not in EARLIER_INITIALIZATION]
    table = read_table(file, own)
    missing = {k: v for k, v in EARLIER_INITIALIZATION.items() if k not in table}
    return table.assign(**missing)


def frames_of(runs: Sequence[Run]) -> Frames:
    """Join runs that were read one by one into tidy frames.

    Of copies of a run the one that is done, else the furthest, else the first stands first in
    ``runs``, and its rows alone are taken.
    """
    ordered, chosen = _by_id(runs)
    keys, own = _keys(chosen), list(chosen.values())
    return Frames(
        _table_of(ordered),
        _in_memory(keys, [run.metrics for run in own], METRIC_COLUMNS),
        _in_memory(keys, [run.layers for run in own], (*LAYER_COLUMNS, *PROBES)),
    )


def _in_memory(
    keys: Mapping[str, Key], tables: Sequence[pd.DataFrame], usual: Sequence[str]
) -> pd.DataFrame:
    # An empty frame in a concat would turn integer columns into objects.
    filled = [table for table in tables if len(table)]
    if not filled:
        return pd.DataFrame(columns=[*KEYS, *usual])
    lengths = np.array([len(table) for table in tables])
    return with_keys(keys, lengths, pd.concat(filled, ignore_index=True))


def _by_id(runs: Sequence[AnyRun]) -> tuple[list[AnyRun], dict[str, AnyRun]]:
    """All runs with copies one after the other, the best first, and the best alone by id."""
    copies = copies_of(runs)
    chosen = {run_id: same[0] for run_id, same in copies.items()}
    return [run for same in copies.values() for run in same], chosen


def _keys(runs: Mapping[str, Run | Outline]) -> dict[str, Key]:
    return {i: (run.spec.family, run.spec.model.depth, run.spec.seed) for i, run in runs.items()}


def _table_of(runs: Sequence[Run | Outline]) -> pd.DataFrame:
    """`Frames.runs`."""
    rows = []
    for run in runs:
        key: dict[str, Any] = {"run_id": run.spec.run_id, "family": run.spec.family}
        key |= {"depth": run.spec.model.depth, "seed": run.spec.seed}
        summary = {"status": "running", **run.summary}
        scalars = {k: v for k, v in summary.items() if not isinstance(v, dict | list)}
        rows.append({**key, **run.spec.flat(), **scalars, "folder": str(run.folder)})
    return pd.DataFrame(rows).set_index("run_id") if rows else _no_runs()


def copies_of(runs: Iterable[AnyRun]) -> dict[str, list[AnyRun]]:
    """The folders that hold each run, by its id and whatever their names; the best one first."""
    copies: dict[str, list[AnyRun]] = {}
    for run in runs:
        copies.setdefault(run.spec.run_id, []).append(run)
    return {i: sorted(same, key=_worse) if len(same) > 1 else same for i, same in copies.items()}


def _worse(run: Run | Outline) -> tuple[bool, int]:
    reached = integrity.extent(run.folder / "metrics.parquet")
    return run.summary.get("status") not in DONE, -(reached.last if reached else 0)


def _no_runs() -> pd.DataFrame:
    columns = ["family", "depth", "seed", *RunSpec().flat(), "status", "folder"]
    return pd.DataFrame(columns=list(dict.fromkeys(columns)), index=pd.Index([], name="run_id"))


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.exists() and not path.is_symlink():
        return pd.DataFrame(columns=list(columns))
    # Not every version records every probe.
    needed = [name for name in columns if name not in PROBES]
    return integrity.read_columns(path, None, needed)[0].to_pandas()


def read_spec(path: Path) -> RunSpec:
    """Read a ``spec.json``.

    Raises:
        UserError: if it describes no run.
    """
    return from_json(read_text(path), str(path))
