"""Run specs on this machine: one worker process per core, or one per run's accelerators.

Finished runs are skipped, unfinished ones resumed, a failing run is reported at the end
while the others go on. Several invocations on one folder share the work through leases.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resnet_study import lease, records
from resnet_study.environment import check_platforms
from resnet_study.errors import UserError
from resnet_study.files import restore_folders
from resnet_study.launch.display import Display
from resnet_study.launch.estimate import cost
from resnet_study.launch.placement import Placement, default_workers, placements
from resnet_study.launch.resources import Pool
from resnet_study.launch.worker import Assignment, Message, packed, work
from resnet_study.probes import Probe
from resnet_study.records import integrity
from resnet_study.spec import RunSpec
from resnet_study.training.options import Options

POLL_SECONDS = 0.25
HELD_SECONDS = 2.0

LAST_TENTH = 0.1
"""Part of a limited time in which no run is begun: it would hardly do more than compile."""
CHECKPOINT_SECONDS = 30.0
"""How long a worker may take to write its checkpoint when the time is up, before it is ended. Only
one that is compiling takes longer; its run continues from the checkpoint before."""


@dataclass
class Outcome:
    """How a set of runs ended.

    Attributes:
        summaries: by run id, of the runs that are done.
        failures: one-line reasons by run id.
        lost: one-line reasons by run id, of runs whose worker was ended from outside: they are to
            do, from their last checkpoint.
        interrupted: whether the user asked to stop.
        expired: whether the time was up before every run was done.
    """

    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    expired: bool = False

    @property
    def code(self) -> int:
        """Exit code: 130 if interrupted, 1 if a run failed or lost its worker, else 0."""
        return 130 if self.interrupted else 1 if self.failures or self.lost else 0

    def lines(self) -> list[str]:
        """What went wrong, a line for each run."""
        lost = [f"TO DO {run}: {why}; the same command continues" for run, why in self.lost.items()]
        return [*(f"FAILED {run}: {why}" for run, why in self.failures.items()), *lost]

    def done(self, spec: RunSpec, folder: Path, summary: dict[str, Any]) -> None:
        """Count a run that was done before; one whose records were lost is a failure."""
        if problem := integrity.problem_of(folder):
            self.failures[spec.run_id] = problem
        else:
            self.summaries[spec.run_id] = summary


def run_local(
    specs: Sequence[RunSpec],
    runs: Path,
    options: Options | None = None,
    pool: Pool | None = None,
    *,
    command: str = "",
    retry: bool = True,
    in_order: bool = False,
    probes: Sequence[Probe] = (),
) -> Outcome:
    """Train every spec that is not done yet, with a live display.

    Args:
        specs: the runs.
        runs: folder of the run folders.
        options: of every run.
        pool: workers, and when they write their checkpoints and end.
        command: command line for ``environment.json``.
        retry: whether runs that failed before are run again, or only reported again.
        in_order: whether runs are begun in the order of `specs` and not the longest first.
        probes: that the specs name beside the built-in ones.
    """
    outcome, options, pool = Outcome(), options or Options(), pool or Pool()
    todo: list[RunSpec] = []
    restore_folders(runs)
    for spec in specs:
        summary = records.read_summary(runs / spec.run_id)
        if summary.get("status") in records.DONE:
            outcome.done(spec, runs / spec.run_id, summary)
        elif summary.get("status") == "failed" and not retry:
            outcome.failures[spec.run_id] = f"failed before: {summary.get('reason')}"
        else:
            todo.append(spec)
    if not todo:
        return outcome
    # A folder that cannot be made is refused here, not by every worker; so are missing devices.
    check_platforms()
    runs.mkdir(parents=True, exist_ok=True)
    if not os.access(runs, os.W_OK):
        raise UserError(f"{runs}: cannot be written to; give another folder with --results")
    # Longest first keeps the workers busy to the end. Runs that differ in their seed share
    # a compiled program; far apart in the queue, the second finds it in the cache.
    if not in_order:
        todo.sort(key=lambda spec: (-cost(spec), spec.seed, spec.family))
    devices = options.execution.devices or 1
    count = min(pool.workers or default_workers(devices), len(todo))
    assignment = Assignment(runs, options, command, packed(probes))
    shown = [spec for spec in specs if spec.run_id not in outcome.failures]
    costs = {spec.run_id: cost(spec) for spec in shown}
    with Display(shown, costs, set(outcome.summaries)) as display:
        workers = _Workers(placements(count, devices), assignment, retry, pool.stop_at)
        with workers.signals():
            workers.run(todo, outcome, display)
    return outcome


@dataclass
class _Worker:
    process: Any
    connection: multiprocessing.connection.Connection
    spec: RunSpec | None = None


class _Workers:
    """Worker processes and the queue that feeds them."""

    def __init__(
        self,
        placements: Sequence[Placement],
        assignment: Assignment,
        retry: bool,
        stop_at: float = math.inf,
    ) -> None:
        self.placements, self.assignment, self.retry = placements, assignment, retry
        self.stop_at = self.last_start = stop_at
        if stop_at < math.inf:
            self.last_start -= LAST_TENTH * max(0.0, stop_at - time.monotonic())
        self.context = multiprocessing.get_context("spawn")
        self.workers: list[_Worker] = []
        self.interrupts = 0
        self.notes: set[str] = set()

    def start(self, index: int) -> _Worker:
        ours, theirs = self.context.Pipe()
        assignment = replace(self.assignment, placement=self.placements[index])
        process = self.context.Process(target=work, args=(theirs, assignment), daemon=False)
        # Ctrl-C in a terminal reaches every process; only this one decides what it means.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        process.start()
        signal.signal(signal.SIGINT, handler)
        theirs.close()
        return _Worker(process, ours)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """First SIGINT or SIGTERM: let every worker checkpoint; second: end them."""

        def handle(number: int, frame: object) -> None:
            self.interrupts += 1
            if self.interrupts > 1:
                for worker in self.workers:
                    worker.process.kill()

        previous = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def run(self, todo: list[RunSpec], outcome: Outcome, display: Display) -> None:
        held_until: dict[str, float] = {}
        self.workers = [self.start(index) for index in range(len(self.placements))]
        try:
            while self.goes_on(todo):
                for worker in self.workers:
                    if (
                        worker.spec is None
                        and time.monotonic() < self.last_start
                        and (spec := self.next(todo, held_until, outcome, display))
                    ):
                        try:
                            worker.connection.send(spec)
                        except OSError:
                            # Killed while it was idle; `listen` starts another.
                            todo.insert(0, spec)
                            continue
                        worker.spec = spec
                        display.started(spec)
                ready = multiprocessing.connection.wait(
                    [w.connection for w in self.workers], timeout=POLL_SECONDS
                )
                self.listen(ready, todo, held_until, outcome, display)
        finally:
            outcome.interrupted = self.interrupts > 0
            left = bool(todo) or any(w.spec for w in self.workers)
            outcome.expired = left and not self.interrupts and self.stop_at < math.inf
            self.close(outcome, display)

    def goes_on(self, todo: list[RunSpec]) -> bool:
        """Whether a run is running or may still be begun, and nothing says stop."""
        now = time.monotonic()
        left = any(w.spec for w in self.workers) or (todo and now < self.last_start)
        return bool(left) and now < self.stop_at and not self.interrupts

    def next(
        self,
        todo: list[RunSpec],
        held_until: dict[str, float],
        outcome: Outcome,
        display: Display,
    ) -> RunSpec | None:
        """The next run that nobody holds; those that others finished leave the queue."""
        now = time.monotonic()
        for spec in list(todo):
            if held_until.get(spec.run_id, 0.0) > now:
                continue
            folder = self.assignment.runs / spec.run_id
            summary = records.read_summary(folder)
            if summary.get("status") in records.DONE:
                todo.remove(spec)
                outcome.done(spec, folder, summary)
                if spec.run_id in outcome.failures:
                    display.failed(spec, outcome.failures[spec.run_id])
                else:
                    display.finished(spec, summary)
            elif summary.get("status") == "failed" and not self.retry:
                # Another invocation tried it meanwhile.
                todo.remove(spec)
                outcome.failures[spec.run_id] = str(summary.get("reason"))
                display.failed(spec, outcome.failures[spec.run_id])
            elif lease.is_held(folder):
                held_until[spec.run_id] = now + HELD_SECONDS
            else:
                todo.remove(spec)
                return spec
        return None

    def listen(
        self,
        ready: Sequence[Any],
        todo: list[RunSpec],
        held_until: dict[str, float],
        outcome: Outcome,
        display: Display,
    ) -> None:
        for index, worker in enumerate(self.workers):
            if worker.connection not in ready:
                continue
            try:
                message: Message = worker.connection.recv()
            except (EOFError, OSError):
                worker.process.join()
                if worker.spec is not None and not self.interrupts:
                    reason = _death(worker.process.exitcode)
                    outcome.lost[worker.spec.run_id] = reason
                    display.lost(worker.spec, reason)
                if not self.interrupts:
                    self.workers[index] = self.start(index)
                continue
            if message.kind == "note":
                self.note(message.content, display)
                continue
            spec = worker.spec
            if spec is None or message.run_id != spec.run_id:
                continue
            if message.kind == "progress":
                display.progress(spec, message.content)
                continue
            worker.spec = None
            if message.kind == "held":
                held_until[spec.run_id] = time.monotonic() + HELD_SECONDS
                todo.append(spec)
                display.waiting(spec)
            elif message.kind == "failed":
                outcome.failures[spec.run_id] = message.content
                display.failed(spec, message.content)
            elif message.content["status"] in records.DONE:
                outcome.summaries[spec.run_id] = message.content
                display.finished(spec, message.content)
            else:
                # This worker alone was told to stop, or lost the lease: the run goes on.
                todo.append(spec)
                display.waiting(spec)

    def note(self, line: str, display: Display) -> None:
        """Show what a worker has to say, once for all of them."""
        if line not in self.notes:
            self.notes.add(line)
            display.note(line)

    def close(self, outcome: Outcome, display: Display) -> None:
        """Let the workers end; those that are training checkpoint first."""
        if outcome.interrupted or outcome.expired:
            why, more = "Time is up", ""
            if outcome.interrupted:
                why, more = "Stopping", " (Ctrl-C again ends at once)"
            display.note(f"{why}: every run writes a checkpoint{more}.")
            for worker in self.workers:
                if worker.process.is_alive():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker.process.pid, signal.SIGTERM)
        for worker in self.workers:
            with contextlib.suppress(OSError):
                worker.connection.send(None)
        for worker in self.workers:
            while worker.process.is_alive():
                with contextlib.suppress(EOFError, OSError):
                    while worker.connection.poll(POLL_SECONDS):
                        message = worker.connection.recv()
                        if message.kind == "note":
                            self.note(message.content, display)
                worker.process.join(POLL_SECONDS)
                if time.monotonic() > self.stop_at + CHECKPOINT_SECONDS:
                    worker.process.kill()
            worker.connection.close()


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = "; probably out of memory, try fewer workers" if name == "SIGKILL" else ""
        return f"the worker process ended by {name}{hint}"
    return f"the worker process ended with code {code}"
