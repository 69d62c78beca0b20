"""What a user types is understood and done."""

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnet_study import __version__, cli
from resnet_study.cli import SUBCOMMANDS, commands
from resnet_study.files import write_json
from resnet_study.records import (
    RunWriter,
)
from resnet_study.spec import RunSpec, from_flat
from tests.called import SWEEP, call
from tests.test_spec import BESIDE, OTHER

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("words", [[], *([name] for name in SUBCOMMANDS)], ids=str)
def test_help_is_there(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words, "--help") == 0
    output, errors = capsys.readouterr()
    assert "usage: resnet-study" in output
    assert errors == ""
    if words:
        # The sections of the docstrings became the explanations of the flags.
        assert "Args:" not in output
        assert "-h, --help" in output


def test_without_words_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    output = capsys.readouterr().out
    assert all(re.search(rf"• {name} ", output) for name in SUBCOMMANDS)


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resnet_study", "train", "--model.depth=9"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("resnet-study train: model.depth=9: ")


def test_what_reads_or_plans_runs_imports_no_jax(study: Path) -> None:
    sweep = study.parent / "sweep.yaml"
    sweep.write_text(SWEEP)
    lines = [
        ["sweep", str(sweep), "--dry_run"],
        ["compare", "error", str(study)],
        ["claims", str(study)],
        ["figures", str(study), "--only", "error_against_depth"],
    ]
    program = f"""
import sys
from resnet_study.cli import main
for words in {lines!r}:
    try:
        main(words)
    except SystemExit as ended:
        assert ended.code == 0, words
    assert not {{"jax", "flax", "optax", "orbax"}} & set(sys.modules), words
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def parsed(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    """The spec that `train` is called with."""
    seen = []

    @functools.wraps(commands.train)
    def train(spec: RunSpec, **_: Any) -> int:
        seen.append(spec)
        return 0

    monkeypatch.setitem(SUBCOMMANDS, "train", train)
    assert call("train", *words) == 0
    return seen[0]


@pytest.mark.parametrize("name", OTHER)
def test_every_field_is_a_flag(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As wandb agent writes it, with false in lower case."""
    value = OTHER[name]
    text = value if isinstance(value, str) else json.dumps(value)
    base = {"data.name": "synthetic", "schedule.iterations": 1000, **BESIDE.get(name, {})}
    expected = from_flat({**base, name: value})
    assert expected != from_flat(base)
    words = [f"--{key}={value}" for key, value in base.items() if key != name]
    assert parsed([*words, f"--{name}={text}"], monkeypatch) == expected
    assert parsed([*words, f"--{name}", text], monkeypatch) == expected


def test_true_and_false_in_every_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in ("false", "False"):
        assert not parsed([f"--model.residual={word}"], monkeypatch).model.residual
        assert not parsed(["--model.residual", word], monkeypatch).model.residual
    assert parsed(["--model.residual=true"], monkeypatch).model.residual


def test_durations_and_dashes_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--schedule.iterations=30ep", "--schedule.first-drop=40%", "--probes.log-every=5"]
    values = {
        "schedule.iterations": "30ep",
        "schedule.first_drop": "40%",
        "probes.log_every": 5,
    }
    assert parsed(words, monkeypatch) == from_flat(values)


def test_a_run_that_was_just_begun_is_no_obstacle(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = from_flat({"seed": 7, "data.name": "synthetic", "schedule.iterations": 40})
    RunWriter(study / "runs" / spec.run_id, spec, {})
    for name in ("environment.json", "summary.json"):
        (study / "runs" / spec.run_id / name).unlink()
    assert call("compare", "test_error_selected", study) == 0
    assert call("claims", study) == 0
    capsys.readouterr()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_without_unicode_shows_the_same(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resnet_study", "train", "--model.dept=8"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
    )
    assert done.stderr == (
        "resnet-study train: unrecognized: --model.dept=8; did you mean --model.depth? "
        "(see resnet-study train --help)\n"
    )


def test_a_terminal_without_unicode_gets_the_verdicts(study: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resnet_study", "claims", str(study)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "undecided" in done.stdout


def test_a_closed_pipe_is_no_error(study: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "resnet_study", "claims", str(study), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == b""


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"resnet-study {__version__}\n"


def test_claims_are_printed_for_people_and_machines(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("claims", study, "--json") == 0
    findings = json.loads(capsys.readouterr().out)
    assert call("claims", study) == 0
    table = capsys.readouterr().out
    assert findings
    assert "undecided" in table


def test_figures_are_drawn_where_they_belong(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("figures", study, "--only", "error_against_depth") == 0
    output = capsys.readouterr().out
    assert output.startswith("error_against_depth: ")
    assert sorted(path.name for path in (study / "figures").iterdir()) == [
        "error_against_depth.csv",
        "error_against_depth.png",
        "error_against_depth.svg",
    ]


def test_figures_are_drawn_as_asked(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ("--only", "error_against_depth", f"--output={tmp_path}")
    assert call("figures", study, *only, "--format=pdf,png", "--style=slides", "--width=8") == 0
    assert capsys.readouterr().out == f"error_against_depth: {tmp_path}/error_against_depth.pdf\n"
    with Image.open(tmp_path / "error_against_depth.png") as picture:
        assert picture.width == 8 * 200
    for wrong in ("--format=jpg", "--style=slide", "--width=0", "--palette=x"):
        assert call("figures", study, *only, wrong) == 2
        assert wrong.split("=")[0] in capsys.readouterr().err


def test_a_folder_called_after_no_study_is_judged_and_that_is_said(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = study.rename(study.parent / "signs")
    assert call("claims", other, "--json") == 0
    output, said = capsys.readouterr()
    assert json.loads(output)
    assert "No study is called signs" in said
    assert "--study=FILE" in said
    assert call("claims", other, "--only", "of_my_own") == 2
    assert "--study=FILE knows those of a study of your own" in capsys.readouterr().err


def test_a_reason_is_shown_as_it_is(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"status": "failed", "reason": "ValueError: [a] and [/b]"}
    write_json(sorted((study / "runs").iterdir())[0] / "summary.json", failed)
    assert call("status", study) == 0
    assert failed["reason"] in capsys.readouterr().out


def test_one_run_from_training_to_its_report_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data.name=synthetic", "--model.depth=8", "--schedule.iterations=4"]
    words += ["--data.batch_size=16", f"--results={tmp_path}"]
    assert call("train", *words) == 0
    first = capsys.readouterr()
    assert "finished: training error" in first.out
    (run,) = (tmp_path / "runs").iterdir()
    assert str(run) in first.out
    written = (run / "metrics.parquet").stat().st_mtime_ns
    # A finished run is only reported.
    assert call("train", *words) == 0
    assert "finished: training error" in capsys.readouterr().out
    assert (run / "metrics.parquet").stat().st_mtime_ns == written


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_data_describes_what_it_loads(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("data", name) == 0
    output = capsys.readouterr().out
    assert re.search(r"\d+ training, \d+ validation and \d+ test images of 8x8x[13], 10", output)


def test_doctor_shows_what_a_run_would_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor") == 0
    output = capsys.readouterr().out
    for word in ("resnet-study", "jaxlib", "(cpu)", "allocator", "CIFAR-10"):
        assert word in output
    assert os.environ["RESNET_STUDY_CACHE"] in output


def test_help_and_errors_agree_on_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare") == 2
    assert f"(see {cli.PROGRAM} compare --help)" in capsys.readouterr().err
