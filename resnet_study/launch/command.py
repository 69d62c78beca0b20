"""What the command of a sweep file gives to every run, beside the sweep's parameters.

`wandb agent` starts the command as it stands, with its macros filled in; here it is read, so that
a flag means the same in both. What would be lost is refused by name.
"""

from __future__ import annotations

import os
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from resnet_study.errors import UserError, shown
from resnet_study.files import expanded
from resnet_study.names import nearest_hint
from resnet_study.spec import parameter_types
from resnet_study.training.options import Options

EXAMPLE = '["${env}", python, -m, resnet_study, train, "${args}"]'
DEFAULT = ["${env}", "${interpreter}", "${program}", "${args}"]
"""What wandb runs for a file without a command."""

ARGUMENTS = ("${args}", "${args_no_equals}")
"""Macros that give every parameter as a flag with its value, as ``train`` takes them."""

MACROS = (
    "resnet-study train takes parameters as ${args}, a word of its own; beside it there are "
    "${env}, ${interpreter}, ${program} and ${envvar:NAME}"
)
_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_START = re.compile(r"(.*/)?env|(.*/)?python[0-9.]*|-[uBsEIOPm]+")
_PROGRAM = re.compile(r"resnet_study|(.*/)?resnet-study")


@dataclass(frozen=True)
class Command:
    """A checked command.

    Attributes:
        values: of spec fields, by dotted name, the same in every run.
        results: folder of the study, so that runs of every launcher meet there.
        options: of every run, by the name of their flag.
        other: what wandb would start instead, where the file has no command.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    results: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    other: str | None = None


def read_command(
    command: Any, program: str | None, environment: Mapping[str, str] = os.environ
) -> Command:
    """Read the command of a sweep file.

    Args:
        command: what stands there, None if nothing does.
        program: the program of the file, for ``${program}``.
        environment: for ``${envvar:NAME}``.

    Raises:
        UserError: unless it starts ``resnet-study train`` with the parameters as flags, and
            everything else in it can be done here too.
    """
    if (not command and command in (None, [])) or command == DEFAULT:
        return Command(other=program or "nothing, for want of a program")
    if not isinstance(command, list) or not all(
        type(w) in (str, int, float, bool) for w in command
    ):
        raise UserError(f"command: a list of words, {EXAMPLE}")
    texts = [word if isinstance(word, str) else shown(word) for word in command]
    words = [_filled_in(text, program, environment) for text in texts]
    starts = [i for i, word in enumerate(words) if i and word == "train"]
    start = next((i for i in starts if _PROGRAM.fullmatch(words[i - 1])), None)
    if start is None:
        raise UserError(f"command: does not start resnet-study train; write {EXAMPLE}")
    for word in words[: start - 1]:
        if not _START.fullmatch(word):
            raise UserError(
                f"command: {shown(word)} before resnet-study train works under wandb agent alone; "
                "leave it out, or give it to the shell in front of the whole command"
            )
    arguments = [word for word in words[start + 1 :] if word in ARGUMENTS]
    if len(arguments) != 1:
        how_often = "stands twice" if arguments else "does not stand"
        raise UserError(f"command: ${{args}} {how_often} after train; it is the parameters, once")
    return _of_flags(words[start + 1 :])


def with_options(given: Options, said: Mapping[str, Any], typed: Collection[str] = ()) -> Options:
    """The options of a command line, and those of a sweep's command where it says nothing.

    Args:
        given: of the command line.
        said: `Command.options`.
        typed: flags that the user typed, whose values stay even where they are the default.

    Raises:
        UserError: if an option has no such value.
    """

    def filled(part: Any, default: Any) -> Any:
        same = {n for n in _names(part) if getattr(part, n) == getattr(default, n)}
        return replace(part, **{name: said[name] for name in same - set(typed) if name in said})

    default = Options()
    groups = {name: filled(getattr(given, name), getattr(default, name)) for name in _groups()}
    options: Options = filled(replace(given, **groups), default)
    return options


def value_of(kind: Any, text: str) -> Any:
    """The value that a flag of this type has; the text itself if it is none, for a message."""
    if isinstance(kind, types.UnionType):
        if text == "None" and type(None) in typing.get_args(kind):
            return None
        kind = next(part for part in typing.get_args(kind) if part not in (type(None), str))
    try:
        if kind is bool:
            return {"true": True, "True": True, "false": False, "False": False}[text]
        if kind is Path:
            return expanded(Path(text))
        return kind(text) if kind in (int, float) else text
    except (ValueError, KeyError):
        return text


def is_unfilled(word: str) -> bool:
    """Whether it holds something like ``${HOME}`` or ``$HOME``, for which there is no shell."""
    return re.search(r"\$[{A-Za-z_]", word) is not None


def _filled_in(word: str, program: str | None, environment: Mapping[str, str]) -> str:
    """The word as wandb fills it in, but for the parameters."""

    def variable(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise UserError(f"command: {match[0]}: there is no such environment variable")
        return environment[match[1]]

    word = _VARIABLE.sub(variable, word)
    if word == "${program}":
        if program is None:
            raise UserError("command: ${program}: the file has no program")
        return program
    word = {"${env}": "env", "${interpreter}": "python"}.get(word, word)
    if is_unfilled(word) and word not in ARGUMENTS:
        raise UserError(f"command: {shown(word)}: {MACROS}")
    return word


def _of_flags(words: Sequence[str]) -> Command:
    kinds, options = parameter_types(), _option_types()
    known = {**kinds, **options, "results": Path}
    switches = {name for name, kind in options.items() if kind is bool}
    found: dict[str, Any] = {}
    for name, text in _flags(words, known, switches):
        kind = known[name]
        if name in found:
            raise UserError(f"command: --{name} is given twice; give it once")
        found[name] = value_of(kind, text)
        kinds_of = (kind, *typing.get_args(kind))
        valid = next((typing.get_args(part) for part in kinds_of if _is_choice(part)), ())
        counts = {bool, int, float} & {*kinds_of} and str not in kinds_of
        unread = counts and type(found[name]) is str
        if (valid and text not in valid) or unread:
            rule = f"valid are {', '.join(valid)}" if valid else "no such value"
            raise UserError(f"command: --{name}={shown(text)}: {rule}")
    chosen = {name: value for name, value in found.items() if name in options}
    with_options(Options(), chosen)
    return Command(
        values={name: value for name, value in found.items() if name in kinds},
        results=found.get("results"),
        options=chosen,
    )


def _flags(
    words: Sequence[str], known: Collection[str], switches: set[str]
) -> Iterator[tuple[str, str]]:
    """Names and texts of ``--name=text`` and ``--name text``; switches have no text."""
    rest = iter(words)
    for word in rest:
        if word in ARGUMENTS:
            continue
        if not word.startswith("--"):
            raise UserError(f"command: {shown(word)} is no flag of resnet-study train")
        name, equals, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if name not in known:
            near = nearest_hint(name[:80], known)
            raise UserError(f"command: no flag --{shown(name)} for the runs of a sweep; {near}")
        if not equals:
            text = "true" if name in switches else next(rest, ARGUMENTS[0])
            if text.startswith("--") or text in ARGUMENTS:
                raise UserError(f"command: --{name} needs a value")
        elif name in switches:
            raise UserError(f"command: --{name} takes no value")
        yield name, text


def _is_choice(kind: Any) -> bool:
    return typing.get_origin(kind) is Literal


def _names(part: Any) -> list[str]:
    return [item.name for item in fields(part)]


def _groups() -> list[str]:
    return [name for name in _names(Options) if name != "checkpoint_seconds"]


def _option_types() -> dict[str, Any]:
    """Types of the flags that are no part of a spec, by name."""
    own = typing.get_type_hints(Options)
    inner = {k: v for name in _groups() for k, v in typing.get_type_hints(own[name]).items()}
    return {**inner, "checkpoint_seconds": own["checkpoint_seconds"]}
