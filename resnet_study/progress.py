"""Progress bars of single tasks: a run, a download, a decoding. They appear when work starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from resnet_study.terminal import Console

if TYPE_CHECKING:
    from resnet_study.training.options import Standing


@contextmanager
def count_progress(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for a callback of done and total; bytes if the unit is B."""
    amount: ProgressColumn = DownloadColumn() if unit == "B" else MofNCompleteColumn()
    with _bar(amount) as bar:
        task = bar.add_task(what, total=None, visible=False, note="" if unit == "B" else unit)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None, visible=True)

        yield update


@contextmanager
def run_progress() -> Iterator[Callable[[Standing], None]]:
    """A bar for where one run stands."""
    with _bar(MofNCompleteColumn()) as bar:
        task = bar.add_task("iterations", total=None, note="compiling")

        def update(standing: Standing) -> None:
            speed = standing.images_per_second
            parts = [] if math.isnan(standing.error) else [f"training error {standing.error:.1f} %"]
            parts += [] if math.isnan(speed) else [f"{speed:.0f} images/s"]
            note = ", ".join(parts)
            bar.update(task, completed=standing.step, total=standing.iterations, note=note)

        yield update


def _bar(amount: ProgressColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
