"""A sweep file is the exact grid, each point once, or is refused in one line."""

import copy
import datetime
import functools
import itertools
import math
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_study.durations import to_iterations
from resnet_study.errors import UserError
from resnet_study.launch.expand import expand, read_sweep
from resnet_study.launch.sweep import load_sweep, sweep_of
from resnet_study.spec import epoch_of, from_flat

AXES: dict[str, list[Any]] = {
    "seed": [0, 1, 2],
    "model.depth": [8, 20, 110],
    "model.residual": [False, True],
    "model.initialization": ["he", "lecun"],
    "optimizer.learning_rate": [0.1, 0.05],
    "probes.layers_every": [0, "5%"],
}


COMMAND = 'command: ["${env}", python, -m, resnet_study, train, "${args}"]'


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def grid(parameters: str) -> str:
    """A sweep over the parameters, given in YAML's flow style without the outer braces."""
    return f"{COMMAND}\nmethod: grid\nparameters: {{{parameters}}}\n"


@st.composite
def axes_of_a_grid(draw: st.DrawFn) -> list[tuple[str, list[Any]]]:
    """Four parameters in any order, each with some of its values in any order."""
    names = draw(st.permutations(sorted(AXES)))[:4]
    lists = [draw(st.lists(st.sampled_from(AXES[n]), min_size=1, unique=True)) for n in names]
    return list(zip(names, lists, strict=True))


@settings(max_examples=40)
@given(axes_of_a_grid())
def test_the_grid_is_the_product_as_wandb_orders_it(
    tmp_path_factory: pytest.TempPathFactory, axes: list[tuple[str, list[Any]]]
) -> None:
    """wandb sorts the parameters by name; the last is the fastest."""
    parameters = {name: {"values": values} for name, values in axes}
    text = yaml.safe_dump({"method": "grid", "parameters": parameters}, sort_keys=False)
    specs = read_sweep(write(tmp_path_factory.mktemp("sweep"), f"{text}{COMMAND}"))
    axes = sorted(axes)
    names = [name for name, _ in axes]
    points = [
        dict(zip(names, point, strict=True))
        for point in itertools.product(*(values for _, values in axes))
    ]
    assert specs == [from_flat(point) for point in points]
    assert len({spec.run_id for spec in specs}) == len(specs) == len(points)


def test_a_value_and_a_list_of_one_are_the_same(tmp_path: Path) -> None:
    one = read_sweep(write(tmp_path, grid("seed: {value: 3}")))
    listed = read_sweep(write(tmp_path, grid("seed: {values: [3]}")))
    assert one == listed == [from_flat({"seed": 3})]


def test_everything_of_a_grid_that_wandb_accepts_is_accepted(tmp_path: Path) -> None:
    text = f"""
program: train.py
{COMMAND}
method: grid
metric: {{name: test/error, goal: minimize, target: 3, impute: worst}}
apiVersion: v1
kind: sweep
controller: {{type: local}}
imports: [numpy]
log_dir: logs
name: a
description: >
  more than
  one line
project: p
entity: e
run_cap: 3
parameters:
  seed: {{values: [0, 1, 2, 3], distribution: categorical}}
  model.depth: {{value: 8, distribution: constant}}
"""
    assert [spec.seed for spec in read_sweep(write(tmp_path, text))] == [0, 1, 2]


@pytest.mark.parametrize("program", ["", "program: mine.py\n"])
def test_a_file_without_a_command_is_read_as_wandb_reads_it(tmp_path: Path, program: str) -> None:
    path = write(tmp_path, f"{program}method: grid\nparameters: {{seed: {{values: [0, 1]}}}}")
    assert [spec.seed for spec in read_sweep(path)] == [0, 1]
    assert load_sweep(path).command.other == (
        "mine.py" if program else "nothing, for want of a program"
    )


def test_yaml_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-4 as text."""
    text = grid("optimizer.weight_decay: {values: [1e-4, 0, 5.0e-4]}")
    specs = read_sweep(write(tmp_path, text))
    assert [spec.optimizer.weight_decay for spec in specs] == [1e-4, 0.0, 5e-4]


def test_durations_keep_their_forms(tmp_path: Path) -> None:
    text = grid("schedule.iterations: {values: [300, 30ep]}")
    specs = read_sweep(write(tmp_path, text))
    data = specs[0].data
    assert [s.schedule.iterations for s in specs] == [
        300,
        to_iterations("30ep", epoch_of(data), None, "x"),
    ]


ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_sweep_of_the_project_is_valid(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    specs = read_sweep(path)
    sizes = [len(p.get("values", [None])) for p in content["parameters"].values()]
    expected = 1
    for size in sizes:
        expected *= size
    if content["method"] == "random":
        expected = content["run_cap"]
    assert len(specs) == min(expected, content.get("run_cap", expected))
    assert len({spec.run_id for spec in specs}) == len(specs)
    # What wandb agent would run is the same program.
    assert content["command"][1:5] == ["python", "-m", "resnet_study", "train"]


BAD = [
    ("metod: grid\nparameters: {seed: {value: 0}}", "unknown key metod; did you mean method?"),
    ("method: grid\nzzzzzzz: 1", "unknown key zzzzzzz; known are program,"),
    ("method: grid\n1: 2", "unknown key 1"),
    (f"{COMMAND}\nparameters: {{seed: {{value: 0}}}}", "method=None: "),
    (f"{COMMAND}\nmethod: bayes\nparameters: {{seed: {{value: 0}}}}", "needs wandb's server"),
    (f"{COMMAND}\nmethod: random\nparameters: {{seed: {{value: 0}}}}", "random"),
    (f"{COMMAND}\nmethod: grid", "parameters: a mapping"),
    (f"{COMMAND}\nmethod: grid\nparameters: {{}}", "parameters: a mapping"),
    (f"{COMMAND}\nmethod: grid\nparameters: [seed]", "parameters: a mapping"),
    (f"{grid('seed: {value: 0}')}job: a/b/c", "job: needs wandb's own service"),
    (f"{grid('seed: {value: 0}')}scheduler: {{engine: optuna}}", "scheduler: needs wandb's own"),
    (f"{COMMAND}\nmethod: custom\nparameters: {{seed: {{value: 0}}}}", "needs wandb's server"),
    (f"{grid('seed: {value: 0}')}program: [a]", "program=['a']: the name of a file"),
    (
        f"{grid('seed: {value: 0}')}metric: {{name: test_error}}",
        "unknown metric test_error; did you mean test/error?",
    ),
    (grid("model.dept: {value: 8}"), "unknown parameter model.dept; did you mean model.depth?"),
    (grid("qqqqqq: {value: 8}"), "unknown parameter qqqqqq; known are model.depth,"),
    (grid("1: {value: 8}"), "unknown parameter 1"),
    (grid("seed: 3"), "parameters.seed: write {value: 3} or {values: [...]}"),
    (grid("seed: [3, 4]"), "parameters.seed: write {value: [3, 4]}"),
    (grid("seed: {}"), "parameters.seed: give "),
    (grid("seed: {value: 0, values: [1]}"), "parameters.seed: give either value or values"),
    (grid("seed: {values: []}"), "parameters.seed: values is a list of at least one"),
    (grid("seed: {values: 3}"), "parameters.seed: values is a list"),
    (grid("seed: {values: [[0], [1]]}"), "parameters.seed: values are numbers, words"),
    (grid("seed: {valeus: [0]}"), "unknown key of seed valeus; did you mean values?"),
    (grid("optimizer.momentum: {min: 0.1, max: 0.9}"), "parameters.optimizer.momentum: "),
    (
        grid("optimizer.momentum: {distribution: uniform, min: 0, max: 1}"),
        "a grid needs values",
    ),
    (grid("seed: {distribution: normal, value: 1}"), "parameters.seed: "),
    (grid("seed: {values: [0, 1, 0]}"), "grid points 0 and 2 are the same run"),
    (
        grid("optimizer.learning_rate: {values: [0.1, 1e-1]}"),
        "grid points 0 and 1 are the same run",
    ),
    (grid("optimizer.learning_rate: {value: fast}"), "optimizer.learning_rate"),
    (grid("optimizer.learning_rate: {value: nan}"), "optimizer.learning_rate=nan: a finite"),
    (grid("optimizer.learning_rate: {value: true}"), "optimizer.learning_rate=True: a finite"),
    (grid("model.depth: {values: [8, 9]}"), "model.depth=9: depth is 6n+2"),
    (grid('model.depth: {value: "8"}'), "model.depth"),
    (grid("model.depth: {value: 8.0}"), "model.depth=8.0: a value of type int"),
    (grid("model.depth: {value: null}"), "model.depth"),
    (grid("model.residual: {value: 1}"), "model.residual=1: a value of type bool"),
    (grid("data.name: {value: mnist}"), "valid are digits, cifar10, synthetic"),
    (grid("data.name: {value: 2020-01-01}"), "data.name=2020-01-01"),
    (f"{grid('seed: {value: 0}')}run_cap: 0", "run_cap=0: a whole number"),
    (f"{grid('seed: {value: 0}')}run_cap: true", "run_cap=True: a whole number"),
    ("", "a sweep file is a mapping"),
    ("- method: grid", "a sweep file is a mapping"),
    ("method: [grid", "not valid YAML"),
    ("a: b: c", "not valid YAML"),
    ("? {a: 1}\n: 2", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "reason"), BAD, ids=lambda v: "-".join(v.split())[-30:])
def test_a_bad_sweep_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_sweep(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message


def itself() -> tuple[list[Any], dict[str, Any]]:
    """A list and a mapping that hold themselves."""
    listed: list[Any] = []
    listed.append(listed)
    mapped: dict[str, Any] = {}
    mapped["parameters"] = mapped
    return listed, mapped


ODD: list[Any] = [
    *(None, True, 0, -1, 10**9, 10**30, 10**400, 10**5000, -(10**5000), 0.5),
    *(1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf),
    *("", "x", "8", "1e-4", "${args}", "--seed=1", "a\nb", "x" * 10**5, b"x" * 10**5),
    *("categorical", "beta", "uniform", "int_uniform", "q_log_uniform", "log_normal"),
    *(datetime.date(2020, 1, 1), [], {}, [1], [[1]], {1, 2}, {"value": 1}, {"values": [1, 2]}),
    *({"parameters": {"depth": {"value": 8}}}, {"min": 0, "max": 10**9}, *itself()),
]

WHOLE: dict[str, Any] = {
    "command": ["${env}", "python", "-m", "resnet_study", "train", "--kernels", "xla", "${args}"],
    "program": "train.py",
    "metric": {"name": "test/error", "goal": "minimize"},
    "run_cap": 2,
    "early_terminate": {"type": "hyperband", "min_iter": 3},
    "parameters": {
        "seed": {"min": 0, "max": 9},
        "model": {"parameters": {"depth": {"values": [8, 20]}, "residual": {"value": True}}},
        "data.batch_size": {"distribution": "q_uniform", "min": 16, "max": 64, "q": 16},
    },
}


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value of a tree."""
    if not isinstance(content, dict | list):
        return
    for key in content if isinstance(content, dict) else range(len(content)):
        yield (*path, key)
        yield from places(content[key], (*path, key))


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_sweep_with_anything_in_any_place_is_runs_or_one_line(method: str) -> None:
    for path, odd in itertools.product(places(WHOLE), ODD):
        content = {"method": method, **copy.deepcopy(WHOLE)}
        *way, last = path
        functools.reduce(operator.getitem, way, content)[last] = odd
        try:
            assert 1 <= len(expand(sweep_of(content, "s.yaml"), runs=2)) <= 2, path
        except UserError as refused:
            message = str(refused)
            assert message.startswith("s.yaml: ")
            assert "\n" not in message
            assert len(message) < 400
