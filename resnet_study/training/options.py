"""What a run is told beside its spec, what it tells of itself, and how it is asked to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from resnet_study.tracking.tracker import Tracker
from resnet_study.training.execution import Execution


@dataclass(frozen=True)
class Report:
    """Where a run stands, for a progress display.

    Attributes:
        step: updates taken, of `iterations`.
        error: training error of the last row, percent; NaN before the first.
        images_per_second: since everything is compiled.
    """

    step: int
    iterations: int
    error: float
    images_per_second: float


@dataclass(frozen=True)
class Options:
    """What is no part of a spec.

    Attributes:
        command: command line for ``environment.json``.
        checkpoint_seconds: wall time between checkpoints.
        on_progress: called about once a second.
        tracker: gets the rows of the records as they are made.
        execution: devices and kernels.
    """

    command: str = ""
    checkpoint_seconds: float = 60.0
    on_progress: Callable[[Report], None] = lambda report: None
    tracker: Tracker = field(default_factory=Tracker)
    execution: Execution = field(default_factory=Execution)


class StopFlag:
    """Turns signals into a request to stop after the current chunk.

    A second signal ends the process at once; the last checkpoint stays.
    """

    requested = False

    def _handle(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listening(self, *signals: signal.Signals) -> Iterator[StopFlag]:
        """Handle these signals within the block; only the main thread can."""
        previous = {number: signal.signal(number, self._handle) for number in signals}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
