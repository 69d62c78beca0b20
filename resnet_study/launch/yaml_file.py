"""A YAML file as wandb reads it, in bounded time, memory and output, whatever stands in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from resnet_study.errors import UserError, shown
from resnet_study.files import read_text
from resnet_study.names import nearest

DEEPEST = 50
"""Most collections within each other; the parser of more could leave its stack."""
MOST_NODES = 300_000
"""Most values, names and collections: more than any sweep can run, read within seconds."""

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a file.

    Args:
        path: the file.
        what: such as ``sweep file``, for messages.

    Raises:
        UserError: naming the file, if it is missing, no YAML, repeats a key or is no mapping.
    """
    if not path.exists():
        near = nearest(path.stem, sorted(p.stem for p in path.parent.glob(f"*{path.suffix}")))
        hint = f"; did you mean {path.with_stem(near)}?" if near else ""
        raise UserError(f"{path}: no such {what}{hint}")
    text = read_text(path)
    try:
        _check_size(path, text)
        content = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        at = getattr(error, "problem_mark", None)
        reason = shown(getattr(error, "problem", None) or str(error))
        line = f" in line {at.line + 1}" if at is not None else ""
        raise UserError(f"{path}: not valid YAML{line} ({reason})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a {what} is a mapping, key: value")
    return content


def _check_size(path: Path, text: str) -> None:
    depth = nodes = 0
    for event in yaml.parse(text, _Parser):
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or nodes > MOST_NODES:
            what = (
                f"nested more than {DEEPEST} times"
                if depth > DEEPEST
                else f"more than {MOST_NODES:,} values"
            )
            line = f" in line {event.start_mark.line + 1}" if event.start_mark else ""
            raise UserError(f"{path}: {what}{line}")


class _Loader(_Parser):
    """Refuses a repeated key, which YAML would silently let win over the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise _problem(f"{shown(key.value)} stands twice", key)
            seen.add(key.value)
        content: dict[Any, Any] = super().construct_mapping(node, deep)
        return content

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        # The last of a key counts; mappings merged of merged ones would hold it millions of times.
        node.value = list({_identity(key): (key, value) for key, value in node.value}.values())

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        # A month 13, a number of more digits than Python reads, a tag that does not fit.
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError, LookupError, AttributeError, TypeError):
            raise _problem(f"no value: {shown(node.value)}", node) from None


def _identity(key: yaml.Node) -> object:
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)


def _problem(text: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)
