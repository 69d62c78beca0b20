"""Run folders read back as tidy frames."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pyarrow.parquet import ParquetFile

from resnet_study.errors import UserError
from resnet_study.files import folders_below, read_bytes, read_text
from resnet_study.records import integrity
from resnet_study.records.checking import problem_of_table, read_environment, read_summary
from resnet_study.records.columns import (
    DONE,
    EARLIER_INITIALIZATION,
    INITIALIZATION_COLUMNS,
    LAYER_COLUMNS,
    METRIC_COLUMNS,
    PROBES,
)
from resnet_study.spec import RunSpec, from_json

TABLE_BYTES = 8 << 30
"""Most bytes of a table; it is read whole."""


class Frames(NamedTuple):
    """Records of many runs as tidy frames.

    Attributes:
        runs: one row per run, indexed by ``run_id``: ``family`` (plain, residual), ``depth``,
            ``seed``, every spec field under its dotted name, every scalar of the summary
            (``status``, ``test_error_last``, ...), and ``folder``.
        metrics: rows of every ``metrics.parquet`` with ``run_id``, ``family``, ``depth``,
            ``seed`` in front.
        layers: rows of every ``layers.parquet``, likewise.
        initialization: what was measured without a run, columns `INITIALIZATION_COLUMNS`.
    """

    runs: pd.DataFrame
    metrics: pd.DataFrame
    layers: pd.DataFrame
    initialization: pd.DataFrame = pd.DataFrame(columns=list(INITIALIZATION_COLUMNS))


@dataclass(frozen=True)
class Run:
    """One run folder, read."""

    folder: Path
    spec: RunSpec
    environment: dict[str, Any]
    summary: dict[str, Any]
    metrics: pd.DataFrame
    layers: pd.DataFrame


def read_run(folder: Path) -> Run:
    """Read one run folder, finished or not.

    Raises:
        UserError: if the folder is no run or a file of it cannot be read.
    """
    spec_file = folder / "spec.json"
    if not spec_file.is_file():
        raise UserError(f"{folder}: not a run folder (no spec.json)")
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


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Run folders at or below the given paths, also through links, sorted by name, each once.

    Raises:
        UserError: if a path does not exist, none of them holds a run, or one holds the records of
            a run without its spec.
    """
    paths = list(paths)
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such folder; give a study (results/quick) or run folders")
        for folder, names in folders_below(path):
            if "spec.json" in names:
                found.setdefault(str(folder.resolve()), folder)
            elif problem := integrity.without_spec(folder):
                raise UserError(problem)
    if not found:
        where = ", ".join(map(str, paths))
        raise UserError(f"{where}: no runs found; make some with `resnet-study reproduce quick`")
    return sorted(found.values(), key=lambda folder: folder.name)


def read_frames(paths: Iterable[Path]) -> Frames:
    """Read every run, and what was measured at initialisation, at or below the given paths.

    Raises:
        UserError: as `find_runs` and `read_whole`; what was measured at initialisation is enough.
    """
    paths = list(paths)
    files = {file.resolve(): file for path in paths for file in _initialization_files(path)}
    tables = [_read_initialization(file) for file in files.values()]
    if not tables:
        return frames_of([read_whole(folder) for folder in find_runs(paths)])
    below = itertools.chain(*map(folders_below, paths))
    has_runs = any("spec.json" in names for _, names in below)
    runs = [read_whole(folder) for folder in find_runs(paths)] if has_runs else []
    return frames_of(runs)._replace(initialization=pd.concat(tables, ignore_index=True))


def _initialization_files(path: Path) -> list[Path]:
    return [
        folder / name
        for folder, names in (folders_below(path) if path.is_dir() else ())
        if folder.name in ("initialization", "signals")
        for name in sorted(names)
        if name.endswith(".parquet") and not name.startswith(".")
    ]


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
    runs = [run for copies in copies_of(runs).values() for run in copies]
    seen: set[str] = set()
    rows: list[dict[str, Any]] = []
    metrics: list[pd.DataFrame] = []
    layers: list[pd.DataFrame] = []
    for run in runs:
        key: dict[str, Any] = {
            "run_id": run.spec.run_id,
            "family": run.spec.family,
            "depth": run.spec.model.depth,
            "seed": run.spec.seed,
        }
        summary = {"status": "running", **run.summary}
        scalars = {k: v for k, v in summary.items() if not isinstance(v, dict | list)}
        rows.append({**key, **run.spec.flat(), **scalars, "folder": str(run.folder)})
        for table, frames in ((run.metrics, metrics), (run.layers, layers)):
            # An empty frame in a concat would turn integer columns into objects.
            if len(table) and key["run_id"] not in seen:
                frames.append(table.assign(**key)[[*key, *table.columns]])
        seen.add(key["run_id"])
    keys = ["run_id", "family", "depth", "seed"]
    return Frames(
        runs=pd.DataFrame(rows).set_index("run_id") if rows else _no_runs(),
        metrics=pd.concat(metrics, ignore_index=True)
        if metrics
        else pd.DataFrame(columns=[*keys, *METRIC_COLUMNS]),
        layers=pd.concat(layers, ignore_index=True)
        if layers
        else pd.DataFrame(columns=[*keys, *LAYER_COLUMNS, *PROBES]),
    )


def copies_of(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The folders that hold each run, by its id and whatever their names; the best one first."""
    copies: dict[str, list[Run]] = {}
    for run in runs:
        copies.setdefault(run.spec.run_id, []).append(run)

    def worse(run: Run) -> tuple[bool, int]:
        reached = int(run.metrics["step"].max()) if len(run.metrics) else 0
        return run.summary.get("status") not in DONE, -reached

    return {run_id: sorted(same, key=worse) for run_id, same in copies.items()}


def _no_runs() -> pd.DataFrame:
    columns = ["family", "depth", "seed", *RunSpec().flat(), "status", "folder"]
    return pd.DataFrame(columns=list(dict.fromkeys(columns)), index=pd.Index([], name="run_id"))


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.exists() and not path.is_symlink():
        return pd.DataFrame(columns=list(columns))
    # In one read: a live run replaces the file between two.
    content = read_bytes(path, TABLE_BYTES)
    try:
        file = ParquetFile(io.BytesIO(content))
        # Not every version records every probe.
        needed = [name for name in columns if name not in PROBES]
        problem = problem_of_table(file.schema_arrow, file.metadata.num_rows, needed)
        if problem is None:
            return file.read().to_pandas()
    except Exception as error:
        problem = str(error)
    raise integrity.unreadable(path, problem)


def read_spec(path: Path) -> RunSpec:
    """Read a ``spec.json``.

    Raises:
        UserError: if it describes no run.
    """
    return from_json(read_text(path), str(path))
