"""The archive between pieces holds what is needed, and never takes a run back."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from resnet_study import lease
from resnet_study.errors import UserError
from resnet_study.files import write_json
from resnet_study.spec import RunSpec, to_json
from resnet_study.studies import slices as pieces


def make_run(study: Path, seed: int, status: str, *steps: int) -> Path:
    """A run folder with checkpoints at these steps."""
    spec = RunSpec(seed=seed)
    folder = study / "runs" / spec.run_id
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "spec.json").write_text(to_json(spec))
    write_json(folder / "summary.json", {"status": status})
    reached = max(steps) if steps and status != "finished" else int(spec.schedule.iterations)
    for name in ("metrics", "layers"):
        pd.DataFrame({"step": [0, reached]}).to_parquet(folder / f"{name}.parquet")
    (folder / lease.FILE_NAME).write_text("{}")
    (folder / ".metrics.parquet.left").touch()
    for step in steps:
        (folder / "checkpoints" / str(step)).mkdir()
        (folder / "checkpoints" / str(step) / "weights").write_text(str(step))
    return folder


def ids(*runs: Path) -> list[str]:
    return [run.name for run in runs]


def test_an_archive_holds_records_and_the_newest_checkpoint_of_what_is_not_done(
    tmp_path: Path,
) -> None:
    study, archive = tmp_path / "study", tmp_path / "there" / "state.tar"
    done = make_run(study, 0, "finished", 100)
    begun = make_run(study, 1, "stopped", 9, 40)
    foreign = make_run(study, 2, "stopped", 5)
    (begun / "checkpoints" / "90.orbax-checkpoint-tmp").mkdir()
    size = pieces.pack(study, ids(done, begun), archive)
    assert size == archive.stat().st_size
    assert list(archive.parent.iterdir()) == [archive]
    with tarfile.open(archive) as tar:
        names = {member.name for member in tar if member.isfile()}
    files = ("spec.json", "summary.json", "metrics.parquet", "layers.parquet")
    assert names == {
        *(f"runs/{run.name}/{file}" for run in (done, begun) for file in files),
        f"runs/{begun.name}/checkpoints/40/weights",
    }
    assert foreign.name not in str(names)


def test_a_run_is_taken_only_where_it_is_further(tmp_path: Path) -> None:
    there, here, archive = tmp_path / "there", tmp_path / "here", tmp_path / "state.tar"
    runs = [
        make_run(there, 0, "stopped", 40),  # further than here
        make_run(there, 1, "stopped", 40),  # less far
        make_run(there, 2, "finished"),  # done there
        make_run(there, 3, "stopped", 40),  # done here
        make_run(there, 4, "running"),  # not here
        make_run(there, 5, "stopped", 40),  # the same
    ]
    pieces.pack(there, ids(*runs), archive)
    for seed, (status, step) in {
        0: ("stopped", 30),
        1: ("stopped", 50),
        2: ("stopped", 99),
        3: ("diverged", 10),
        5: ("stopped", 40),
    }.items():
        (make_run(here, seed, status, step) / lease.FILE_NAME).unlink()
    taken = pieces.unpack(archive, here)
    assert taken == sorted(ids(runs[0], runs[2], runs[4]))
    assert (here / "runs" / runs[0].name / "checkpoints" / "40" / "weights").exists()
    assert not (here / "runs" / runs[0].name / "checkpoints" / "30").exists()
    assert (here / "runs" / runs[1].name / "checkpoints" / "50").exists()
    assert pieces.unpack(archive, here) == []
    assert sorted(path.name for path in here.iterdir()) == ["runs"]


def test_compiled_programs_travel_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "COMPILED_BYTES", 25)
    study, archive = tmp_path / "study", tmp_path / "state.tar"
    run = make_run(study, 0, "stopped", 1)
    (study / "compiled").mkdir()
    for age, name in enumerate(("newest", "newer", "old")):
        (study / "compiled" / name).write_bytes(b"0123456789")
        os.utime(study / "compiled" / name, (1000 - age, 1000 - age))
    pieces.pack(study, ids(run), archive)
    pieces.unpack(archive, tmp_path / "other")
    names = sorted(path.name for path in (tmp_path / "other" / "compiled").iterdir())
    assert names == ["newer", "newest"]


def test_a_broken_archive_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    study, archive = tmp_path / "study", tmp_path / "state.tar"
    run = make_run(study, 0, "stopped", 1)
    (run / "metrics.parquet").write_bytes(bytes(100_000))
    pieces.pack(study, ids(run), archive)
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(UserError, match=r"state.tar: is no whole archive"):
        pieces.unpack(archive, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_a_failed_write_leaves_the_archive_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, archive = tmp_path / "study", tmp_path / "state.tar"
    run = make_run(study, 0, "stopped", 1)
    pieces.pack(study, ids(run), archive)
    before = archive.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "add", fail)
    with pytest.raises(OSError, match="No space"):
        pieces.pack(study, ids(run), archive)
    assert archive.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["state.tar"]


def test_a_run_that_is_being_trained_is_not_replaced(tmp_path: Path) -> None:
    archive = tmp_path / "state.tar"
    run = make_run(tmp_path / "there", 0, "stopped", 40)
    pieces.pack(tmp_path / "there", ids(run), archive)
    busy = tmp_path / "here" / "runs" / run.name
    held = lease.acquire(busy)
    assert held is not None
    with held, pytest.raises(UserError, match="is being trained"):
        pieces.unpack(archive, tmp_path / "here")
    assert pieces.unpack(archive, tmp_path / "here") == [run.name]
