"""The live display of a set of runs: done, running, time left, current error."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from resnet_study.names import clock
from resnet_study.spec import RunSpec
from resnet_study.terminal import Console


def _harmless(show: Callable[..., None]) -> Callable[..., None]:
    """Whatever fails in showing, such as a terminal that was closed, ends no run."""

    @functools.wraps(show)
    def shown(*arguments: Any) -> None:
        with contextlib.suppress(Exception):
            show(*arguments)

    return shown


class Display:
    """One bar for all runs with an estimate of the time left, and one per running run.

    In a terminal the bars are live; elsewhere (a log, CI) there is one line per finished run.

    Args:
        specs: every run of the set.
        costs: relative time of each run id.
        finished: run ids that were done before.
    """

    def __init__(
        self, specs: Sequence[RunSpec], costs: Mapping[str, float], finished: set[str]
    ) -> None:
        self.console = Console(stderr=True)
        self.costs, self.total, self.names = costs, len(specs), names_of(specs)
        self.width = max(map(len, self.names.values()), default=0)
        self.done = len(finished)
        self.ended = sum(costs[run_id] for run_id in finished)
        self.before = self.ended
        self.fractions: dict[str, float] = {}
        self.tasks: dict[str, TaskID] = {}
        self.began = time.monotonic()
        self.progress_bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.all_runs = self.progress_bars.add_task("", total=sum(costs.values()), note="")
        if finished:
            self.note(f"{self.done} of {self.total} runs are done already.")

    def __enter__(self) -> Display:
        with contextlib.suppress(Exception):
            self.progress_bars.start()
            self._refresh()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.progress_bars.stop()

    @_harmless
    def note(self, text: str) -> None:
        """Print a line above the bars."""
        # A reason may hold square brackets, which rich would take for its markup.
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @_harmless
    def started(self, spec: RunSpec) -> None:
        """A worker took the run."""
        self.tasks[spec.run_id] = self.progress_bars.add_task(
            self.names[spec.run_id], total=1.0, note="compiling"
        )

    @_harmless
    def progress(self, spec: RunSpec, standing: Mapping[str, float]) -> None:
        """The run got further; `standing` has the fields of `training.options.Standing`."""
        fraction = standing["step"] / standing["iterations"]
        self.fractions[spec.run_id] = fraction
        known = not math.isnan(standing["error"])
        error = f"training error {standing['error']:.1f} %" if known else ""
        self.progress_bars.update(self.tasks[spec.run_id], completed=fraction, note=error)
        self._refresh()

    @_harmless
    def waiting(self, spec: RunSpec) -> None:
        """Another process holds the run."""
        self._remove(spec)

    @_harmless
    def finished(self, spec: RunSpec, summary: Mapping[str, Any]) -> None:
        """The run is done, here or elsewhere."""
        self._remove(spec)
        self.done += 1
        self.ended += self.costs[spec.run_id]
        train, test = (_percent(summary.get(f"{split}_error_last")) for split in ("train", "test"))
        status = "" if summary["status"] == "finished" else f" [{summary['status']}]"
        name = self.names[spec.run_id].ljust(self.width)
        self.note(
            f"{self.done:>3}/{self.total} {name}  train {train} test {test}  "
            f"{clock(summary.get('wall_seconds') or 0.0)}{status}{self._left(', ')}"
        )
        self._refresh()

    @_harmless
    def failed(self, spec: RunSpec, reason: str) -> None:
        """The run failed; the others go on."""
        self._remove(spec)
        self.ended += self.costs[spec.run_id]
        self.note(f"FAILED {self.names[spec.run_id]}: {reason}")

    @_harmless
    def lost(self, spec: RunSpec, reason: str) -> None:
        """The run's worker is gone; it is to do again."""
        self._remove(spec)
        self.note(f"TO DO {self.names[spec.run_id]}: {reason}")

    def _remove(self, spec: RunSpec) -> None:
        self.fractions.pop(spec.run_id, None)
        if spec.run_id in self.tasks:
            self.progress_bars.remove_task(self.tasks.pop(spec.run_id))

    def _spent(self) -> float:
        return self.ended + sum(f * self.costs[run_id] for run_id, f in self.fractions.items())

    def _left(self, before: str = "") -> str:
        worked = self._spent() - self.before
        left = sum(self.costs.values()) - self._spent()
        if worked <= 0 or left <= 0:
            return ""
        return f"{before}{clock(left * (time.monotonic() - self.began) / worked)} left"

    def _refresh(self) -> None:
        self.progress_bars.update(
            self.all_runs,
            completed=self._spent(),
            description=f"{self.done} of {self.total} runs done, {len(self.tasks)} running",
            note=self._left(),
        )


IN_NAMES = ("model.residual", "model.depth", "data.name", "seed")
"""What run ids and the names of runs tell."""


def differing(specs: Sequence[RunSpec]) -> list[str]:
    """Fields by dotted name in which runs differ beside those of `IN_NAMES`."""
    values: dict[str, set[Any]] = {}
    for spec in specs:
        for name, value in spec.flat().items():
            values.setdefault(name, set()).add(value)
    return [name for name, found in values.items() if len(found) > 1 and name not in IN_NAMES]


def names_of(specs: Sequence[RunSpec]) -> dict[str, str]:
    """``plain-20 seed 0 learning_rate=0.1`` by run id, with what differs among the runs.

    Without what follows from the network, as the warm-up of one depth in a study of several.
    """
    several = len({spec.data.name for spec in specs}) > 1
    named = {
        s.run_id: f"{s.model.name}{' ' + s.data.name if several else ''} seed {s.seed}"
        for s in specs
    }
    if not (varying := differing(specs)):
        return named
    flats = [spec.flat() for spec in specs]
    networks = [tuple(flat[name] for name in IN_NAMES if name != "seed") for flat in flats]
    different = len(set(networks))
    for field in varying:
        pairs = {(network, flat[field]) for network, flat in zip(networks, flats, strict=True)}
        # Where each network has one run, everything would follow from it.
        if len(pairs) > different or different == len(specs):
            for spec, flat in zip(specs, flats, strict=True):
                named[spec.run_id] += f" {field.rpartition('.')[2]}={flat[field]}"
    return named


def _percent(value: float | None) -> str:
    return "   –  " if value is None else f"{value:5.2f} %"
