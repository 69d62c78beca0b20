"""A sweep on a real one-node SLURM; and one definition, three ways, the same records."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from wandb_server import ENTITY, PROJECT, WandbServer

from resnet_study.errors import UserError
from resnet_study.launch.expand import read_sweep
from resnet_study.launch.options import SlurmOptions, minutes
from resnet_study.launch.slurm import _parameters
from resnet_study.launch.status import run_states
from resnet_study.records import read_run

START = Path(__file__).parent / "slurm" / "start.sh"
TIMEOUT = 240

TINY: dict[str, Any] = {
    "model.depth": 8,
    "data.name": "synthetic",
    "data.batch_size": 16,
    "schedule.iterations": 12,
    "probes.log_every": 4,
    "probes.evaluate_every": 12,
    "probes.layers_every": 6,
}

LONG = {**TINY, "schedule.iterations": 4000, "probes.evaluate_every": 4000}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a user of a SLURM of our own."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not which(name)]
    if missing:
        pytest.skip(f"no SLURM here: {', '.join(missing)} not installed")
    if os.geteuid() != 0:
        pytest.skip("no SLURM here: it can only be set up by root")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([START, folder], capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    yield {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": programs}
    # slurmd first, or it waits for its controller.
    for name in ("slurmd", "slurmctld", "munged"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGTERM)


def which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def sweep_file(folder: Path, values: dict[str, Any], axes: dict[str, list[Any]]) -> Path:
    parameters = {name: {"value": value} for name, value in values.items()}
    parameters |= {name: {"values": choices} for name, choices in axes.items()}
    command = ["${env}", "python", "-m", "resnet_study", "train", "--results=agent", "${args}"]
    path = folder / "sweep.yaml"
    path.write_text(json.dumps({"command": command, "method": "grid", "parameters": parameters}))
    return path


def call(folder: Path, environment: dict[str, str], *words: str) -> str:
    process = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def wait_until(condition: Callable[[], Any], logs: Path) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        told = "\n".join(path.read_text() for path in logs.glob("*.err"))
        assert time.monotonic() < end, told
        time.sleep(0.2)


@pytest.mark.slow
def test_one_definition_three_ways_the_same_records(
    tmp_path: Path, cluster: dict[str, str]
) -> None:
    """Local workers, a SLURM array and wandb's agent, each run on one core."""
    path = sweep_file(tmp_path, TINY, {"model.residual": [True, False], "seed": [0, 1]})
    ids = [spec.run_id for spec in read_sweep(path)]
    queued = ["resnet-study", "sweep", str(path), "--on=slurm", "--results=slurm"]
    told = call(tmp_path, cluster, *queued, "--time=10", "--cpus=1", "--parallel=2")
    assert "4 of 4 runs" in told
    runs = tmp_path / "slurm" / "runs"
    wait_until(
        lambda: all(run.state == "finished" for run in run_states(runs, ids)),
        tmp_path / "slurm" / "slurm",
    )
    assert "Nothing to queue" in call(tmp_path, cluster, *queued)
    shown = call(tmp_path, cluster, "resnet-study", "status", "slurm", f"--sweep={path}")
    assert "4 runs: 4 finished" in shown
    call(tmp_path, cluster, "resnet-study", "sweep", str(path), "--results=local", "--workers=2")
    with WandbServer() as server:
        environment = {**cluster, **server.environment(), "NPROC": "1"}
        call(tmp_path, environment, "wandb", "sweep", str(path))
        call(tmp_path, environment, "wandb", "agent", f"{ENTITY}/{PROJECT}/sweep0")
    for way in ("slurm", "local", "agent"):
        assert {folder.name for folder in (tmp_path / way / "runs").iterdir()} == set(ids)
    for run_id in ids:
        first, *others = (
            read_run(tmp_path / way / "runs" / run_id) for way in ("slurm", "local", "agent")
        )
        assert first.summary["status"] == "finished"
        for other in others:
            pd.testing.assert_frame_equal(first.metrics, other.metrics, check_exact=True)
            pd.testing.assert_frame_equal(first.layers, other.layers, check_exact=True)
            assert first.spec == other.spec


@pytest.mark.slow
def test_a_task_that_runs_out_of_time_is_requeued_and_resumes(
    tmp_path: Path, cluster: dict[str, str]
) -> None:
    path = sweep_file(tmp_path, LONG, {"seed": [0]})
    (spec,) = read_sweep(path)
    logs, folder = tmp_path / "r" / "slurm", tmp_path / "r" / "runs" / spec.run_id
    words = ["resnet-study", "sweep", str(path), "--on=slurm", "--results=r", "--time=10"]
    job = call(tmp_path, cluster, *words, "--cpus=1").split("job ")[1].split(":")[0]

    def state() -> tuple[str, int]:
        (run,) = run_states(folder.parent, [spec.run_id])
        return run.state, run.step or 0

    wait_until(lambda: state()[0] == "running" and state()[1] > 0, logs)
    # What SLURM sends before the time limit, and submitit listens to.
    call(tmp_path, cluster, "scancel", "--signal=USR2", job)
    wait_until(lambda: state()[0] == "stopped", logs)
    stopped_at = state()[1]
    assert 0 < stopped_at < LONG["schedule.iterations"]
    wait_until(lambda: state()[0] == "finished", logs)
    recorded = read_run(folder)
    assert len(recorded.environment["previous"]) == 1
    assert not recorded.metrics.duplicated(["step", "split"]).any()
    assert not recorded.layers.duplicated(["step", "layer"]).any()


@pytest.mark.slow
def test_a_cancelled_task_leaves_a_checkpoint_and_is_not_requeued(
    tmp_path: Path, cluster: dict[str, str]
) -> None:
    path = sweep_file(tmp_path, LONG, {"seed": [1]})
    ids = [spec.run_id for spec in read_sweep(path)]
    words = ["resnet-study", "sweep", str(path), "--on=slurm", "--results=r", "--time=10"]
    job = call(tmp_path, cluster, *words, "--cpus=1").split("job ")[1].split(":")[0]
    logs, runs = tmp_path / "r" / "slurm", tmp_path / "r" / "runs"
    wait_until(lambda: (run_states(runs, ids)[0].step or 0) > 0, logs)
    call(tmp_path, cluster, "scancel", job)
    wait_until(lambda: run_states(runs, ids)[0].state == "stopped", logs)
    assert any((runs / ids[0] / "checkpoints").iterdir())
    wait_until(lambda: not call(tmp_path, cluster, "squeue", "-h"), logs)
    # Another launcher takes it from there.
    call(tmp_path, cluster, "resnet-study", "sweep", str(path), "--results=r", "--workers=1")
    assert len(read_run(runs / ids[0]).environment["previous"]) == 1


@pytest.mark.slow
def test_what_slurm_refuses_is_one_line(tmp_path: Path, cluster: dict[str, str]) -> None:
    path = sweep_file(tmp_path, TINY, {"seed": [0, 1]})
    words = ["resnet-study", "sweep", str(path), "--on=slurm", "--results=r"]
    process = subprocess.run(
        [*words, "--partition=none"], cwd=tmp_path, env=cluster, capture_output=True, text=True
    )
    assert process.returncode == 2
    assert "invalid partition" in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90:30", 91),
        ("1:30:00", 90),
        ("12:00:00", 720),
        ("2-0", 2880),
        ("1-12:30", 2190),
        ("1-00:00:01", 1441),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "1:2:3:4", "1.5"])
def test_a_bad_time_limit_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--time="):
        minutes(text)


def test_options_reach_sbatch() -> None:
    from submitit.slurm.slurm import _make_sbatch_string

    more = ["account=vision", "signal-delay-s=300", "licenses=matlab"]
    slurm = SlurmOptions("90", "gpu", gpus=1, cpus=4, parallel=8, sbatch=more)
    lines = _make_sbatch_string(command="x", folder="f", map_count=20, **_parameters(slurm, None))
    for option in (
        "account=vision",
        "array=0-19%8",
        "cpus-per-task=4",
        "gpus-per-node=1",
        "licenses=matlab",
        "partition=gpu",
        "requeue",
        "signal=USR2@300",
        "time=90",
    ):
        assert f"#SBATCH --{option}\n" in lines
