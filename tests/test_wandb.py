"""The real wandb client, as processes, against a small server on loopback."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb_server import ENTITY, PROJECT, RunRecord, WandbServer

from resnet_study.launch.expand import read_sweep
from resnet_study.records import read_run, read_summary
from resnet_study.spec import flatten

pytestmark = pytest.mark.slow

TIMEOUT = 240

TINY: dict[str, Any] = {
    "model.depth": 8,
    "data.name": "synthetic",
    "data.batch_size": 16,
    "schedule.iterations": 12,
    "probes.log_every": 4,
    "probes.evaluate_every": 6,
    "probes.layers_every": 6,
}

LONG = {**TINY, "schedule.iterations": 2000, "probes.log_every": 50, "probes.evaluate_every": 1000}


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server
        assert not server.errors


@pytest.fixture
def environment(tmp_path: Path, server: WandbServer) -> dict[str, str]:
    """What leads programs to the server, with the home of a user who has no key."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("WANDB_")}
    programs = f"{Path(sys.executable).parent}:{clean['PATH']}"
    return {**clean, **server.environment(), "PATH": programs, "HOME": str(tmp_path)}


def sweep_file(folder: Path, values: dict[str, Any], axes: dict[str, list[Any]]) -> Path:
    """A sweep with its records in results/s of the folder that programs are started in."""
    parameters = {name: {"value": value} for name, value in values.items()}
    parameters |= {name: {"values": choices} for name, choices in axes.items()}
    command = ["${env}", "python", "-m", "resnet_study", "train", "--results=results/s"]
    command += ["--checkpoint_seconds=1", "${args}"]
    path = folder / "s.yaml"
    path.write_text(json.dumps({"command": command, "method": "grid", "parameters": parameters}))
    return path


def call(folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )


def train(
    folder: Path, environment: dict[str, str], values: dict[str, Any], mode: str, *more: str
) -> subprocess.CompletedProcess:
    flags = [f"--{name}={value}" for name, value in values.items()]
    words = ["resnet-study", "train", *flags, "--results=results/s", f"--wandb={mode}", *more]
    return call(folder, environment, *words)


def iterations(run: RunRecord, key: str) -> list[int]:
    return [row["iteration"] for row in run.rows(key)]


def test_a_sweep_by_wandb_s_own_commands(
    tmp_path: Path, server: WandbServer, environment: dict[str, str]
) -> None:
    path = sweep_file(tmp_path, TINY, {"model.residual": [True, False]})
    created = call(tmp_path, environment, "wandb", "sweep", str(path))
    assert f"wandb agent {ENTITY}/{PROJECT}/sweep0" in created.stderr
    agent = call(tmp_path, environment, "wandb", "agent", f"{ENTITY}/{PROJECT}/sweep0")
    assert agent.returncode == 0, agent.stderr
    specs = read_sweep(path)
    folders = {spec.run_id: tmp_path / "results" / "s" / "runs" / spec.run_id for spec in specs}
    assert {p.name for p in (tmp_path / "results" / "s" / "runs").iterdir()} == set(folders)
    # The same order, and each run under the id of wandb's choice, which the records keep.
    assert [run.display_name for run in server.runs.values()] == list(folders)
    for run in server.runs.values():
        recorded = read_run(folders[run.display_name])
        assert recorded.summary["status"] == "finished"
        assert recorded.environment["wandb"]["id"] == run.name
        assert recorded.environment["wandb"]["sweep"] == run.sweep == "sweep0"
        # Each name once, and what the run was made with.
        config = run.own_config
        environment_shown = config.pop("environment")
        assert config == {"run_id": run.display_name, "family": recorded.spec.family} | {
            **recorded.spec.flat()
        }
        for name in ("git", "device", "execution", "packages", "data_digest", "command"):
            assert environment_shown[name] == recorded.environment[name]
        (process,) = run.config["_wandb"]["value"]["e"].values()
        command = shlex.split(recorded.environment["command"])
        assert [process["program"], *process["args"]] == command
        assert run.about == {
            "groupName": "s",
            "jobType": f"{recorded.spec.family}-8",
            "program": "resnet-study",
        }
        assert run.exit_code == 0
        assert iterations(run, "train/error") == [4, 8, 12]
        assert iterations(run, "test/error") == [0, 6, 12]
        assert run.summary["test/error"] == recorded.summary["test_error_last"]
        assert run.summary["status"] == "finished"
        assert iterations(run, "turn/ratio") == [0, 1, 2, 3, 5, 6, 8, 10, 12]
        assert set(run.summary["signal/ratio"]) == {"min", "max", "last"}
        assert sum(name.startswith("media/table/layers") for name in run.files) == 9
        assert sum(name.startswith("media/images/gradient_profile") for name in run.files) == 1


def test_nested_parameters_and_flags_of_the_command_are_what_the_file_says(
    tmp_path: Path, server: WandbServer, environment: dict[str, str]
) -> None:
    rest = {name: {"value": value} for name, value in TINY.items() if "model" not in name}
    group = {"depth": {"value": 8}, "residual": {"values": [True, False]}}
    parameters = {"model": {"parameters": group}, **rest}
    start = ["${env}", "python", "-m", "resnet_study", "train", "--results", "a folder"]
    command = [*start, "--optimizer.learning_rate=0.01", "${args_no_equals}"]
    path = tmp_path / "s.yaml"
    content = {"command": command, "method": "grid", "parameters": parameters}
    path.write_text(json.dumps(content))
    specs = read_sweep(path)
    assert {spec.optimizer.learning_rate for spec in specs} == {0.01}
    call(tmp_path, environment, "wandb", "sweep", str(path))
    chosen = {"WANDB_RUN_GROUP": "g", "WANDB_TAGS": "a,b", "WANDB_NOTES": "n"}
    words = ["wandb", "agent", f"{ENTITY}/{PROJECT}/sweep0"]
    agent = call(tmp_path, {**environment, **chosen}, *words)
    assert agent.returncode == 0, agent.stderr
    for run in server.runs.values():
        assert run.about.items() >= {"groupName": "g", "tags": ["a", "b"], "notes": "n"}.items()
        # A field in its group is not there a second time.
        names = [name for name, _ in flatten(run.own_config)]
        assert len(names) == len(set(names))
        assert names.count("model.depth") == 1
        assert "model.depth" not in run.own_config
    runs = tmp_path / "a folder" / "runs"
    assert [run.display_name for run in server.runs.values()] == [spec.run_id for spec in specs]
    assert {folder.name for folder in runs.iterdir()} == {spec.run_id for spec in specs}
    # A false flag is lost on the way: the plain network would be a residual one.
    flat = {"model.residual": {"value": False}, "model.depth": {"value": 8}, **rest}
    path.write_text(
        json.dumps({**content, "command": [*start, "${args_no_boolean_flags}"], "parameters": flat})
    )
    call(tmp_path, environment, "wandb", "sweep", str(path))
    agent = call(tmp_path, environment, "wandb", "agent", f"{ENTITY}/{PROJECT}/sweep1")
    assert "model.residual is True, the sweep says False" in agent.stderr
    assert len(list(runs.iterdir())) == 2
    here = call(tmp_path, environment, "resnet-study", "sweep", str(path))
    assert here.returncode == 2
    assert "${args_no_boolean_flags}" in here.stderr


def test_a_stopped_run_goes_back_to_the_sweep_and_resumes(
    tmp_path: Path, server: WandbServer, environment: dict[str, str]
) -> None:
    """SIGTERM from wandb's server, then another agent that is given the run again."""
    path = sweep_file(tmp_path, LONG, {"seed": [0]})
    call(tmp_path, environment, "wandb", "sweep", str(path))
    command = dict(server.queue[0])
    words = ["wandb", "agent", f"{ENTITY}/{PROJECT}/sweep0"]
    folder = tmp_path / "results" / "s" / "runs" / read_sweep(path)[0].run_id
    agent = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    wait_until(lambda: any((folder / "checkpoints").glob("[0-9]*")), agent)
    server.to_stop.add("sweep0x0")
    agent.communicate(timeout=TIMEOUT)
    assert read_summary(folder)["status"] == "stopped"
    run = server.runs["sweep0x0"]
    assert run.exit_code == 130
    assert run.preempting
    server.to_stop.clear()
    # wandb gives the run to the next agent with all that was logged as its config.
    assert {"run_id", "family", "environment", "model.depth"} < set(run.config)
    server.queue.append({**command, "args": {**command["args"], **run.config}})
    assert call(tmp_path, environment, *words).returncode == 0
    recorded = read_run(folder)
    assert recorded.summary["status"] == "finished"
    assert [e["wandb"]["id"] for e in recorded.environment["previous"]] == ["sweep0x0"]
    assert iterations(run, "train/error") == list(range(50, 2001, 50))
    assert iterations(run, "turn/ratio") == sorted(set(recorded.layers["step"]))
    # Growth is over the weights at iteration 0, also after it was continued.
    norms = recorded.layers[recorded.layers["layer"] == 2].set_index("step")["weight_norm"]
    growth = [row["weight_growth/first"] for row in run.rows("weight_growth/first")]
    assert growth == pytest.approx((norms / norms[0]).tolist())
    assert run.exit_code == 0
    # Once more: it is done, and wandb is told.
    run.summary, run.exit_code = {}, None
    server.queue.append(command)
    assert call(tmp_path, environment, *words).returncode == 0
    assert run.exit_code == 0
    assert run.summary["test/error"] == recorded.summary["test_error_last"]


@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_killed_run_continues_under_its_own_id_online(
    tmp_path: Path, server: WandbServer, environment: dict[str, str], checkpointed: bool
) -> None:
    """From its checkpoint, or afresh where it had none yet; no row is shown twice."""
    flags = [f"--{name}={value}" for name, value in LONG.items()]
    words = ["resnet-study", "train", *flags, "--wandb=online", "--results=results/s"]
    words.append(f"--checkpoint_seconds={1 if checkpointed else 1000}")

    def due() -> bool:
        found = [path.name for path in (tmp_path / "results").glob("s/runs/*/checkpoints/*")]
        if checkpointed:
            return any(name.isdigit() for name in found)
        return any(iterations(run, "train/error") for run in list(server.runs.values()))

    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    wait_until(due, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert call(tmp_path, environment, *words).returncode == 0
    (run,) = server.runs.values()
    (folder,) = (tmp_path / "results" / "s" / "runs").iterdir()
    assert run.name == run.display_name == folder.name
    assert iterations(run, "train/error") == list(range(50, 2001, 50))
    assert iterations(run, "test/error") == [0, 1000, 2000]
    assert run.exit_code == 0


def test_an_offline_run_is_sent_later_with_its_artifact(
    tmp_path: Path, server: WandbServer, environment: dict[str, str]
) -> None:
    done = train(tmp_path, environment, TINY, "offline", "--wandb_artifact")
    assert done.returncode == 0
    assert not server.runs
    (line,) = [x for x in done.stdout.splitlines() if "wandb sync" in x]
    command = line.split("with: ")[1]
    sent = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment, capture_output=True, timeout=TIMEOUT
    )
    assert sent.returncode == 0, sent.stderr
    (run,) = server.runs.values()
    assert iterations(run, "train/error") == [4, 8, 12]
    assert run.summary["status"] == "finished"
    assert sorted(run.artifacts) == ["run", *["run_table"] * 9]


def test_a_server_that_refuses_is_told_once_and_has_the_run_later(
    tmp_path: Path, server: WandbServer, environment: dict[str, str]
) -> None:
    with WandbServer(fail=401) as refusing:
        refused = {**environment, **refusing.environment()}
        done = train(tmp_path, refused, TINY, "online")
        again = call(tmp_path, refused, "resnet-study", "mirror", "results/s")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert done.returncode == 0
    assert done.stderr.count("wandb") == 1
    assert "training goes on, the records are complete" in done.stderr
    (folder,) = (tmp_path / "results" / "s" / "runs").iterdir()
    recorded = read_run(folder)
    assert recorded.summary["status"] == "finished"
    # The advice is a command that works.
    advice = shlex.split(done.stderr.rpartition("later: ")[2])
    sent = call(tmp_path, environment, *advice)
    assert sent.returncode == 0, sent.stderr
    # Beside the run there is the study's explorer.
    assert list(server.runs) == [folder.name, "explorer-s"]
    run, explorer = server.runs.values()
    assert explorer.about.items() >= {"groupName": "s", "jobType": "explorer"}.items()
    assert sum(name.startswith("media/html/explorer") for name in explorer.files) == 1
    assert explorer.exit_code == 0
    assert iterations(run, "iteration") == [0, 1, 2, 3, 4, 5, 6, 8, 10, 12]
    assert run.name == folder.name
    assert iterations(run, "train/error") == [4, 8, 12]
    assert iterations(run, "turn/ratio") == sorted(set(recorded.layers["step"]))
    assert run.summary["test/error"] == recorded.summary["test_error_last"]
    assert run.own_config["environment"]["command"] == recorded.environment["command"]
    # An outage before the end: what is missing is sent, and nothing twice.
    run.history = {number: row for number, row in run.history.items() if number < 4}
    run.summary = dict(run.history[3])
    assert call(tmp_path, environment, *advice).returncode == 0
    assert iterations(run, "iteration") == [0, 1, 2, 3, 4, 5, 6, 8, 10, 12]


def test_local_workers_mirror_too_and_share_one_warning(
    tmp_path: Path, server: WandbServer, environment: dict[str, str]
) -> None:
    path = sweep_file(tmp_path, TINY, {"seed": [0, 1, 2]})
    words = ["resnet-study", "sweep", str(path), "--workers=2", "--wandb=online"]
    assert call(tmp_path, environment, *words).returncode == 0
    assert set(server.runs) == {spec.run_id for spec in read_sweep(path)}
    assert all(run.summary["status"] == "finished" for run in server.runs.values())
    nobody = {n: v for n, v in environment.items() if n != "WANDB_API_KEY"}
    again = call(tmp_path, nobody, *words, "--results=results/again")
    assert again.returncode == 0
    assert again.stderr.count("wandb: ") == 1


def wait_until(condition: Any, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
