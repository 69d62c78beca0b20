"""Whatever a file of a run holds, it is read as it is or named in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from resnet_study import lease, runtime
from resnet_study.errors import UserError
from resnet_study.files import TEXT_BYTES, read_json, read_text
from resnet_study.records import read_run, read_whole
from resnet_study.records.integrity import problem_of
from tests.campaign import damage
from tests.recorded import finished_run
from tests.test_records_integrity import SPEC


@pytest.mark.parametrize("text", damage.TEXTS, ids=range(len(damage.TEXTS)))
@pytest.mark.parametrize("name", damage.JSON)
def test_json_of_any_kind_is_one_line(tmp_path: Path, name: str, text: bytes) -> None:
    run = finished_run(tmp_path, SPEC)
    (run / name).write_bytes(text)
    refused = None
    try:
        read_whole(run)
    except UserError as error:
        refused = str(error)
    if refused is None:
        # Not all that is strange is wrong: Python takes the last of two equal keys.
        assert isinstance(json.loads(text), dict)
    else:
        assert str(run) in refused
        assert len(refused.splitlines()) == 1
        assert len(refused) < 1000


@pytest.mark.parametrize("kind", ["fifo", "folder", "zeros", "nowhere", "loop"])
@pytest.mark.parametrize("name", [*damage.JSON, *damage.TABLES, lease.FILE_NAME])
def test_what_is_no_file_is_never_opened(tmp_path: Path, name: str, kind: str) -> None:
    run = finished_run(tmp_path, SPEC)
    file = run / name
    file.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to({"zeros": "/dev/zero", "nowhere": "gone", "loop": name}[kind])
    if name == lease.FILE_NAME:
        lease.is_held(run)
        read_whole(run)
        return
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        read_run(run) if name != "spec.json" else read_text(file)
    if name != "environment.json":  # of no use for knowing how far a run is
        assert problem_of(run) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "²"),
        ("status", []),
        ("iterations", 10**400),
        ("iterations", -1),
        ("iterations", 1.5),
        ("iterations", "400"),
        ("step", True),
        ("wall_seconds", "long"),
        ("wall_seconds", 10**400),
        ("train_error_last", [1.0]),
        ("bytes", {"metrics.parquet": "many"}),
        ("bytes", 3),
    ],
)
def test_values_of_another_kind_are_named(tmp_path: Path, name: str, value: Any) -> None:
    run = finished_run(tmp_path, SPEC)
    summary = read_json(run / "summary.json")
    (run / "summary.json").write_text(json.dumps({**summary, name: value}))
    with pytest.raises(UserError, match=rf"summary\.json: {name}="):
        read_run(run)
    assert f"summary.json: {name}=" in str(problem_of(run))


@pytest.mark.parametrize("section", ["device", "execution", "data", "previous"])
def test_sections_of_the_environment_are_of_their_kind(tmp_path: Path, section: str) -> None:
    run = finished_run(tmp_path, SPEC)
    (run / "environment.json").write_text(json.dumps({section: 5}))
    with pytest.raises(UserError, match=rf"environment\.json: {section}=5"):
        read_run(run)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("metrics.parquet", "step", "text"),
        ("metrics.parquet", "step", 0.5),
        ("metrics.parquet", "error", "text"),
        ("metrics.parquet", "learning_rate", "text"),
        ("metrics.parquet", "split", 1),
        ("layers.parquet", "layer", None),
        ("layers.parquet", "name", 3),
        ("layers.parquet", "weight_gradient_norm", "text"),
        ("layers.parquet", "mine", [1, 2]),
    ],
)
def test_columns_of_another_kind_are_named(
    tmp_path: Path, table: str, column: str, value: Any
) -> None:
    run = finished_run(tmp_path, SPEC)
    rows = pd.read_parquet(run / table)
    rows.assign(**{column: [value] * len(rows)}).to_parquet(run / table)
    with pytest.raises(UserError, match=rf"{table}: cannot be read as parquet \(.*{column}"):
        read_run(run)


def test_a_column_more_is_no_harm(tmp_path: Path) -> None:
    run = finished_run(tmp_path, SPEC)
    rows = pd.read_parquet(run / "layers.parquet")
    rows.assign(mine=1.5).to_parquet(run / "layers.parquet")
    assert (read_run(run).layers["mine"] == 1.5).all()


def test_a_table_that_claims_more_than_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million equal rows are few bytes in a file."""
    run = finished_run(tmp_path, SPEC)
    rows = pd.read_parquet(run / "metrics.parquet")
    pd.concat([rows[:1]] * 100_000).to_parquet(run / "metrics.parquet")
    assert (run / "metrics.parquet").stat().st_size < 1 << 18
    read_run(run)
    monkeypatch.setattr(runtime, "memory", lambda: 4 << 20)
    with pytest.raises(UserError, match=r"claims 100,000 rows of \d columns, .* GB, and there are"):
        read_run(run)


def test_a_text_of_any_size_is_not_taken_into_memory(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(UserError, match=f"more than {TEXT_BYTES:,}"):
        read_json(file)


@pytest.mark.parametrize("process", [10**30, -1, 0, True, [], "1", 2**31])
def test_a_lease_of_any_process_number(tmp_path: Path, process: Any) -> None:
    (tmp_path / lease.FILE_NAME).write_text(
        json.dumps({"token": "x", "machine": lease._machine(), "process": [process, "1"]})
    )
    assert not lease.is_held(tmp_path)
    held = lease.acquire(tmp_path)
    assert held is not None
    held.release()


def test_what_kills_left_of_files_goes_when_the_run_is_done(tmp_path: Path) -> None:
    """However young it is: the lease keeps others away."""
    left = [f".{name}.x" for name in (*damage.JSON, *damage.TABLES)]
    run = tmp_path / SPEC.run_id
    run.mkdir()
    for name in left:
        (run / name).touch()
    finished_run(tmp_path, SPEC)
    assert not set(left) & set(os.listdir(run))
