"""Copies of runs and links to them: told apart by content, never deleted, never preferred."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from resnet_study import files
from resnet_study.errors import UserError
from resnet_study.judging.selections import ended, select
from resnet_study.launch.status import run_states
from resnet_study.records import find_runs, read_frames
from resnet_study.spec import from_flat
from resnet_study.studies import slices
from resnet_study.studies.publish import publish
from resnet_study.training import checkpoints
from tests.test_records_integrity import SPEC, record
from tests.test_training_checkpoints import PROGRESS, state_at

OTHER = from_flat({**SPEC.flat(), "seed": 1})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two finished runs."""
    for spec in (SPEC, OTHER):
        record(tmp_path / "study" / "runs" / spec.run_id, "finished", 40, spec)
    return tmp_path / "study"


def content(folder: Path) -> dict[str, bytes]:
    """Of every file below a folder."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("name", ["a-copy", "z-copy", f"{SPEC.run_id} (2)"])
def test_the_finished_one_of_two_copies_counts_with_its_own_rows(study: Path, name: str) -> None:
    run = record(study / "runs" / name, "stopped", 20)
    rows = pd.read_parquet(run / "metrics.parquet").assign(error=77.0)
    rows.to_parquet(run / "metrics.parquet", index=False)
    for paths in ([study], [run, study], [study / "runs" / SPEC.run_id, run]):
        frames = read_frames(paths)
        assert list(frames.runs.loc[SPEC.run_id, "status"]) == ["finished", "stopped"]
        assert SPEC.run_id in ended(frames).runs.index
        chosen = select(frames, [SPEC.run_id])
        assert (chosen.runs["status"] == "finished").all()
        assert set(chosen.metrics["error"]) == {50.0}
        assert not chosen.metrics.duplicated(["run_id", "step", "split"]).any()
    publish(study, study.parent / "copy")
    assert {p.name for p in (study.parent / "copy" / "runs").iterdir()} == {
        SPEC.run_id,
        OTHER.run_id,
    }
    assert (read_frames([study.parent / "copy"]).runs["status"] == "finished").all()


def test_of_unfinished_copies_the_furthest_counts(tmp_path: Path) -> None:
    record(tmp_path / "a", "stopped", 10)
    record(tmp_path / "b", "stopped", 30)
    assert list(read_frames([tmp_path]).runs["step"]) == [30, 10]


def test_status_tells_copies_and_leaves_other_folders_out(study: Path) -> None:
    runs = study / "runs"
    shutil.copytree(runs / SPEC.run_id, runs / "mine")
    (runs / "notes").mkdir()
    (runs / "notes" / "idea.txt").write_text("deeper")
    (runs / ".publishing.x").mkdir()
    (runs / "loop").symlink_to(study)
    states = {state.run_id: state for state in run_states(runs)}
    assert set(states) == {SPEC.run_id, OTHER.run_id, "mine"}
    assert states["mine"].detail.startswith(f"holds {SPEC.run_id} under another name")
    assert "another name" not in states[SPEC.run_id].detail


def test_linked_folders_are_read_and_loops_end(study: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "runs").symlink_to(study / "runs")
    (study / "runs" / "loop").symlink_to(study)
    (study / "again").symlink_to(study / "runs" / SPEC.run_id)
    for path in (study, linked, study / "runs"):
        assert len(find_runs([path])) == 2, path
    assert len(find_runs([study, linked])) == 2
    assert len(read_frames([study]).runs) == 2


def test_what_a_kill_left_half_unpacked_is_no_copy(study: Path) -> None:
    shutil.copytree(study / "runs", study / ".unpacking.left" / "runs")
    assert len(read_frames([study]).runs) == 2


@pytest.mark.parametrize("arrangement", ["source", "target", "below", "one run"])
def test_publishing_never_deletes_its_source(study: Path, tmp_path: Path, arrangement: str) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    if arrangement == "source":
        (study / "runs").rename(target / "runs")
        (study / "runs").symlink_to(target / "runs")
    elif arrangement == "target":
        (target / "runs").symlink_to(study / "runs")
    elif arrangement == "below":
        (target / "runs").mkdir()
        study = study.rename(target / "runs" / "study")
    else:
        (target / "runs").mkdir()
        (study / "runs" / SPEC.run_id).rename(target / "runs" / SPEC.run_id)
        (study / "runs" / SPEC.run_id).symlink_to(target / "runs" / SPEC.run_id)
    before = content(tmp_path)
    with pytest.raises(UserError, match=r"runs: would be replaced and leads to .*; give another"):
        publish(study, target)
    assert content(tmp_path) == before


def test_publishing_replaces_an_earlier_copy_and_nothing_else(study: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    publish(study, target)
    before = content(target)
    publish(study, target)
    assert content(target) == before
    assert sorted(p.name for p in target.iterdir()) == ["README.md", "runs"]
    trained = record(target / "runs" / "trained", "stopped", 20)
    with pytest.raises(UserError, match="trained: is no published copy and would be removed"):
        publish(study, target)
    assert trained.exists()
    shutil.rmtree(trained)
    (target / "runs" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt: is no published copy"):
        publish(study, target)


def test_publishing_over_a_link_leaves_what_it_leads_to(study: Path, tmp_path: Path) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "copy"
    publish(study, elsewhere)
    before = content(elsewhere)
    target.mkdir()
    (target / "runs").symlink_to(elsewhere / "runs")
    publish(study, target)
    assert content(elsewhere) == before
    assert not (target / "runs").is_symlink()
    assert len(find_runs([target])) == 2


def test_a_failed_copy_leaves_the_earlier_one(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "copy"
    publish(study, target)
    before = content(target)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        publish(study, target)
    assert content(target) == before


def test_unpacking_over_a_link_leaves_what_it_leads_to(study: Path, tmp_path: Path) -> None:
    archive, here = tmp_path / "state.tar", tmp_path / "here"
    slices.pack(study, [SPEC.run_id], archive)
    older = record(tmp_path / "older", "stopped", 20)
    before = content(older)
    (here / "runs").mkdir(parents=True)
    (here / "runs" / SPEC.run_id).symlink_to(older)
    assert slices.unpack(archive, here) == [SPEC.run_id]
    assert content(older) == before
    assert json.loads((here / "runs" / SPEC.run_id / "summary.json").read_text())["status"] == (
        "finished"
    )
    assert os.listdir(here) == ["runs"]


def test_an_archive_holds_files_and_not_links(study: Path, tmp_path: Path) -> None:
    run, archive = study / "runs" / SPEC.run_id, tmp_path / "state.tar"
    (run / "metrics.parquet").rename(tmp_path / "metrics.parquet")
    (run / "metrics.parquet").symlink_to(tmp_path / "metrics.parquet")
    slices.pack(study, [SPEC.run_id], archive)
    with tarfile.open(archive) as tar:
        assert all(member.isfile() for member in tar)
    assert slices.unpack(archive, tmp_path / "here") == [SPEC.run_id]


def test_an_archive_with_a_run_under_another_name_is_refused(study: Path, tmp_path: Path) -> None:
    archive = tmp_path / "state.tar"
    shutil.copytree(study / "runs" / SPEC.run_id, study / "runs" / "mine")
    slices.pack(study, ["mine"], archive)
    with pytest.raises(UserError, match=rf"state\.tar: holds {SPEC.run_id} as mine"):
        slices.unpack(archive, tmp_path / "here")


def test_beside_checkpoints_nothing_of_the_user_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for name in ("1-kept", "best", "2.orbax-checkpoint-tmp", "removed-1"):
        (folder / name).mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    checkpoints.save(elsewhere, state_at(1), PROGRESS)
    (folder / "1").symlink_to(elsewhere / "1")
    for step in (3, 4):
        checkpoints.save(folder, state_at(step), PROGRESS)
    assert sorted(os.listdir(folder)) == ["1-kept", "3", "4", "best", "notes.txt"]
    assert checkpoints.steps(elsewhere) == [1]
    checkpoints.restore(elsewhere, 1, like=state_at(0))


def test_a_folder_is_replaced_or_left(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    files.replace_folder(tmp_path / "new", tmp_path / "old")
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old" / "file").read_text() == "new"
