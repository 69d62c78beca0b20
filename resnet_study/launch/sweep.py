"""A sweep file in wandb's schema, read and checked before anything runs.

The files of `sweeps/` are the only definition of a grid or a random search. What the file
asks for and this machine cannot do is refused here in one line that names file and key;
`resnet_study.launch.expand` makes runs of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_study.errors import UserError, shown
from resnet_study.launch.command import Command, read_command
from resnet_study.launch.parameters import Parameter, known_name, read_parameters
from resnet_study.launch.yaml_file import read_yaml
from resnet_study.tracking.scalars import KEYS, RATIOS

SWEEP_KEYS = (
    "program",
    "command",
    "method",
    "metric",
    "parameters",
    "early_terminate",
    "run_cap",
    "name",
    "description",
    "project",
    "entity",
    "controller",
    "apiVersion",
    "kind",
    "imports",
    "log_dir",
)
"""Of wandb's schema (config/schema.json of github.com/wandb/sweeps), and two that old files have.
Those that nothing here reads change nothing in a run under wandb either."""

SERVER_KEYS = ("job", "image_uri", "scheduler", "metrics")
"""Others of wandb's schema, with which somebody else chooses the program or the points."""


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file.

    Attributes:
        path: the file.
        method: ``grid`` or ``random``.
        parameters: in wandb's order.
        run_cap: most runs, if the file says so.
        command: what the file's command gives to every run.
        early_terminate: whether wandb's server would stop poor runs early.
    """

    path: Path
    method: str
    parameters: tuple[Parameter, ...]
    run_cap: int | None
    command: Command
    early_terminate: bool


def load_sweep(path: Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        UserError: naming file and key, if the file is missing, is no sweep, needs wandb's
            server, or holds a parameter that no run has.
    """
    return sweep_of(read_yaml(path, "sweep file"), path)


def sweep_of(content: Mapping[Any, Any], path: Path | str) -> Sweep:
    """Check what stands in a sweep file.

    Args:
        content: the mapping.
        path: the file, or what the mapping is, for messages.

    Raises:
        UserError: as `load_sweep`.
    """
    try:
        return _checked(content, Path(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _checked(content: Mapping[Any, Any], path: Path) -> Sweep:
    for key in content:
        if key in SERVER_KEYS:
            raise UserError(f"{key}: needs wandb's own service; use wandb sweep, or leave it out")
        known_name(key, SWEEP_KEYS, "key")
    method = content.get("method")
    if method in ("bayes", "custom"):
        raise UserError(
            f"method={method}: needs wandb's server; use wandb sweep and wandb agent, "
            "or method: grid or random"
        )
    if method not in ("grid", "random"):
        raise UserError(f"method={shown(method)}: valid are grid and random")
    parameters = read_parameters(content.get("parameters"), method)
    cap = content.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise UserError(f"run_cap={shown(cap)}: a whole number of at least 1")
    _check_metric(content.get("metric"))
    program = content.get("program")
    if program is not None and not isinstance(program, str):
        raise UserError(f"program={shown(program)}: the name of a file")
    command = read_command(content.get("command"), program)
    for parameter in parameters:
        if parameter.name in command.values:
            raise UserError(
                f"command: --{parameter.name} is one of the sweep's parameters too; give it once"
            )
    return Sweep(
        path=path,
        method=method,
        parameters=parameters,
        run_cap=cap,
        command=command,
        early_terminate=_check_early_terminate(content.get("early_terminate")),
    )


def _check_metric(metric: Any) -> None:
    if metric is None:
        return
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise UserError("metric: a mapping such as {name: test/error, goal: minimize}")
    for key in metric:
        known_name(
            key, ("name", "goal", "target", "impute", "impute_while_running"), "key of metric"
        )
    from resnet_study.records import SPLITS

    names = [f"{split}/{value}" for split in SPLITS for value in ("error", "loss")]
    names += [key for key in KEYS if key not in RATIOS]
    known_name(metric["name"], names, "metric")
    known_name(metric.get("goal", "minimize"), ("minimize", "maximize"), "goal of metric")


def _check_early_terminate(definition: Any) -> bool:
    if definition is None:
        return False
    if not isinstance(definition, dict) or definition.get("type") != "hyperband":
        raise UserError("early_terminate: a mapping with type: hyperband")
    for key in definition:
        known_name(key, ("type", "min_iter", "max_iter", "s", "eta", "strict"), "key")
    return True
