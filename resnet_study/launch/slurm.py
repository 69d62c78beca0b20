"""Runs as a SLURM job array through submitit: one run per task, requeued until it is done.

A task that is told of its end (SIGUSR2 before the time limit, or at a preemption) finishes
its chunk, writes a checkpoint and puts itself back into the queue; one that is ended without
a word is requeued by SLURM where the cluster does that. Either way the next task resumes.
The results folder must be on a file system that every node sees. `queue` knows what was submitted.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_study import files, lease, records, runtime
from resnet_study.errors import UserError
from resnet_study.launch import queue, sbatch
from resnet_study.launch.resources import SlurmOptions
from resnet_study.launch.worker import Assignment, Message, run_one, unpack
from resnet_study.spec import RunSpec
from resnet_study.tracking.tracker import make_tracker
from resnet_study.training.options import StopFlag

MOST_REQUEUES = 1000
"""Times that a task may reach its time limit; each time it got further."""
HELD_SECONDS = 2.0


def submit(
    specs: Sequence[RunSpec], assignment: Assignment, slurm: SlurmOptions, logs: Path
) -> str:
    """Queue a job array with one task per run and return at once.

    Args:
        specs: the runs, at least one.
        assignment: as for a local worker; the folders must be seen by every node.
        slurm: what is asked of SLURM.
        logs: ``slurm/`` of the results, which gets a folder for this array.

    Returns:
        The id of the array.

    Raises:
        UserError: if submitit or SLURM is missing, an option is unknown, or SLURM refuses the job.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--on slurm needs submitit; install it with pip install 'resnet-study[slurm]'"
        ) from None
    sbatch.check_known(slurm.extra())
    parameters = _parameters(slurm, assignment.options.execution.devices)
    written = {*parameters, *parameters["additional_parameters"], *_WRITTEN}
    folder = queue.begin(logs.resolve(), [spec.run_id for spec in specs])
    try:
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=MOST_REQUEUES)
        executor.update_parameters(**parameters)
        # submitit prints what sbatch says, and raises it too.
        with sbatch.variables(written), contextlib.redirect_stderr(io.StringIO()):
            jobs = executor.map_array(ArrayTask(assignment), list(specs))
    except (RuntimeError, UserError) as error:
        # A job that was queued all the same needs its folder.
        if not list(queue.scripts(folder)):
            files.remove(folder)
        said = re.findall(r"sbatch: error: (.*)", str(error)) or str(error).split("\n")
        raise UserError(f"--on slurm: {'; '.join(dict.fromkeys(said))}") from None
    return str(jobs[0].job_id.split("_")[0])


_WRITTEN = ("array", "error", "nodes", "open_mode", "output", "signal")
"""What submitit writes into every script beside the parameters."""


def _parameters(slurm: SlurmOptions, devices: int | None) -> dict[str, Any]:
    """Keywords of submitit's executor. What it has no own way with goes to sbatch as given."""
    given = slurm.extra()
    own = {name: given.pop(name) for name in sbatch.OWN if name in given}
    gpus = slurm.gpus or (devices if devices and devices > 1 else 0)
    if any(sbatch.asks_for_gpus(name, value) for name, value in given.items()):
        gpus = 0
    return {
        "job_name": "resnet-study",
        "time": slurm.minutes(),
        "array_parallelism": slurm.parallel or 256,
        "cpus_per_task": slurm.cpus or 2,
        **({"partition": slurm.partition} if slurm.partition else {}),
        **({"gpus_per_node": gpus} if gpus else {}),
        **{name: [own[name]] for name in ("setup", "teardown") if name in own},
        "stderr_to_stdout": "stderr_to_stdout" in own,
        "signal_delay_s": slurm.warning(),
        # Where preemption or a lost node ends a task without a word, SLURM queues it again.
        "additional_parameters": {"requeue": True, **given},
    }


@dataclass(frozen=True)
class ArrayTask:
    """What a task of the array calls with its run."""

    assignment: Assignment

    def __call__(self, spec: RunSpec) -> dict[str, Any]:
        """Train the run and return its summary; exits by requeueing when told of the end."""
        if cores := os.environ.get("SLURM_CPUS_PER_TASK"):
            # Where SLURM does not bind tasks to cores, each would use all of its node: XLA
            # takes the size of its thread pool from NPROC.
            os.environ.setdefault("NPROC", cores)
        runtime.prepare()
        unpack(self.assignment.probes)

        received: set[int] = set()
        stop = StopFlag()

        def note(number: int, frame: object) -> None:
            # SLURM may send several signals, and several times.
            received.add(number)
            stop.requested = True

        usr = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))
        # submitit's own handler requeues, but in the middle of a step.
        requeue = signal.signal(usr, note)
        signal.signal(signal.SIGTERM, note)
        tracker = make_tracker(
            self.assignment.options.tracking, lambda line: print(line, file=sys.stderr)
        )
        try:
            message = _when_free(spec, self.assignment, stop, tracker)
        finally:
            tracker.close()
        if message.kind == "failed":
            raise RuntimeError(message.content)
        if message.kind == "done" and message.content["status"] == "stopped" and usr in received:
            assert callable(requeue)
            requeue(usr, None)
        return records.read_summary(self.assignment.runs / spec.run_id)

    def checkpoint(self, spec: RunSpec) -> Any:
        """submitit asks for what to queue again; the state is in the run folder."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, spec)


def _when_free(spec: RunSpec, assignment: Assignment, stop: Any, tracker: Any) -> Message:
    """Run it; a lease that a killed task left on another node is waited for until it is stale."""
    end = time.monotonic() + lease.STALE_SECONDS + 10 * HELD_SECONDS
    while True:
        message = run_one(spec, assignment, stop, tracker)
        if message.kind != "held" or stop.requested or time.monotonic() > end:
            return message
        time.sleep(HELD_SECONDS)
