"""Rows of many runs are read when asked for, and no others; and they are the runs' own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_study import cli
from resnet_study.errors import UserError
from resnet_study.judging.compare import LAYER_QUANTITIES, Question, compare
from resnet_study.judging.selections import select
from resnet_study.records import (
    LAYER_COLUMNS,
    Frames,
    find_runs,
    frames_of,
    integrity,
    read_frames,
    read_run,
    rows,
)
from resnet_study.spec import from_flat
from tests.test_records_integrity import SPEC, record

QUICK = Path(__file__).resolve().parent.parent / "results" / "reference" / "quick"
KEYS = list(rows.KEYS)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Runs of two families and three seeds, with other numbers in each."""
    for seed in range(3):
        for residual in (True, False):
            spec = from_flat({**SPEC.flat(), "model.residual": residual, "seed": seed})
            run = record(tmp_path / "study" / "runs" / spec.run_id, "finished", 40, spec)
            for name in ("metrics", "layers"):
                table = pd.read_parquet(run / f"{name}.parquet")
                column = "error" if name == "metrics" else "weight_norm"
                table[column] = np.arange(len(table)) + 1000 * seed + 0.5 * residual
                table.to_parquet(run / f"{name}.parquet", index=False)
            (run / "summary.json").write_text('{"status": "finished", "iterations": 40}')
    return tmp_path / "study"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...] | None]]:
    """Every read of a table: its path, and the columns that were taken."""
    log: list[tuple[str, tuple[str, ...] | None]] = []
    original: Callable = integrity.read_columns

    def logged(file: Path, names: list[str] | None, needed: list[str]) -> object:
        log.append((str(file), None if names is None else tuple(names)))
        return original(file, names, needed)

    monkeypatch.setattr(integrity, "read_columns", logged)
    return log


def in_memory(study: Path) -> Frames:
    """The same records by way of single runs."""
    return frames_of([read_run(folder) for folder in find_runs([study])])


@pytest.mark.parametrize("folder", [QUICK, None])
def test_frames_hold_what_single_runs_hold(study: Path, folder: Path | None) -> None:
    frames, other = read_frames([folder or study]), in_memory(folder or study)
    for one, same in zip(frames, other, strict=True):
        pd.testing.assert_frame_equal(one, same, check_categorical=False, check_dtype=False)
    assert {frames.layers[c].dtype.name for c in ("run_id", "family", "name")} == {"category"}


def test_rows_of_some_runs_and_columns_are_those_of_all(study: Path) -> None:
    whole = in_memory(study)
    for ids in (whole.runs.index[1:4], whole.runs.index[:1], whole.runs.index, []):
        expected = whole.layers[whole.layers["run_id"].isin(list(ids))].reset_index(drop=True)
        for before in ([], ["update_norm"], ["weight_norm", "response_std"], None):
            frames = read_frames([study])
            if before is None:
                assert len(frames.layers)
            elif before:
                frames.layers_with(*before)
            chosen = select(frames, ids)
            some = chosen.layers_with("weight_norm")
            assert list(some) == [*KEYS, *LAYER_COLUMNS, "weight_norm"]
            for table in (some, chosen.layers):
                assert set(table["run_id"]) == set(ids)
                assert list(table["run_id"]) == list(expected["run_id"])
                assert list(table["weight_norm"]) == list(expected["weight_norm"])
            if len(ids):
                assert set(some["run_id"].cat.categories) == set(ids)


def test_no_file_is_opened_again_for_what_nobody_recorded(study: Path, read: list) -> None:
    frames = read_frames([study])
    table = frames.layers_with("weight_norm")
    read.clear()
    for names in (["no_probe"], ["no_probe", "weight_norm"], ["another"]):
        again = frames.layers_with(*names)
        assert not read
        assert set(again) <= set(table)
        assert list(again["step"]) == list(table["step"])


def test_nothing_is_read_that_no_question_needs(study: Path, read: list) -> None:
    frames = read_frames([study])
    assert not read
    compare(frames, Question("error"))
    assert {Path(file).name for file, _ in read} == {"metrics.parquet"}
    read.clear()
    compare(frames, Question("signal", where=["family=plain", "seed=0,2"]))
    plain = {str(f / "layers.parquet") for f in find_runs([study]) if f.name.startswith("plain")}
    assert len(read) == 2
    assert {file for file, _ in read} < plain
    (names,) = {names for _, names in read}
    assert set(names or ()) == {*LAYER_COLUMNS, "weight_norm", "weight_gradient_norm"}
    read.clear()
    select(frames, []).layers_with("weight_norm")
    assert not read


def test_what_was_read_is_not_read_again(study: Path, read: list) -> None:
    frames = read_frames([study])
    assert len(frames.layers_with("weight_norm")) == len(frames.layers_with())
    assert len(read) == 6
    select(frames, frames.runs.index[:2]).layers_with("weight_norm")
    select(select(frames, frames.runs.index[:3]), frames.runs.index[:2]).layers_with()
    assert len(read) == 6
    frames.layers_with("weight_norm", "update_norm")
    assert [names for _, names in read[6:]] == [("update_norm",)] * 6
    assert len(frames.layers) == len(frames.layers)
    assert len(read) == 18


@pytest.mark.parametrize("quantity", LAYER_QUANTITIES)
def test_each_quantity_names_the_columns_that_it_takes(study: Path, quantity: str) -> None:
    asked = Question(quantity, against="layer", at_step=40)
    found, same = (compare(frames, asked) for frames in (read_frames([study]), in_memory(study)))
    pd.testing.assert_frame_equal(found, same, check_exact=True, check_dtype=False)


def test_changes_of_a_frame_reach_no_other(study: Path) -> None:
    frames = read_frames([study])
    before = frames.layers["weight_norm"].tolist()
    for table in (frames.layers, frames.layers_with("weight_norm")):
        table.loc[:, "weight_norm"] = -1.0
        table["run_id"] = "mine"
    assert frames.layers["weight_norm"].tolist() == before
    assert set(frames.layers["run_id"]) == set(frames.runs.index)


def test_what_only_some_runs_recorded_is_nan_in_the_others(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = find_runs([study])
    table = pd.read_parquet(first / "layers.parquet")
    table.drop(columns=["angular_step", "response_std"]).assign(own=1, note="a").to_parquet(
        first / "layers.parquet"
    )
    table.assign(own=0.5, angular_step=None).to_parquet(second / "layers.parquet", index=False)
    # However many files are joined at once.
    for batch in (1, 4, 256):
        monkeypatch.setattr(rows, "BATCH", batch)
        frames = read_frames([study])
        for layers in (frames.layers, frames.layers_with("angular_step", "own", "note")):
            own = dict(iter(layers.groupby("run_id", observed=True)))
            assert own[first.name]["angular_step"].isna().all()
            assert own[second.name]["angular_step"].isna().all()
            assert set(own[first.name]["own"]) == {1.0}
            assert set(own[second.name]["own"]) == {0.5}
            assert set(own[first.name]["note"]) == {"a"}
            others = layers[~layers["run_id"].isin([first.name, second.name])]
            assert (others["angular_step"] == 1).all()
            assert others[["own", "note"]].isna().all(axis=None)
            assert layers["angular_step"].dtype == layers["own"].dtype == "float64"
        assert "response_std" in frames.layers


def put(run: Path, name: str, values: list | object) -> None:
    """A column of the table of layers of a run, of one value or of the values given first."""
    table = pd.read_parquet(run / "layers.parquet")
    if isinstance(values, list):
        values = (values * len(table))[: len(table)]
    table.assign(**{name: values}).to_parquet(run / "layers.parquet", index=False)


@pytest.mark.parametrize("wrong", range(6))
@pytest.mark.parametrize("batch", [1, 4, 256])
def test_a_probe_that_is_no_number_is_named_with_its_run(
    study: Path, wrong: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH", batch)
    run = find_runs([study])[wrong]
    put(run, "weight_norm", "large")
    with pytest.raises(UserError, match=rf"{run.name}/layers\.parquet: cannot be read"):
        read_frames([study]).layers_with("weight_norm")


@pytest.mark.parametrize("batch", [1, 4, 256])
def test_where_either_of_two_runs_may_be_wrong_both_are_named(
    study: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH", batch)
    _, other, _, wrong, *_ = find_runs([study])
    put(other, "own", 1.5)
    put(wrong, "own", "large")
    both = rf"{wrong.name}/layers\.parquet: column own holds .*string, but double in .*{other.name}"
    with pytest.raises(UserError, match=both):
        read_frames([study]).layers_with("own")


@pytest.mark.parametrize("wrong", [0, 3, 5])
def test_a_number_that_no_column_of_all_holds_is_named_with_its_run(
    study: Path, wrong: int
) -> None:
    for run in find_runs([study]):
        put(run, "own", 0.5)
    put(run := find_runs([study])[wrong], "own", [2**62 + 1])
    with pytest.raises(UserError, match=rf"{run.name}/layers\.parquet: cannot be read"):
        read_frames([study]).layers_with("own")


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_bytes(b"PAR1")])
def test_a_table_that_is_lost_before_it_is_read_is_named(study: Path, change: Callable) -> None:
    frames = read_frames([study])
    lost = find_runs([study])[2] / "layers.parquet"
    change(lost)
    assert len(frames.metrics)
    with pytest.raises(UserError, match=rf"{lost}: cannot be read as parquet"):
        frames.layers_with("weight_norm")


def test_columns_of_a_live_run_are_of_one_time(study: Path) -> None:
    """It replaces its table between two questions: rows of both times never stand in one."""
    frames = read_frames([study])
    frames.layers_with("weight_norm")
    run = find_runs([study])[1]
    table = pd.read_parquet(run / "layers.parquet")
    pd.concat([table, table.assign(step=99)]).assign(weight_norm=7.0, update_norm=8.0).to_parquet(
        run / "layers.parquet", index=False
    )
    layers = frames.layers_with("weight_norm", "update_norm")
    own = layers[layers["run_id"] == run.name]
    assert len(own) == 2 * len(table)
    assert set(own["weight_norm"]) == {7.0}
    assert set(own["update_norm"]) == {8.0}
    assert set(layers["run_id"]) == set(frames.runs.index)


def test_of_copies_the_rows_of_the_best_are_read(study: Path, read: list) -> None:
    spec = from_flat({**SPEC.flat(), "seed": 1})
    record(study / "copy", "stopped", 20, spec)
    frames = read_frames([study])
    assert len(frames.runs) == 7
    assert not frames.layers_with("weight_norm").duplicated(["run_id", "step", "layer"]).any()
    assert not any("copy" in file for file, _ in read)


def test_a_command_reads_no_more_than_it_needs(
    study: Path, read: list, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["compare", "error", str(study)])
    assert "metrics.parquet" in str(read)
    assert "layers.parquet" not in str(read)
    read.clear()
    with pytest.raises(SystemExit, match="0"):
        cli.main(["compare", "update_norm", str(study), "--where", "seed=1"])
    assert [set(names) for _, names in read] == [{*LAYER_COLUMNS, "update_norm"}] * 2
    capsys.readouterr()
