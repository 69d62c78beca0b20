"""``python -m tests.campaign``: kills, damaged records, hostile data and fuzzed inputs, counted.

Prints a table of what was tried, how often it was done and how often refused in one line, and
every defect with what brings it back. Exit code 1 if there is one.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from resnet_study.progress import count_progress
from tests.campaign import sharing
from tests.campaign.archives import hostile
from tests.campaign.changes import killed_drawing, killed_publishing
from tests.campaign.checkpoints import damaged_checkpoints
from tests.campaign.damage import read_damaged
from tests.campaign.inputs import fuzz, refused_specs
from tests.campaign.kills import kill_trials
from tests.campaign.outcome import Trial

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Tally:
    """What became of one kind of trial."""

    kind: str
    tried: int = 0
    done: int = 0
    refused: int = 0
    defects: list[str] = field(default_factory=list)

    def row(self) -> str:
        return (
            f"| {self.kind} | {self.tried} | {self.done} | {self.refused} | {len(self.defects)} |"
        )


def tallied(kind: str, total: int, trials: Iterable[Trial]) -> Tally:
    """Count trials; each defect is printed at once, for a campaign may be stopped."""
    tally = Tally(kind)
    # Stopped, it counts what was tried so far.
    with contextlib.suppress(KeyboardInterrupt), count_progress(kind, "") as progress:
        for trial in trials:
            tally.tried += trial.count
            progress(min(tally.tried, total), total)
            if trial.defect:
                tally.defects.append(f"{trial.what[:300]}: {trial.defect}")
                print(f"{kind} {tally.defects[-1]}", file=sys.stderr, flush=True)
            elif trial.refused:
                tally.refused += trial.count
            else:
                tally.done += trial.count
    return tally


def small_study(folder: Path) -> Path:
    """Two runs of the quick study."""
    for run in ("plain-20_digits_seed5*", "residual-20_digits_seed5*"):
        source = next((ROOT / "results/reference/quick/runs").glob(run))
        shutil.copytree(source, folder / "runs" / source.name)
    return folder


def main(
    kills: int = 0,
    disks: int = 0,
    rivals: int = 0,
    publishing: int = 0,
    drawing: int = 0,
    records: int = 0,
    checkpoints: int = 0,
    archives: int = 0,
    inputs: int = 0,
    seed: int = 0,
) -> int:
    """Try what may happen to a study, so many times each.

    Args:
        kills: of training, alone and in sweeps of two workers; what is left in the end must be
            as if nothing had been, bit by bit.
        disks: that are full, of any size; needs root.
        rivals: two or three invocations of one command.
        publishing: kills of `publish` before each change of a file that it makes, all of them if
            there are fewer.
        drawing: the same of `report`, `explore` and `figures`.
        records: damaged or replaced files of runs, each read by a command.
        checkpoints: damaged checkpoints, from which training goes on.
        archives: damaged and crafted data sets.
        inputs: half of them specs, a quarter flags, a quarter sweep files.
        seed: of everything drawn.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        work = Path(name)
        study = small_study(work / "study")
        half = inputs // 2
        plan = (
            ("specs", half, refused_specs(half, seed)),
            ("flags and sweep files", inputs - half, fuzz(study, inputs - half, seed)),
            ("damaged records", records, read_damaged(study, records, seed)),
            ("hostile data sets", archives, hostile(work / "data", archives, seed)),
            ("kills of publish", publishing, killed_publishing(study, publishing)),
            ("kills of drawing", drawing, killed_drawing(study, drawing)),
            (
                "damaged checkpoints",
                checkpoints,
                damaged_checkpoints(work / "saved", checkpoints, seed),
            ),
            ("full disks", disks, sharing.full_disks(work / "small", disks, seed)),
            ("several invocations", rivals, sharing.rivals(work / "rivals", rivals, seed)),
            ("kills of training", kills, kill_trials(work / "killed", kills, seed)),
        )
        tallies = [tallied(kind, count, trials) for kind, count, trials in plan if count]
    print("| what | tried | done as if nothing had been | refused in one line | defects |")
    print("|---|---|---|---|---|")
    for tally in tallies:
        print(tally.row())
    return int(any(tally.defects for tally in tallies))


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # in the background a shell has them ignored
        signal.signal(number, signal.default_int_handler)
    sys.exit(tyro.cli(main, description=__doc__))
