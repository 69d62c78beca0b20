"""A folder whose replacement was killed is put back, or named by whoever misses it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_study import files
from resnet_study.errors import UserError
from resnet_study.launch.local import run_local
from resnet_study.launch.status import run_states
from resnet_study.records import find_runs, read_frames
from resnet_study.studies import slices
from resnet_study.studies.publish import publish
from tests.test_records_copies import OTHER, content
from tests.test_records_integrity import SPEC, record

ROOT = Path(__file__).resolve().parent.parent
ASIDE = "0" * 32

KILLED = """
import os, signal, sys
from pathlib import Path
from resnet_study.studies.publish import publish
rename, left = Path.rename, int(sys.argv[3])
def killed(path, target):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return rename(path, target)
Path.rename = killed
publish(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two finished runs."""
    for spec in (SPEC, OTHER):
        record(tmp_path / "study" / "runs" / spec.run_id, "finished", 40, spec)
    return tmp_path / "study"


def put_aside(folder: Path) -> Path:
    """As `replace_folder` does first."""
    return folder.rename(folder.with_name(f".{folder.name}.{ASIDE}"))


def test_publishing_that_was_killed_loses_nothing(study: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    publish(study, target)
    before = content(target)
    words = [sys.executable, "-c", KILLED, str(study), str(target), "1"]
    assert subprocess.run(words, cwd=ROOT).returncode == -signal.SIGKILL
    assert not (target / "runs").exists()
    for path in (target, target / "runs"):
        with pytest.raises(UserError, match=r"runs: is missing .* rename \.runs\.\w{32} to runs$"):
            read_frames([path])
    # As one who has no room, and so changes nothing else.
    with pytest.raises(UserError, match="allow more"):
        publish(study, target, 0.0001)
    assert len(find_runs([target])) == 2
    put_aside(target / "runs")
    publish(study, target)
    assert content(target) == before
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "runs"]


def test_the_old_folder_goes_once_the_new_one_is_there(study: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    publish(study, target)
    (target / f".runs.{ASIDE}" / "old").mkdir(parents=True)
    assert len(read_frames([target]).runs) == 2
    publish(study, target)
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "runs"]


def test_a_source_is_not_published_without_what_it_misses(study: Path, tmp_path: Path) -> None:
    (study / "initialization").mkdir()
    (study / "initialization" / "environment.json").write_text("{}")
    aside = put_aside(study / "runs")
    with pytest.raises(UserError, match="runs: is missing"):
        publish(study, tmp_path / "copy")
    assert aside.exists()


def test_a_run_that_is_missing_is_damaged_and_stops_readers(study: Path) -> None:
    put_aside(study / "runs" / SPEC.run_id)
    for ids in (None, [SPEC.run_id, OTHER.run_id]):
        states = {run.run_id: run for run in run_states(study / "runs", ids)}
        assert states[OTHER.run_id].state == "finished"
        assert states[SPEC.run_id].state == "damaged"
        assert f"rename .{SPEC.run_id}.{ASIDE} to {SPEC.run_id}" in states[SPEC.run_id].detail
    for path in (study, study / "runs", study / "runs" / SPEC.run_id):
        with pytest.raises(UserError, match=f"{SPEC.run_id}: is missing"):
            read_frames([path])


def test_an_older_archive_takes_nothing_back_after_a_kill(study: Path, tmp_path: Path) -> None:
    older = record(tmp_path / "older" / "runs" / SPEC.run_id, "stopped", 20)
    slices.pack(tmp_path / "older", [SPEC.run_id], tmp_path / "state.tar")
    before = content(study)
    put_aside(study / "runs" / SPEC.run_id)
    assert slices.unpack(tmp_path / "state.tar", study) == []
    assert content(study) == before
    assert older.exists()


def test_a_sweep_goes_on_with_the_run_that_a_kill_left_aside(study: Path) -> None:
    put_aside(study / "runs" / SPEC.run_id)
    outcome = run_local([SPEC], study / "runs")
    assert list(outcome.summaries) == [SPEC.run_id]
    assert outcome.failures == {}


def test_other_hidden_folders_stay(tmp_path: Path) -> None:
    names = [".git", ".runs.old", f".{ASIDE}", f"runs.{ASIDE}", ".publishing.x"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / f".notes.{ASIDE}").touch()
    files.restore_folders(tmp_path)
    files.refuse_missing(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names, f".notes.{ASIDE}"}
