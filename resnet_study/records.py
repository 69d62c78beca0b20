"""Run folders: written crash-safely while training, read back as tidy frames. Knows no jax.

One folder per run, ``results/<study>/runs/<run_id>/``:

===================== ======================================================================
``spec.json``         the full `RunSpec` and the schema version
``environment.json``  versions, device, git revision, command line
``metrics.parquet``   one row per (``step``, ``split``), columns `METRIC_COLUMNS`
``layers.parquet``    one row per (``step``, ``layer``), columns `LAYER_COLUMNS` and one per probe
``summary.json``      status, final errors side by side, wall time, images per second
``checkpoints/``      for exact resumption
===================== ======================================================================

What is measured at initialisation, without training, lies in
``results/<study>/initialization/`` (``signals/`` in earlier versions): one parquet file per arm
with the columns `INITIALIZATION_COLUMNS`, and ``environment.json``.

``step`` counts the optimiser steps taken: a row at step k describes the network after k
updates, so step 0 is initialisation. Every file is replaced atomically, so that what was
written before a kill is readable after it; a resumed run drops rows beyond its checkpoint
and holds each step exactly once.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from resnet_study.errors import UserError
from resnet_study.files import read_json, read_text, write_atomically, write_json
from resnet_study.probes import BUILT_IN
from resnet_study.spec import RunSpec, from_json, to_json

METRIC_COLUMNS = ("step", "epoch", "split", "loss", "error", "learning_rate")
"""``epoch`` = images seen / training images; ``error`` in percent; ``split`` is

- ``train``: mean over the mini-batches since the previous row, as trained (augmented,
  batch statistics);
- ``train_clean``: all training images, not augmented, running statistics;
- ``val``, ``test``: held-out and test images, running statistics.
"""

LAYER_COLUMNS = ("step", "layer", "name", "stage", "block")
"""``layer`` = 1..depth in forward order; ``name`` such as stem, stage2.block1.conv2, head;
``stage`` 0 (stem), 1-3, 4 (head); ``block`` = 1..n within the stage, 0 for stem and head."""

PROBES = tuple(probe.name for probe in BUILT_IN)
"""Columns of ``layers.parquet`` that every run has; a study may add its own."""

INITIALIZATION_COLUMNS = (
    "quantity",
    "family",
    "depth",
    "normalization",
    "initialization",
    "activation",
    "block_order",
    "width",
    "images",
    "seed",
    "index",
    "stage",
    "value",
)
"""``quantity`` as in `resnet_study.phenomena.initialization.arms`, which says what ``index`` counts
for each; ``stage`` 0 where it has no meaning."""

EARLIER_INITIALIZATION = {"width": 16, "images": 128}
"""What records of earlier versions, which have no columns for it, were measured with."""

STATUSES = ("running", "finished", "diverged", "failed", "stopped")

DONE = ("finished", "diverged")
"""Statuses after which there is nothing left to train."""


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


class RunWriter:
    """Collects rows in memory and replaces the run's files at each `flush`.

    Args:
        folder: the run folder; made if missing.
        spec: written as ``spec.json``; must equal what is already there.
        environment: written as ``environment.json``; a resumed run keeps the earlier ones
            under ``previous``.
        resume_step: step of the checkpoint that an earlier attempt is continued from; its
            rows up to there are kept. None starts afresh.

    Raises:
        UserError: if the folder holds a different spec.
    """

    def __init__(
        self,
        folder: Path,
        spec: RunSpec,
        environment: Mapping[str, Any],
        resume_step: int | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        spec_file = folder / "spec.json"
        check_spec(folder, spec)
        for left_by_a_kill in folder.glob(".*.parquet.*"):
            left_by_a_kill.unlink(missing_ok=True)
        self.folder = folder
        self.metrics: list[dict[str, Any]] = []
        self.layers: list[pd.DataFrame] = []
        previous: list[Any] = []
        if resume_step is not None:
            metrics, layers = (
                _read_table(folder / "metrics.parquet", METRIC_COLUMNS),
                _read_table(folder / "layers.parquet", (*LAYER_COLUMNS, *PROBES)),
            )
            self.metrics = metrics[metrics.step <= resume_step].to_dict("records")  # type: ignore
            # A step's layers are recorded by the iteration that follows its checkpoint.
            self.layers = [layers[layers.step < resume_step]]
            earlier = read_json(folder / "environment.json")
            previous = [*earlier.pop("previous", []), earlier] if earlier else []
        write_atomically(spec_file, to_json(spec))
        write_json(folder / "environment.json", {**environment, "previous": previous})
        write_json(folder / "summary.json", {"status": "running"})

    def log_metrics(self, step: int, epoch: float, split: str, **values: float) -> None:
        """Add one row of ``metrics.parquet``."""
        self.metrics.append({"step": step, "epoch": epoch, "split": split, **values})

    def log_layers(
        self,
        step: int,
        layers: Sequence[tuple[str, int, int]],
        probes: Mapping[str, np.ndarray],
    ) -> None:
        """Add the rows of one step to ``layers.parquet``.

        Args:
            step: optimiser steps taken.
            layers: name, stage and block of every weighted layer in forward order.
            probes: each of shape (len(layers),), by name.
        """
        names, stages, blocks = zip(*layers, strict=True)
        frame = {"step": step, "layer": np.arange(1, len(layers) + 1), "name": names}
        self.layers.append(pd.DataFrame({**frame, "stage": stages, "block": blocks, **probes}))

    def flush(self) -> None:
        """Replace the two tables by all rows so far."""
        _write_table(self.folder / "metrics.parquet", metrics_frame(self.metrics))
        if len(self.layers) > 1:
            self.layers = [pd.concat([f for f in self.layers if len(f)], ignore_index=True)]
        empty = pd.DataFrame(columns=list((*LAYER_COLUMNS, *PROBES)))
        _write_table(self.folder / "layers.parquet", self.layers[0] if self.layers else empty)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Flush and write ``summary.json``; its ``status`` is one of `STATUSES`."""
        self.flush()
        write_json(self.folder / "summary.json", summary)


def check_spec(folder: Path, spec: RunSpec) -> None:
    """Refuse a folder that holds another run.

    Raises:
        UserError: naming the file.
    """
    spec_file = folder / "spec.json"
    if spec_file.exists() and _read_spec(spec_file) != spec:
        raise UserError(f"{spec_file}: holds another run; choose another folder or remove it")


def metrics_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of `RunWriter.log_metrics` with the columns and types of ``metrics.parquet``."""
    frame = pd.DataFrame(list(rows), columns=list(METRIC_COLUMNS))
    return frame.astype({"step": "int64"} if len(frame) else {})


def summarize_errors(metrics: pd.DataFrame) -> dict[str, Any]:
    """Last, best and validation-selected errors side by side, in percent.

    ``<split>_error_last`` and ``<split>_error_best`` for train, train_clean, val and test;
    ``test_error_selected`` is the test error at the step (``selected_step``) with the lowest
    validation error, the earliest one on a tie. Selecting on the test set
    (``test_error_best``) is optimistic and is only there to compare with projects that do.
    """
    summary: dict[str, Any] = {}
    for split in ("train", "train_clean", "val", "test"):
        errors = metrics[metrics.split == split].sort_values("step").error
        summary[f"{split}_error_last"] = float(errors.iloc[-1]) if len(errors) else None
        summary[f"{split}_error_best"] = float(errors.min()) if len(errors) else None
    val = metrics[(metrics.split == "val") & metrics.error.notna()].sort_values("step")
    selected = int(val.step.iloc[int(val.error.argmin())]) if len(val) else None
    test = metrics[(metrics.split == "test") & (metrics.step == selected)].error
    summary["selected_step"] = selected
    summary["test_error_selected"] = float(test.iloc[0]) if len(test) else None
    return summary


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
        spec=_read_spec(spec_file),
        environment=read_json(folder / "environment.json"),
        summary=read_json(folder / "summary.json"),
        metrics=_read_table(folder / "metrics.parquet", METRIC_COLUMNS),
        layers=_read_table(folder / "layers.parquet", (*LAYER_COLUMNS, *PROBES)),
    )


def read_summary(folder: Path) -> dict[str, Any]:
    """``summary.json`` of a run folder; empty if there is none yet."""
    return read_json(folder / "summary.json")


def read_environment(folder: Path) -> dict[str, Any]:
    """``environment.json`` of a run folder; empty if there is none yet."""
    return read_json(folder / "environment.json")


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Run folders at or below the given paths, sorted by run id, each once.

    Raises:
        UserError: if a path does not exist or none of them holds a run.
    """
    paths = list(paths)
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such folder; give a study (results/quick) or run folders")
        for spec_file in sorted(path.rglob("spec.json")):
            found.setdefault(str(spec_file.parent.resolve()), spec_file.parent)
    if not found:
        where = ", ".join(map(str, paths))
        raise UserError(f"{where}: no runs found; make some with `resnet-study reproduce quick`")
    return sorted(found.values(), key=lambda folder: folder.name)


def read_frames(paths: Iterable[Path]) -> Frames:
    """Read every run, and what was measured at initialisation, at or below the given paths.

    Raises:
        UserError: as `find_runs` and `read_run`; what was measured at initialisation is enough.
    """
    paths = list(paths)
    files = {file.resolve(): file for path in paths for file in _initialization_files(path)}
    tables = [_read_initialization(file) for file in files.values()]
    if not tables:
        return frames_of([read_run(folder) for folder in find_runs(paths)])
    has_runs = any(next(path.rglob("spec.json"), None) for path in paths)
    runs = [read_run(folder) for folder in find_runs(paths)] if has_runs else []
    return frames_of(runs)._replace(initialization=pd.concat(tables, ignore_index=True))


def _initialization_files(path: Path) -> list[Path]:
    names = ("initialization", "signals")
    return sorted(file for file in path.rglob("*.parquet") if file.parent.name in names)


def _read_initialization(file: Path) -> pd.DataFrame:
    own = [name for name in INITIALIZATION_COLUMNS if name not in EARLIER_INITIALIZATION]
    table = _read_table(file, own)
    missing = {k: v for k, v in EARLIER_INITIALIZATION.items() if k not in table}
    return table.assign(**missing)


def write_initialization(file: Path, table: pd.DataFrame) -> None:
    """Write one arm of what was measured at initialisation, atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_table(file, table[list(INITIALIZATION_COLUMNS)])


def frames_of(runs: Sequence[Run]) -> Frames:
    """Join runs that were read one by one into tidy frames."""
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
            if len(table):
                frames.append(table.assign(**key)[[*key, *table.columns]])
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


def _no_runs() -> pd.DataFrame:
    columns = ["family", "depth", "seed", *RunSpec().flat(), "status", "folder"]
    return pd.DataFrame(columns=list(dict.fromkeys(columns)), index=pd.Index([], name="run_id"))


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_atomically(path, table.to_parquet(index=False))


def _read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    try:
        # In one read: pandas opens a path twice, and a live run replaces the file in between.
        table = pd.read_parquet(io.BytesIO(path.read_bytes()))
    except Exception as error:
        message = f"{path}: cannot be read as parquet ({error}); restore or remove it"
        raise UserError(message) from None
    # Not every version records every probe.
    if missing := [name for name in columns if name not in table and name not in PROBES]:
        raise UserError(f"{path}: has no column {', '.join(missing)}; restore or remove it")
    return table


def _read_spec(path: Path) -> RunSpec:
    return from_json(read_text(path), str(path))
