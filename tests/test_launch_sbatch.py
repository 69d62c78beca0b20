"""What is asked of SLURM: limits, options that are refused, and what reaches the batch script."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from resnet_study.cli import main
from resnet_study.errors import UserError
from resnet_study.launch import queue, sbatch
from resnet_study.launch.resources import SlurmOptions, minutes
from resnet_study.launch.slurm import _parameters


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


@pytest.mark.parametrize(
    ("time", "options", "least"),
    [
        ("4", [], 5),
        ("2", ["signal_delay_s=60"], 4),
        ("7:00", ["signal_delay_s=300"], 8),
        (None, ["signal_delay_s=50000"], 837),
        ("1:00:00", ["time_min=4"], 5),
    ],
)
def test_a_limit_too_short_for_the_warning_is_refused(
    time: str | None, options: list[str], least: int
) -> None:
    with pytest.raises(UserError, match=f"at least {least} minutes are needed: SLURM warns"):
        SlurmOptions(time, sbatch=options)
    enough = [option.replace("time_min=4", "time_min=5") for option in options]
    assert SlurmOptions(str(least), sbatch=enough).minutes() == least


@pytest.mark.parametrize("name", sbatch.REFUSED)
def test_what_a_task_cannot_do_without_is_refused_with_the_reason(name: str, root: Path) -> None:
    for text in (f"{name}=2", f"{name.replace('_', '-')}=false", *({name} - {"requeue"})):
        with pytest.raises(UserError) as caught:
            SlurmOptions(sbatch=[text])
        assert str(caught.value) == f"--sbatch {text}: {sbatch.REFUSED[name]}"
    rows = (root / "docs" / "slurm.md").read_text().splitlines()
    (row,) = [row for row in rows if f"`{name}`" in row.split(" | ")[0] and row.startswith("| `")]
    assert row.endswith(f"| {sbatch.REFUSED[name]} |")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["account=a", "account=b"], "--sbatch account is given twice; give it once"),
        (["account"], "--sbatch account: write a name and its value"),
        (["account=a\n#SBATCH --array=0-9"], "write a name and its value"),
        (["exclusive=false"], "--sbatch exclusive=false: leave it out"),
        (["nodelist=a[1-2]"], "--sbatch nodelist=a[1-2]: a run is one task on one node"),
        (["signal_delay_s=soon"], "--sbatch signal_delay_s=soon: seconds"),
        (["gres=gpu:a100:1"], "--gpus and --sbatch gres: give one of them"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=re.escape(reason)) as caught:
        SlurmOptions(gpus=1, sbatch=options)
    assert "\n" not in str(caught.value)


def test_every_parameter_of_submitit_reaches_its_script_or_is_refused() -> None:
    from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

    left = SlurmExecutor._valid_parameters() - sbatch.REFUSED.keys()
    assert {"exclusive", "qos", *sbatch.OWN} < left
    for name in left:
        value = "77" if name == "signal_delay_s" else "true" if name in sbatch.SWITCHES else "some"
        parameters = _parameters(SlurmOptions(sbatch=[f"{name}={value}"]), 2)
        script = _make_sbatch_string(command="x", folder="f", map_count=2, **parameters)
        lines = script.splitlines()
        if name == "stderr_to_stdout":
            assert "--error" not in script
        elif name in ("setup", "teardown"):
            assert (lines.index("some") < lines.index("# command")) is (name == "setup")
        elif name == "signal_delay_s":
            assert "#SBATCH --signal=USR2@77" in lines
        else:
            option = name.replace("_", "-")
            assert f"#SBATCH --{option}{'' if value == 'true' else '=some'}" in lines


def test_what_asks_for_what_is_done_anyway_is_taken() -> None:
    words = ["nodes=1", "ntasks=1", "requeue", "nodelist=a1", "exclusive", "mem=16GB"]
    given = SlurmOptions(sbatch=words).extra()
    assert given["exclusive"] is given["requeue"] is True
    assert _parameters(SlurmOptions(sbatch=words), None)["additional_parameters"] == given


def test_gpus_of_a_kind_take_the_place_of_those_that_devices_need() -> None:
    asked = SlurmOptions(sbatch=["gres=gpu:a100:4"])
    assert "gpus_per_node" not in _parameters(asked, 4)
    assert _parameters(SlurmOptions(sbatch=["gres=lustre"]), 4)["gpus_per_node"] == 4


def test_variables_of_sbatch_count_where_the_command_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    monkeypatch.setenv("SBATCH_ACCOUNT", "vision")
    with sbatch.variables({"time"}):
        assert "SBATCH_TIMELIMIT" not in os.environ
        assert os.environ["SBATCH_ACCOUNT"] == "vision"
    assert os.environ["SBATCH_TIMELIMIT"] == "1"
    monkeypatch.setenv("SBATCH_NO_REQUEUE", "1")
    with pytest.raises(UserError, match="SBATCH_NO_REQUEUE is set"), sbatch.variables({"time"}):
        pass
    assert os.environ["SBATCH_TIMELIMIT"] == "1"


def test_where_slurm_does_not_answer_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is asked of runs that were not given to it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queue.tasks(tmp_path / "slurm", ["a"]) == {}
    assert queue.begin(tmp_path / "slurm", ["a"]).name == "1"
    assert queue.begin(tmp_path / "slurm", ["b"]).name == "2"
    assert queue.tasks(tmp_path / "slurm", ["c"]) == {}
    with pytest.raises(UserError, match="what SLURM has is not known: no squeue here"):
        queue.tasks(tmp_path / "slurm", ["a"])
    (tmp_path / "squeue").write_text("#!/bin/sh\necho slurm_load_jobs error: no answer >&2; exit 1")
    (tmp_path / "squeue").chmod(0o755)
    with pytest.raises(UserError, match="is not known: slurm_load_jobs error: no answer"):
        queue.tasks(tmp_path / "slurm", ["a"])
    # What SLURM has counts for the submission whose script it is.
    line = f"7|0|PENDING|None|{tmp_path}/slurm/2/x.sh"
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho '{line}'")
    tasks = queue.tasks(tmp_path / "slurm", ["a", "b"])
    assert {run: task.words for run, task in tasks.items()} == {
        "b": "in SLURM's queue as 7_0 (pending)"
    }
    with pytest.raises(SystemExit) as ended:
        main(["status", str(tmp_path)])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert re.search(r"^b +to do +in SLURM's queue as 7_0 \(pending\)$", told, re.MULTILINE)
    assert told.endswith("2 runs: 2 to do; 1 in SLURM's queue\n")
    (tmp_path / "squeue").unlink()
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path)])
    told = capsys.readouterr().out
    assert told.endswith("2 to do\nWhat SLURM has is not known: no squeue here\n")
