"""A sweep file in wandb's schema, read and checked before anything runs.

The files of `sweeps/` are the only definition of a grid or a random search. What the file
asks for and this machine cannot do is refused here in one line that names file and key;
`resnet_study.launch.expand` makes runs of the rest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from resnet_study.errors import UserError
from resnet_study.names import nearest_hint
from resnet_study.spec import parameter_types

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
)

_RANGE, _NORMAL = {"min": None, "max": None}, {"mu": 0.0, "sigma": 1.0}
DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    "constant": {"value": None},
    "categorical": {"values": None},
    "categorical_w_probabilities": {"values": None, "probabilities": None},
    "int_uniform": _RANGE,
    "uniform": _RANGE,
    "q_uniform": {**_RANGE, "q": 1.0},
    "log_uniform": _RANGE,
    "log_uniform_values": _RANGE,
    "q_log_uniform": {**_RANGE, "q": 1.0},
    "q_log_uniform_values": {**_RANGE, "q": 1.0},
    "inv_log_uniform": _RANGE,
    "inv_log_uniform_values": _RANGE,
    "normal": _NORMAL,
    "q_normal": {**_NORMAL, "q": 1.0},
    "log_normal": _NORMAL,
    "q_log_normal": {**_NORMAL, "q": 1.0},
}
"""wandb's distributions with their keys and defaults; None where a key must be given."""

GRID_DISTRIBUTIONS = ("constant", "categorical", "int_uniform", "q_uniform")

ARGUMENTS = "${args}"


@dataclass(frozen=True)
class Parameter:
    """What one spec field is drawn from.

    Attributes:
        name: dotted name of the field, such as ``model.depth``.
        kind: declared type of the field.
        distribution: a key of `DISTRIBUTIONS`.
        options: its keys, complete.
    """

    name: str
    kind: Any
    distribution: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file.

    Attributes:
        path: the file.
        method: ``grid`` or ``random``.
        parameters: sorted by name, as wandb orders them.
        run_cap: most runs, if the file says so.
        results: folder that the file's command gives to ``--results``, so that runs of
            every launcher meet there.
        early_terminate: whether wandb's server would stop poor runs early.
    """

    path: Path
    method: str
    parameters: tuple[Parameter, ...]
    run_cap: int | None
    results: Path | None
    early_terminate: bool


def load_sweep(path: Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        UserError: naming file and key, if the file is missing, is no sweep, needs wandb's
            server, or holds a parameter that no run has.
    """
    return sweep_of(_read(path), path)


def sweep_of(content: Mapping[str, Any], path: Path | str) -> Sweep:
    """Check what stands in a sweep file.

    Args:
        content: the mapping.
        path: the file, or what the mapping is, for messages.

    Raises:
        UserError: as `load_sweep`.
    """
    path = Path(path)
    for key in content:
        _known(path, key, SWEEP_KEYS, "key")
    method = content.get("method")
    if method == "bayes":
        raise UserError(
            f"{path}: method=bayes: needs wandb's server; use wandb sweep and wandb agent, "
            "or method: grid or random"
        )
    if method not in ("grid", "random"):
        raise UserError(f"{path}: method={method}: valid are grid and random")
    definitions = content.get("parameters")
    if not isinstance(definitions, dict) or not definitions:
        raise UserError(f"{path}: parameters: a mapping of dotted names such as model.depth")
    kinds = parameter_types()
    for name in definitions:
        _known(path, name, kinds, "parameter")
    parameters = tuple(
        _parameter(path, name, kinds[name], definitions[name]) for name in sorted(definitions)
    )
    if method == "grid":
        for parameter in parameters:
            _check_grid(path, parameter)
    cap = content.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise UserError(f"{path}: run_cap={cap}: a whole number of at least 1")
    _check_metric(path, content.get("metric"))
    return Sweep(
        path=path,
        method=method,
        parameters=parameters,
        run_cap=cap,
        results=_check_command(path, content.get("command")),
        early_terminate=_check_early_terminate(path, content.get("early_terminate")),
    )


class _Loader(yaml.SafeLoader):
    """Refuses a repeated key, which YAML would silently let win over the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(f"{self.name}: {key.value} stands twice (again in line {line})")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such sweep file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except (yaml.YAMLError, TypeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a sweep is a mapping with method and parameters")
    return content


def _known(path: Path, name: Any, known: Iterable[str], what: str) -> None:
    known = list(known)
    if name not in known:
        raise UserError(f"{path}: unknown {what} {name}; {nearest_hint(str(name), known)}")


def _parameter(path: Path, name: str, kind: Any, definition: Any) -> Parameter:
    """Complete a definition, with the distribution that wandb infers where none is named."""
    where = f"{path}: parameters.{name}"
    if not isinstance(definition, dict):
        raise UserError(f"{where}: write {{value: {definition}}} or {{values: [...]}}")
    if "parameters" in definition:
        raise UserError(f"{where}: nested parameters reach no flag; write dotted names")
    keys = dict.fromkeys(key for options in DISTRIBUTIONS.values() for key in options)
    for key in definition:
        _known(path, key, ("distribution", *keys), f"key of {name}")
    given = {key: value for key, value in definition.items() if key != "distribution"}
    distribution = definition.get("distribution") or _inferred(where, given)
    _known(path, distribution, DISTRIBUTIONS, f"distribution of {name}")
    if distribution == "categorical" and "probabilities" in given:
        distribution = "categorical_w_probabilities"
    options = DISTRIBUTIONS[distribution]
    for key in given:
        if key not in options:
            raise UserError(f"{where}: {distribution} takes {', '.join(options)}, not {key}")
    for key, default in options.items():
        if default is None and key not in given:
            raise UserError(f"{where}: {distribution} needs {key}")
    complete = {**options, **given}
    _check_options(where, distribution, complete)
    return Parameter(name, kind, distribution, complete)


def _inferred(where: str, given: dict[str, Any]) -> str:
    if "value" in given and "values" in given:
        raise UserError(f"{where}: give either value or values")
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical_w_probabilities" if "probabilities" in given else "categorical"
    if "min" in given or "max" in given:
        whole = all(type(given.get(key)) is int for key in ("min", "max"))
        return "int_uniform" if whole else "uniform"
    raise UserError(f"{where}: give value, values, or min and max")


def _check_options(where: str, distribution: str, options: dict[str, Any]) -> None:
    for key in ("min", "max", "q", "mu", "sigma"):
        if key in options and not _is_number(options[key]):
            text = isinstance(options[key], str)
            hint = "; YAML reads 1e-4 as text, write 1.0e-4" if text else ""
            raise UserError(f"{where}: {key}={options[key]} is not a number{hint}")
    if "min" in options and options["min"] >= options["max"]:
        raise UserError(f"{where}: min={options['min']} is not below max={options['max']}")
    if distribution == "int_uniform" and not all(type(options[k]) is int for k in ("min", "max")):
        raise UserError(f"{where}: int_uniform needs whole numbers for min and max")
    if distribution.endswith("log_uniform_values") and options["min"] <= 0:
        raise UserError(f"{where}: {distribution} needs min above 0")
    if options.get("q", 1) <= 0 or options.get("sigma", 1) < 0:
        raise UserError(f"{where}: q is above 0 and sigma at least 0")
    if "values" in options:
        _check_values(where, options["values"], options.get("probabilities"))
    elif not isinstance(options.get("value"), Hashable):
        raise UserError(f"{where}: a value is a number, a word or true and false")


def _check_values(where: str, values: Any, probabilities: Any) -> None:
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: values is a list of at least one value")
    if not all(isinstance(value, Hashable) for value in values):
        raise UserError(f"{where}: values are numbers, words or true and false")
    if probabilities is not None and not (
        isinstance(probabilities, list)
        and len(probabilities) == len(values)
        and all(_is_number(p) and p >= 0 for p in probabilities)
        and math.isclose(sum(probabilities), 1)
    ):
        raise UserError(f"{where}: probabilities are as many as values and sum to 1")


def _check_grid(path: Path, parameter: Parameter) -> None:
    where = f"{path}: parameters.{parameter.name}"
    if parameter.distribution == "categorical_w_probabilities":
        raise UserError(f"{where}: probabilities are for method: random")
    if parameter.distribution not in GRID_DISTRIBUTIONS:
        raise UserError(
            f"{where}: {parameter.distribution} is a continuous range, a grid needs values; "
            "list them under values, or use method: random"
        )


def _check_command(path: Path, command: Any) -> Path | None:
    """The command must start ``resnet-study train`` with the parameters as flags."""
    example = '["${env}", python, -m, resnet_study, train, "${args}"]'
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise UserError(f"{path}: command: a list of words, {example}")
    if ARGUMENTS not in command:
        raise UserError(f"{path}: command: has no {ARGUMENTS}, so no parameter would arrive")
    starts = [("resnet_study", "train"), ("resnet-study", "train")]
    if not any(pair in starts for pair in itertools.pairwise(command)):
        raise UserError(f"{path}: command: does not start resnet-study train; write {example}")
    folders = [word.partition("=")[2] for word in command if word.startswith("--results=")]
    return Path(folders[-1]) if folders else None


def _check_metric(path: Path, metric: Any) -> None:
    if metric is None:
        return
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise UserError(f"{path}: metric: a mapping such as {{name: test/error, goal: minimize}}")
    for key in metric:
        _known(path, key, ("name", "goal", "target"), "key of metric")
    splits = ("train", "train_clean", "val", "test")
    names = [f"{split}/{value}" for split in splits for value in ("error", "loss")]
    _known(path, metric["name"], names, "metric")
    _known(path, metric.get("goal", "minimize"), ("minimize", "maximize"), "goal of metric")


def _check_early_terminate(path: Path, definition: Any) -> bool:
    if definition is None:
        return False
    if not isinstance(definition, dict) or definition.get("type") != "hyperband":
        raise UserError(f"{path}: early_terminate: a mapping with type: hyperband")
    for key in definition:
        _known(path, key, ("type", "min_iter", "max_iter", "s", "eta", "strict"), "key")
    return True


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
