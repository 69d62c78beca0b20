"""Records that were lost are noticed by every reader, and nothing more is lost with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_study import cli
from resnet_study.data import load_dataset
from resnet_study.errors import UserError
from resnet_study.launch.local import run_local
from resnet_study.launch.resources import Pool
from resnet_study.launch.status import how_far, run_states
from resnet_study.launch.worker import Assignment, run_one
from resnet_study.probes import recorded_steps
from resnet_study.records import PROBES, RunWriter, integrity, read_frames, read_summary
from resnet_study.records.integrity import Extent, check_afresh, extent, is_step, problem_of
from resnet_study.spec import RunSpec, from_flat
from resnet_study.studies.publish import publish
from resnet_study.tracking.tracker import Tracker
from resnet_study.training.loop import train
from resnet_study.training.options import Options, StopFlag

SPEC = from_flat(
    {
        "data.name": "synthetic",
        "data.batch_size": 4,
        "model.depth": 8,
        "schedule.iterations": 40,
        "probes.log_every": 4,
        "probes.evaluate_every": 10,
        "probes.layers_every": 10,
    }
)
TABLES = ("metrics.parquet", "layers.parquet")


def record(folder: Path, status: str, reached: int, spec: RunSpec = SPEC) -> Path:
    """A run folder as training leaves it at an iteration, its checkpoint empty."""
    writer = RunWriter(folder, spec, {"execution": {}})
    layers = [(f"layer{k}", 1, k) for k in range(8)]
    for step in range(reached + 1):
        values = {"loss": 1.0, "error": 50.0, "learning_rate": 0.1}
        if step and step % 4 == 0:
            writer.log_metrics(step, 0.0, "train", **values)
        if step % 10 == 0:
            writer.log_metrics(step, 0.0, "test", **values)
        if step in recorded_steps(40, 10) and (step < reached or status == "finished"):
            writer.log_layers(step, layers, {name: np.ones(8) for name in PROBES})
    more = {"finished": {"iterations": 40}, "stopped": {"step": reached}}.get(status, {})
    writer.finish({"status": status, **more})
    if status != "finished":
        (folder / "checkpoints" / str(reached)).mkdir(parents=True)
    return folder


def cut(table: Path, last: int) -> None:
    """As of a copy that was made when the run had come to an iteration."""
    rows = pd.read_parquet(table)
    rows[rows.step <= last].to_parquet(table, index=False)


def behead(table: Path) -> None:
    """As of a run that went on without the rows before."""
    rows = pd.read_parquet(table)
    rows[rows.step > 20].to_parquet(table, index=False)


def empty(table: Path) -> None:
    rows = pd.read_parquet(table)
    rows[:0].to_parquet(table, index=False)


def halve(table: Path) -> None:
    table.write_bytes(table.read_bytes()[:1000])


DAMAGES: tuple[tuple[Callable[[Path], None], str], ...] = (
    (Path.unlink, "is missing, although the run came to"),
    (empty, "has no rows, although"),
    (lambda table: cut(table, 20), "ends at iteration 20, although the run came to"),
    (behead, "and not at 0, although the run came to"),
    (halve, "cannot be read as parquet"),
)


def mending(line: str | None, *words: str) -> None:
    assert line is not None
    assert "\n" not in line
    for word in (*words, "; restore it, or"):
        assert word in line


@pytest.mark.parametrize("reached", [1, 7, 20, 39, 40])
@pytest.mark.parametrize("status", ["running", "stopped"])
def test_what_training_leaves_is_whole(tmp_path: Path, status: str, reached: int) -> None:
    run = record(tmp_path, status, reached)
    assert problem_of(run) is None
    # Published, and kept without its checkpoints.
    shutil.rmtree(run / "checkpoints")
    assert problem_of(run) is None


def test_finished_and_committed_runs_are_whole(tmp_path: Path, root: Path) -> None:
    assert problem_of(record(tmp_path, "finished", 40)) is None
    for run in (root / "results" / "reference").glob("*/runs/*"):
        assert problem_of(run) is None


def test_a_run_that_diverged_has_the_rows_to_there(tmp_path: Path) -> None:
    run = record(tmp_path, "diverged", 24)
    summary = {"status": "diverged", "diverged_at": 24}
    (run / "summary.json").write_text(json.dumps(summary))
    assert problem_of(run) is None
    (run / "summary.json").write_text(json.dumps({**summary, "diverged_at": 25}))
    mending(problem_of(run), "metrics.parquet: ends at iteration 24", "came to 25")


def test_runs_that_record_no_layers_lack_none(tmp_path: Path) -> None:
    spec = from_flat({**SPEC.flat(), "probes.layers_every": 0})
    run = record(tmp_path, "finished", 40, spec)
    empty(run / "layers.parquet")
    assert problem_of(run) is None
    (run / "layers.parquet").unlink()
    assert problem_of(run) is None


@pytest.mark.parametrize("status", ["finished", "stopped", "running"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_lost_rows_are_noticed_by_every_reader(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    status: str,
    table: str,
    damage: Callable[[Path], None],
    words: str,
) -> None:
    study = tmp_path / "study"
    run = record(study / "runs" / SPEC.run_id, status, 40)
    other = from_flat({**SPEC.flat(), "seed": 1})
    record(study / "runs" / other.run_id, "finished", 40, other)
    damage(run / table)
    before = read_summary(run)
    mending(problem_of(run), table, words)
    states = {state.run_id: state for state in run_states(study / "runs")}
    assert states[SPEC.run_id].state == "damaged"
    mending(states[SPEC.run_id].detail, table, words)
    assert states[other.run_id].state == "finished"
    ids = [SPEC.run_id, other.run_id]
    assert how_far(study / "runs", ids) == "1 of 2 runs are done, 1 damaged"
    with pytest.raises(UserError, match=words):
        read_frames([study])
    with pytest.raises(UserError, match=words):
        publish(study, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    dataset = load_dataset(SPEC.data, SPEC.seed)
    with pytest.raises(UserError, match=words):
        train(SPEC, dataset, run)
    for command in ("compare error", "claims", "explore"):
        with pytest.raises(SystemExit) as end:
            cli.main([*command.split(), str(study)])
        assert end.value.code == 2
        mending(capsys.readouterr().err.strip(), table, words)
    # What is left is left as it was.
    assert read_summary(run) == before


def test_a_sweep_says_so_and_keeps_the_summary(tmp_path: Path) -> None:
    run = record(tmp_path / SPEC.run_id, "finished", 40)
    (run / "metrics.parquet").unlink()
    outcome = run_local([SPEC], tmp_path, pool=Pool(workers=1))
    assert outcome.summaries == {}
    mending(outcome.failures[SPEC.run_id], "metrics.parquet: is missing")
    assert read_summary(run)["status"] == "finished"


def test_a_missing_spec_is_noticed_and_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = record(tmp_path / "runs" / SPEC.run_id, "finished", 40)
    before = (run / "spec.json").read_bytes()
    (run / "spec.json").unlink()
    with pytest.raises(UserError, match=r"no spec\.json; restore it, or give the command"):
        read_frames([tmp_path])
    train(SPEC, load_dataset(SPEC.data, SPEC.seed), run)
    assert (run / "spec.json").read_bytes() == before
    assert len(read_frames([tmp_path]).runs) == 1


def test_a_missing_summary_is_noticed(tmp_path: Path) -> None:
    run = record(tmp_path, "finished", 40)
    (run / "summary.json").unlink()
    mending(problem_of(run), "has records but no summary.json")
    # And a run without a checkpoint is not trained over its records.
    with pytest.raises(UserError, match="has records to iteration 40 but no checkpoint"):
        train(SPEC, load_dataset(SPEC.data, SPEC.seed), run)


def test_a_published_run_is_not_trained_over(tmp_path: Path) -> None:
    run = record(tmp_path, "stopped", 20)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="to iteration 20 but no checkpoint"):
        check_afresh(run)
    # One that was killed before its first checkpoint is.
    (run / "summary.json").write_text('{"status": "running"}')
    assert check_afresh(run) == 20
    assert check_afresh(tmp_path / "none") == 0


def test_a_checkpoint_without_environment_is_refused(tmp_path: Path) -> None:
    run = record(tmp_path, "stopped", 20)
    (run / "environment.json").unlink()
    with pytest.raises(UserError, match=r"environment\.json: is missing.*kernels"):
        train(SPEC, load_dataset(SPEC.data, SPEC.seed), run)


def test_the_failure_to_go_on_does_not_hide_how_far_a_run_came(tmp_path: Path) -> None:
    run = record(tmp_path / SPEC.run_id, "stopped", 20)
    (run / "metrics.parquet").unlink()
    message = run_one(SPEC, Assignment(tmp_path, Options(), ""), StopFlag(), Tracker())
    assert message.kind == "failed"
    mending(message.content, "metrics.parquet: is missing")
    assert read_summary(run) == {"status": "stopped", "step": 20}


def test_tables_of_the_told_lengths_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = record(tmp_path, "finished", 40)
    summary = read_summary(run)
    assert summary["bytes"] == {name: (run / name).stat().st_size for name in TABLES}
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "extent", lambda table: 1 // 0)
        patch.setattr(integrity, "from_json", lambda *text: 1 // 0)
        assert problem_of(run) is None
    # Written again by other means, with all rows, they are as good.
    rows = pd.read_parquet(run / "metrics.parquet")
    rows.to_parquet(run / "metrics.parquet", index=False, compression="gzip")
    assert problem_of(run) is None
    # Records of earlier versions tell none.
    del summary["bytes"]
    (run / "summary.json").write_text(json.dumps(summary))
    assert problem_of(run) is None
    (run / "metrics.parquet").unlink()
    mending(problem_of(run), "metrics.parquet: is missing")


def test_a_published_copy_tells_its_own_lengths(tmp_path: Path) -> None:
    record(tmp_path / "study" / "runs" / SPEC.run_id, "finished", 40)
    publish(tmp_path / "study", tmp_path / "copy")
    run = tmp_path / "copy" / "runs" / SPEC.run_id
    assert read_summary(run)["bytes"] == {name: (run / name).stat().st_size for name in TABLES}


def test_the_extent_of_a_table_needs_no_statistics(tmp_path: Path) -> None:
    rows = pd.DataFrame({"step": [3, 9, 5], "error": 1.0})
    for statistics in (True, False):
        rows.to_parquet(tmp_path / "table.parquet", write_statistics=statistics)
        assert extent(tmp_path / "table.parquet") == Extent(3, 9)
    assert extent(tmp_path / "none.parquet") is None


def test_only_digits_name_a_checkpoint() -> None:
    assert [name for name in ("0", "40", "²", "٤", "007", "-1", "40.tmp", "") if is_step(name)] == [
        "0",
        "40",
    ]


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_a_run_that_is_done_needs_its_spec(content: str, tmp_path: Path) -> None:
    folder = record(tmp_path / "runs" / SPEC.run_id, "finished", 40)
    assert [run.state for run in run_states(tmp_path / "runs")] == ["finished"]
    (folder / "spec.json").write_text(content)
    assert [run.state for run in run_states(tmp_path / "runs")] == ["damaged"]
    assert "spec.json" in (problem_of(folder) or "")
    outcome = run_local([SPEC], tmp_path / "runs", pool=Pool(workers=1))
    assert "spec.json" in outcome.failures[SPEC.run_id]
