"""wandb as a mirror of the records: online, offline or off, never the source of truth.

Training hands its rows to a `Tracker` beside the `RunWriter` and goes on at once; a thread
sends them to a process of their own (`resnet_study.tracking.mirror`), the only place that
imports wandb. So a slow network, a bad key, a full disk, a crash or a hang of wandb costs
the training process nothing: it is reported once, and the records are complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from resnet_study.errors import UserError
from resnet_study.spec import RunSpec

if TYPE_CHECKING:
    import numpy as np

Mode = Literal["online", "offline", "off"]

PROJECT = "resnet-study"
NOTICE_SECONDS = 15.0
"""A wait that is longer is announced."""
ALL_RECORDS = 2**53
"""As `recorded` of `Tracker.start`: a later iteration than any."""
BESIDE_SPEC = ("run_id", "family", "environment")
"""What is logged as config beside the fields of the spec. In the order of `config_of`."""

_MODES: dict[str, Mode] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "off": "off",
    "disabled": "off",
}
"""Values of WANDB_MODE, the old ones included."""

_BLOCKED = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP}


@dataclass(frozen=True)
class Tracking:
    """What is mirrored; can be sent to another process.

    Attributes:
        wandb: Mirror runs to wandb: online, offline (sent later by wandb sync) or off; by default
            as WANDB_MODE says, online under a wandb agent, else off.
        wandb_artifact: Store the run folder there too, without checkpoints, as an artifact.
        wandb_seconds: Longest wait for wandb after the last run.

    Raises:
        UserError: if WANDB_MODE is unknown or the wait is not above 0.
    """

    wandb: Mode | None = None
    wandb_artifact: bool = False
    wandb_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not self.wandb_seconds > 0:
            raise UserError(f"--wandb_seconds={self.wandb_seconds}: a time above 0 is needed")
        # Asked once: another process may have another environment.
        object.__setattr__(self, "wandb", tracking_mode(self.wandb))

    @property
    def mode(self) -> Mode:
        """What is done."""
        assert self.wandb is not None
        return self.wandb


def tracking_mode(chosen: Mode | None, environment: Mapping[str, str] = os.environ) -> Mode:
    """The mode: as chosen, else WANDB_MODE, else online under a wandb agent, else off.

    Raises:
        UserError: if WANDB_MODE is unknown.
    """
    if chosen is None and environment.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        return "off"
    name = chosen or environment.get("WANDB_MODE")
    if not name:
        return "online" if under_agent(environment) else "off"
    if name.lower() not in _MODES:
        raise UserError(f"WANDB_MODE={name}: valid are {', '.join(get_args(Mode))}")
    return _MODES[name.lower()]


def under_agent(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether ``wandb agent`` started this process and so chose the wandb id of its run."""
    return bool(environment.get("WANDB_SWEEP_ID") and environment.get("WANDB_RUN_ID"))


def config_of(spec: RunSpec, environment: Mapping[str, Any]) -> dict[str, Any]:
    """What wandb shows as config: fields under the dotted names that sweeps have for them, so that
    each is there once, and what else says how a run was made."""
    own = {name: value for name, value in environment.items() if name not in ("previous", "wandb")}
    beside = zip(BESIDE_SPEC, (spec.run_id, spec.family, own), strict=True)
    return {**dict(beside), **spec.flat()}


class Tracker:
    """Takes what `RunWriter` takes; this one drops it."""

    def start(
        self,
        spec: RunSpec,
        folder: Path,
        environment: Mapping[str, Any],
        recorded: int | None = None,
    ) -> dict[str, Any]:
        """Begin a run; returns what ``environment.json`` should hold about it.

        Args:
            spec: the run.
            folder: the run folder.
            environment: content of ``environment.json``.
            recorded: iteration up to which the records in the folder count; they hold its
                metrics, and the layers of those before. None: no record counts.
        """
        return {}

    def log_metrics(self, step: int, epoch: float, split: str, **values: float) -> None:
        """As `RunWriter.log_metrics`."""

    def log_layers(
        self, step: int, layers: Sequence[tuple[str, int, int]], probes: Mapping[str, np.ndarray]
    ) -> None:
        """As `RunWriter.log_layers`."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run ended with this content of ``summary.json``; does not wait."""

    def close(self) -> None:
        """Wait, not for ever, until everything is handed over."""


def make_tracker(tracking: Tracking, warn: Callable[[str], None]) -> Tracker:
    """The tracker for a process; `warn` takes the one line that tells of a failure."""
    return Tracker() if tracking.mode == "off" else WandbTracker(tracking, warn)


class WandbTracker(Tracker):
    """Sends the runs of this process, one after the other, to a mirror process.

    Args:
        tracking: the mode, not off.
        warn: told once, on the thread that trains, if wandb fails, and of a long wait in `close`.

    Attributes:
        problem: why wandb failed, in one line; None if it did not.
    """

    def __init__(self, tracking: Tracking, warn: Callable[[str], None]) -> None:
        self._tracking, self._warn = tracking, warn
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._study = Path()
        self.problem: str | None = None
        self._warned = False

    def start(
        self,
        spec: RunSpec,
        folder: Path,
        environment: Mapping[str, Any],
        recorded: int | None = None,
    ) -> dict[str, Any]:
        study = folder.parent.parent.resolve()
        self._ready(folder.parent.parent)
        # What an earlier process has begun is found again under the same name.
        known = environment.get("wandb", {})
        record = {
            "mode": self._tracking.mode,
            "project": os.environ.get("WANDB_PROJECT") or known.get("project") or PROJECT,
            "id": os.environ["WANDB_RUN_ID"] if under_agent() else known.get("id") or spec.run_id,
            "sweep": os.environ["WANDB_SWEEP_ID"] if under_agent() else known.get("sweep"),
        }
        self._put(
            "start",
            record=record,
            names={
                "name": spec.run_id,
                "group": os.environ.get("WANDB_RUN_GROUP") or study.name,
                "job_type": os.environ.get("WANDB_JOB_TYPE") or spec.model.name,
            },
            config=config_of(spec, environment),
            command=environment.get("command", ""),
            directory=_directory(study),
            folder=str(folder.resolve()),
            recorded=recorded,
            artifact=self._tracking.wandb_artifact,
        )
        return {"wandb": record}

    def show_page(self, study: Path, file: Path, command: str) -> None:
        """Show a page in a wandb run that is the study's own.

        Args:
            study: its folder.
            file: the page, there until `close` has returned.
            command: command line that made it.
        """
        self._ready(study)
        name = study.resolve().name
        names = {"name": f"{name} (explorer)", "group": name, "job_type": "explorer"}
        self._put(
            "page",
            file=str(file.resolve()),
            record={
                "mode": self._tracking.mode,
                "project": os.environ.get("WANDB_PROJECT") or PROJECT,
                "id": f"explorer-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}",
            },
            names=names,
            command=command,
            directory=_directory(study),
        )

    def log_metrics(self, step: int, epoch: float, split: str, **values: float) -> None:
        self._put("metrics", step=step, epoch=epoch, split=split, values=values)

    def log_layers(
        self, step: int, layers: Sequence[tuple[str, int, int]], probes: Mapping[str, np.ndarray]
    ) -> None:
        self._put("probes", step=step, layers=list(layers), probes=dict(probes))

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._put("finish", summary=dict(summary))

    def close(self) -> None:
        if self._process is None:
            return
        self._messages.put(None)
        seconds = self._tracking.wandb_seconds
        try:
            if not self._ended(min(NOTICE_SECONDS, seconds)) and seconds > NOTICE_SECONDS:
                more = seconds - NOTICE_SECONDS
                self._tell(f"wandb: waits at most {more:.0f} seconds more (--wandb_seconds)")
                self._ended(more)
            if self._process.poll() is None:
                self.problem = self.problem or (
                    f"had not sent everything {seconds:.0f} seconds after the last run"
                )
        finally:
            self._process.kill()
            self._process.wait()
        # It has read all that the process said, unless a child of that keeps the pipe open.
        self._listener.join(1)
        self._process = None
        self._report()

    def _ended(self, seconds: float) -> bool:
        """Wait for the mirror process."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _ready(self, study: Path) -> None:
        self._study = study
        if self._process is None and self.problem is None:
            self._begin()

    def _begin(self) -> None:
        try:
            self._process = _start_mirror()
        except OSError as error:
            self.problem = f"its process cannot be started ({error.strerror or error})"
            return
        threading.Thread(target=self._send, args=(self._process,), daemon=True).start()
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()

    def _put(self, kind: str, **content: Any) -> None:
        self._report()
        if self.problem is None:
            self._messages.put({"kind": kind, **content})

    def _report(self) -> None:
        if self.problem is not None and not self._warned:
            self._warned = True
            self._tell(
                f"wandb: {self.problem}; training goes on, the records are complete and can be "
                f"sent later: resnet-study mirror {shlex.quote(str(self._study))}"
            )

    def _tell(self, line: str) -> None:
        # Where nobody can be told any more, the run goes on all the same.
        with contextlib.suppress(Exception):
            self._warn(line)

    def _send(self, process: subprocess.Popen[bytes]) -> None:
        """Thread: write messages as lines of JSON; ends with the mirror process."""
        assert process.stdin is not None
        # If the mirror has gone, `_listen` knows why.
        with contextlib.suppress(OSError), process.stdin as pipe:
            while (message := self._messages.get()) is not None:
                text = json.dumps(message, default=lambda array: array.tolist())
                pipe.write(text.encode() + b"\n")
                pipe.flush()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Thread: the mirror says one line if it fails, and nothing else."""
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.problem = line.decode(errors="replace").strip()
        if process.wait() != 0 and self.problem is None:
            self.problem = f"the mirror process ended with code {process.returncode}"


def _directory(study: Path) -> str:
    """To which wandb adds wandb/; one place for a whole study."""
    return os.environ.get("WANDB_DIR") or str(study.resolve())


def _start_mirror() -> subprocess.Popen[bytes]:
    """Start the process; signals that stop a run must not stop it before the last rows."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "resnet_study.tracking.mirror"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
