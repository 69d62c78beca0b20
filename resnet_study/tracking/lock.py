"""One process at a time, and no file when it has ended."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(name: str, seconds: float) -> Iterator[None]:
    """Keep out the other processes of this user and machine that use the same name.

    The lock is a file in the system's folder for temporary files, where it makes no checkout
    dirty; it is removed at the end. What a killed process left locks nothing, and is removed by the
    next one.

    Args:
        name: any text.
        seconds: longest wait, after which it goes on all the same.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()[:24]
    own = f"resnet-study-{os.getuid()}"
    path = Path(tempfile.gettempdir()) / f"{own}-{digest}.lock"
    end = time.monotonic() + seconds
    while (handle := _locked(path)) is None and time.monotonic() < end:
        time.sleep(0.1)
    for other in path.parent.glob(f"{own}-*.lock"):
        if (left := _locked(other)) is not None:
            _remove(other, left)
    try:
        yield
    finally:
        if handle is not None:
            _remove(path, handle)


def _remove(path: Path, handle: int) -> None:
    path.unlink(missing_ok=True)
    os.close(handle)


def _locked(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last holder may have removed this file since it was opened.
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    os.close(handle)
    return None
