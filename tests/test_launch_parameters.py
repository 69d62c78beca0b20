"""Parameters are fields of a run, dotted or nested; what YAML can hold beside them is refused."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from resnet_study.errors import UserError
from resnet_study.launch.expand import expand
from resnet_study.launch.parameters import read_parameters
from resnet_study.launch.sweep import sweep_of


def test_nested_names_are_dotted_names_in_wandb_s_order() -> None:
    """wandb sorts each level by itself: the group ``model`` stands before ``model.depth``."""
    depth = {"values": [8, 20]}
    nested = {
        "seed": {"value": 1},
        "model.depth": depth,
        "model": {"parameters": {"width": {"value": 16}, "residual": {"value": True}}},
        "data": {"parameters": {"name": {"value": "synthetic"}}},
    }
    names = ["data.name", "model.residual", "model.width", "model.depth", "seed"]
    assert [p.name for p in read_parameters(nested, "grid")] == names
    dotted = {"model.depth": depth, "seed": {"value": 1}, "data.name": {"value": "synthetic"}}
    first, second = (
        expand(sweep_of({"method": "grid", "parameters": each}, "s")) for each in (nested, dotted)
    )
    assert first == second


ITSELF: dict[str, Any] = {}
ITSELF["model"] = {"parameters": ITSELF}
LISTED: list[Any] = []
LISTED.append(LISTED)

BAD: list[tuple[Any, str]] = [
    (None, "parameters: a mapping of dotted names"),
    ({}, "parameters: a mapping of dotted names"),
    (LISTED, "parameters: a mapping of dotted names"),
    (ITSELF, "unknown parameter model.model; did you mean"),
    ({"model": {"value": 3}}, "unknown parameter model; did you mean"),
    ({"model": {"parameters": {"depht": {"value": 8}}}}, "unknown parameter model.depht; did you"),
    ({"model": {"parameters": {"depth": 8}}}, "parameters.model.depth: write {value: 8}"),
    ({"model": {"parameters": [8]}}, "parameters.model: a group is {parameters: {...}}"),
    ({"model": {"parameters": {}, "value": 8}}, "parameters.model: a group is"),
    ({"seed": {"parameters": {"x": {"value": 1}}}}, "unknown key of seed parameters"),
    (
        {"model": {"parameters": {"depth": {"value": 8}}}, "model.depth": {"value": 8}},
        "parameters.model.depth stands twice, dotted and nested",
    ),
    ({None: {"value": 8}}, "unknown parameter None"),
    ({datetime.date(2020, 1, 1): {"value": 8}}, "unknown parameter 2020-01-01"),
    ({10**5000: {"value": 8}}, "unknown parameter 10^5000"),
    ({"x" * 10_000_000: {"value": 8}}, "unknown parameter xxxx"),
    ({"seed": LISTED}, "parameters.seed: write {value: [["),
    ({"seed": {"value": LISTED}}, "parameters.seed: a value is a number"),
    ({"seed": {"value": {1: 2}}}, "parameters.seed: a value is a number"),
    ({"seed": {"values": [1, LISTED]}}, "parameters.seed: values are numbers"),
    ({"seed": {"values": {1, 2}}}, "parameters.seed: values is a list"),
    ({"seed": {LISTED.__len__: 1}}, "unknown key of seed"),
    ({"seed": {"distribution": LISTED, "min": 0, "max": 1}}, "unknown distribution of seed"),
    ({"seed": {"distribution": "betta"}}, "unknown distribution of seed betta; did you mean beta?"),
    ({"seed": {"distribution": "beta"}}, "seed="),
    ({"seed": {"min": -(10**5000), "max": 1}}, "min=-10^5000 is not a number"),
    ({"seed": {"min": float("nan"), "max": 1}}, "min=nan is not a number"),
    ({"seed": {"min": 0.0, "max": float("inf")}}, "max=inf is not a number"),
    ({"seed": {"min": True, "max": 2}}, "min=True is not a number"),
    ({"seed": {"min": datetime.date(2020, 1, 1), "max": 2}}, "min=2020-01-01 is not a number"),
    ({"seed": {"values": [1], "probabilities": [10**400]}}, "probabilities are as many as"),
    ({"seed": {"value": 10**5000}}, "seed=10^5000"),
    ({"seed": {"value": datetime.date(2020, 1, 1)}}, "seed=2020-01-01"),
    ({"seed": {"value": None}}, "seed=None"),
    ({"schedule.iterations": {"value": -(10**5000)}}, "schedule.iterations=-10^5000"),
    ({"seed": {"value": b"x" * 10**7}}, "seed=b"),
    ({"data.name": {"value": "x" * 10**7}}, "data.name="),
    ({"optimizer.momentum": {"value": float("inf")}}, "optimizer.momentum=inf"),
    ({"optimizer.momentum": {"value": 10**400}}, "optimizer.momentum=10^400"),
]


@pytest.mark.parametrize(("parameters", "reason"), BAD, ids=[reason[:40] for _, reason in BAD])
def test_whatever_yaml_can_hold_is_a_run_or_one_line(parameters: Any, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        expand(sweep_of({"method": "random", "run_cap": 2, "parameters": parameters}, "s.yaml"))
    message = str(caught.value)
    assert message.startswith("s.yaml: ")
    assert reason in message
    # Beside names that are known, at most a line of what was given.
    assert len(message) < (400 if "known are" in message else 300)
    assert "\n" not in message


def test_definitions_are_not_changed() -> None:
    given = {"model": {"parameters": {"depth": {"values": [8, 20]}}}, "seed": {"value": 0}}
    before = json.dumps(given)
    read_parameters(given, "grid")
    assert json.dumps(given) == before
