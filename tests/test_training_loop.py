"""One run: exact resumption after a kill, divergence, evaluation, stopping."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from resnet_study import files, lease
from resnet_study.data import load_dataset
from resnet_study.errors import UserError
from resnet_study.records import read_run
from resnet_study.spec import RunSpec, from_flat
from resnet_study.training import checkpoints, chunks, loop, programs
from resnet_study.training.loop import train
from resnet_study.training.options import Host, StopFlag

BASE = {
    "model.depth": 8,
    "data.name": "synthetic",
    "data.batch_size": 64,
    "schedule.iterations": 40,
    "probes.log_every": 4,
    "probes.evaluate_every": 10,
    "probes.layers_every": 10,
}


@pytest.fixture
def single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one iteration."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)


class StopAt(StopFlag):
    """Asks to stop after a number of chunks."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self.left -= 1
        return self.left <= 0


def spec_of(**values) -> RunSpec:
    return from_flat({**BASE, **values})


def run(spec: RunSpec, folder: Path, **host) -> dict:
    return train(spec, load_dataset(spec.data, spec.seed), folder, host=Host(**host))


def tables(folder: Path) -> list[pd.DataFrame]:
    loaded = read_run(folder)
    return [
        loaded.metrics.sort_values(["step", "split"], ignore_index=True),
        loaded.layers.sort_values(["step", "layer"], ignore_index=True),
    ]


def assert_same_records(first: Path, second: Path) -> None:
    for a, b in zip(tables(first), tables(second), strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.mark.parametrize("stop_at", [None, 57])
def test_the_rate_follows_the_error_at_every_step(tmp_path: Path, stop_at: int | None) -> None:
    """Warmed up at depth 8 as the paper warms up at 110, then at full rate for good; also where
    it is stopped and resumed on the way."""
    spec = spec_of(
        **{
            "schedule.iterations": 120,
            "schedule.warmup_error": 80.0,
            "optimizer.learning_rate": 0.08,
            "schedule.first_drop": 110,
            "schedule.second_drop": 110,
            "probes.log_every": 1,
        }
    )
    data = load_dataset(spec.data, spec.seed)
    if stop_at is not None:
        assert train(spec, data, tmp_path, host=Host(stop=StopAt(stop_at)))["status"] == "stopped"
    assert train(spec, data, tmp_path)["status"] == "finished"
    rows = read_run(tmp_path).metrics
    rows = rows[rows.split == "train"].sort_values("step")
    assert list(rows.step) == list(range(1, 121))
    errors = np.concatenate([np.full(50, 100.0), rows.error])
    over, expected = False, []
    for step in range(120):
        over = over or errors[step : step + 50].mean() < 80
        expected.append((0.08 if step < 110 else 0.0008) if over else min(0.01, 0.08))
    assert 0.01 in expected[:60]
    assert 0.08 in expected
    assert list(rows.learning_rate) == expected
    start = read_run(tmp_path).metrics.query("step == 0").learning_rate
    assert set(start) == {0.01}


def test_records_of_a_finished_run(tmp_path: Path) -> None:
    spec = spec_of()
    summary = run(spec, tmp_path)
    loaded = read_run(tmp_path)
    assert summary["status"] == "finished"
    assert summary == loaded.summary
    splits = {split: list(rows.step) for split, rows in loaded.metrics.groupby("split")}
    assert splits["train"] == list(range(4, 41, 4))
    assert splits["test"] == splits["val"] == splits["train_clean"] == [0, 10, 20, 30, 40]
    steps = sorted({0, 1, 2, 3, 5, 8, 13, 21, 34, 10, 20, 30, 40})
    assert sorted(loaded.layers.step.unique()) == steps
    assert (loaded.layers.groupby("step").layer.apply(list).map(tuple) == tuple(range(1, 9))).all()
    rates = loaded.metrics[loaded.metrics.split == "train"].set_index("step").learning_rate
    assert list(rates[[20, 24, 32, 36, 40]]) == pytest.approx([0.1, 0.01, 0.001, 0.001, 0.001])
    assert loaded.metrics.error.between(0, 100).all()
    # The synthetic classes can be learnt, so training must have helped.
    assert summary["train_clean_error_last"] < 20
    last = loaded.metrics[(loaded.metrics.split == "test") & (loaded.metrics.step == 40)]
    assert summary["test_error_last"] == last.error.item()
    assert not lease.is_held(tmp_path)


def test_errors_count_every_image(tmp_path: Path) -> None:
    """Errors are whole numbers of images, of all of them, though no batch divides them."""
    run(spec_of(**{"data.validation": 0.07}), tmp_path)
    metrics = read_run(tmp_path).metrics
    for split, images in (("test", 128), ("val", 36), ("train_clean", 476)):
        wrong = metrics[metrics.split == split].error * images / 100
        np.testing.assert_allclose(wrong, wrong.round(), atol=1e-6)


def test_the_same_seed_gives_the_same_records_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(spec_of(seed=seed), tmp_path / name)
    assert_same_records(tmp_path / "a", tmp_path / "b")
    assert not tables(tmp_path / "a")[0].equals(tables(tmp_path / "c")[0])


def test_stopped_between_rows_and_resumed_equals_uninterrupted(
    tmp_path: Path, single_steps: None
) -> None:
    spec = spec_of()
    run(spec, tmp_path / "whole")
    data = load_dataset(spec.data, spec.seed)
    folder = tmp_path / "pieces"
    # 1 + 6 + 8 + 25: in the middle of a row, on a row, on an evaluation, at the end.
    for steps in (1, 6, 8, 25):
        assert train(spec, data, folder, host=Host(stop=StopAt(steps)))["status"] == "stopped"
    assert checkpoints.steps(folder / "checkpoints")[-1] == 40
    assert train(spec, data, folder)["status"] == "finished"
    assert_same_records(tmp_path / "whole", folder)
    assert len(read_run(folder).environment["previous"]) == 4
    assert read_run(folder).environment["data_digest"] == data.digest


@pytest.fixture
def two_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations that record no layers get a program of their own, in a run however short."""
    monkeypatch.setattr(chunks, "SEPARATE_FROM", 1)


class Cuts:
    """In place of `next_chunk`: lengths drawn at random, and the chunks that were made."""

    def __init__(self, seed: int) -> None:
        self.random, self.made = np.random.default_rng(seed), []

    def __call__(self, plan: chunks.Plan, start: int, longest: int) -> chunks.Chunk:
        chunk = chunks.next_chunk(plan, start, int(self.random.integers(1, 9)))
        self.made.append(chunk)
        return chunk


@pytest.mark.slow
def test_records_do_not_depend_on_where_chunks_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_programs: None
) -> None:
    """Cut and stopped at random, with dropout, the layers computed by a program of their own."""
    spec = spec_of(**{"probes.log_every": 10, "model.shortcut_scaling": "dropout"})
    data = load_dataset(spec.data, spec.seed)
    made = []
    for name, seed in (("a", 1), ("b", 2)):
        cuts = Cuts(seed)
        monkeypatch.setattr(loop, "next_chunk", cuts)
        assert (
            train(spec, data, tmp_path / name, host=Host(stop=StopAt(5 + seed)))["status"]
            == "stopped"
        )
        assert train(spec, data, tmp_path / name)["status"] == "finished"
        made.append(cuts.made)
    assert made[0] != made[1]
    assert {chunk.probes for chunk in made[0]} == {True, False}
    assert_same_records(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_a_program_for_chunks_gives_the_records_of_single_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_programs: None
) -> None:
    """What an accelerator runs, here on the CPU: data on the device, order, augmentation, dropout
    and the loop in the program. It resumes to the same bits, and differs from single steps by
    rounding.
    """
    spec = spec_of(
        **{
            "model.shortcut_scaling": "dropout",
            "schedule.iterations": 8,
            "data.augmentation": "crop-flip",
            "data.crop_padding": 2,
            "data.batch_size": 48,
            "probes.layers_every": 4,
            "probes.evaluate_every": 8,
            "optimizer.learning_rate": 0.01,
        }
    )
    data = load_dataset(spec.data, spec.seed)
    train(spec, data, tmp_path / "single")
    monkeypatch.setattr(loop, "program_of", programs.Chunked)
    monkeypatch.setattr(programs, "EVALUATION_BATCH", 128)
    monkeypatch.setattr(loop, "next_chunk", Cuts(3))
    train(spec, data, tmp_path / "chunked")
    monkeypatch.setattr(loop, "next_chunk", Cuts(4))
    assert train(spec, data, tmp_path / "cut", host=Host(stop=StopAt(2)))["status"] == "stopped"
    assert train(spec, data, tmp_path / "cut")["status"] == "finished"
    assert_same_records(tmp_path / "chunked", tmp_path / "cut")
    for single, chunked in zip(
        tables(tmp_path / "single"), tables(tmp_path / "chunked"), strict=True
    ):
        pd.testing.assert_frame_equal(single, chunked, rtol=2e-3, atol=1e-4)


def test_nothing_after_the_first_bad_loss_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is not finite in the middle of a chunk, at the start of a row, and at step 0."""
    real = programs.Stepwise.train
    for bad, row in ((6, 6), (8, 9), (0, 0)):

        def spoiled(self, state, chunk, bad=bad):
            state, fetch = real(self, state, chunk)

            def result():
                metrics = fetch()
                loss = np.array(metrics.loss)
                loss[np.arange(chunk.start, chunk.stop) >= bad] = np.nan
                return metrics._replace(loss=loss)

            return state, result

        monkeypatch.setattr(programs.Stepwise, "train", spoiled)
        folder = tmp_path / str(bad)
        spec = spec_of(**{"probes.evaluate_every": 1, "probes.layers_every": 1})
        summary = run(spec, folder)
        assert (summary["status"], summary["diverged_at"]) == ("diverged", row)
        metrics, layers = tables(folder)
        assert not metrics.duplicated(["step", "split"]).any()
        assert metrics[metrics.split == "train"].step.tolist()[-1] == row
        assert metrics[metrics.split == "test"].step.max() == bad
        assert layers.step.max() == bad


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """A real process, killed with SIGKILL in the middle, twice."""
    flags = [f"--{k}={v}" for k, v in {**BASE, "schedule.iterations": 400}.items()]

    def start(results: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "resnet_study", "train", *flags]
        command += [f"--results={results}", "--checkpoint_seconds=0.2"]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(process: subprocess.Popen[str]) -> None:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output

    finish(start(tmp_path / "whole"))
    (folder,) = (tmp_path / "whole" / "runs").iterdir()
    killed = tmp_path / "killed" / "runs" / folder.name
    reached = []
    for least in (1, 100):
        process = start(tmp_path / "killed")
        while max(checkpoints.steps(killed / "checkpoints"), default=0) < least:
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        reached.append(max(checkpoints.steps(killed / "checkpoints"), default=0))
        assert read_run(killed).summary["status"] == "running"
    assert 0 < reached[0] <= reached[1] < 400
    finish(start(tmp_path / "killed"))
    assert_same_records(folder, killed)


def test_divergence_is_recorded_and_is_no_crash(tmp_path: Path) -> None:
    rates = {"optimizer.learning_rate": 1e9, "model.normalization": "none"}
    spec = spec_of(**rates)
    summary = run(spec, tmp_path)
    assert summary["status"] == "diverged"
    metrics = read_run(tmp_path).metrics
    rows = metrics[metrics.split == "train"].set_index("step").loss
    # The run ends at the first loss that is not finite, and its row says which step that was.
    assert not np.isfinite(rows.iloc[-1])
    assert np.isfinite(rows.iloc[:-1]).all()
    assert rows.index[-1] == summary["diverged_at"] < 40
    # It is an end: asking again trains nothing.
    assert run(spec, tmp_path) == summary


def test_a_run_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    held = lease.acquire(tmp_path)
    assert held is not None
    with held, pytest.raises(UserError, match="another process"):
        run(spec_of(), tmp_path)


def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    spec = spec_of()
    run(spec, tmp_path)
    files.write_json(tmp_path / "summary.json", {"status": "running"})
    for file in (tmp_path / "checkpoints" / "40").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(UserError, match="remove it to go on from an earlier one, or") as error:
        run(spec, tmp_path)
    assert "\n" not in str(error.value)


def test_progress_is_reported_and_readable_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, single_steps: None
) -> None:
    monkeypatch.setattr("resnet_study.training.loop.STATUS_SECONDS", 0.0)
    seen = []
    run(spec_of(), tmp_path, on_progress=lambda report: seen.append(report))
    assert [report.step for report in seen] == list(range(1, 41))
    assert all(report.iterations == 40 for report in seen)
    assert np.isnan(seen[0].error)
    assert 0 <= seen[-1].error <= 100


def test_a_run_that_was_taken_over_writes_nothing_more(tmp_path: Path, monkeypatch) -> None:
    """As after a long suspension: another worker's lease stands where ours was."""
    monkeypatch.setattr("resnet_study.training.loop.STATUS_SECONDS", 0.0)
    held: list[lease.Lease] = []
    acquire = lease.acquire
    monkeypatch.setattr(lease, "acquire", lambda f: held.append(acquire(f)) or held[-1])
    seen: dict[Path, bytes] = {}

    def lose(report: object) -> None:
        held[0].lost = True
        seen.update({f: f.read_bytes() for f in tmp_path.iterdir() if f.is_file()})

    with pytest.raises(UserError, match="took this run over"):
        run(spec_of(), tmp_path, on_progress=lose)
    assert {f: f.read_bytes() for f in seen if f.name != lease.FILE_NAME} == {
        f: content for f, content in seen.items() if f.name != lease.FILE_NAME
    }
    assert not checkpoints.steps(tmp_path / "checkpoints")


def test_a_folder_of_another_run_is_refused_even_if_that_one_is_done(tmp_path: Path) -> None:
    run(spec_of(), tmp_path)
    with pytest.raises(UserError, match="holds another run"):
        run(spec_of(seed=1), tmp_path)


@pytest.mark.parametrize("program", [programs.Stepwise, programs.Chunked])
def test_a_transfer_that_nobody_asked_for_ends_the_run(
    program: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_with_one_more(self: Any, state: Any, chunk: chunks.Chunk) -> Any:
        jnp.sum(np.ones(3))
        return program.train(self, state, chunk)

    planted = type("Planted", (program,), {"train": train_with_one_more})
    for chosen in (program, planted):
        monkeypatch.setattr(loop, "program_of", chosen)
        spec = spec_of(**{"schedule.iterations": 2})
        if chosen is program:
            assert run(spec, tmp_path / "asked")["status"] == "finished"
        else:
            with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
                run(spec, tmp_path / "planted")
