"""What `sweep` starts here and on SLURM, and the flags of what trains."""

import json
from pathlib import Path
from typing import Any

import pytest

from resnet_study.launch.local import Outcome
from resnet_study.launch.slurm import _parameters
from resnet_study.launch.worker import Assignment
from resnet_study.spec import RunSpec, from_flat
from tests.called import SWEEP, call
from tests.recorded import finished_run


def test_a_dry_run_lists_every_run_and_starts_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(SWEEP)
    results = tmp_path / "results"
    values = {"model.depth": 8, "data.name": "synthetic", "schedule.iterations": 6}
    specs = [from_flat({**values, "seed": seed}) for seed in (0, 1)]
    finished_run(results / "runs", specs[1])
    assert call("sweep", sweep, f"--results={results}", "--dry-run") == 0
    rows = capsys.readouterr().out.splitlines()
    states = {spec.run_id: next(row for row in rows if spec.run_id in row) for spec in specs}
    assert "to do" in states[specs[0].run_id]
    assert "finished" in states[specs[1].run_id]
    assert [path.name for path in (results / "runs").iterdir()] == [specs[1].run_id]


def test_kernels_and_devices_are_flags_and_no_part_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model.depth=8", "--data.name=synthetic", "--schedule.iterations=2"]
    assert call("train", *flags, "--kernels=xla", "--devices=1", f"--results={tmp_path}") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["execution"] == {
        "kernels": "xla",
        "devices": 1,
        "processes": 1,
        "platform": "cpu",
    }
    assert not any("kernels" in name or "devices" in name for name in RunSpec().flat())
    capsys.readouterr()
    for flag, words in (
        ("--devices=0", "at least 1"),
        ("--devices=4096", "xla_force_host_platform_device_count=4096"),
        ("--kernels=none", "none"),
    ):
        assert call("train", *flags, "--seed=9", flag, f"--results={tmp_path}") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


@pytest.mark.parametrize("subcommand", ["train", "sweep", "reproduce"])
def test_what_trains_takes_kernels_and_devices(
    subcommand: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(subcommand, "--help") == 0
    text = capsys.readouterr().out
    assert "--kernels {auto,xla,native}" in text
    assert "--devices" in text


def test_a_slurm_task_asks_for_as_many_gpus_as_a_run_has_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    asked: list[Any] = []
    monkeypatch.setattr("resnet_study.launch.slurm.submit", lambda *a: asked.append(a) or "1")
    words = ["sweep", tmp_path / "sweep.yaml", "--on=slurm", f"--results={tmp_path}/r"]
    for more in ([], ["--devices=4"], ["--devices=2", "--gpus=3"]):
        assert call(*words, *more) == 0
    devices = [assignment.options.execution.devices for _, assignment, _, _ in asked]
    assert devices == [None, 4, 2]
    gpus = [
        _parameters(slurm, wanted).get("gpus_per_node")
        for (_, _, slurm, _), wanted in zip(asked, devices, strict=True)
    ]
    assert gpus == [None, 4, 3]


def test_what_a_sweep_s_command_says_is_done_here_and_by_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = ["--results", "~/a folder", "--kernels=xla", "--devices=2", "--cifar10=~/data"]
    words = ["python", "-m", "resnet_study", "train", *flags, "--seed=3", "${args}"]
    content = {
        "command": words,
        "method": "grid",
        "parameters": {"data.name": {"value": "cifar10"}},
    }
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(content))
    asked: list[Any] = []
    monkeypatch.setattr("resnet_study.launch.slurm.submit", lambda *a: asked.append(a) or "1")

    def run_local(specs: Any, runs: Path, options: Any, *_: Any, **__: Any) -> Outcome:
        asked.append((specs, Assignment(runs, options, ""), None, runs))
        return Outcome({spec.run_id: {} for spec in specs})

    monkeypatch.setattr("resnet_study.launch.local.run_local", run_local)
    for more in (
        ["--on=slurm"],
        [],
        ["--kernels=auto"],
        [f"--results={tmp_path}/b", "--devices=4"],
    ):
        monkeypatch.setattr("sys.argv", ["resnet-study", "sweep", *more])
        assert call("sweep", file, *more) == 0
    assert {spec.seed for specs, *_ in asked for spec in specs} == {3}
    options = [assignment.options for _, assignment, *_ in asked]
    assert [o.execution.kernels for o in options] == ["xla", "xla", "auto", "xla"]
    assert [o.execution.devices for o in options] == [2, 2, 2, 4]
    assert {o.source.cifar10 for o in options} == {tmp_path / "data"}
    runs = [assignment.runs for _, assignment, *_ in asked]
    assert runs == [tmp_path / name / "runs" for name in ("a folder", "a folder", "a folder", "b")]
    # Without a command, wandb's agent would start something else.
    file.write_text(json.dumps({**content, "command": [], "program": "mine.py"}))
    capsys.readouterr()
    assert call("sweep", file, "--dry_run") == 0
    assert "wandb agent would start mine.py" in capsys.readouterr().out


def test_a_study_is_checked_before_its_runs_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from resnet_study.studies.study import Study\n"
        "one = {'method': 'grid', 'parameters': {'model.depth': {'value': 8}}}\n"
        "STUDY = Study('mine', 'Mine', '?', sweeps=(one,), seeds=(0, 1))\n"
    )
    assert call("sweep", file, "--dry_run") == 2
    assert "mine: seeds: no sweep trains 1" in capsys.readouterr().err
