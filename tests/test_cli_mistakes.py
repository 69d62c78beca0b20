"""What a wrong command line is told, for every subcommand and kind of mistake."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any, Literal

import pytest
import tyro

from resnet_study.cli import SUBCOMMANDS, help, main
from resnet_study.cli.mistakes import _flags, told
from resnet_study.errors import UserError


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
