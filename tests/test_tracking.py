"""The mirror shows the records, and whatever wandb does, training and records do not notice."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from resnet_study import lease
from resnet_study.cli import main
from resnet_study.cli.mirroring import mirror as mirror_command
from resnet_study.data import load_dataset
from resnet_study.errors import UserError
from resnet_study.judging.selections import over_last
from resnet_study.probes import GRADIENTS
from resnet_study.records import read_environment as environment_of
from resnet_study.records import read_frames, read_run
from resnet_study.spec import RunSpec, from_flat
from resnet_study.tracking import tracker as wandb_tracker
from resnet_study.tracking.scalars import KEYS
from resnet_study.tracking.tracker import (
    Tracker,
    Tracking,
    WandbTracker,
    make_tracker,
    tracking_mode,
)
from resnet_study.training.loop import train
from resnet_study.training.options import Host
from tests.fake_wandb import FAKE

TINY = {
    "model.depth": 8,
    "data.name": "synthetic",
    "data.batch_size": 16,
    "schedule.iterations": 12,
    "probes.log_every": 4,
    "probes.evaluate_every": 6,
    "probes.layers_every": 6,
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts a module wandb of the test's own before the mirror process."""
    for name in ("WANDB_MODE", "WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "fake"
    folder.mkdir()
    log = folder / "log.jsonl"

    def make(on_log: str = "pass", on_init: str = "pass", text: str = FAKE) -> Any:
        content = text.format(log=str(log), on_log=on_log, on_init=on_init)
        (folder / "wandb.py").write_text(content)
        monkeypatch.setenv("PYTHONPATH", str(folder))

        def notes(kind: str) -> list[dict[str, Any]]:
            lines = log.read_text().splitlines() if log.exists() else []
            return [note for line in lines if (note := json.loads(line))["kind"] == kind]

        return notes

    return make


def run(
    folder: Path, spec: RunSpec | None = None, seconds: float = 30.0
) -> tuple[dict[str, Any], list[str], float]:
    """Train with a tracker; the summary, its warnings, and how long `close` waited."""
    warnings: list[str] = []
    spec = spec or from_flat(TINY)
    tracker = WandbTracker(Tracking("offline", wandb_seconds=seconds), warnings.append)
    dataset = load_dataset(spec.data, spec.seed)
    try:
        summary = train(spec, dataset, folder, host=Host(tracker=tracker))
    finally:
        began = time.monotonic()
        tracker.close()
    return summary, warnings, time.monotonic() - began


def assert_complete(folder: Path, reference: Path) -> None:
    """The records are those of a run without wandb."""
    with_wandb, without = read_run(folder), read_run(reference)
    assert with_wandb.summary["status"] == "finished"
    pd.testing.assert_frame_equal(with_wandb.metrics, without.metrics)
    pd.testing.assert_frame_equal(with_wandb.layers, without.layers)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "study" / "runs" / "run"
    spec = from_flat(TINY)
    train(spec, load_dataset(spec.data, spec.seed), folder)
    return folder


def test_rows_are_mirrored_once_per_iteration(tmp_path: Path, fake: Any, reference: Path) -> None:
    notes = fake()
    folder = tmp_path / "study" / "runs" / "run"
    _, warnings, _ = run(folder)
    assert not warnings
    assert_complete(folder, reference)
    rows = [note["row"] for note in notes("log")]
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3, 4, 5, 6, 8, 10, 12]
    recorded = read_run(folder).metrics.set_index(["step", "split"])
    for row in rows:
        for name, value in row.items():
            split, slash, column = name.partition("/")
            if slash and name not in KEYS:
                assert value == recorded.loc[(row["iteration"], split), column]
    assert {"train/error", "test/error", "val/loss", "learning_rate"} <= set(rows[-1])
    assert set(rows[4]) == {"iteration", "epoch", "train/error", "train/loss", "learning_rate"}
    # The same as `compare` has from the records, from iteration 0 on.
    frames = read_frames([folder])
    for name, quantity in GRADIENTS.items():
        ratios = over_last(frames, quantity).set_index("step")["ratio"]
        shown = {row["iteration"]: row[f"{name}/ratio"] for row in rows if f"{name}/ratio" in row}
        assert shown == pytest.approx(ratios.to_dict())
    assert rows[0]["weight_growth/first"] == rows[0]["weight_growth/median"] == 1.0
    assert set(rows[-1]) >= set(KEYS)
    # One table for each early iteration and evaluation, one picture at the end of so short a run.
    assert [note["rows"] for note in notes("table")] == [8] * 9
    assert "activation_gradient_norm" in notes("table")[0]["columns"]
    assert len(notes("image")) == 1
    assert [note["names"] for note in notes("metric")][:2] == [["iteration"], ["*"]]
    assert notes("metric")[1]["step_metric"] == "iteration"
    (end,) = notes("finish")
    assert end["exit_code"] == 0
    assert end["summary"]["status"] == "finished"
    assert end["summary"]["test/error"] == rows[-1]["test/error"]


def test_a_recorded_run_is_mirrored_as_it_was_when_it_trained(
    tmp_path: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = fake()
    folder = tmp_path / "study" / "runs" / "run"
    run(folder)
    held = lease.acquire(folder)
    assert held is not None
    with held:
        mirror_command([folder], "offline")
    assert "is being trained, left out" in capsys.readouterr().out
    mirror_command([folder], "offline")
    for kind in ("init", "config", "metric", "log", "table", "finish"):
        live, recorded = notes(kind)[: len(notes(kind)) // 2], notes(kind)[len(notes(kind)) // 2 :]
        assert live == recorded
    assert capsys.readouterr().out.count(f"wandb sync {tmp_path}/study/wandb/") == 1
    assert not notes("html")
    fake(on_init="raise RuntimeError('down')")
    with pytest.raises(UserError, match="RuntimeError: down; the same command goes on"):
        mirror_command([folder])


@pytest.mark.parametrize(("command", "done", "failed"), [("mirror", 0, 2), ("reproduce", 1, 1)])
def test_of_a_study_wandb_has_the_explorer_at_the_end(
    tmp_path: Path,
    fake: Any,
    reference: Path,
    command: str,
    done: int,
    failed: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    notes = fake()
    shutil.copytree(reference.parent.parent, tmp_path / "smoke")
    # The code of a study is its own, whatever wandb does.
    monkeypatch.setattr("resnet_study.studies.run.run_study", lambda *_: 1)
    where = {"mirror": [f"{tmp_path}/smoke"], "reproduce": ["smoke", f"--results={tmp_path}"]}
    words = [command, *where[command], "--wandb=offline"]

    def code() -> int:
        with pytest.raises(SystemExit) as ended:
            main(words)
        return int(ended.value.code or 0)

    assert code() == done
    (shown,) = notes("html")
    assert shown["inject"] is False
    assert shown["text"].startswith("<!DOCTYPE html>")
    assert "vegaEmbed" in shown["text"]
    own = notes("init")[-1]
    assert (own["id"], own["group"], own["job_type"]) == ("explorer-smoke", "smoke", "explorer")
    assert notes("finish")[-1]["exit_code"] == 0
    fake(on_init="raise RuntimeError('down')")
    capsys.readouterr()
    assert code() == failed
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "RuntimeError: down" in said


def test_the_run_is_described_and_its_id_kept(
    tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = fake()
    spec, folder = from_flat(TINY), tmp_path / "study" / "runs" / "run"
    run(folder, spec)
    (init,) = notes("init")
    assert (init["id"], init["group"], init["mode"]) == (spec.run_id, "study", "offline")
    assert init["job_type"] == "residual-8"
    (config,) = (note["values"] for note in notes("config"))
    assert config["environment"]["git"] == environment_of(folder)["git"]
    assert config["environment"]["data_digest"] == environment_of(folder)["data_digest"]
    config.pop("environment")
    assert config == {"run_id": spec.run_id, "family": "residual", **spec.flat()}
    assert init["resume"] is None
    assert init["dir"] == str(tmp_path / "study")
    kept = {"id": spec.run_id, "mode": "offline", "project": "resnet-study", "sweep": None}
    assert read_run(folder).environment["wandb"] == kept
    # Under an agent wandb has chosen the id.
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "theirs")
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    run(tmp_path / "study" / "runs" / "other", spec)
    assert (notes("init")[1]["id"], notes("init")[1]["group"]) == ("theirs", "mine")
    environment = read_run(tmp_path / "study" / "runs" / "other").environment
    assert environment["wandb"] == {**kept, "id": "theirs", "sweep": "s1"}


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"text": "raise ImportError('no module of that name')"}, "ImportError: no module"),
        ({"on_init": "raise RuntimeError('bad\\nkey')"}, "RuntimeError: bad key"),
        ({"on_log": "raise OSError(28, 'No space left on device')"}, "No space left"),
        ({"on_log": "os.kill(os.getpid(), 9)"}, "ended with code -9"),
        ({"on_init": "os._exit(3)"}, "ended with code 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failure_is_told_once_and_the_records_are_complete(
    tmp_path: Path, fake: Any, reference: Path, trouble: dict[str, str], reason: str
) -> None:
    fake(**trouble)
    folder = tmp_path / "study" / "runs" / "run"
    _, warnings, waited = run(folder)
    assert_complete(folder, reference)
    (warning,) = warnings
    assert reason in warning
    assert "\n" not in warning
    assert "the records are complete" in warning
    assert waited < 20


def test_a_mirror_that_cannot_start_and_nobody_to_tell_end_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        raise BrokenPipeError

    monkeypatch.setattr(subprocess, "Popen", fail)
    tracker = WandbTracker(Tracking("offline"), tell)
    for _ in range(2):
        tracker.start(RunSpec(), tmp_path / "a s" / "runs" / "r", {})
        tracker.log_metrics(1, 0.1, "train", loss=1.0)
        tracker.finish({"status": "finished"})
    tracker.close()
    (line,) = told
    assert "cannot be started (Resource temporarily unavailable)" in line
    assert shlex.split(line.rpartition(": ")[2]) == ["resnet-study", "mirror", f"{tmp_path}/a s"]


def test_a_hang_costs_training_nothing_and_ends(
    tmp_path: Path, fake: Any, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(on_init="time.sleep(1000)")
    folder = tmp_path / "study" / "runs" / "run"
    monkeypatch.setattr(wandb_tracker, "NOTICE_SECONDS", 0.5)
    _, warnings, waited = run(folder, seconds=2)
    assert_complete(folder, reference)
    assert 1.5 < waited < 5
    assert "at most 2 seconds more (--wandb_seconds)" in warnings[0]
    assert "2 seconds" in warnings[1]
    with pytest.raises(UserError, match="--wandb_seconds=0"):
        Tracking("offline", wandb_seconds=0)


def test_rows_are_taken_at_once_however_slow_wandb_is(tmp_path: Path, fake: Any) -> None:
    fake(on_init="time.sleep(1000)")
    warnings: list[str] = []
    tracker = WandbTracker(Tracking("offline", wandb_seconds=0.1), warnings.append)
    tracker.start(from_flat(TINY), tmp_path / "study" / "runs" / "run", {})
    probes = {"activation_gradient_norm": np.ones(110)}
    layers = [("stem", 0, 0)] * 110
    for step in range(5000):  # far more than a pipe holds
        tracker.log_layers(step, layers, probes)
        tracker.log_metrics(step, 0.0, "test", loss=1.0, error=50.0)
    assert tracker._messages.qsize() > 1000  # nothing waited for them to be sent
    tracker.close()
    assert len(warnings) == 1


def test_one_process_shows_many_runs_and_the_signals_of_a_stop_spare_it(
    tmp_path: Path, fake: Any
) -> None:
    notes = fake()
    tracker = WandbTracker(Tracking("offline"), pytest.fail)
    for seed in (0, 1):
        spec = from_flat({**TINY, "seed": seed})
        tracker.start(spec, tmp_path / "study" / "runs" / spec.run_id, {})
        process = tracker._process
        assert process is not None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            os.kill(process.pid, number)
        tracker.log_metrics(4, 1.0, "train", loss=math.nan, error=90.0)
        tracker.finish({"status": "stopped"})
    tracker.close()
    assert [note["id"].split("_")[2] for note in notes("init")] == ["seed0", "seed1"]
    assert [note["exit_code"] for note in notes("finish")] == [130, 130]
    assert math.isnan(notes("log")[0]["row"]["train/loss"])


def test_when_training_is_killed_the_last_rows_still_arrive(tmp_path: Path, fake: Any) -> None:
    notes = fake()
    code = (
        "import os, pathlib, sys, time\n"
        "from resnet_study.spec import RunSpec\n"
        "from resnet_study.tracking.tracker import Tracking, WandbTracker\n"
        "tracker = WandbTracker(Tracking('offline'), print)\n"
        "tracker.start(RunSpec(), pathlib.Path(sys.argv[1]), {})\n"
        "tracker.log_metrics(4, 1.0, 'train', loss=1.0, error=90.0)\n"
        "time.sleep(0.5)  # the thread that sends\n"
        "os.kill(os.getpid(), 9)\n"
    )
    folder = tmp_path / "study" / "runs" / "run"
    assert subprocess.run([sys.executable, "-c", code, str(folder)]).returncode == -9
    end = time.monotonic() + 30
    while not notes("finish") and time.monotonic() < end:
        time.sleep(0.1)
    assert notes("log")[0]["row"]["train/error"] == 90.0
    assert notes("finish")[0]["exit_code"] == 1


@pytest.mark.parametrize(
    ("chosen", "environment", "mode"),
    [
        (None, {}, "off"),
        (None, {"WANDB_MODE": "offline"}, "offline"),
        (None, {"WANDB_MODE": "Online"}, "online"),
        (None, {"WANDB_MODE": "dryrun"}, "offline"),
        (None, {"WANDB_MODE": "disabled"}, "off"),
        (None, {"WANDB_MODE": "online", "WANDB_DISABLED": "true"}, "off"),
        (None, {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r"}, "online"),
        (None, {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r", "WANDB_MODE": "offline"}, "offline"),
        ("off", {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r"}, "off"),
        ("online", {"WANDB_MODE": "offline"}, "online"),
    ],
)
def test_the_flag_then_wandb_s_variables_decide(
    chosen: str | None, environment: dict[str, str], mode: str
) -> None:
    assert tracking_mode(chosen, environment) == mode


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UserError, match="WANDB_MODE=sometimes: valid are online, offline, off"):
        tracking_mode(None, {"WANDB_MODE": "sometimes"})


def test_off_starts_nothing(tmp_path: Path) -> None:
    tracker = make_tracker(Tracking("off"), pytest.fail)
    assert type(tracker) is Tracker
    assert tracker.start(from_flat(TINY), tmp_path, {}) == {}
    tracker.log_metrics(0, 0.0, "train", loss=1.0)
    tracker.log_layers(0, [], {})
    tracker.finish({})
    tracker.close()
