"""Under wandb's agent, a run is the sweep's point or is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from resnet_study.errors import UserError
from resnet_study.launch.agent import POINT_FILE, check_point, point_of, unnested
from resnet_study.launch.command import value_of
from resnet_study.spec import RunSpec, from_flat, parameter_types


def environment(folder: Path, **config: Any) -> dict[str, str]:
    """What the agent leaves of a point."""
    path = folder / "config.yaml"
    values = {name: {"value": value} for name, value in config.items()}
    path.write_text(yaml.safe_dump({"wandb_version": 1, **values}))
    return {POINT_FILE: str(path)}


SPEC = from_flat({"model.depth": 8, "model.residual": False, "schedule.iterations": "2ep"})


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model.depth": 8, "model.residual": False},
        {"model": {"depth": 8, "residual": False}, "schedule": {"iterations": "2ep"}},
        {"schedule.iterations": 20, "optimizer.learning_rate": "1e-1", "seed": 0},
        {"data.augmentation": "auto", "schedule.first_drop": "50%", "unknown": {"to": "runs"}},
        # What wandb gives back of a run that was preempted.
        {**SPEC.to_dict(), "family": "plain", "run_id": SPEC.run_id, "_wandb": {"t": 1}},
    ],
)
def test_the_sweep_s_point_is_trained(tmp_path: Path, config: dict[str, Any]) -> None:
    check_point(SPEC, environment(tmp_path, **config))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model.depth": 20}, "model.depth is 8, the sweep says 20"),
        ({"model": {"residual": True}}, "model.residual is False, the sweep says True"),
        ({"schedule.iterations": "4ep"}, "schedule.iterations is 20, the sweep says 40"),
        ({"model.depth": 9}, "the sweep's point"),
        ({"seed": "x" * 10**6}, "the sweep's point"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        check_point(SPEC, environment(tmp_path, **config))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_point_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="config of a run of wandb agent"):
        check_point(RunSpec(), {POINT_FILE: str(tmp_path / "none")})
    check_point(RunSpec(), {})


def test_nested_flags_are_dotted_flags() -> None:
    point = {"model": {"depth": 8, "block_order": "x=y"}, "seed": 3}
    flags = ["--model.depth=8", "--model.block_order=x=y"]
    joined = [f"--model={point['model']}", "--seed=3"]
    apart = ["--wandb_artifact", "--model", f"{point['model']}", "--seed", "3"]
    assert unnested(joined) == [*flags, "--seed=3"]
    assert unnested(apart) == ["--wandb_artifact", *flags, "--seed", "3"]
    assert point_of({name: {"value": value} for name, value in point.items()}) == [
        ("model.depth", 8),
        ("model.block_order", "x=y"),
        ("seed", 3),
    ]
    # A field in both ways is refused as given twice.
    assert unnested([*joined, "--model.depth=8"]) == [*flags, "--seed=3", "--model.depth=8"]


@pytest.mark.parametrize("apart", [False, True])
def test_the_whole_config_of_a_run_is_that_run(tmp_path: Path, apart: bool) -> None:
    """As which wandb gives a preempted run to the next agent, beside the sweep's point."""
    logged = {"run_id": SPEC.run_id, "family": "plain", "_wandb": {"t": {"1": [1, 2]}}}
    config = {**logged, **SPEC.to_dict(), "model.depth": 8, "schedule.iterations": "2ep"}
    words = [
        word
        for name, value in config.items()
        for word in ([f"--{name}", str(value)] if apart else [f"--{name}={value}"])
    ]
    given: dict[str, Any] = {}
    rest = iter(unnested(words, under_agent=True))
    for word in rest:
        name, equals, text = word.removeprefix("--").partition("=")
        assert name not in given
        given[name] = value_of(parameter_types()[name], text if equals else next(rest))
    assert from_flat(given) == SPEC
    check_point(SPEC, environment(tmp_path, **config))
    with pytest.raises(UserError, match=r"model\.depth is 8, the sweep says 20"):
        check_point(SPEC, environment(tmp_path, **{**config, "model.depth": 20}))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--a"],
        ["--a={b"],
        ["--a={1}"],
        ["{'a': 1}"],
        ["train", "{'a': 1}"],
        ["--a", "{" * 9999],
    ],
)
def test_other_words_stay(words: list[str]) -> None:
    assert unnested(words) == words
