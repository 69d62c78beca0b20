"""What a wrong command line is told, for every subcommand and kind of mistake."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import tyro

from resnet_study.cli import SUBCOMMANDS, help, main
from resnet_study.cli.mistakes import _flags, told
from resnet_study.errors import UserError
from tests.called import SWEEP, call


def shown(name: str) -> set[str]:
    """Flags in the help of a subcommand."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        main([name, "--help"])
    return set(re.findall(r"^\W*(--[\w.]*\w) ", printed.getvalue(), re.MULTILINE)) - {"--help"}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_flags_that_are_suggested_are_those_of_the_help(name: str) -> None:
    assert shown(name) == set(_flags(SUBCOMMANDS[name]))


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_flag_with_a_letter_too_many_is_known_again(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in sorted(shown(name))[:3]:
        with pytest.raises(SystemExit) as stopped:
            main([name, f"{flag}x=1"])
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert f"did you mean {flag}?" in said
        assert len(said.splitlines()) == 1


def command(path: tyro.conf.Positional[int], /, kind: Literal["a", "b"] = "a") -> None:
    pass


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: N"),
        (["--kinds=a"], "unrecognized: --kinds=a; did you mean --kind?"),
        (["1", "--kind=c"], "--kind=c: valid are 'a', 'b'"),
        (["1", "--kind"], "--kind: its value is missing"),
        (["1", "2"], "unrecognized: 2"),
    ],
)
def test_a_mistake_is_one_line_and_no_box(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as refused, told(words, command):
        tyro.cli(command, args=words, registry=help.REGISTRY)
    assert str(refused.value) == message
    assert capsys.readouterr() == ("", "")


def test_a_value_that_cannot_be_read_names_its_flag() -> None:
    def counted(number: int = 1) -> None:
        pass

    with pytest.raises(UserError, match=r"^--number: .*many"), told([], counted):
        tyro.cli(counted, args=["--number=many"])


def test_without_a_subcommand_those_that_there_are_are_named() -> None:
    kinds: dict[str, Any] = {"one": command, "two": command}
    with pytest.raises(UserError, match="one, two"), told([], None):
        tyro.extras.subcommand_cli_from_dict(kinds, args=[])


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
