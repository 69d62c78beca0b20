"""What is wrong with a command line, in one line: of the event that tyro reports before its box.

tyro calls the module of its events experimental, so a kind that is not known here is no error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tyro
from tyro import _errors

from resnet_study.errors import UserError
from resnet_study.names import nearest
from resnet_study.spec import parameter_types


@contextlib.contextmanager
def told(words: Sequence[str], function: Callable[..., Any] | None) -> Iterator[None]:
    """Raise what tyro has to say against a command line as a `UserError`, and nothing in a box.

    Args:
        words: the command line.
        function: the subcommand whose flags are meant, if one is.
    """

    def refuse(event: _errors.ParseErrorEvent) -> None:
        known = [] if function is None else list(_flags(function))
        # A flag that is misspelt is the mistake, whatever tyro misses for want of it.
        typed = [word for word in words if word.startswith("--")]
        unknown = [word for word in typed if _flag(word) not in known] if known else []
        message = _unknown(unknown, known) if unknown else _message(event, known)
        if message:
            raise UserError(message)

    with _errors.on_parse_error(refuse):
        yield


def _message(event: _errors.ParseErrorEvent, known: Sequence[str]) -> str:
    """Empty for a kind of mistake that is not known here."""
    if isinstance(event, _errors.UnrecognizedArgs):
        return _unknown(event.tokens, known)
    if isinstance(event, _errors.MissingArgs):
        return _required(missing.arg for missing in event.missing_arguments)
    if isinstance(event, _errors.MissingSubcommand):
        return "name a subcommand: " + ", ".join(event.subcommand_spec.parser_from_name)
    if isinstance(event, _errors.InvalidChoice):
        choices = ", ".join(map(repr, event.choices))
        flag = "" if event.argument.is_positional() else f"{_name(event.argument)}="
        return f"{flag}{event.value}: valid are {choices}"
    if isinstance(event, _errors.BadValue):
        if event.argument.is_positional():
            return _required([event.argument])
        return f"{_name(event.argument)}: its value is missing"
    if isinstance(event, _errors.InstantiationFailure):
        return f"{_name(event.argument)}: {event.message}" if event.argument else event.message
    return ""


def _required(arguments: Iterable[Any]) -> str:
    return f"required: {', '.join(map(_name, arguments))}"


def _unknown(tokens: Sequence[str], known: Sequence[str]) -> str:
    flags = [_flag(token) for token in tokens if token.startswith("--")]
    if fields := [flag for flag in flags if flag[2:] in parameter_types()]:
        return (
            f"unrecognized: {', '.join(fields)}: a field of runs, which a sweep's or study's file "
            "sets, resnet-study train takes, and --where of compare chooses by"
        )
    near = next(filter(None, (nearest(flag, known) for flag in flags)), None)
    hint = f"; did you mean {near}?" if near else ""
    return f"unrecognized: {', '.join(tokens)}{hint}"


def _flag(word: str) -> str:
    """``--dry_run`` of ``--dry-run=1``."""
    return "--" + word.partition("=")[0][2:].replace("-", "_")


def _name(argument: Any) -> str:
    """``--model.depth``, or the placeholder of what has no flag."""
    return str(argument.lowered.metavar if argument.is_positional() else argument.display_name())


def _flags(function: Callable[..., Any]) -> Iterator[str]:
    """All flags of a subcommand."""
    for name, annotation in typing.get_type_hints(function, include_extras=True).items():
        kind, *marks = typing.get_args(annotation) or (annotation,)
        if tyro.conf.Positional in marks:
            continue
        fields = list(_fields(kind))
        if tyro.conf.OmitArgPrefixes in marks:
            fields = [field.rpartition(".")[2] for field in fields]
        yield from (f"--{field}" for field in fields or ([name] if name != "return" else []))


def _fields(kind: Any) -> Iterator[str]:
    """Of a dataclass, those of a dataclass within it as ``model.depth``."""
    if not dataclasses.is_dataclass(kind):
        return
    for name, annotation in typing.get_type_hints(kind).items():
        inner = list(_fields(annotation))
        yield from (f"{name}.{field}" for field in inner) if inner else [name]
