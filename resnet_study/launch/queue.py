"""What was given to SLURM of a study, and what of it waits or runs there.

Every submission has a folder, numbered, in ``slurm/`` of the results: the ids of its runs in the
order of the tasks, written before SLURM is called, then the batch script, and what the tasks say.
By the path of that script `squeue` tells whose the tasks are that SLURM has. So nothing that a kill
may come between is needed to know what is in the queue.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from resnet_study import files
from resnet_study.errors import UserError
from resnet_study.records.integrity import is_step

_RUNS = "runs.json"
_SCRIPT = "_submission.sh"
"""End of the name of submitit's script, which begins with the number of the job."""


class QueuedTask(NamedTuple):
    """Where a run was given to SLURM last.

    Attributes:
        name: SLURM's for it, such as 12_3.
        state: SLURM's word for it while it waits or runs there, with the reason; else empty.
        output: folder with what it says.
    """

    name: str
    state: str
    output: Path

    @property
    def words(self) -> str:
        """What is to be known of a run that is neither running nor done."""
        if self.state:
            return f"in SLURM's queue as {self.name} ({self.state})"
        return f"SLURM's task {self.name} has ended without finishing it, see {self.output}"


def begin(logs: Path, run_ids: Sequence[str]) -> Path:
    """The folder of a new submission.

    Args:
        logs: ``slurm/`` of the results.
        run_ids: in the order of the tasks.
    """
    folder = logs / str(1 + max((int(path.name) for path in _submissions(logs)), default=0))
    folder.mkdir(parents=True)
    files.write_json(folder / _RUNS, {"runs": list(run_ids)})
    return folder


def tasks(logs: Path, run_ids: Collection[str]) -> dict[str, QueuedTask]:
    """The last task of each run that has one; SLURM is asked if there are any.

    Args:
        logs: as `begin`.
        run_ids: the runs.

    Raises:
        UserError: if SLURM does not answer.
    """
    last: dict[str, tuple[Path, int, str]] = {}
    for folder, runs in _submissions(logs).items():
        script = next(scripts(folder), None)
        job = script.name.removesuffix(_SCRIPT) if script else ""
        for index, run in enumerate(runs):
            if run in run_ids:
                last[run] = folder, index, f"{job}_{index}" if job and len(runs) > 1 else job
    queued = _queued({folder for folder, *_ in last.values()}) if last else {}
    found = {}
    for run, (folder, index, name) in last.items():
        if task := queued.get((folder.resolve(), index)):
            found[run] = QueuedTask(*task, folder)
        elif name:
            found[run] = QueuedTask(name, "", folder)
    return found


def scripts(folder: Path) -> Iterator[Path]:
    """The batch script of a submission that SLURM took."""
    return folder.glob(f"*{_SCRIPT}")


def given(logs: Path) -> list[str]:
    """The runs of all submissions, each once."""
    return list(dict.fromkeys(itertools.chain(*_submissions(logs).values())))


def _submissions(logs: Path) -> dict[Path, list[str]]:
    """The runs of each submission by its folder, the first submission first."""
    folders = [path for path in logs.glob("*") if is_step(path.name) and path.is_dir()]
    folders.sort(key=lambda path: int(path.name))
    return {folder: _runs_of(folder / _RUNS) for folder in folders}


def _runs_of(file: Path) -> list[str]:
    runs = files.read_json(file).get("runs", [])
    if not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
        raise UserError(f"{file}: holds no names of runs; restore or remove it")
    return runs


def _queued(folders: Collection[Path]) -> dict[tuple[Path, int], tuple[str, str]]:
    """Name and state of the tasks that SLURM has, by folder and place in the array."""
    # Who queued them; some file systems name another owner.
    users = {os.getuid(), *(folder.stat().st_uid for folder in folders)}
    # A line for each task. What does not belong to an array has no index.
    words = ["squeue", "--noheader", "--array", "--format=%F|%K|%T|%r|%o"]
    words.append(f"--user={','.join(map(str, sorted(users)))}")
    # Such as SQUEUE_STATES, which would hide some.
    plain = {name: text for name, text in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        process = subprocess.run(words, capture_output=True, text=True, env=plain)
    except FileNotFoundError:
        raise UserError("what SLURM has is not known: no squeue here") from None
    if process.returncode != 0:
        said = " ".join(process.stderr.split())
        raise UserError(f"what SLURM has is not known: {said}")
    found = {}
    for line in process.stdout.splitlines():
        job, index, state, reason, script = line.split("|", 4)
        name, place = (f"{job}_{index}", int(index)) if index.isdigit() else (job, 0)
        words = [state.lower(), *([] if reason == "None" else [reason])]
        found[Path(script).parent, place] = name, ", ".join(words)
    return found
