"""Processes of their own for what is compared, spoken to in lines of JSON.

Two frameworks in one process would share thread pools, allocator and memory. Here each has
a process, and while one works the others wait for their pipe. Standard library only, since
the other side may run under an interpreter that has none of this project's packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

CLOSING_SECONDS = 10


class WorkerError(Exception):
    """A worker process failed, died or did not answer in time; one line that says which."""


class Worker:
    """The driver's end of a worker process that runs `serve`.

    Args:
        name: for messages.
        command: words of the command.
        environment: variables set for it besides this process's own; None removes one.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str | None] | None = None
    ) -> None:
        self.name = name
        variables = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={key: value for key, value in variables.items() if value is not None},
            # A group of its own, so that what it starts (compilers) can be ended with it.
            start_new_session=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def call(self, do: str, *, limit: float | None = None, **arguments: Any) -> Any:
        """Ask for something and wait for the answer.

        Args:
            do: name of the handler.
            limit: seconds to wait; None: for ever. A worker that is late is killed.
            arguments: of the handler, of JSON types.

        Raises:
            WorkerError: with the reason that the worker gave, or that it died or was late.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(f"{self.name}: the process has died") from None
        if limit is not None and not select.select([self.process.stdout], [], [], limit)[0]:
            peak = peak_memory(self.process.pid) / 2**30
            self.kill()
            raise WorkerError(
                f"{self.name}: no answer to {do} within {limit:.0f} s (at {peak:.1f} GiB)"
            )
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise WorkerError(f"{self.name}: the process died during {do} (exit code {code})")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {do}: {answer['error']}")
        return answer["result"]

    def cpu_seconds(self) -> float:
        """Processor time that the process has used so far; NaN where /proc is not there."""
        try:
            text = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return float("nan")
        # The name in parentheses may hold spaces; user and system time are fields 14 and 15.
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process: its pipe closes, and it is killed if that is not enough."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()

    def kill(self) -> None:
        """End the process and what it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer the driver until it closes the pipe; the worker's end.

    What handlers print goes to standard error, so that libraries cannot disturb the answers.
    """
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = {"result": handlers[message.pop("do")](**message)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def peak_memory(process: int | None = None) -> int:
    """Most bytes of memory that a process, by default this one, has held at once."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process or 'self'}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if process is not None:
        return 0
    import resource

    # The unit is KiB on Linux and bytes on macOS.
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
