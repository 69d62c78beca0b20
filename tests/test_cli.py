"""What a user types is understood, and what is wrong is said in one line."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resnet_study import __version__, cli
from resnet_study.cli import SUBCOMMANDS, commands, main
from resnet_study.files import write_json
from resnet_study.launch.local import Outcome
from resnet_study.launch.slurm import _parameters
from resnet_study.launch.worker import Assignment
from resnet_study.records import (
    PROBES,
    RunWriter,
    metrics_frame,
    summarize_errors,
)
from resnet_study.spec import RunSpec, from_flat
from tests.recorded import finished_run
from tests.test_spec import BESIDE, OTHER

ROOT = Path(__file__).resolve().parent.parent


def call(*words: object) -> int:
    """Exit code of the command line, in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def write_run(runs: Path, spec: RunSpec) -> Path:
    """A finished run that was never trained."""
    writer = RunWriter(runs / spec.run_id, spec, {})
    layers = [("stem", 0, 0), *[("conv", 1, 1)] * (spec.model.depth - 2), ("head", 4, 0)]
    for step in range(0, int(spec.schedule.iterations) + 1, 10):
        for split in ("train", "train_clean", "val", "test"):
            error = 90.0 / (step + 1) + spec.seed
            writer.log_metrics(step, 0.0, split, loss=1.0, error=error, learning_rate=0.1)
        writer.log_layers(step, layers, {name: np.ones(len(layers)) for name in PROBES})
    summary = summarize_errors(metrics_frame(writer.metrics))
    writer.finish({"status": "finished", "images_per_second": 100.0, **summary})
    return writer.folder


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder with four runs."""
    folder = tmp_path_factory.mktemp("written")
    for residual in (False, True):
        for seed in (0, 1):
            values = {"model.depth": 8, "model.residual": residual, "seed": seed}
            spec = from_flat({**values, "data.name": "synthetic", "schedule.iterations": 40})
            write_run(folder / "runs", spec)
    return folder


@pytest.fixture
def study(written: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(written, tmp_path / "study"))


QUICK = Path(__file__).resolve().parent.parent / "results" / "reference" / "quick"

SWEEP = """
command: ["${env}", python, -m, resnet_study, train, "${args}"]
method: grid
parameters:
  model.depth: {value: 8}
  data.name: {value: synthetic}
  schedule.iterations: {value: 6}
  seed: {values: [0, 1]}
"""


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


ALL_TAKE_PATHS = (
    ["status"],
    ["claims"],
    ["figures"],
    ["compare", "error"],
    ["explore"],
    ["mirror"],
)

BAD = [
    (["trian"], "no subcommand trian; did you mean train?"),
    (["qqqq"], "no subcommand qqqq; known are train, sweep,"),
    (["--verbose"], "--verbose"),
    (["train", "--model.depth=9"], "model.depth=9: depth is 6n+2"),
    (["train", "--model.dept=8"], "--model.dept=8; did you mean --model.depth?"),
    (["train", "--depth", "8"], "--depth"),
    (["train", "--model.depth=deep"], "--model.depth"),
    (["train", "--model.depth"], "--model.depth"),
    (["train", "--model.residual=maybe"], "maybe"),
    (["train", "--model.shortcut=D"], "'A', 'B', 'C'"),
    (["train", "--data.name=a\nb"], "'digits', 'cifar10', 'synthetic'"),
    (["train", "--schedule.iterations=a\nb"], "whole number of iterations"),
    (["train", "--seed=-1"], "seed=-1: valid are 0 to"),
    (["train", "--optimizer.momentum=1"], "optimizer.momentum=1.0: valid are 0 to below 1"),
    (["train", "--optimizer.learning_rate=nan"], "optimizer.learning_rate=nan: a finite"),
    (["train", "--data.batch_size=5000"], "valid are 1 to 1293"),
    (["train", "--model.residual=false", "--model.shortcut=B"], "a plain network has no shortcuts"),
    (["train", "--data.name=synthetic", "--results={file}"], "{file}"),
    (["train", "--data.name=cifar10", "--cifar10={tmp}/none"], "{tmp}/none"),
    (["sweep"], "PATH"),
    (["sweep", "{tmp}/none.yaml"], "{tmp}/none.yaml: no such sweep file"),
    (["sweep", "{tmp}"], "{tmp}: cannot be read"),
    (["sweep", "{file}"], "{file}: a sweep file is a mapping"),
    (["sweep", "{sweep}", "--workers=0"], "--workers=0"),
    (["sweep", "{sweep}", "--results={file}"], "{file}"),
    (["sweep", "{sweep}", "--results={file}/below"], "{file}"),
    (["reproduce"], "required"),
    (["reproduce", "quik"], "quik: no such study; did you mean quick?"),
    (["reproduce", "quick", "--workers=-1"], "--workers=-1"),
    (["figures"], "name at least one study folder"),
    (["figures", "{tmp}/none"], "{tmp}/none: no such folder"),
    (["figures", "{tmp}/empty"], "{tmp}/empty: no runs found"),
    (["figures", "{study}", "--only=error"], "unknown figure error"),
    (["figures", "{study}", "--output={file}"], "{file}"),
    (["claims"], "name at least one study folder"),
    (["claims", "{tmp}/none"], "{tmp}/none: no such folder"),
    (["claims", "{study}", "--only", "gradients"], "unknown claim gradients"),
    (["claims", "{study}", "--confidence=95"], "--confidence=95.0: valid are 0.5 to below 1"),
    (["claims", "{study}", "--confidence=nan"], "--confidence=nan"),
    (["compare", "error"], "name at least one study folder"),
    (["compare", "eror", "{study}"], "unknown quantity eror; did you mean error?"),
    *(([*words, ""], "an empty name") for words in ALL_TAKE_PATHS),
    (["train", "--results="], "--results: an empty name"),
    (["reproduce", ""], "an empty name: no such study"),
    (["claims", "{study}", "--study=quik"], "quik: no such study; did you mean quick?"),
    (["claims", "{study}", "--study="], "an empty name: no such study"),
    (["claims", "{study}", "--only", ""], "an empty name is no claim"),
    (["figures", "{study}", "--only", "training_curves,"], "an empty name is no figure"),
    (["figures", "{study}", "--format=bmp"], "--format=bmp: known are png, svg"),
    (["figures", "{study}", "--only=training_curves", "--output={file}"], "a folder is needed"),
    *(([*words, "{file}"], "is a file, no folder; give a study") for words in ALL_TAKE_PATHS[:-1]),
    (["data", "imagenet"], "data: imagenet: valid are 'digits', 'cifar10'"),
    (["compare", "error", "{study}", "--against=stp"], "unknown field stp; did you mean step?"),
    (["compare", "error", "{study}", "--by=family,"], "--by=family,: names with commas between"),
    (["compare", "error", "{study}", "--difference=famly"], "did you mean family?"),
    (["compare", "error", "{study}", "--where"], "--where: its value is missing"),
    (["compare", "error", "{study}", "--by"], "--by: its value is missing"),
    (["figures", "{study}", "--only"], "--only: its value is missing"),
    (["compare", "error", "{study}", "--where", "depth"], "--where depth: write model.depth=20,56"),
    (["compare", "error", "{study}", "--where", "depth="], "--where depth=: write model.depth"),
    (["compare", "error", "{study}", "--where", "model.dept=8"], "model.dept"),
    (["compare", "error", "{study}", "--where", "depth=deep"], "depth"),
    (
        ["compare", "error", "{study}", "--plot=a.gif"],
        "--plot=a.gif: the file ends in .png, .svg or .pdf",
    ),
    (["compare", "error", "{study}", "--plot={file}/a.png"], "{file}"),
    (["data", "mnist"], "'digits', 'cifar10', 'synthetic', 'cifar100'"),
    (["data", "--cifar10={tmp}/none"], "{tmp}/none"),
    (["doctor", "now"], "now"),
    (["data", "digits", "--cifar10={file}"], "--cifar10={file}: digits needs no files; leave it"),
    (["data", "digits", "--subset"], "--subset: digits needs no files"),
    (["train", "--cifar10={file}"], "--cifar10={file}: digits needs no files; leave it"),
    (["sweep", "{sweep}", "--dry_run", "--cifar10={file}"], "needs no files; leave it out"),
    (["reproduce", "smoke", "--cifar10={file}"], "needs no files; leave it out"),
    (["slice", "smoke", "--cifar10={file}", "--minutes=1"], "needs no files; leave it out"),
    (["evaluate", "{run}", "--step=0", "--cifar10={file}"], "needs no files; leave it out"),
    (["status", "{study}", "--runs=2"], "--runs is of --sweep; name the file"),
    (["status", "{study}", "--seed=2"], "--seed is of --sweep; name the file"),
    (["evaluate", "{study}"], "not a run folder (no spec.json); it is a study, of which a run is"),
    (["sweep", "{tmp}/sweeep.yaml"], "no such sweep file; did you mean {sweep}?"),
    (["reproduce", "zzzz"], "zzzz: no such study; known are "),
    (["reproduce", "{tmp}"], "{tmp}: no such study; it is a folder: give a name such as quick"),
    (["reproduce", "{file}"], "{file}: no such study; it is no module: give a name"),
    (["reproduce", "{tmp}/none"], "{tmp}/none: no such study; it is no file: give a name"),
    (["report", "quick", "{tmp}/none"], "{tmp}/none: no such folder"),
    (["claims", "{study}", "--only=zzzz"], "unknown claim zzzz; known are "),
    (
        ["claims", "{study}", "--only=signal_healthy"],
        "did you mean signal_healthy_after_1_step, signal_healthy_after_10_steps, ",
    ),
    (["compare", "error", "{study}", "--csv={tmp}"], "--csv={tmp}: is a folder; name a file in it"),
    (["measure", "{run}", "--lesion_images=-1"], "--lesion_images=-1: at least 0"),
    (["train", "--schedule.iterations=3x"], "(400), or epochs (30ep)"),
]


def check_one_line(code: int, captured: Any, reason: str) -> None:
    assert code == 2
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("resnet-study")
    assert lines[0].endswith("--help)")
    assert reason in lines[0]
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(("words", "reason"), BAD, ids=[" ".join(words)[:50] for words, _ in BAD])
def test_bad_input_ends_in_one_line(
    words: list[str],
    reason: str,
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    places = {
        "tmp": str(tmp_path),
        "file": str(tmp_path / "file"),
        "sweep": str(tmp_path / "sweep.yaml"),
        "study": str(study),
        "run": str(next((study / "runs").iterdir())),
    }
    before = set(tmp_path.rglob("*"))

    def fill(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: places[match[1]], text)

    code = call(*map(fill, words))
    check_one_line(code, capsys.readouterr(), fill(reason))
    # Nothing is left behind by a command that did nothing.
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", [["compare", "error"], ["claims"], ["figures"]], ids=str)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("spec.json", b"{"),
        ("spec.json", b"\xff\xfe"),
        ("spec.json", b'{"model": {"depth": 9}}'),
        ("summary.json", b"[]"),
        ("metrics.parquet", b"PAR1"),
        ("layers.parquet", b""),
    ],
)
def test_a_damaged_record_is_named(
    command: list[str],
    name: str,
    content: bytes,
    study: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = sorted((study / "runs").iterdir())[1] / name
    damaged.write_bytes(content)
    code = call(*command, study)
    check_one_line(code, capsys.readouterr(), str(damaged))


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


def test_a_full_disk_is_one_line(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resnet_study.records.read_frames", full)
    code = call("claims", study)
    check_one_line(code, capsys.readouterr(), "No space left on device")


def test_a_mistake_in_the_program_is_not_hidden(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_study.records.read_frames", lambda paths: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["claims", str(study)])


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


def test_compare_prints_and_draws(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = study / "made" / "here" / "error.svg"
    words = ("--split=train", "--where", "family=plain", f"--plot={plot}")
    assert call("compare", "error", study, *words) == 0
    output = capsys.readouterr().out
    assert "plain" in output
    assert "residual" not in output
    # 90 / 41 + seed, over seeds 0 and 1.
    assert f"{90 / 41 + 0.5:.5g}" in output
    assert str(plot) in output
    assert plot.read_text().rstrip().endswith("</svg>")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_number_of_a_comparison_is_cut(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("compare", "error,signal_ratio,gradient_ratio", QUICK, "--where=depth>20")
    assert call(*words, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    monkeypatch.setenv("COLUMNS", str(width))
    assert call(*words) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    for row in rows:
        for name in ("median", "low", "high"):
            assert f" {row[name]:.5g} " in printed
    # The warm-up of depth 110 follows from the depth and tells nothing apart.
    assert not [name for name in rows[0] if "warmup" in name]


def test_folders_are_told_apart_beside_fields(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    assert call("compare", "error", study, copy, "--by=folder,family", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["folder"] for row in rows} == {str(study), str(copy)}
    assert call("compare", "error", study, "--by=run,family") == 2
    assert "run takes all runs together" in capsys.readouterr().err


def test_compare_says_what_its_numbers_are(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", "error,signal", study, "--split=train", "--at_step=19") == 0
    title = " ".join(capsys.readouterr().out.partition("┏")[0].split())
    assert title.startswith("training error (%), signal. At the recorded iteration nearest to 19: ")
    assert title.endswith("Of signal the mean over the convolutions.")
    assert call("compare", "signal,turn_ratio", study, "--split=train") == 2
    assert "--split=train: signal has no splits" in capsys.readouterr().err


def test_compare_of_several_quantities_and_of_differences(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot, csv = tmp_path / "both.pdf", tmp_path / "both.csv"
    words = ("--difference=family", "--where", "seed<2", f"--plot={plot}", f"--csv={csv}")
    assert call("compare", "error,loss", study, *words) == 0
    assert capsys.readouterr().err == ""
    table = pd.read_csv(csv)
    assert set(table["quantity"]) == {"error", "loss"}
    assert set(table["difference"]) == {"residual - plain"}
    assert plot.read_bytes().startswith(b"%PDF")


def test_values_of_repeated_list_flags_add_up_and_others_are_refused(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    together = ("--where", "family=plain", "seed=1")
    apart = ("--where=family=plain", "--json", "--where", "seed=1")
    tables = []
    for words in ((*together, "--json"), apart):
        assert call("compare", "error", study, *words) == 0
        tables.append(json.loads(capsys.readouterr().out))
    assert tables[0] == tables[1]
    assert {row["family"] for row in tables[0]} == {"plain"}
    assert {row["n"] for row in tables[0]} == {1}
    for words in (("--split=train", "--split=test"), ("--at-step", "1", "--at_step=2")):
        assert call("compare", "error", study, *words) == 2
        assert "is given twice" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"resnet-study {__version__}\n"


def test_folders_with_the_same_runs_are_told_apart(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    csv = tmp_path / "new" / "table.csv"
    assert call("compare", "error", study, copy, "--by=folder", "--json", f"--csv={csv}") == 0
    output = capsys.readouterr()
    rows, table = pd.DataFrame(json.loads(output.out)), pd.read_csv(csv)
    pd.testing.assert_frame_equal(rows, table)
    assert list(rows["folder"].unique()) == [str(study), str(copy)]
    one, other = (part.drop(columns="folder") for _, part in rows.groupby("folder"))
    pd.testing.assert_frame_equal(one, other.set_axis(one.index))
    # Taken together each run counts once, and it is said which.
    assert call("compare", "error", study, copy, "--json") == 0
    output = capsys.readouterr()
    together = pd.DataFrame(json.loads(output.out))
    pd.testing.assert_frame_equal(together, one.reset_index(drop=True))
    assert "runs lie in several folders and count once" in output.err
    assert str(copy) in output.err
    assert call("compare", "error", study, study, "--by=folder") == 2
    assert "is named twice" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    "words", [["--by=family", "--by=depth"], ["--by", "family", "--by", "depth"]], ids=str
)
def test_a_flag_with_commas_may_be_given_again(
    words: list[str], study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", "error", study, "--by=family,depth") == 0
    joined = capsys.readouterr().out
    # What follows is no further value of it.
    assert call("compare", "error", *words, study) == 0
    assert capsys.readouterr().out == joined
