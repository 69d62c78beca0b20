"""A worker process: receives specs, trains them one after the other, reports back."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle

from resnet_study import files, lease, probes, records, runtime
from resnet_study.errors import UserError, told
from resnet_study.launch.placement import Placement
from resnet_study.names import STUDY_MODULE
from resnet_study.probes import Probe
from resnet_study.spec import RunSpec
from resnet_study.tracking.tracker import Tracker, make_tracker
from resnet_study.training.options import Host, Options, Standing, StopFlag

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Assignment:
    """What a worker is told once.

    Attributes:
        runs: folder of the run folders.
        options: of every run.
        command: command line for ``environment.json``.
        probes: of `packed`.
        placement: where the process computes.
    """

    runs: Path
    options: Options
    command: str
    probes: bytes = b""
    placement: Placement = field(default_factory=Placement)


def packed(own: Sequence[Probe]) -> bytes:
    """Probes of a study, for another process; what its file or notebook defines goes along."""
    if not own:
        return b""
    for name, module in [*sys.modules.items()]:
        if name.startswith(STUDY_MODULE):
            cloudpickle.register_pickle_by_value(module)
    return cloudpickle.dumps(tuple(own))


def unpack(own: bytes) -> None:
    """Make the probes known to this process."""
    if own:
        probes.register(cloudpickle.loads(own))


class Message(NamedTuple):
    """What a worker says: ``progress`` with the fields of a `Standing`, ``done`` with a
    summary, ``held`` if another process has the run, ``failed`` with a one-line reason,
    ``note`` with a line for the user."""

    kind: str
    run_id: str
    content: Any


def work(connection: Connection, assignment: Assignment) -> None:
    """Serve specs from the connection until it closes or None arrives."""
    _die_with_parent()
    assignment.placement.apply()
    runtime.prepare()
    unpack(assignment.probes)

    # Of a parent's death Linux may tell twice; a parent in a hurry sends SIGKILL.
    stop = StopFlag(patient=True)

    def say(kind: str, run_id: str, content: Any) -> None:
        try:
            connection.send(Message(kind, run_id, content))
        except OSError:
            # Nobody listens: the parent was killed. As if it had told this process to stop.
            stop.requested = True

    tracker = make_tracker(assignment.options.tracking, functools.partial(say, "note", ""))
    with (
        stop.listening(signal.SIGTERM),
        contextlib.suppress(EOFError, KeyboardInterrupt, OSError),
        contextlib.closing(tracker),
    ):
        while not stop.requested:
            if not connection.poll(0.5):
                continue
            spec: RunSpec | None = connection.recv()
            if spec is None:
                return

            def tell(standing: Standing, run_id: str = spec.run_id) -> None:
                say("progress", run_id, vars(standing))

            say(*run_one(spec, assignment, stop, tracker, tell))


def run_one(
    spec: RunSpec,
    assignment: Assignment,
    stop: StopFlag,
    tracker: Tracker,
    tell: Callable[[Standing], None] = lambda standing: None,
) -> Message:
    """Train one run; a failure becomes a message and a summary, not an exception.

    Args:
        spec: the run.
        assignment: as the worker was told.
        stop: ends the run after the current chunk.
        tracker: gets the rows.
        tell: gets the progress.
    """
    from resnet_study.data import load_dataset
    from resnet_study.training.loop import train

    run_id, folder, options = spec.run_id, assignment.runs / spec.run_id, assignment.options
    if lease.is_held(folder):
        return Message("held", run_id, None)
    try:
        dataset = load_dataset(spec.data, spec.seed, options.source)
        host = Host(assignment.command, tracker, stop, tell)
        return Message("done", run_id, train(spec, dataset, folder, options, host))
    except UserError as error:
        # Another process may have been faster since the look at the lease.
        if lease.is_held(folder):
            return Message("held", run_id, None)
        reason = str(error)
    except Exception as error:
        reason = told(error)
        # A full or read-only disk must not hide the reason.
        with contextlib.suppress(OSError):
            (folder / "error.txt").write_text(traceback.format_exc())
            reason += f" (traceback in {folder}/error.txt)"
    # Nor may the failure to go on with a run take the place of how far it had come.
    with contextlib.suppress(OSError, UserError):
        if records.read_summary(folder).get("status") not in (*records.DONE, "stopped"):
            folder.mkdir(parents=True, exist_ok=True)
            files.write_json(folder / "summary.json", {"status": "failed", "reason": reason})
    return Message("failed", run_id, reason)


def _die_with_parent() -> None:
    """On Linux, stop like at SIGTERM when the parent is killed, instead of running on alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
