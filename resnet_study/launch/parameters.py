"""The parameters of a sweep file: wandb's distributions, each with a field of the spec."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resnet_study.errors import UserError, is_number, shown
from resnet_study.names import nearest_hint
from resnet_study.spec import parameter_types

_RANGE, _NORMAL = {"min": None, "max": None}, {"mu": 0.0, "sigma": 1.0}
_BETA = {"a": 1.0, "b": 1.0}
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
    "beta": _BETA,
    "q_beta": {**_BETA, "q": 1.0},
}
"""wandb's distributions with their keys and defaults; None where a key must be given."""

GRID_DISTRIBUTIONS = ("constant", "categorical", "int_uniform", "q_uniform")


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


def read_parameters(definitions: Any, method: str) -> tuple[Parameter, ...]:
    """Check what stands under ``parameters``.

    ``model: {parameters: {depth: ...}}`` is ``model.depth``.

    Args:
        definitions: the mapping.
        method: ``grid`` or ``random``.

    Returns:
        In wandb's order: sorted by name, nested names where their group stands.

    Raises:
        UserError: naming the key, for a parameter that no run has, a definition that wandb would
            not take, or one that gives no grid.
    """
    if not isinstance(definitions, dict) or not definitions:
        raise UserError("parameters: a mapping of dotted names such as model.depth")
    kinds = parameter_types()
    found: dict[str, tuple[tuple[str, ...], Parameter]] = {}
    for path, definition in _flat(definitions, (), kinds):
        name = ".".join(path)
        if name in found:
            raise UserError(f"parameters.{name} stands twice, dotted and nested")
        parameter = _parameter(name, kinds[name], definition)
        if method == "grid":
            _check_grid(parameter)
        found[name] = path, parameter
    return tuple(parameter for _, parameter in sorted(found.values(), key=lambda pair: pair[0]))


def known_name(name: Any, known: Iterable[str], what: str) -> None:
    """Refuse a name that is none of the known ones.

    Raises:
        UserError: with the nearest known name.
    """
    known = list(known)
    if name not in known:
        raise UserError(f"unknown {what} {shown(name)}; {nearest_hint(shown(name), known)}")


def _flat(
    definitions: Mapping[Any, Any], group: tuple[str, ...], kinds: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Definitions by the names that lead to them. Only known groups are entered, so that a
    mapping which holds itself ends."""
    for key, definition in definitions.items():
        name = ".".join((*group, shown(key)))
        is_group = any(known.startswith(f"{name}.") for known in kinds)
        if not is_group or not isinstance(definition, dict) or "parameters" not in definition:
            known_name(name if isinstance(key, str) else key, kinds, "parameter")
            yield (*group, key), definition
        elif len(definition) > 1 or not isinstance(definition["parameters"], dict):
            raise UserError(f"parameters.{name}: a group is {{parameters: {{...}}}} and no more")
        else:
            yield from _flat(definition["parameters"], (*group, key), kinds)


def _parameter(name: str, kind: Any, definition: Any) -> Parameter:
    """Complete a definition, with the distribution that wandb infers where none is named."""
    where = f"parameters.{name}"
    if not isinstance(definition, dict):
        raise UserError(f"{where}: write {{value: {shown(definition)}}} or {{values: [...]}}")
    keys = dict.fromkeys(key for options in DISTRIBUTIONS.values() for key in options)
    for key in definition:
        known_name(key, ("distribution", *keys), f"key of {name}")
    given = {key: value for key, value in definition.items() if key != "distribution"}
    distribution = definition.get("distribution") or _inferred(where, given)
    known_name(distribution, DISTRIBUTIONS, f"distribution of {name}")
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
    for key in ("min", "max", "q", "mu", "sigma", "a", "b"):
        if key in options and not is_number(options[key]):
            text = isinstance(options[key], str)
            hint = "; YAML reads 1e-4 as text, write 1.0e-4" if text else ""
            raise UserError(f"{where}: {key}={shown(options[key])} is not a number{hint}")
    if "min" in options and options["min"] >= options["max"]:
        low, high = shown(options["min"]), shown(options["max"])
        raise UserError(f"{where}: min={low} is not below max={high}")
    if distribution == "int_uniform" and not all(type(options[k]) is int for k in ("min", "max")):
        raise UserError(f"{where}: int_uniform needs whole numbers for min and max")
    if distribution.endswith("log_uniform_values") and options["min"] <= 0:
        raise UserError(f"{where}: {distribution} needs min above 0")
    if options.get("q", 1) <= 0 or options.get("sigma", 1) < 0:
        raise UserError(f"{where}: q is above 0 and sigma at least 0")
    if min(options.get("a", 1), options.get("b", 1)) <= 0:
        raise UserError(f"{where}: a and b are above 0")
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
        and all(is_number(p) and 0 <= p <= 1 for p in probabilities)
        and math.isclose(sum(probabilities), 1)
    ):
        raise UserError(f"{where}: probabilities are as many as values and sum to 1")


def _check_grid(parameter: Parameter) -> None:
    where = f"parameters.{parameter.name}"
    if parameter.distribution == "categorical_w_probabilities":
        raise UserError(f"{where}: probabilities are for method: random")
    if parameter.distribution not in GRID_DISTRIBUTIONS:
        raise UserError(
            f"{where}: {parameter.distribution} is a continuous range, a grid needs values; "
            "list them under values, or use method: random"
        )
