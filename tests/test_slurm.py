"""A sweep on a real one-node SLURM; and one definition, three ways, the same records."""

from __future__ import annotations

import contextlib
import json
import os
import re
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

from resnet_study.launch.expand import read_sweep
from resnet_study.launch.status import run_states
from resnet_study.records import read_environment, read_run
from tests.launched import TINY

START = Path(__file__).parent / "slurm" / "start.sh"
TIMEOUT = 240

STUDY = """
import jax.numpy as jnp
from resnet_study.probes import Probe
from resnet_study.studies.study import Study

LARGEST = Probe("largest", "largest |y_l|", of_response=lambda y: jnp.max(jnp.abs(y)))
PARAMETERS = {name: {"value": value} for name, value in VALUES.items()}
SWEEP = {"method": "grid", "parameters": PARAMETERS}
STUDY = Study(name="mine", title="t", question="q", sweeps=(SWEEP,), probes=(LARGEST,))
"""

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


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def wait_until(condition: Callable[[], Any], logs: Path) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        told = "\n".join(path.read_text() for path in logs.rglob("*.err"))
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
    assert "1 are in SLURM's queue already" in call(tmp_path, cluster, *words)
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


@pytest.mark.slow
def test_what_waits_in_the_queue_is_not_queued_again(
    tmp_path: Path, cluster: dict[str, str]
) -> None:
    """No task is started: all are held, with options of many kinds."""
    path = sweep_file(tmp_path, TINY, {"seed": [0, 1, 2]})
    options = ["hold", "exclusive", "nice=5", "comment=a b", "mem=10M", "signal_delay_s=60"]
    words = ["resnet-study", "sweep", str(path), "--on=slurm", "--results=r", "--time=4"]
    words += ["--sbatch", *options, "job_name=mine", "ntasks=1", "requeue"]

    def ids() -> list[str]:
        return call(tmp_path, cluster, "squeue", "-h", "-r", "-o", "%i").split()

    def status() -> str:
        return call(tmp_path, cluster, "resnet-study", "status", "r", f"--sweep={path}")

    # The first command is killed as soon as SLURM has the job.
    (tmp_path / "sbatch").write_text(
        '#!/bin/sh\n"$SBATCH" "$@" && case "$1" in *.sh) kill -9 $PPID; esac'
    )
    (tmp_path / "sbatch").chmod(0o755)
    real = which("sbatch") or ""
    deadly = {**cluster, "SBATCH": real, "PATH": f"{tmp_path}:{cluster['PATH']}"}
    assert subprocess.run(words, cwd=tmp_path, env=deadly).returncode == -signal.SIGKILL
    try:
        job = ids()[0].split("_")[0]
        assert ids() == [f"{job}_{index}" for index in range(3)]
        told = call(tmp_path, cluster, "scontrol", "show", "job", f"{job}_0")
        for value in ("JobName=mine", "Nice=5", "Comment=a b", "Requeue=1", "OverSubscribe=NO"):
            assert value in told
        # Whatever squeue is told to hide.
        hiding = {**cluster, "SQUEUE_STATES": "RUNNING"}
        assert "Nothing to queue: of 3 runs 0" in call(tmp_path, hiding, *words)
        assert "3 runs: 3 to do; 3 in SLURM's queue" in status()
        assert status() == call(tmp_path, cluster, "resnet-study", "status", "r")
        assert f"as {job}_1 (pending, JobHeldUser)" in status()
        # One of them ends, and is queued again, in an array of one or of two.
        call(tmp_path, cluster, "scancel", f"{job}_1")
        again = call(tmp_path, cluster, *words)
        assert "1 of 3 runs" in again
        assert "2 are in SLURM's queue already" in again
        other = again.split("job ")[1].split(":")[0]
        assert sorted(ids()) == sorted([other, f"{job}_0", f"{job}_2"])
        call(tmp_path, cluster, "scancel", other, f"{job}_2")
        told = status()
        assert f"SLURM's task {other} has ended without finishing it, see r/slurm/2" in told
        assert "3 runs: 3 to do; 1 in SLURM's queue" in told
        assert "2 of 3 runs" in call(tmp_path, cluster, *words)
        assert "; 3 are in SLURM's queue already" in call(tmp_path, cluster, *words)
    finally:
        call(tmp_path, cluster, "scancel", "--user=root")


@pytest.mark.slow
def test_a_lost_node_requeues_a_task_and_status_names_a_killed_one(
    tmp_path: Path, cluster: dict[str, str]
) -> None:
    """Of a study in a file, with a probe of its own."""
    values = {**LONG, "schedule.iterations": 6000, "probes.evaluate_every": 6000}
    (tmp_path / "mine.py").write_text(f"VALUES = {values!r}\n{STUDY}")
    words = ["resnet-study", "sweep", "mine.py", "--on=slurm", "--time=10", "--cpus=1"]
    words += ["--checkpoint_seconds=1"]
    job = call(tmp_path, cluster, *words).split("job ")[1].split(":")[0]
    logs, runs = tmp_path / "results" / "mine" / "slurm", tmp_path / "results" / "mine" / "runs"

    def begun(attempt: int) -> bool:
        saved = [path for path in runs.glob("*/checkpoints/*") if path.name.isdigit()]
        before = [read_environment(folder).get("previous", []) for folder in runs.glob("*")]
        return bool(saved) and len(before[0]) == attempt - 1

    wait_until(lambda: begun(1), logs)
    (folder,) = runs.iterdir()
    # So that it is not started again before it was looked at.
    call(tmp_path, cluster, "scontrol", "hold", job)
    # Everything on the node at once, and SLURM learns that it is lost.
    listed = call(tmp_path, cluster, "scontrol", "listpids", job).splitlines()[1:]
    tasks = [int(line.split()[0]) for line in listed]
    for process in (*{parent_of(task) for task in tasks}, *tasks):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    host = call(tmp_path, cluster, "sinfo", "-h", "-o", "%n").strip()
    call(tmp_path, cluster, "scontrol", "update", f"nodename={host}", "state=down", "reason=lost")
    told = call(tmp_path, cluster, "resnet-study", "status", "results/mine")
    assert re.search(rf"to do .*its worker was killed; in SLURM's queue as {job} \(", told)
    assert "Nothing to queue: of 1 runs 0" in call(tmp_path, cluster, *words)
    call(tmp_path, cluster, "scontrol", "release", job)
    wait_until(lambda: begun(2), logs)
    # The task alone; the node goes on.
    os.kill(json.loads((folder / "lease.json").read_text())["process"][0], signal.SIGKILL)
    wait_until(lambda: not call(tmp_path, cluster, "squeue", "-h"), logs)
    told = call(tmp_path, cluster, "resnet-study", "status", "results/mine")
    assert "1 run: 1 to do\n" in told
    assert re.search(r"its worker was killed; SLURM's task \d+ has ended without finish", told)
    assert "1 of 1 runs" in call(tmp_path, cluster, *words)
    wait_until(lambda: run_states(runs)[0].state == "finished", logs)
    recorded = read_run(folder)
    assert len(recorded.environment["previous"]) == 2
    assert not recorded.metrics.duplicated(["step", "split"]).any()
    assert "largest" in recorded.layers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "variable", "reason"),
    [
        (
            ["acount=vision"],
            "",
            "--sbatch acount: sbatch has no such option; did you mean account?",
        ),
        # sbatch would take it for array.
        (["arr=0-3"], "", "--sbatch arr: sbatch has no such option; did you mean array"),
        (["gres=gpu:9"], "", "Invalid generic resource"),
        ([], "SBATCH_WAIT", "SBATCH_WAIT is set, and this command returns at once"),
    ],
)
def test_unknown_options_and_variables_are_refused_before_anything_is_queued(
    tmp_path: Path, cluster: dict[str, str], words: list[str], variable: str, reason: str
) -> None:
    path = sweep_file(tmp_path, TINY, {"seed": [0, 1]})
    given = ["--sbatch", *words] if words else []
    environment = {**cluster, **({variable: "1"} if variable else {})}
    process = subprocess.run(
        ["resnet-study", "sweep", str(path), "--on=slurm", "--results=r", *given],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert reason in process.stderr
    assert process.stderr.count("\n") == 1
    assert not call(tmp_path, cluster, "squeue", "-h")
    assert not list((tmp_path / "r" / "slurm").iterdir())
