"""``python -m resnet_study`` is the command ``resnet-study``."""

from __future__ import annotations

import os
import signal
from types import FrameType


def run() -> None:
    """The command line, which an interrupt ends with exit code 130 wherever it strikes."""
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:
        signal.signal(signal.SIGINT, _interrupt)
    from resnet_study.cli import main

    try:
        main()
    finally:
        if listens:
            signal.signal(signal.SIGINT, _end)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, except within an import.

    An import has nothing to save, and what it runs may catch the exception or explain it in a
    traceback.
    """
    at = frame
    while at is not None:
        if at.f_code.co_filename.startswith("<frozen importlib"):
            _end(number, frame)
        at = at.f_back
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(130)


if __name__ == "__main__":
    run()
