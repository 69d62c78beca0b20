"""A lease on a run folder, so that two workers never write one run.

The lease is a small file that its holder touches while it lives. It is free again when it
is released, when its holder's process is gone (same machine), or when it was not touched
for `STALE_SECONDS` (another machine). Times are those of the file system that holds the
folder, so clocks need not agree between machines.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnet_study import files
from resnet_study.errors import UserError

FILE_NAME = "lease.json"
HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 120.0


class Lease:
    """A held lease; use as a context manager.

    `lost` becomes true if another worker took the lease over, as can happen after this
    process was suspended for longer than `STALE_SECONDS`; the holder then stops writing.
    """

    def __init__(self, path: Path, token: str) -> None:
        self._path, self._token = path, token
        self._released = threading.Event()
        self.lost = False
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            if _read(self._path).get("token") != self._token:
                self.lost = True
                return
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        """Give the lease back; safe to call twice."""
        self._released.set()
        self._thread.join()
        with alone(self._path.parent):
            if _read(self._path).get("token") == self._token:
                self._path.unlink(missing_ok=True)
            # Left by kills; whoever on another machine was about to take the lease tries again.
            files.clear_drafts(self._path.parent, [FILE_NAME])

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def acquire(folder: Path) -> Lease | None:
    """Take the lease of a run folder, or None if a living worker holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    with alone(folder):
        if path.exists() and not _remove_if_dead(path):
            return None
        token = uuid.uuid4().hex
        draft = folder / f".{FILE_NAME}.{token}"
        content = json.dumps({"token": token, "machine": _machine(), "process": _process()})
        try:
            draft.write_text(content)
            # link is atomic, also on NFS, and fails if another worker was faster.
            os.link(draft, path)
        except (FileExistsError, FileNotFoundError):
            return None
        except OSError as error:
            # A full disk names no file.
            raise OSError(error.errno, error.strerror, str(path)) from None
        finally:
            draft.unlink(missing_ok=True)
    return Lease(path, token)


def is_held(folder: Path) -> bool:
    """Whether a living worker holds the folder's lease."""
    path = folder / FILE_NAME
    return path.exists() and not _is_dead(path, _read(path))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep the other processes of this machine out of a folder, as while a lease changes hands.

    Removing a dead lease and placing one's own are two operations; three workers at once
    could otherwise leave two winners. A kill frees the lock. Where a folder cannot be locked
    (NFS), `_remove_if_dead` still puts back what it should not have taken.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_if_dead(path: Path) -> bool:
    """Remove a dead worker's lease; False if it lives, or if another worker was faster."""
    seen = _read(path)
    if not _is_dead(path, seen):
        return False
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return True
    taken = _read(aside)
    if taken != seen:
        # Between the look and the rename another worker took over: put its lease back.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(aside, path)
    files.remove(aside)
    return bool(taken == seen)


def _is_dead(path: Path, content: dict[str, Any]) -> bool:
    if content.get("machine") == _machine():
        return not _is_alive(content.get("process"))
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return True
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path)
    except UserError:
        return {}


def _machine() -> str:
    """Name of this machine and of its boot, or of this container."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
        return f"{socket.gethostname()}/{boot.read_text().strip()}/{namespace}"
    return socket.gethostname()


def _process() -> list[int | str]:
    return [os.getpid(), _start_time(os.getpid())]


def _is_alive(process: Any) -> bool:
    """Whether the process with this number and start time exists."""
    if not (isinstance(process, list) and len(process) == 2 and type(process[0]) is int):
        return False
    if not 0 < process[0] < 2**31:
        return False
    try:
        os.kill(process[0], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _start_time(process[0]) == process[1]


def _start_time(process: int) -> str:
    """Start of a process in clock ticks since boot, so that a reused number is told apart."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A killed process stays as a zombie until its parent has looked at it.
    return "gone" if fields[0] == "Z" else fields[19]
