"""Help: placeholders that one types, examples one per line, lines that fit."""

import itertools
import re

import pytest

from resnet_study.cli import SUBCOMMANDS, main


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", SUBCOMMANDS)
@pytest.mark.parametrize("columns", [60, 100])
def test_every_line_fits_and_says_what_to_type(
    name: str,
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    output = shown(capsys, name)
    lines = output.splitlines()
    assert max(map(len, lines)) <= columns
    assert "{None}" not in output
    assert "[[" not in output
    assert ("Such as:" in output) == any(line.startswith("$ ") for line in lines)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_examples_stand_alone_and_are_understood(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output = shown(capsys, name)
    examples = [line.removeprefix("$ ") for line in output.splitlines() if line[:2] == "$ "]
    for example in examples:
        program, command, *words = example.split()
        assert (program, command) == ("resnet-study", name)
        for flag in re.findall(r"--[a-z_0-9.]+", " ".join(words)):
            assert flag in output, flag


def test_what_explains_a_flag_is_one_paragraph(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    output = " ".join(shown(capsys, "compare").replace("│", " ").split())
    assert (
        "error, loss; a per-layer probe such as activation_gradient_norm or response_std" in output
    )


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_lines_are_as_long_as_they_can_be(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They break where the terminal ends, not where the source does."""
    monkeypatch.setenv("COLUMNS", "80")
    boxed = [line[2:-2].rstrip() for line in shown(capsys, name).splitlines() if line[:1] == "│"]
    for line, following in itertools.pairwise(boxed):
        indent = len(line) - len(line.lstrip())
        if indent and indent == len(following) - len(following.lstrip()):
            assert len(line) + 1 + len(following.split()[0]) > 76, (line, following)


def test_none_is_still_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    """wandb's agent writes it for what a sweep leaves out."""
    with pytest.raises(SystemExit) as ended:
        main(["train", "--devices=None", "--model.depth=9"])
    assert ended.value.code == 2
    assert "model.depth=9" in capsys.readouterr().err
