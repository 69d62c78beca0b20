"""Under ``wandb agent``: the run that the words of the command make, against the sweep's point.

The agent gives the point of its server twice: as words in the place of ``${args}``, and as a file
(``WANDB_SWEEP_PARAM_PATH``). What another macro loses on the way to the words shows here.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_study.errors import UserError, shown
from resnet_study.launch.command import value_of
from resnet_study.spec import RunSpec, flatten, from_flat, parameter_types

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

    point = point_of(read_yaml(Path(path), "config of a run of wandb agent"))
    expected = from_flat({**spec.flat(), **point}, f"the sweep's point ({path})").flat()
    differing = [
        f"{name} is {shown(value)}, the sweep says {shown(expected[name])}"
        for name, value in spec.flat().items()
        if value != expected[name]
    ]
    if differing:
        raise UserError(f"{'; '.join(differing)}: {HINT}")


def point_of(config: Mapping[Any, Any]) -> dict[str, Any]:
    """Spec fields by dotted name, out of ``{model.depth: {value: 8}, model: {value: {...}}}``.

    Values are those of the flags as which the agent writes them. What is no field, such as
    ``wandb_version``, is left out.
    """
    kinds = parameter_types()
    values = {
        name: entry["value"]
        for name, entry in config.items()
        if isinstance(entry, dict) and "value" in entry
    }
    return {
        name: value_of(kinds[name], str(value)) for name, value in flatten(values) if name in kinds
    }


def unnested(words: Sequence[str]) -> list[str]:
    """``--model={'depth': 8}``, as which the agent writes nested parameters, as
    ``--model.depth=8``; other words as they are."""
    result: list[str] = []
    for word in words:
        flag, _, text = word.partition("=")
        last = result[-1] if result else ""
        apart = not word.startswith("--") and last.startswith("--") and "=" not in last
        if apart:
            flag, text = last, word
        group = _mapping(text) if flag.startswith("--") else None
        if group is None:
            result.append(word)
            continue
        if apart:
            result.pop()
        result += [f"--{name}={value}" for name, value in flatten({flag[2:]: group})]
    return result


def _mapping(text: str) -> dict[Any, Any] | None:
    try:
        value = ast.literal_eval(text) if text.startswith("{") else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
