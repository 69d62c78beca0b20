"""Under ``wandb agent``: the run that the words of the command make, against the sweep's point.

The agent gives the point of its server twice: as words in the place of ``${args}``, and as a file
(``WANDB_SWEEP_PARAM_PATH``). What another macro loses on the way to the words shows here.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_study.errors import UserError, shown
from resnet_study.launch.command import MACROS, is_unfilled, value_of
from resnet_study.spec import RunSpec, flatten, from_flat, parameter_types
from resnet_study.tracking.tracker import BESIDE_SPEC

POINT_FILE = "WANDB_SWEEP_PARAM_PATH"
HINT = "the sweep's command gives the parameters to train as ${args}, a word of its own"


def check_point(spec: RunSpec, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a run that is not what the sweep says.

    Raises:
        UserError: naming the fields that differ, or if the agent's file cannot be read.
    """
    if not (path := environment.get(POINT_FILE)):
        return
    # Only here: the command line imports this module at its start.
    from resnet_study.launch.yaml_file import read_yaml

    config = read_yaml(Path(path), "config of a run of wandb agent")
    own = spec.flat()
    said = [(name, value) for name, value in point_of(config) if value != own[name]]
    differing = []
    for name, value in said:
        # As words of the sweep, such as 2ep, it may be the same.
        expected = from_flat({**own, name: value}, f"the sweep's point ({path})")
        if expected != spec:
            found = shown(expected.flat()[name])
            differing.append(f"{name} is {shown(own[name])}, the sweep says {found}")
    if differing:
        raise UserError(f"{'; '.join(differing)}: {HINT}")


def point_of(config: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    """Spec fields by dotted name, out of ``{model.depth: {value: 8}, model: {value: {...}}}``.

    Values are those of the flags as which the agent writes them. What is no field, such as
    ``wandb_version``, is left out; what stands in both ways is there twice.
    """
    kinds = parameter_types()
    values = {
        name: entry["value"]
        for name, entry in config.items()
        if isinstance(entry, dict) and "value" in entry
    }
    leaves = [leaf for leaf in flatten(values) if leaf[0] in kinds]
    return [(name, value_of(kinds[name], str(value))) for name, value in leaves]


def unnested(words: Sequence[str], under_agent: bool = False) -> list[str]:
    """Flags of a run as the agent writes them, as ``train`` takes them; other words as they are.

    Nested parameters, ``--model={'depth': 8}``, become ``--model.depth=8``.

    Args:
        words: of a command line.
        under_agent: Whether wandb's agent wrote them. A run that was preempted it gives to the
            next agent with all that was logged as its config (`resnet_study.tracking.tracker`):
            then fields stand in their group too, and what is no field is left out.

    Raises:
        UserError: for a word of wandb's agent in which something was left to be filled in.
    """
    unfilled = next(filter(is_unfilled, words), None) if under_agent else None
    if unfilled is not None:
        raise UserError(f"{shown(unfilled)}: {MACROS}")
    items = list(_items(words))
    own = {name for name, text, _ in items if _mapping(text) is None}
    result: list[str] = []
    for name, text, as_given in items:
        if under_agent and name in (*BESIDE_SPEC, "_wandb"):
            continue
        group = _mapping(text) if name else None
        leaves = flatten({name: group}) if group is not None else ()
        result += as_given if group is None else []
        result += [f"--{leaf}={v}" for leaf, v in leaves if not (under_agent and leaf in own)]
    return result


def _items(words: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Names and texts of flags, and the words that they stand in; other words have no name."""
    rest = [*words]
    while rest:
        word = rest.pop(0)
        name, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            yield "", word, [word]
        elif equals or not rest or rest[0].startswith("--"):
            yield name, text, [word]
        else:
            text = rest.pop(0)
            yield name, text, [word, text]


def _mapping(text: str) -> dict[Any, Any] | None:
    try:
        value = ast.literal_eval(text) if text.startswith("{") else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
