"""What a user asks of the launchers. Imports little: the command line makes these of its flags."""

from __future__ import annotations

import functools
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from resnet_study.errors import UserError
from resnet_study.launch.sbatch import Value, asks_for_gpus, options_of

DEFAULT_TIME = "12:00:00"
WARNING_SECONDS = 120
"""How long before its time limit a task is warned, to write a checkpoint."""
EARLY_SECONDS = 60
"""SLURM may warn a task that much earlier."""
START_SECONDS = 120
"""What a task may take until it listens: one that is warned before is ended by the warning."""


@dataclass(frozen=True)
class Pool:
    """Workers and their time.

    Attributes:
        workers: Processes; by default one per core, or as many as the accelerators serve.
        minutes: Stop training after so many, with checkpoints; the same command continues.

    Raises:
        UserError: if there is no worker or no time.
    """

    workers: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers={self.workers}: at least 1 is needed")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise UserError(f"--minutes={self.minutes:g}: a time above 0 is needed")
        _ = self.stop_at  # the time starts here, before imports and a look at the data

    @functools.cached_property
    def stop_at(self) -> float:
        """When the time is up, as of ``time.monotonic``; infinite without a limit."""
        return math.inf if self.minutes is None else time.monotonic() + 60 * self.minutes


@dataclass(frozen=True)
class SlurmOptions:
    """What is asked of SLURM for every task.

    Attributes:
        time: SLURM's limit for a task, requeued until its run is done; 90 (minutes),
            12:00:00 or 2-00:00:00. By default 12:00:00.
        partition: SLURM's partition.
        gpus: GPUs of a SLURM task; by default none, or as many as --devices.
        cpus: Cores of a SLURM task; by default 2.
        parallel: Most SLURM tasks at once; by default 256.
        sbatch: Further options of sbatch, such as account=vision.

    Raises:
        UserError: if the time is in none of SLURM's forms, or too short for the warning before it,
            or if an option is refused.
    """

    time: str | None = None
    partition: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    parallel: int | None = None
    sbatch: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("gpus", "cpus", "parallel"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise UserError(f"--{name}={count}: at least 1 is needed")
        extra = self.extra()
        gpus = [name for name, value in extra.items() if asks_for_gpus(name, value)]
        if self.gpus and gpus:
            raise UserError(f"--gpus and --sbatch {gpus[0]}: give one of them")
        needed = self.warning() + EARLY_SECONDS + START_SECONDS
        shortest = {"--sbatch time_min": str(extra["time_min"])} if "time_min" in extra else {}
        for flag, text in {"--time": self.time or DEFAULT_TIME, **shortest}.items():
            if 60 * minutes(text, flag) < needed:
                raise UserError(
                    f"{flag}={text}: at least {-(-needed // 60)} minutes are needed: SLURM warns a "
                    f"task {self.warning()} s before its limit or up to {EARLY_SECONDS} s sooner, "
                    f"and a task takes up to {START_SECONDS} s to listen"
                )

    def given(self) -> list[str]:
        """Names of the options that somebody asked for."""
        return [name for name, value in vars(self).items() if value is not None]

    def minutes(self) -> int:
        """The limit of a task."""
        return minutes(self.time or DEFAULT_TIME)

    def extra(self) -> dict[str, Value]:
        """Further options of sbatch by name."""
        return options_of(self.sbatch or ())

    def warning(self) -> int:
        """Seconds before its limit at which a task is warned."""
        return int(self.extra().get("signal_delay_s", WARNING_SECONDS))


def minutes(text: str, flag: str = "--time") -> int:
    """A time limit in SLURM's forms: minutes, H:M:S, M:S, D-H, D-H:M or D-H:M:S.

    Raises:
        UserError: if it is none of these, or zero.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not match:
        raise UserError(f"{flag}={text}: write minutes (90), hours (1:30:00) or days (2-12:00:00)")
    days, *parts = (None if part is None else int(part) for part in match.groups())
    first, second, third = (part or 0 for part in parts)
    if days is not None:
        seconds = 86400 * days + 3600 * first + 60 * second + third
    elif parts[2] is not None:
        seconds = 3600 * first + 60 * second + third
    else:
        seconds = 60 * first + second
    if seconds == 0:
        raise UserError(f"{flag}={text}: at least a minute is needed")
    return -(-seconds // 60)
