"""Run folders, written crash-safely while training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resnet_study.errors import UserError
from resnet_study.files import DRAFT_SECONDS, clear_drafts, read_json, write_atomically, write_json
from resnet_study.records import integrity
from resnet_study.records.columns import (
    DONE,
    INITIALIZATION_COLUMNS,
    LAYER_COLUMNS,
    METRIC_COLUMNS,
    PROBES,
    SPLITS,
)
from resnet_study.records.reading import read_spec, read_table
from resnet_study.spec import RunSpec, to_json

_JSON = ("spec.json", "environment.json", "summary.json")


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
        check_spec(folder, spec)
        # The lease has just been taken here: the folder tells the time of its file system.
        clear_drafts(folder, ("*.parquet", "*.json"), folder.stat().st_mtime - DRAFT_SECONDS)
        self.folder = folder
        self.metrics: list[dict[str, Any]] = []
        self.layers: list[pd.DataFrame] = []
        previous: list[Any] = []
        if resume_step is not None:
            metrics, layers = (
                read_table(folder / "metrics.parquet", METRIC_COLUMNS),
                read_table(folder / "layers.parquet", (*LAYER_COLUMNS, *PROBES)),
            )
            self.metrics = metrics[metrics.step <= resume_step].to_dict("records")  # type: ignore
            # A step's layers are recorded by the iteration that follows its checkpoint.
            self.layers = [layers[layers.step < resume_step]]
            earlier = read_json(folder / "environment.json")
            previous = [*earlier.pop("previous", []), earlier] if earlier else []
        write_spec(folder, spec)
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
        # Before the summary, whose own draft a kill leaves beside a run that is not done.
        clear_drafts(self.folder, ("*.parquet", *_JSON))
        write_summary(self.folder, summary)
        if summary.get("status") in DONE:
            # Of an earlier attempt.
            (self.folder / "error.txt").unlink(missing_ok=True)


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``; that of a run that is done with the ``bytes`` of its tables."""
    done = summary.get("status") in DONE
    write_json(
        folder / "summary.json", {**summary, "bytes": integrity.sizes(folder)} if done else summary
    )


def check_spec(folder: Path, spec: RunSpec) -> None:
    """Refuse a folder that holds another run.

    Raises:
        UserError: naming the file.
    """
    spec_file = folder / "spec.json"
    if spec_file.exists() and read_spec(spec_file) != spec:
        raise UserError(f"{spec_file}: holds another run; choose another folder or remove it")


def write_spec(folder: Path, spec: RunSpec) -> None:
    """Write ``spec.json`` where it is not there."""
    spec_file = folder / "spec.json"
    if not spec_file.exists():
        write_atomically(spec_file, to_json(spec))


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
    for split in SPLITS:
        errors = metrics[metrics.split == split].sort_values("step").error
        summary[f"{split}_error_last"] = float(errors.iloc[-1]) if len(errors) else None
        summary[f"{split}_error_best"] = float(errors.min()) if len(errors) else None
    val = metrics[(metrics.split == "val") & metrics.error.notna()].sort_values("step")
    selected = int(val.step.iloc[int(val.error.argmin())]) if len(val) else None
    test = metrics[(metrics.split == "test") & (metrics.step == selected)].error
    summary["selected_step"] = selected
    summary["test_error_selected"] = float(test.iloc[0]) if len(test) else None
    return summary


def write_initialization(file: Path, table: pd.DataFrame) -> None:
    """Write one arm of what was measured at initialisation, atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_table(file, table[list(INITIALIZATION_COLUMNS)])


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_atomically(path, table.to_parquet(index=False))
