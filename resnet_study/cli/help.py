"""What ``--help`` looks like: placeholders that one types, one example per line, lines that fit.

Of a value that may be left out the placeholder is ``PATH``, of several ``PATH ...``; tyro's own are
``{None}|PATH`` and ``[PATH [PATH ...]]``: grammar, and a value that nobody types.
"""

from __future__ import annotations

import inspect
import io
import re
import shutil
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, TextIO

import docstring_parser
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

from resnet_study.durations import Duration
from resnet_study.errors import shown
from resnet_study.files import expanded

REGISTRY = ConstructorRegistry()
"""For `tyro.cli`."""

Spec = PrimitiveConstructorSpec[Any]

_FOLDED = re.compile(r"\n {8,}")


def one_paragraph_each(docstring: str | None) -> str:
    """The docstring with what explains an argument on one line, which tyro folds anew."""
    return _FOLDED.sub(" ", inspect.cleandoc(docstring or ""))


def fold_fields(annotation: Any) -> None:
    """Let what explains the fields of dataclasses in an annotation be one line each, likewise.

    tyro and docstring_parser take what a class says of its ``Attributes:`` before the docstrings
    below its fields, whose lines they would break where the source does.
    """
    for inner in typing.get_args(annotation):
        fold_fields(inner)
    if not (isinstance(annotation, type) and is_dataclass(annotation)):
        return
    said = docstring_parser.parse_from_object(annotation)
    if said.params:
        about = "\n\n".join(filter(None, (said.short_description, said.long_description)))
        lines = [
            f"    {p.arg_name}: {' '.join((p.description or '').split())}" for p in said.params
        ]
        annotation.__doc__ = "\n".join((about, "", "Attributes:", *lines))
    for hint in typing.get_type_hints(annotation).values():
        fold_fields(hint)


class Wrapped(io.TextIOBase):
    """A stream that folds lines wider than the terminal, or than COLUMNS says.

    tyro fits its boxes to it, but not the paragraphs above them.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    def isatty(self) -> bool:
        return self.stream.isatty()

    def write(self, text: str) -> int:
        width = shutil.get_terminal_size().columns
        # In the list of subcommands there is nowhere else to break a line.
        text = re.sub(r"(?<=[{,]\w)(\w*),(?=\w)", r"\1, ", text) if text[:6] == "usage:" else text
        for line in text.splitlines(keepends=True):
            end = "\n" if line.endswith("\n") else ""
            wide = len(line.rstrip("\n")) > width and line[0] not in "│╭╰"
            indent = "    " if line.startswith("$ ") else ""
            folded = textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False)
            self.stream.write(folded + end if wide else line)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


@REGISTRY.primitive_rule
def _path(info: PrimitiveTypeInfo) -> Spec | None:
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: _named(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def _named(word: str) -> Path:
    if not word.strip():  # of a variable that is not set; Path would take it for the folder here
        raise ValueError("an empty name; for the folder here give .")
    return expanded(Path(word))


@REGISTRY.primitive_rule
def _plain(info: PrimitiveTypeInfo) -> Spec | None:
    """Numbers, and lengths of training; tyro's own placeholders are the names of Python's types."""
    kinds: dict[Any, tuple[str, Callable[[str], Any], type | tuple[type, ...]]] = {
        int: ("N", _whole, int),
        float: ("X", _real, (int, float)),
        str: ("TEXT", str, str),
        Duration: ("N|N%|Nep", _length, (int, str)),
    }
    if info.type not in kinds:
        return None
    metavar, read, kind = kinds[info.type]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: isinstance(value, kind) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"{shown(word)} is no whole number") from None


def _length(word: str) -> int | str:
    return int(word) if re.fullmatch("-?[0-9]{1,18}", word) else word


def _real(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{shown(word)} is no number") from None


@REGISTRY.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> Spec | None:
    options = typing.get_args(info.type)
    if info.type_origin not in (types.UnionType, typing.Union) or type(None) not in options:
        return None
    inner = _of(reduce(or_, (option for option in options if option is not type(None))), info)
    return inner and replace(
        inner,
        instance_from_str=lambda w: None if w == ["None"] else inner.instance_from_str(w),
        is_instance=lambda value: value is None or inner.is_instance(value),
        str_from_instance=lambda v: ["None"] if v is None else inner.str_from_instance(v),
    )


@REGISTRY.primitive_rule
def _several(info: PrimitiveTypeInfo) -> Spec | None:
    kinds: dict[Any, type[list[Any] | tuple[Any, ...]]] = {list: list, tuple: tuple, Sequence: list}
    options = [option for option in typing.get_args(info.type) if option is not ...]
    if info.type_origin not in kinds or len(options) != 1:
        return None
    inner, container = _of(options[0], info), kinds[info.type_origin]
    return inner and PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{inner.metavar} ...",
        instance_from_str=lambda words: container(inner.instance_from_str([w]) for w in words),
        is_instance=lambda value: isinstance(value, list | tuple),
        str_from_instance=lambda values: [w for v in values for w in inner.str_from_instance(v)],
        choices=inner.choices,
    )


def _of(annotation: Any, info: PrimitiveTypeInfo) -> Spec | None:
    found = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(annotation, info.markers))
    return None if isinstance(found, UnsupportedTypeAnnotationError) else found
