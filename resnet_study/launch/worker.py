"""A worker process: receives specs, trains them one after the other, reports back."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle

from resnet_study import lease, probes, records, runtime
from resnet_study.errors import UserError
from resnet_study.launch.placement import Placement
from resnet_study.probes import Probe
from resnet_study.spec import RunSpec
from resnet_study.tracking.tracker import Tracker, Tracking, make_tracker
from resnet_study.training.execution import Execution
from resnet_study.training.options import Report, StopFlag

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is told once.

    Attributes:
        runs: folder of the run folders.
        cifar10: where CIFAR-10 is, if the user said so.
        command: command line for ``environment.json``.
        checkpoint_seconds: wall time between checkpoints.
        tracking: what is mirrored to wandb.
        placement: where the process computes.
        execution: kernels, and devices of each run.
        probes: of `packed`.
    """

    runs: Path
    cifar10: Path | None
    command: str
    checkpoint_seconds: float = 60.0
    tracking: Tracking = field(default_factory=Tracking)
    placement: Placement = field(default_factory=Placement)
    execution: Execution = field(default_factory=Execution)
    probes: bytes = b""


def packed(own: Sequence[Probe]) -> bytes:
    """Probes of a study, for another process; functions defined in a file or notebook go along."""
    if not own:
        return b""
    for probe in own:
        for function in (probe.function, probe.of_response):
            module = sys.modules.get(getattr(function, "__module__", ""))
            if module is not None and module.__name__.startswith("resnet_study_study_"):
                cloudpickle.register_pickle_by_value(module)
    return cloudpickle.dumps(tuple(own))


def unpack(own: bytes) -> None:
    """Make the probes known to this process."""
    if own:
        probes.register(cloudpickle.loads(own))


class Message(NamedTuple):
    """What a worker says: ``progress`` with the fields of a `Report`, ``done`` with a
    summary, ``held`` if another process has the run, ``failed`` with a one-line reason,
    ``note`` with a line for the user."""

    kind: str
    run_id: str
    content: Any


def work(connection: Connection, options: WorkerOptions) -> None:
    """Serve specs from the connection until it closes or None arrives."""
    _die_with_parent()
    options.placement.apply()
    runtime.prepare()
    unpack(options.probes)

    def warn(line: str) -> None:
        connection.send(Message("note", "", line))

    tracker = make_tracker(options.tracking, warn)
    with (
        StopFlag().listening(signal.SIGTERM) as stop,
        contextlib.suppress(EOFError, KeyboardInterrupt, OSError),
        contextlib.closing(tracker),
    ):
        while not stop.requested:
            if not connection.poll(0.5):
                continue
            spec: RunSpec | None = connection.recv()
            if spec is None:
                return

            def tell(report: Report, run_id: str = spec.run_id) -> None:
                connection.send(Message("progress", run_id, vars(report)))

            connection.send(run_one(spec, options, stop, tracker, tell))


def run_one(
    spec: RunSpec,
    options: WorkerOptions,
    stop: StopFlag,
    tracker: Tracker,
    tell: Callable[[Report], None] = lambda report: None,
) -> Message:
    """Train one run; a failure becomes a message and a summary, not an exception.

    Args:
        spec: the run.
        options: as the worker was told.
        stop: ends the run after the current chunk.
        tracker: gets the rows.
        tell: gets the progress.
    """
    from resnet_study.data import load_dataset
    from resnet_study.training.loop import Options, train

    run_id, folder = spec.run_id, options.runs / spec.run_id
    if lease.is_held(folder):
        return Message("held", run_id, None)
    try:
        dataset = load_dataset(spec.data, spec.seed, options.cifar10)
        chosen = Options(
            options.command, options.checkpoint_seconds, tell, tracker, options.execution
        )
        return Message("done", run_id, train(spec, dataset, folder, chosen, stop))
    except UserError as error:
        # Another process may have been faster since the look at the lease.
        if lease.is_held(folder):
            return Message("held", run_id, None)
        reason = str(error)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first}"
        # A full or read-only disk must not hide the reason.
        with contextlib.suppress(OSError):
            (folder / "error.txt").write_text(traceback.format_exc())
            reason += f" (traceback in {folder}/error.txt)"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        records.write_json(folder / "summary.json", {"status": "failed", "reason": reason})
    return Message("failed", run_id, reason)


def _die_with_parent() -> None:
    """On Linux, stop like at SIGTERM when the parent is killed, instead of running on alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
