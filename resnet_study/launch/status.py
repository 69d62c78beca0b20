"""Where the runs of a sweep stand, wherever they run: read from their folders alone."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from resnet_study import lease, records
from resnet_study.errors import UserError
from resnet_study.files import missing_folders
from resnet_study.records import integrity

STATES = ("to do", "running", "stopped", "failed", "damaged", "finished", "diverged")
"""What is ``to do`` may have been begun by a worker that was killed; like ``stopped`` it continues
from its last checkpoint when the sweep is started again. ``damaged``: records of it were lost."""
KILLED = "its worker was killed"

_RUN_ID = re.compile(r"(plain|residual)-\d+_.+_seed-?\d+_[0-9a-f]{10}")
_OF_RUNS = {
    *("spec.json", "environment.json", "summary.json", "metrics.parquet", "layers.parquet"),
    *("checkpoints", lease.FILE_NAME),
}


class RunState(NamedTuple):
    """One run.

    Attributes:
        run_id: its id.
        state: one of `STATES`.
        step: iterations done, of `iterations`; None if not known.
        detail: the reason of a failure, what was lost, or that its worker was killed.
        training, test: the last errors, in percent; None if not known.
    """

    run_id: str
    state: str
    step: int | None
    iterations: int | None
    detail: str
    training: float | None = None
    test: float | None = None


def run_states(runs: Path, run_ids: Sequence[str] | None = None) -> list[RunState]:
    """The state of every run.

    Args:
        runs: folder of the run folders.
        run_ids: the runs of the sweep; by default those that have a folder.
    """
    missing = missing_folders(runs)
    lost = {name: RunState(name, "damaged", None, None, line) for name, line in missing.items()}
    if run_ids is not None:
        return [lost.get(run_id) or _state(runs / run_id) for run_id in run_ids]
    there = sorted(os.listdir(runs)) if runs.is_dir() else []
    found = {
        name: _named(_state(runs / name), runs / name) for name in there if _is_run(runs, name)
    }
    return [state for _, state in sorted((found | lost).items())]


def _is_run(runs: Path, name: str) -> bool:
    """Whether a folder is one of a run, and nothing else that lies or was left there."""
    try:
        names = os.listdir(runs / name) if name[0] != "." else ["."]
    except (NotADirectoryError, FileNotFoundError):
        return False
    return not names or not _OF_RUNS.isdisjoint(names)


def _named(state: RunState, folder: Path) -> RunState:
    """Says of a folder with another name than its run's which run it holds."""
    if _RUN_ID.fullmatch(folder.name) or not (folder / "spec.json").is_file():
        return state
    try:
        held = records.read_spec(folder / "spec.json").run_id
    except UserError:
        return state
    said = f"holds {held} under another name, where nothing goes on with it"
    return state._replace(detail="; ".join(filter(None, (said, state.detail))))


def how_far(runs: Path, run_ids: Sequence[str]) -> str:
    """``3 of 18 runs are done, 1 begun (plain-56_...: 41,000 of 64,000 iterations)``."""
    states = run_states(runs, run_ids)
    done = sum(run.state in records.DONE for run in states)
    lost = sum(run.state == "damaged" for run in states)
    begun = [
        run
        for run in states
        if run.state in ("running", "stopped") or (run.state == "to do" and run.step is not None)
    ]
    at = ", ".join(
        f"{run.run_id}: {run.step or 0:,} of {run.iterations:,} iterations"
        if run.iterations
        else f"{run.run_id}: at the start"
        for run in begun
    )
    more = f", {len(begun)} begun ({at})" if begun else ""
    damaged = f", {lost} damaged" if lost else ""
    return f"{done} of {len(states)} runs are done{more}{damaged}"


def _state(folder: Path) -> RunState:
    try:
        summary = records.read_summary(folder)
    except UserError as error:
        return RunState(folder.name, "damaged", None, None, str(error))
    status = summary.get("status")
    held = lease.is_held(folder)
    if not held and (problem := integrity.problem_of(folder, summary)):
        return RunState(folder.name, "damaged", None, None, problem)
    reason = " ".join(str(summary.get("reason") or "").split())
    if status in records.DONE:
        state = status
    elif held:
        state = "running"
    elif status == "running":
        state, reason = "to do", KILLED
    else:
        state = status or "to do"
    iterations = summary.get("iterations")
    step = iterations if status == "finished" else summary.get("step", summary.get("diverged_at"))
    training = summary.get("train_error_last", summary.get("error"))
    test = summary.get("test_error_last")
    return RunState(folder.name, state, step, iterations, reason, training, test)
