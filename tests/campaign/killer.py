"""``python -m tests.campaign.killer FOLDER N WORDS...``: a command that dies at its N-th change.

Before it makes, renames or removes a file at or below a folder, or opens one to write, for the
N-th time, it ends as of SIGKILL. 0 never does; the number of changes then stands in the file
``FOLDER.changes``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
    "tempfile.mkstemp",
    "tempfile.mkdtemp",
}


def die_at(folder: str, number: int) -> Callable[[], int]:
    """From now on; gives the number of changes so far."""
    made = 0
    top = os.path.realpath(folder)

    def below(path: Any) -> bool:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return os.path.realpath(name).startswith(top + os.sep) if name else False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal made
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not below(path):
                return
        elif event not in CHANGES or not any(map(below, arguments[:2])):
            return
        made += 1
        if made == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: made


def main() -> None:
    folder, number, *words = sys.argv[1:]
    so_far = die_at(folder, int(number))
    from resnet_study import cli

    try:
        cli.main(words)
    finally:
        with open(f"{folder.rstrip('/')}.changes", "w", encoding="utf-8") as file:
            file.write(str(so_far()))


if __name__ == "__main__":
    main()
