"""What a run is told beside its spec, what it tells of itself, and how it is asked to stop.

Imports no jax: the command line and the launchers make these and send them to other processes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from resnet_study.datasets import DataSource
from resnet_study.errors import UserError
from resnet_study.kernels import Choice
from resnet_study.tracking.tracker import Tracker, Tracking


@dataclass(frozen=True)
class Execution:
    """What computes a run. It changes the numbers by rounding only.

    A run that was begun one way is continued that way or not at all
    (`resnet_study.training.devices`).

    Attributes:
        kernels: What computes the convolutions on a CPU; auto: the native ones if they are there.
        devices: Devices of each run, which share its batches; by default one, or all of a
            distributed run.

    Raises:
        UserError: if the number of devices is below 1.
    """

    kernels: Choice = "auto"
    devices: int | None = None

    def __post_init__(self) -> None:
        if self.devices is not None and self.devices < 1:
            raise UserError(f"--devices={self.devices}: at least 1 is needed")


@dataclass(frozen=True)
class Options:
    """How runs are computed and mirrored: the flags that all commands share which train.

    No part of a spec. Can be sent to another process.

    Attributes:
        source: where the images are.
        execution: devices and kernels.
        tracking: what is mirrored to wandb.
        checkpoint_seconds: Wall time between checkpoints.
    """

    source: DataSource = field(default_factory=DataSource)
    execution: Execution = field(default_factory=Execution)
    tracking: Tracking = field(default_factory=Tracking)
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Standing:
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


class StopFlag:
    """Turns interrupts into a request to stop after the current chunk.

    A second one ends the process at once; the last checkpoint stays. One after
    `requested` was set otherwise is a first one.

    Args:
        patient: never end the process, however many come.
    """

    requested = False
    interrupted = False

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient

    def _handle(self, number: int, frame: object) -> None:
        if self.interrupted and not self.patient:
            raise KeyboardInterrupt
        self.requested = self.interrupted = True

    @contextmanager
    def listening(self, *numbers: signal.Signals) -> Iterator[StopFlag]:
        """Handle these interrupts within the block; only the main thread can."""
        previous = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@dataclass(frozen=True)
class Host:
    """The process around a run.

    Attributes:
        command: command line for ``environment.json``.
        tracker: gets the rows of the records as they are made.
        stop: ends the run as `stopped` after the current chunk, checkpointed.
        on_progress: called about once a second.
    """

    command: str = ""
    tracker: Tracker = field(default_factory=Tracker)
    stop: StopFlag = field(default_factory=StopFlag)
    on_progress: Callable[[Standing], None] = lambda standing: None
