"""Commands in processes of their own, bounded, and what of their ends is a defect.

A process is forked after the imports, so that ten thousand of them take minutes. It must end with
the exit code of what it was asked, or with 2 and one line; within its bounds of time and memory.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 30
"""Bound of processor time; twice as long in all, which a command takes that waits for nothing."""

MEMORY = 2 << 30
"""Bound of the memory that a process takes beyond what was there before it, in bytes."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, or minus the signal, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def refused(self) -> bool:
        return self.code == 2


@dataclass
class Trial:
    """What was done, and how it ended.

    Attributes:
        what: so that it can be done again.
        refused: whether that was in one line.
        defect: what is wrong; None if nothing.
        count: for how many it counts.
    """

    what: str
    refused: bool = False
    defect: str | None = None
    count: int = 1


def defect_of(ended: Ended, names: Sequence[str] = ()) -> str | None:
    """What is wrong with an end, in a few words; None if nothing.

    Args:
        ended: how a command ended.
        names: of these the line of a refusal names one.
    """
    lines = ended.err.splitlines()
    if "Traceback" in ended.err:
        return f"traceback: {lines[-1][:200]}"
    if ended.code == -signal.SIGALRM:
        return "did not end"
    if ended.code == -signal.SIGXCPU:
        return f"took more than {SECONDS} s of processor time"
    if ended.code < 0:
        return f"died of {signal.Signals(-ended.code).name}"
    if ended.code not in (0, 2):
        return f"exit code {ended.code}: {ended.err[:200]}"
    if ended.refused and len(lines) != 1:
        return f"refused in {len(lines)} lines: {ended.err[:200]}"
    if ended.refused and names and not any(name in ended.err for name in names):
        return f"names none of {', '.join(names)}: {ended.err[:200]}"
    if any(len(line) > 2000 for line in lines):
        return f"a line of {max(map(len, lines))} characters"
    return None


def run_forked(action: Callable[[], Any], folder: Path | None = None) -> Ended:
    """Run what ends as a command does, in a fork of this process, bounded."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _be_a_command(action, folder, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read().decode(errors="replace"))
    return Ended(os.waitstatus_to_exitcode(status), *printed)


def command(words: Sequence[str], folder: Path | None = None) -> Ended:
    """Run ``resnet-study`` with these words."""
    from resnet_study import cli

    _import_once()
    return run_forked(lambda: cli.main(list(words)), folder)


@functools.cache
def _import_once() -> None:
    """What every child would import again."""
    for name in ("pandas", "pyarrow.parquet", "scipy.stats", "yaml", "rich.table", "cloudpickle"):
        importlib.import_module(name)


def _be_a_command(action: Callable[[], Any], folder: Path | None, out: int, err: int) -> None:
    """Of a child: never returns."""
    code = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(2 * SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        with contextlib.suppress(FileNotFoundError):
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            for number, mode in enumerate(("r", "w", "w"))
        )
        if folder is not None:
            os.chdir(folder)
        action()
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
