"""Records survive kills and resumption, and pandas alone reads them."""

import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_study.errors import UserError
from resnet_study.records import (
    INITIALIZATION_COLUMNS,
    LAYER_COLUMNS,
    METRIC_COLUMNS,
    PROBES,
    RunWriter,
    find_runs,
    metrics_frame,
    read_frames,
    read_run,
    summarize_errors,
    write_initialization,
)
from resnet_study.spec import RunSpec, from_flat, to_json

SPEC = from_flat({"data.name": "synthetic", "model.depth": 8, "schedule.iterations": 60})
LAYERS = [("stem", 0, 0), ("stage1.block1.conv1", 1, 1), ("head", 4, 0)]


def log(writer: RunWriter, step: int) -> None:
    """Rows of one step, with values that tell the step."""
    for split in ("train", "val", "test"):
        writer.log_metrics(
            step, step / 4, split, loss=step + 0.5, error=100.0 - step, learning_rate=0.1
        )
    writer.log_layers(step, LAYERS, {name: np.full(3, step + 0.25) for name in PROBES})


def write_run(folder: Path, spec: RunSpec = SPEC, steps: int = 4) -> Path:
    """A finished run of a few steps."""
    run = folder / spec.run_id
    writer = RunWriter(run, spec, {"python": "3"})
    for step in range(steps):
        log(writer, step)
    writer.finish({"status": "finished", **summarize_errors(metrics_frame(writer.metrics))})
    return run


def test_pandas_alone_reads_a_run(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    program = f"""
import json, sys
for name in ("jax", "flax", "resnet_study"):
    sys.modules[name] = None  # an import of it now fails
import pandas as pd
metrics = pd.read_parquet("metrics.parquet")
layers = pd.read_parquet("layers.parquet")
assert list(metrics.columns) == {list(METRIC_COLUMNS)}
assert list(layers.columns) == {[*LAYER_COLUMNS, *PROBES]}
assert metrics.step.dtype == layers.step.dtype == layers.layer.dtype == "int64"
assert len(metrics) == 4 * 3 and len(layers) == 4 * 3
assert (metrics.error == 100 - metrics.step).all()
assert list(layers.layer) == [1, 2, 3] * 4
spec, summary = (json.load(open(f"{{name}}.json")) for name in ("spec", "summary"))
assert spec["schema_version"] == 1 and spec["model"]["depth"] == 8
assert summary["status"] == "finished" and summary["test_error_last"] == 97.0
json.load(open("environment.json"))
"""
    subprocess.run([sys.executable, "-I", "-c", program], cwd=run, check=True)


def test_reading_imports_no_jax() -> None:
    program = (
        "import sys, resnet_study.records;"
        "assert not {'jax', 'flax', 'optax', 'orbax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@settings(max_examples=25)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 12))
def test_a_resumed_run_holds_each_step_once(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: int, lag: int, more: int
) -> None:
    """Killed `lag` steps after its checkpoint, a run is continued for some steps more.

    As in the loop, the metrics of a step are logged when it is reached, and its layers by
    the iteration that follows.
    """
    folder = tmp_path_factory.mktemp("run")
    probes = {"weight_norm": np.ones(3)}

    def advance(writer: RunWriter, first: int, last: int) -> None:
        for step in range(first, last):
            writer.log_layers(step, LAYERS, probes)
            writer.log_metrics(step + 1, 0.0, "train", loss=1.0, error=2.0, learning_rate=0.1)

    killed = RunWriter(folder, SPEC, {"attempt": 1})
    advance(killed, 0, checkpoint + lag)
    killed.flush()
    resumed = RunWriter(folder, SPEC, {"attempt": 2}, resume_step=checkpoint)
    advance(resumed, checkpoint, checkpoint + more)
    resumed.finish({"status": "finished"})
    run = read_run(folder)
    assert list(run.metrics.step) == list(range(1, checkpoint + more + 1))
    expected = [(step, layer) for step in range(checkpoint + more) for layer in (1, 2, 3)]
    assert list(zip(run.layers.step, run.layers.layer, strict=True)) == expected
    assert run.environment == {"attempt": 2, "previous": [{"attempt": 1}]}


def test_a_fresh_start_forgets_the_earlier_rows(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    writer = RunWriter(run, SPEC, {})
    log(writer, 0)
    writer.flush()
    assert set(read_run(run).metrics.step) == set(read_run(run).layers.step) == {0}
    assert read_run(run).environment["previous"] == []


def test_attempts_are_kept_in_order(tmp_path: Path) -> None:
    for attempt, resume in enumerate((None, 3, 5)):
        writer = RunWriter(tmp_path, SPEC, {"attempt": attempt}, resume)
        writer.flush()
    environment = read_run(tmp_path).environment
    assert environment == {"attempt": 2, "previous": [{"attempt": 0}, {"attempt": 1}]}


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    RunWriter(tmp_path, SPEC, {})
    with pytest.raises(UserError, match=r"spec\.json: holds another run"):
        RunWriter(tmp_path, from_flat({"seed": 1}), {})
    assert read_run(tmp_path).spec == SPEC


def test_a_killed_writer_leaves_readable_files(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from tests.test_records import SPEC, RunWriter, log
writer = RunWriter(Path(sys.argv[1]), SPEC, {})
log(writer, 0)
writer.flush()
print("ready", flush=True)
for step in range(1, 10**6):
    log(writer, step)
    writer.finish({"status": "running", "step": step})
"""
    seen = []
    random = np.random.default_rng(0)
    for number in range(6):
        folder = tmp_path / str(number)
        with subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
        ) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"ready\n"
                # While it writes, every look sees whole files.
                end = time.monotonic() + 0.1 + 0.2 * random.random()
                while time.monotonic() < end:
                    read_run(folder)
            finally:
                writer.send_signal(signal.SIGKILL)
        run = read_run(folder)
        steps = run.metrics.step.unique()
        assert list(steps) == list(range(len(steps)))
        assert (run.metrics.groupby("step")["split"].agg(list).map(len) == 3).all()
        # The tables are replaced one after the other.
        assert 0 <= len(steps) - run.layers.step.nunique() <= 1
        assert 0 <= len(steps) - 1 - run.summary.get("step", 0) <= 1
        seen.append(len(steps))
    assert max(seen) > 3


def errors(rows: dict[str, dict[int, float]]) -> pd.DataFrame:
    """Metrics with the given errors by split and step."""
    return pd.DataFrame(
        [
            {"step": step, "epoch": 0.0, "split": split, "loss": 0.0, "error": error}
            for split, values in rows.items()
            for step, error in values.items()
        ],
        columns=list(METRIC_COLUMNS),
    )


def test_errors_are_summarized_side_by_side() -> None:
    summary = summarize_errors(
        errors(
            {
                "train": {10: 50.0, 20: 40.0, 30: 45.0},
                "val": {0: 90.0, 10: 30.0, 20: 20.0, 30: 20.0},
                "test": {0: 91.0, 10: 25.0, 20: 33.0, 30: 31.0},
            }
        )
    )
    assert summary == {
        "train_error_last": 45.0,
        "train_error_best": 40.0,
        "train_clean_error_last": None,
        "train_clean_error_best": None,
        "val_error_last": 20.0,
        "val_error_best": 20.0,
        "test_error_last": 31.0,
        # Lowest on the test set, and what the validation set chooses: step 20, the earlier
        # of its two best.
        "test_error_best": 25.0,
        "selected_step": 20,
        "test_error_selected": 33.0,
    }


def test_rows_may_come_in_any_order() -> None:
    rows = errors({"val": {0: 9.0, 1: 5.0, 2: 5.0, 3: 8.0}, "test": {0: 1.0, 1: 2.0, 3: 4.0}})
    expected = summarize_errors(rows)
    assert (expected["selected_step"], expected["test_error_last"]) == (1, 4.0)
    for seed in range(10):
        assert summarize_errors(rows.sample(frac=1, random_state=seed)) == expected


def test_nothing_is_selected_without_validation() -> None:
    summary = summarize_errors(errors({"test": {0: 90.0, 5: 10.0}}))
    assert summary["selected_step"] is None
    assert summary["test_error_selected"] is None
    assert summary["test_error_last"] == 10.0
    assert set(summarize_errors(metrics_frame([])).values()) == {None}


def test_a_lost_validation_error_is_not_selected() -> None:
    rows = {"val": {1: math.nan, 2: 30.0, 3: math.nan}, "test": {1: 1.0, 2: 2.0, 3: 3.0}}
    summary = summarize_errors(errors(rows))
    assert (summary["selected_step"], summary["test_error_selected"]) == (2, 2.0)


def test_runs_are_found_once_and_in_order(tmp_path: Path) -> None:
    specs = [from_flat({"data.name": "synthetic", "seed": seed}) for seed in (2, 0, 1)]
    folders = [write_run(tmp_path / "study" / "runs", spec, 1) for spec in specs]
    found = find_runs([tmp_path / "study", folders[0], tmp_path / "study" / "runs"])
    assert [folder.resolve() for folder in found] == sorted(folders)
    assert find_runs([folders[0]]) == [folders[0]]


def test_missing_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=rf"{tmp_path}: no runs found"):
        find_runs([tmp_path])
    with pytest.raises(UserError, match=r"not a run folder \(no spec\.json\)"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("spec.json", b"{", "not valid JSON"),
        ("spec.json", b"\xff\xfe\x00", "cannot be read"),
        ("summary.json", b"{'status'", "not valid JSON"),
        ("summary.json", b"[1]", "a JSON object, not list"),
        ("summary.json", b"\xff", "cannot be read"),
        ("environment.json", b"", "not valid JSON"),
        ("metrics.parquet", b"", "cannot be read as parquet"),
        ("metrics.parquet", b"PAR1" + bytes(100) + b"PAR1", "cannot be read as parquet"),
        ("layers.parquet", pd.DataFrame({"step": [1]}).to_parquet(), "has no column layer, name"),
        ("metrics.parquet", pd.DataFrame({"a": [1]}).to_parquet(), "has no column step, epoch"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    run = write_run(tmp_path)
    (run / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_run(run)
    message = str(caught.value)
    assert message.startswith(str(run / name))
    assert reason in message


def test_frames_keep_types_and_name_their_runs(tmp_path: Path) -> None:
    base = {"data.name": "synthetic", "schedule.iterations": 3}
    specs = [
        from_flat({**base, "model.residual": residual, "seed": seed})
        for residual in (True, False)
        for seed in (0, 1)
    ]
    for spec in specs:
        write_run(tmp_path, spec)
    # Two runs that did not get far must not turn integers into floats or objects.
    early, started = (from_flat({"data.name": "synthetic", "seed": seed}) for seed in (8, 9))
    RunWriter(tmp_path / early.run_id, early, {}).flush()
    (tmp_path / started.run_id).mkdir()
    (tmp_path / started.run_id / "spec.json").write_text(to_json(started))
    frames = read_frames([tmp_path])
    assert set(frames.runs.index) == {spec.run_id for spec in (*specs, early, started)}
    assert frames.runs.loc[specs[0].run_id, "status"] == "finished"
    assert frames.runs.loc[early.run_id, "status"] == "running"
    assert frames.runs.loc[started.run_id, "status"] == "running"
    assert frames.runs.loc[specs[2].run_id, "family"] == "plain"
    for name, column in (("seed", "seed"), ("depth", "model.depth")):
        assert frames.runs[name].tolist() == frames.runs[column].tolist()
        assert frames.runs[name].dtype == "int64"
    for table, rows in ((frames.metrics, 12), (frames.layers, 12)):
        assert list(table.columns[:4]) == ["run_id", "family", "depth", "seed"]
        assert table.groupby("run_id").size().to_dict() == {s.run_id: rows for s in specs}
        assert {table[c].dtype.name for c in ("depth", "seed", "step")} == {"int64"}
    assert {frames.layers[c].dtype.name for c in ("layer", "stage", "block")} == {"int64"}
    assert {frames.metrics[c].dtype.name for c in ("loss", "error", "epoch")} == {"float64"}


def test_frames_without_rows_have_their_columns(tmp_path: Path) -> None:
    RunWriter(tmp_path / "run", SPEC, {})
    frames = read_frames([tmp_path])
    assert set(METRIC_COLUMNS) < set(frames.metrics.columns)
    assert {*LAYER_COLUMNS, *PROBES} < set(frames.layers.columns)
    assert len(frames.metrics) == len(frames.layers) == 0
    assert frames.runs.status.tolist() == ["running"]


def test_records_of_initialisation_without_width_and_images_are_of_the_usual_ones(
    tmp_path: Path,
) -> None:
    """Those of earlier versions, in either folder; others are refused by name."""
    numbers = {"depth": [8], "seed": [0], "index": [1], "stage": [0], "value": [1.0]}
    row = {name: ["x"] for name in INITIALIZATION_COLUMNS} | numbers
    table = pd.DataFrame(row).drop(columns=["width", "images"])
    for folder in ("initialization", "signals"):
        (tmp_path / folder).mkdir()
        table.to_parquet(tmp_path / folder / "arm.parquet")
    own = table.assign(width=32, images=16)
    write_initialization(tmp_path / "initialization" / "new.parquet", own)
    found = read_frames([tmp_path]).initialization
    assert sorted(zip(found["width"], found["images"], strict=True)) == [(16, 128)] * 2 + [(32, 16)]
    table.drop(columns="stage").to_parquet(tmp_path / "signals" / "bad.parquet")
    with pytest.raises(UserError, match="has no column stage"):
        read_frames([tmp_path])
