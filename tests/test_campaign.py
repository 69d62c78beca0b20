"""The campaign at small counts, and that it notices what it is there to notice."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.campaign import kills, outcome
from tests.campaign.__main__ import ROOT, small_study
from tests.campaign.kills import contents, difference
from tests.campaign.outcome import Ended, defect_of, run_forked
from tests.campaign.sharing import can_mount


def campaign(before: str = "", **counts: int) -> list[list[int]]:
    """The numbers of the table, of a process of its own: it forks, which one that uses jax may not.

    Args:
        before: what the process does first.
        counts: as arguments of the campaign.
    """
    flags = [f"--{name}={count}" for name, count in counts.items()]
    script = (
        f"{before}\nimport runpy, sys\nsys.argv[1:] = {flags}\n"
        "runpy.run_module('tests.campaign', run_name='__main__')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    rows = [line.split("|")[2:-1] for line in ended.stdout.splitlines()[2:]]
    numbers = [[int(cell) for cell in row] for row in rows]
    assert numbers, ended.stderr
    assert ended.returncode == any(row[3] for row in numbers), ended.stderr
    assert before or not ended.returncode, ended.stderr
    return numbers


def test_nothing_is_lost_at_small_counts() -> None:
    rows = campaign(records=8, archives=4, inputs=24, seed=1)
    assert [tried for tried, *_ in rows] == [12, 12, 8, 4]
    assert all(done + refused == tried for tried, done, refused, _ in rows)


def test_a_kill_that_comes_too_late_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = itertools.cycle([0, -signal.SIGKILL, 0])

    def run(words: Sequence[str]) -> tuple[int, str]:
        (tmp_path / "work/results").mkdir(exist_ok=True)
        (tmp_path / "work/results.changes").write_text("9")
        killed = words[0] == "tests.campaign.killer" and words[2] != "0"
        return (next(ends) if killed else 0), ""

    monkeypatch.setattr(kills, "run", run)
    monkeypatch.setattr(kills, "contents", lambda results: {})
    monkeypatch.setattr(kills, "_struck", lambda *_: (0, "", next(ends) != 0))
    for seed in range(5):
        trials = list(kills.kill_trials(tmp_path / "work", 7, seed))
        assert sum(trial.count for trial in trials) == 7
        assert not any(trial.defect for trial in trials)
        shutil.rmtree(tmp_path / "work")


@pytest.mark.slow
def test_kills_lose_nothing_at_small_counts() -> None:
    disks = 1 if can_mount() else 0
    counts = {"drawing": 3, "checkpoints": 3, "disks": disks, "rivals": 1, "kills": 5}
    rows = campaign(publishing=60, **counts)
    assert [tried for tried, *_ in rows[1:]] == [count for count in counts.values() if count]


@pytest.mark.parametrize(
    ("ended", "defect"),
    [
        (Ended(0, "table", ""), None),
        (Ended(2, "", "resnet-study status: a/b: is missing; restore it\n"), None),
        (Ended(2, "", "resnet-study status: something is wrong\n"), "names none of a/b"),
        (Ended(2, "", "a/b\nand more\n"), "refused in 2 lines"),
        (Ended(2, "", ""), "refused in 0 lines"),
        (Ended(1, "", "a/b"), "exit code 1"),
        (Ended(1, "", "Traceback (most recent call last):\nKeyError: 'a'\n"), "KeyError"),
        (Ended(-11, "", ""), "SIGSEGV"),
        (Ended(2, "", "a/b" * 1000), "characters"),
    ],
)
def test_what_a_defect_is(ended: Ended, defect: str | None) -> None:
    found = defect_of(ended, ["a/b"])
    assert (found is None) if defect is None else (found is not None and defect in found)


def test_time_and_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "SECONDS", 1)
    assert defect_of(run_forked(lambda: time.sleep(600))) == "did not end"
    monkeypatch.setattr(outcome, "MEMORY", 64 << 20)
    assert "MemoryError" in str(defect_of(run_forked(lambda: bytearray(1 << 30))))


def test_an_end_is_told_as_it_was(tmp_path: Path) -> None:
    def act() -> None:
        print("said", os.getcwd())
        print("wrong", file=sys.stderr)
        sys.exit(2)

    ended = run_forked(act, tmp_path)
    assert ended == Ended(2, f"said {tmp_path}\n", "wrong\n")


def test_a_reader_that_trusts_a_file_is_found() -> None:
    trusting = (
        "import json\nfrom resnet_study import files\n"
        "files.json_object = lambda text, where: json.loads(text)"
    )
    ((*_, defects),) = campaign(trusting, records=40)
    assert defects


def test_a_lost_row_or_file_is_a_difference(tmp_path: Path) -> None:
    study = small_study(tmp_path / "study")
    whole = contents(study)
    assert difference(whole, contents(study)) is None
    run = next((study / "runs").iterdir())
    changed = {**whole, f"{run.name}/layers.parquet": whole[f"{run.name}/layers.parquet"][1:]}
    assert "layers.parquet differs" in str(difference(whole, changed))
    (run / ".spec.json.left").touch()
    assert "files differs" in str(difference(whole, contents(study)))
