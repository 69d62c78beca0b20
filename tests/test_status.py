"""Status from run folders alone; where workers compute; how long runs will take."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from resnet_study import cli, lease, runtime
from resnet_study.cli import main
from resnet_study.errors import UserError
from resnet_study.launch import placement
from resnet_study.launch.estimate import cost, estimate
from resnet_study.launch.local import run_local
from resnet_study.launch.placement import Placement, default_workers, placements
from resnet_study.launch.resources import Pool
from resnet_study.launch.status import STATES, how_far, run_states
from resnet_study.records import RunWriter
from resnet_study.spec import RunSpec, from_flat, to_json

REFERENCE = Path(__file__).parent.parent / "results" / "reference"
COMMAND = ["${env}", "python", "-m", "resnet_study", "train", "${args}"]


def write_summary(runs: Path, run_id: str, **summary: Any) -> Path:
    folder = runs / run_id
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with a run in every state."""
    runs = tmp_path / "runs"
    write_summary(runs, "b-finished", status="finished", iterations=40, test_error_last=3.25)
    write_summary(runs, "c-diverged", status="diverged", iterations=40, diverged_at=7)
    write_summary(runs, "d-failed", status="failed", reason="out of\nmemory")
    write_summary(runs, "e-stopped", status="stopped", step=10, iterations=40)
    write_summary(runs, "f-dead", status="running", step=20, iterations=40, error=1.5)
    (runs / "g-begun").mkdir()
    (write_summary(runs, "i-damaged", status="finished") / "layers.parquet").touch()
    held = write_summary(runs, "h-running", status="running", step=30, iterations=40)
    dead = {"token": "t", "machine": lease._machine(), "process": [2**22 + 1, "0"]}
    (runs / "f-dead" / lease.FILE_NAME).write_text(json.dumps(dead))
    taken = lease.acquire(held)
    assert taken is not None
    with taken:
        yield tmp_path


def test_every_state_is_told_from_the_folder(study: Path) -> None:
    states = run_states(study / "runs")
    assert [(run.run_id[2:], run.state) for run in states] == [
        ("finished", "finished"),
        ("diverged", "diverged"),
        ("failed", "failed"),
        ("stopped", "stopped"),
        ("dead", "to do"),
        ("begun", "to do"),
        ("running", "running"),
        ("damaged", "damaged"),
    ]
    assert {run.state for run in states} == set(STATES)
    assert [(run.step, run.iterations) for run in states] == [
        (40, 40),
        (7, 40),
        (None, None),
        (10, 40),
        (20, 40),
        (None, None),
        (30, 40),
        (None, None),
    ]
    assert "has records but no spec.json" in states[7].detail
    assert (states[0].training, states[0].test, states[0].detail) == (None, 3.25, "")
    assert states[2].detail == "out of memory"
    killed = states[4]
    assert (killed.training, killed.test, killed.detail) == (1.5, None, "its worker was killed")
    assert states[5].detail == ""


def test_a_lease_from_another_machine_counts_until_it_is_stale(study: Path) -> None:
    folder = study / "runs" / "f-dead"
    elsewhere = {"token": "t", "machine": "another", "process": [1, "0"]}
    (folder / lease.FILE_NAME).write_text(json.dumps(elsewhere))
    assert run_states(study / "runs", ["f-dead"])[0].state == "running"
    long_ago = time.time() - lease.STALE_SECONDS - 60
    os.utime(folder / lease.FILE_NAME, (long_ago, long_ago))
    assert run_states(study / "runs", ["f-dead"])[0].state == "to do"
    assert how_far(study / "runs", ["f-dead", "g-begun"]) == (
        "0 of 2 runs are done, 1 begun (f-dead: 20 of 40 iterations)"
    )


def test_a_study_that_nobody_started_is_to_do(tmp_path: Path) -> None:
    assert run_states(tmp_path / "runs") == []
    assert run_states(tmp_path / "runs", ["a"])[0].state == "to do"


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out + captured.err


def test_the_command_shows_the_runs_of_a_sweep(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = call(capsys, "status", str(study))
    assert code == 0
    assert "8 runs: 2 to do, 1 running, 1 stopped, 1 failed, 1 damaged, 1 finished" in shown
    assert "10 of 40" in shown
    path = study / "sweep.yaml"
    content = {"command": COMMAND, "method": "grid", "parameters": {"seed": {"values": [0, 1]}}}
    path.write_text(json.dumps(content))
    code, shown = call(capsys, "status", str(study), f"--sweep={path}")
    assert "2 runs: 2 to do" in shown
    assert call(capsys, "status", str(study / "none"))[0] == 2


@pytest.mark.parametrize("place", ["runs", "runs/b-finished"])
def test_a_folder_without_runs_in_it_is_refused(
    place: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = call(capsys, "status", str(study / place))
    assert code == 2
    assert f"{study / place}: has no runs in it; give {study} " in shown
    (study / "empty").mkdir()
    code, shown = call(capsys, "status", str(study / "empty"))
    assert code == 2
    assert "has no runs in it; give a study folder" in shown


def test_a_study_of_ones_own_is_followed_by_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "from resnet_study.studies.study import Study\n"
        "one = {'method': 'grid', 'parameters': {'seed': {'values': [0, 1, 2]}}}\n"
        "STUDY = Study('mine', 'Mine', '?', sweeps=(one,))\n"
    )
    file = tmp_path / "mine.py"
    code, shown = call(capsys, "status", str(tmp_path / "none yet"), f"--sweep={file}")
    assert code == 0
    assert "3 runs: 3 to do" in shown


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--workers=0"], "--workers=0: at least 1"),
        (["--runs=0"], "--runs=0: at least 1"),
        (["--gpus=1"], "--gpus is for --on=slurm"),
        (["--time=1:00:00"], "--time is for --on=slurm"),
        (["--on=slurm", "--time=soon"], "--time=soon: write minutes"),
        (["--on=slurm", "--sbatch", "account"], "--sbatch account: write a name"),
        (["--on=slurm", "--time=4"], "--time=4: at least 5 minutes are needed: SLURM warns"),
        (["--on=slurm", "--sbatch", "wait"], "--sbatch wait: this command returns at once"),
        (["--on=slurm", "--cpus=0"], "--cpus=0: at least 1"),
        (["--wandb=sometimes"], "wandb"),
    ],
)
def test_flags_that_make_no_sense_are_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    code, shown = call(capsys, "sweep", str(root / "sweeps" / "smoke.yaml"), *words)
    assert code == 2
    assert reason in shown
    assert len(shown.strip().splitlines()) == 1


def test_failed_runs_wait_for_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {"model.depth": 8, "data.name": "synthetic", "data.batch_size": 16}
    spec = from_flat({**tiny, "schedule.iterations": 8})
    runs = tmp_path / "runs"
    write_summary(runs, spec.run_id, status="failed", reason="disk full")
    outcome = run_local([spec], runs, pool=Pool(workers=1), retry=False)
    assert outcome.failures == {spec.run_id: "failed before: disk full"}
    assert not outcome.summaries
    outcome = run_local([spec], runs, pool=Pool(workers=1), retry=True)
    assert outcome.summaries[spec.run_id]["status"] == "finished"
    assert not outcome.failures


def test_a_dry_run_estimates_the_time(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "uses_cpu", lambda: True)
    path = root / "sweeps" / "smoke.yaml"
    words = ["sweep", str(path), "--dry_run", f"--results={tmp_path / 's' / 'r'}", "--workers=2"]
    code, shown = call(capsys, *words)
    assert code == 0
    assert "4 runs, 4 of them to do; about 0:" in shown
    assert "with 2 at a time" in shown


def finished(runs: Path, spec: RunSpec, seconds: float, platform: str) -> None:
    writer = RunWriter(runs / spec.run_id, spec, {"device": {"platform": platform}})
    writer.finish({"status": "finished", "wall_seconds": seconds})


def test_finished_runs_scale_the_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = tmp_path / "here" / "runs", tmp_path / "other" / "runs"
    specs = [from_flat({"seed": seed}) for seed in range(3)]
    monkeypatch.setattr(runtime, "uses_cpu", lambda: True)
    plain = estimate(specs, here)
    assert plain.seconds == {spec.run_id: cost(spec) for spec in specs}
    finished(other, specs[0], 3 * cost(specs[0]), "cpu")
    assert estimate(specs, here).seconds[specs[1].run_id] == pytest.approx(3 * cost(specs[1]))
    finished(here, specs[0], 2 * cost(specs[0]), "cpu")
    finished(here, specs[1], 7 * cost(specs[1]), "gpu")
    seconds, source = estimate(specs, here)
    assert seconds[specs[2].run_id] == pytest.approx(2 * cost(specs[2]))
    assert "1 finished run" in source
    monkeypatch.setattr(runtime, "uses_cpu", lambda: False)
    assert estimate(specs, here).seconds[specs[0].run_id] == pytest.approx(7 * cost(specs[0]))
    assert estimate(specs, tmp_path / "elsewhere" / "new" / "runs").seconds == {}


@pytest.mark.parametrize(
    "longer",
    [
        {"model.depth": 26},
        {"model.width": 32},
        {"schedule.iterations": 70_000},
        {"data.name": "cifar10"},
        {"data.batch_size": 256},
        {"probes.evaluate_every": 1},
    ],
    ids=lambda value: next(iter(value)),
)
def test_more_work_costs_more(longer: dict[str, Any]) -> None:
    assert cost(from_flat(longer)) > cost(from_flat({}))


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that gives the machine these device nodes and environment."""

    def make(*nodes: str, **environment: str) -> None:
        for node in nodes:
            (tmp_path / node).parent.mkdir(exist_ok=True)
            (tmp_path / node).touch()
        found = placement._accelerators(environment, tmp_path)
        monkeypatch.setattr(placement, "_accelerators", lambda: found)
        monkeypatch.setattr(runtime, "uses_cpu", lambda: not nodes)

    return make


def test_each_worker_has_a_core_of_its_own(devices: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    devices()
    monkeypatch.setattr(runtime, "available_cores", lambda: 3)
    assert default_workers() == 3
    assert placements(3) == [Placement(core=0), Placement(core=1), Placement(core=2)]
    # A single worker may use all of them.
    assert placements(1) == [Placement()]


def test_each_worker_has_a_gpu_of_its_own(devices: Any) -> None:
    devices("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm")
    assert default_workers() == 2
    assert [p.environment for p in placements(2)] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    ]
    shared = placements(3)
    assert [p.environment["CUDA_VISIBLE_DEVICES"] for p in shared] == ["0", "1", "0"]
    assert {p.defaults["XLA_PYTHON_CLIENT_PREALLOCATE"] for p in shared} == {"false"}


def test_workers_divide_the_memory_of_a_gpu_that_they_share(
    devices: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices("nvidia0", "nvidia1")
    for workers, sharers in ((3, 2), (4, 2), (8, 4)):
        for place in placements(workers):
            fraction = float(place.defaults["XLA_PYTHON_CLIENT_MEM_FRACTION"])
            assert 0.8 <= fraction * sharers <= 0.9
    # Nothing is divided where each has a GPU, and what the user has set stays.
    assert all(place.defaults == {} for place in placements(2))
    name = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    monkeypatch.setattr(os, "environ", {name: "0.3"})
    placements(4)[3].apply()
    assert os.environ == {
        name: "0.3",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "CUDA_VISIBLE_DEVICES": "1",
    }


def test_a_worker_gets_as_many_gpus_as_each_run_has_devices(devices: Any) -> None:
    devices("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidia4")
    assert default_workers(2) == 2
    assert [p.environment for p in placements(2, devices=2)] == [
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": "2,3"},
    ]
    # Too few for one run: the run itself says so.
    assert default_workers(8) == 1
    assert placements(2, devices=8) == [Placement(), Placement()]


def test_gpus_that_a_scheduler_gave_are_the_ones_used(devices: Any) -> None:
    devices("nvidia0", "nvidia1", "nvidia2", "nvidia3", CUDA_VISIBLE_DEVICES="2,GPU-5f")
    assert default_workers() == 2
    assert [p.environment["CUDA_VISIBLE_DEVICES"] for p in placements(2)] == ["2", "GPU-5f"]


@pytest.mark.parametrize("nodes", [("accel0", "accel1"), ("vfio/7", "vfio/9", "vfio/vfio")])
def test_each_worker_has_a_tpu_chip_of_its_own(devices: Any, nodes: tuple[str, ...]) -> None:
    devices(*nodes)
    assert default_workers() == 2
    assert [p.environment["TPU_VISIBLE_DEVICES"] for p in placements(2)] == ["0", "1"]
    assert all(p.environment["TPU_PROCESS_BOUNDS"] == "1,1,1" for p in placements(2))


def test_an_unknown_accelerator_gets_one_worker(devices: Any) -> None:
    devices("kfd")
    assert default_workers() == 1
    assert placements(2) == [Placement(), Placement()]


def test_a_bad_sweep_file_is_named_by_status(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such sweep file"):
        cli.sweeps.status(tmp_path, tmp_path / "none.yaml")


def test_spec_files_alone_are_runs_to_do(tmp_path: Path) -> None:
    spec = from_flat({})
    (tmp_path / "runs" / spec.run_id).mkdir(parents=True)
    (tmp_path / "runs" / spec.run_id / "spec.json").write_text(to_json(spec))
    assert run_states(tmp_path / "runs")[0].state == "to do"


@pytest.mark.parametrize("study", ["quick", "cifar10"])
def test_where_runs_stand_is_told_in_80_columns(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", str(REFERENCE / study)])
    assert ended.value.code == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["run", "id", "state"]
    assert max(map(len, rows)) <= 80
