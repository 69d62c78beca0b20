"""Random searches follow wandb's distributions, are seeded, and hold each run once."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from resnet_study.errors import UserError
from resnet_study.launch.expand import _choices, quantile, read_sweep
from resnet_study.launch.parameters import DISTRIBUTIONS, Parameter
from resnet_study.launch.sweep import load_sweep

COMMAND = ["${env}", "python", "-m", "resnet_study", "train", "${args}"]

SEARCH: dict[str, Any] = {
    "optimizer.learning_rate": {"distribution": "log_uniform_values", "min": 0.001, "max": 1.0},
    "optimizer.momentum": {"min": 0.5, "max": 0.95},
    "model.depth": {"values": [8, 20]},
    "model.residual": {"values": [True, False], "probabilities": [0.9, 0.1]},
    "seed": {"min": 0, "max": 9},
    "data.batch_size": {"distribution": "q_uniform", "min": 32, "max": 128, "q": 32},
    "schedule.iterations": {"value": 100},
}


def write(folder: Path, parameters: dict[str, Any], **more: Any) -> Path:
    path = folder / "sweep.yaml"
    content = {"command": COMMAND, "method": "random", "parameters": parameters, **more}
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def parameter(distribution: str, **options: Any) -> Parameter:
    complete = {**DISTRIBUTIONS[distribution], **options}
    return Parameter("optimizer.learning_rate", float, distribution, complete)


@pytest.mark.parametrize(
    ("drawn", "points"),
    [
        (parameter("constant", value=3), {0.0: 3, 0.99: 3}),
        (parameter("categorical", values=[7, 8, 9]), {0.0: 7, 0.34: 8, 0.67: 9, 0.999: 9}),
        (
            parameter("categorical_w_probabilities", values=[7, 8], probabilities=[0.25, 0.75]),
            {0.0: 7, 0.24: 7, 0.26: 8, 0.999: 8},
        ),
        (parameter("int_uniform", min=1, max=3), {0.0: 1, 0.34: 2, 0.67: 3, 0.999: 3}),
        (parameter("uniform", min=1.0, max=3.0), {0.0: 1.0, 0.5: 2.0}),
        (parameter("q_uniform", min=0, max=1, q=0.25), {0.0: 0.0, 0.3: 0.25, 0.9: 1.0}),
        # Bounds are exponents, or with _values what comes out.
        (parameter("log_uniform", min=0.0, max=2.0), {0.0: 1.0, 0.5: math.e}),
        (parameter("log_uniform_values", min=0.001, max=0.1), {0.0: 0.001, 0.5: 0.01}),
        (parameter("q_log_uniform_values", min=10, max=1000, q=50), {0.0: 0, 0.5: 100}),
        (parameter("q_log_uniform", min=0, max=math.log(100), q=5), {0.5: 10}),
        # X such that log(1/X) is uniform between the bounds.
        (parameter("inv_log_uniform", min=0.0, max=2.0), {0.0: math.exp(-2), 0.5: math.exp(-1)}),
        (parameter("inv_log_uniform_values", min=0.001, max=0.1), {0.0: 0.001, 0.5: 0.01}),
        (parameter("normal", mu=5, sigma=2), {0.5: 5, 0.8413447460685429: 7}),
        (parameter("q_normal", mu=5.2, sigma=2, q=1), {0.5: 5}),
        (parameter("log_normal", mu=1, sigma=2), {0.5: math.e, 0.8413447460685429: math.exp(3)}),
        (parameter("q_log_normal", mu=1, sigma=2, q=2), {0.5: 2}),
        (parameter("beta"), {0.0: 0.0, 0.25: 0.25}),
        (parameter("beta", a=0.5, b=3), {u: stats.beta.ppf(u, 0.5, 3) for u in (0.1, 0.5, 0.9)}),
        (parameter("beta", a=2.0), {0.25: 0.5, 0.81: 0.9}),
        (parameter("q_beta", a=2, q=0.2), {0.25: 0.4, 0.81: 0.8}),
        (parameter("q_beta"), {0.4: 0, 0.6: 1}),
    ],
    ids=lambda value: value.distribution if isinstance(value, Parameter) else "",
)
def test_distributions_are_those_of_wandb_s_documentation(
    drawn: Parameter, points: dict[float, Any]
) -> None:
    for probability, expected in points.items():
        assert quantile(drawn, probability) == pytest.approx(expected)


def test_every_distribution_is_in_the_table_above() -> None:
    marks = test_distributions_are_those_of_wandb_s_documentation.pytestmark  # type: ignore
    assert {drawn.distribution for drawn, _ in marks[0].args[1]} == set(DISTRIBUTIONS)


@given(
    st.sampled_from([name for name in DISTRIBUTIONS if "min" in DISTRIBUTIONS[name]]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
)
def test_quantiles_grow_and_stay_in_their_range(name: str, first: float, second: float) -> None:
    low, high = 2, 5
    drawn = parameter(name, min=low, max=high)
    one, two = (quantile(drawn, u) for u in sorted((first, second)))
    assert one <= two
    if name.endswith("uniform") and "log" in name:
        low, high = (math.exp(-high), math.exp(-low)) if "inv" in name else map(math.exp, (2, 5))
    slack = 0.5 if name.startswith("q_") else 1e-9 * high
    assert low - slack <= one <= two <= high + slack


def test_a_seed_gives_its_points_and_more_runs_extend_fewer(tmp_path: Path) -> None:
    path = write(tmp_path, SEARCH)
    twenty = read_sweep(path, runs=20)
    assert read_sweep(path, runs=20) == twenty
    assert read_sweep(path, runs=8) == twenty[:8]
    assert not set(twenty) & set(read_sweep(path, seed=1, runs=20))
    assert len({spec.run_id for spec in twenty}) == 20


def test_the_points_are_the_same_on_every_machine(tmp_path: Path) -> None:
    path = write(tmp_path, {"optimizer.learning_rate": {"min": 0.0, "max": 1.0}})
    assert read_sweep(path, runs=1)[0].optimizer.learning_rate == 0.1388507868348411


def test_another_parameter_leaves_the_other_draws_alone(tmp_path: Path) -> None:
    rates = [s.optimizer.learning_rate for s in read_sweep(write(tmp_path, SEARCH), runs=20)]
    more = {**SEARCH, "data.validation": {"min": 0.1, "max": 0.3}}
    assert [s.optimizer.learning_rate for s in read_sweep(write(tmp_path, more), runs=20)] == rates


def test_draws_follow_their_distributions(tmp_path: Path) -> None:
    specs = read_sweep(write(tmp_path, SEARCH), runs=1000)
    counts = Counter(spec.model.residual for spec in specs)
    assert 860 < counts[True] < 940
    assert set(Counter(spec.seed for spec in specs)) == set(range(10))
    assert {spec.data.batch_size for spec in specs} == {32, 64, 96, 128}
    logs = [math.log10(spec.optimizer.learning_rate) for spec in specs]
    assert -3 <= min(logs) < -2.9
    assert -0.1 < max(logs) <= 0
    assert sum(logs) / len(logs) == pytest.approx(-1.5, abs=0.1)


def test_the_number_of_runs_is_the_smaller_of_cap_and_flag(tmp_path: Path) -> None:
    path = write(tmp_path, SEARCH, run_cap=5)
    assert [len(read_sweep(path, runs=n)) for n in (None, 3, 9)] == [5, 3, 5]
    grid = write(tmp_path, {"seed": {"values": [3, 4, 5]}}, method="grid")
    assert [spec.seed for spec in read_sweep(grid, runs=2)] == [3, 4]


def test_whole_ranges_are_points_of_a_grid_as_in_wandb(tmp_path: Path) -> None:
    parameters = {
        "seed": {"min": 2, "max": 4},
        "optimizer.momentum": {"distribution": "q_uniform", "min": 0.5, "max": 0.9, "q": 0.2},
    }
    specs = read_sweep(write(tmp_path, parameters, method="grid"))
    # Sorted by name, the last fastest; q_uniform leaves its maximum out.
    assert [(spec.optimizer.momentum, spec.seed) for spec in specs] == [
        (momentum, seed) for momentum in (0.5, 0.7) for seed in (2, 3, 4)
    ]


def test_results_of_the_command_and_early_stopping_are_read(tmp_path: Path) -> None:
    command = [*COMMAND[:-1], "--results=results/x", "${args}"]
    stop = {"type": "hyperband", "min_iter": 3}
    sweep = load_sweep(write(tmp_path, SEARCH, command=command, early_terminate=stop))
    assert sweep.command.results == Path("results/x")
    assert sweep.early_terminate
    assert not load_sweep(write(tmp_path, SEARCH)).early_terminate


def test_a_grid_larger_than_memory_gives_its_first_points(tmp_path: Path) -> None:
    parameters = {
        "model.depth": {"values": [8, 20]},
        "probes.log_every": {"min": 1, "max": 10**12},
        "seed": {"min": 0, "max": 2},
    }
    path = write(tmp_path, parameters, method="grid")
    points = [(s.model.depth, s.probes.log_every, s.seed) for s in read_sweep(path, runs=7)]
    assert points == [(8, 1 + n // 3, n % 3) for n in range(7)]
    with pytest.raises(UserError, match=r"6000000000000 runs are more than 100,000; give --runs"):
        read_sweep(path)
    with pytest.raises(UserError, match="more than 100,000"):
        read_sweep(path, runs=10**9)
    capped = write(tmp_path, parameters, method="grid", run_cap=2)
    assert len(read_sweep(capped, runs=10**9)) == 2


@given(st.floats(0, 10), st.floats(0.001, 10), st.floats(0.001, 3))
def test_steps_of_a_grid_are_numpy_s_as_in_wandb(low: float, width: float, q: float) -> None:
    size, value = _choices(parameter("q_uniform", min=low, max=low + width, q=q))
    expected = np.arange(low, low + width, q).tolist()
    assert [value(index) for index in range(int(size))] == expected


FAR = [
    ("uniform", {"min": -1.7e308, "max": 1.7e308}),
    ("q_uniform", {"min": 0, "max": 1e308, "q": 1e-300}),
    ("log_uniform", {"min": 0, "max": 1000}),
    ("inv_log_uniform", {"min": -1000, "max": 0}),
    ("q_log_uniform_values", {"min": 1, "max": 1e300, "q": 1e-300}),
    ("normal", {"mu": 1e308, "sigma": 1e308}),
    ("q_normal", {"q": 1e-320}),
    ("log_normal", {"sigma": 200}),
    ("q_beta", {"q": 1e-320}),
    ("int_uniform", {"min": -(10**308), "max": 10**308}),
]


@pytest.mark.parametrize(("name", "options"), FAR, ids=[name for name, _ in FAR])
def test_ranges_beyond_the_numbers_are_refused(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    path = write(tmp_path, {"optimizer.momentum": {"distribution": name, **options}}, run_cap=2)
    with pytest.raises(UserError) as caught:
        read_sweep(path)
    assert "momentum" in str(caught.value)
    assert len(str(caught.value).removeprefix(str(path))) < 200


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (SEARCH, {}, "a random search needs an end; add run_cap or give --runs"),
    (SEARCH, {"metric": "loss"}, "metric: a mapping such as"),
    (SEARCH, {"metric": {"name": "test/eror"}}, "unknown metric test/eror; did you mean"),
    (SEARCH, {"metric": {"name": "test/error", "goal": "min"}}, "unknown goal of metric min"),
    (SEARCH, {"early_terminate": {"type": "x"}}, "early_terminate: a mapping"),
    (SEARCH, {"command": "python train.py"}, "command: a list of words"),
    (SEARCH, {"command": COMMAND[:-1]}, "${args} does not stand"),
    (SEARCH, {"command": ["python", "train.py", "${args}"]}, "does not start resnet-study train"),
    ({"seed": {"values": [0, 1]}}, {"run_cap": 3}, "only 2 different runs"),
    ({"seed": {"min": 0.0, "max": 3}}, {"run_cap": 3}, "seed"),
    ({"seed": {"min": 3, "max": 3}}, {"run_cap": 3}, "min=3 is not below max=3"),
    ({"seed": {"min": 3}}, {"run_cap": 3}, "uniform needs max"),
    ({"optimizer.momentum": {"min": "1e-4", "max": 1}}, {}, "min=1e-4 is not a number; YAML"),
    ({"seed": {"distribution": "unifrom", "min": 0, "max": 1}}, {}, "did you mean uniform?"),
    ({"seed": {"distribution": "uniform", "values": [1]}}, {}, "uniform takes min, max, not"),
    ({"seed": {"values": [0, 1], "probabilities": [0.5]}}, {}, "probabilities are as many"),
    ({"seed": {"values": [0, 1], "probabilities": [0.5, 0.6]}}, {}, "sum to 1"),
    (
        {"seed": {"values": [0, 1], "probabilities": [0.5, 0.5]}},
        {"method": "grid"},
        "probabilities are for method: random",
    ),
    (
        {"optimizer.learning_rate": {"distribution": "log_uniform_values", "min": 0, "max": 1}},
        {},
        "needs min above 0",
    ),
    (
        {"optimizer.momentum": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}},
        {},
        "q is above 0",
    ),
    ({"optimizer.momentum": {"distribution": "beta", "a": 0}}, {}, "a and b are above 0"),
    ({"optimizer.momentum": {"distribution": "beta", "min": 0}}, {}, "beta takes a, b, not min"),
    ({"seed": {"distribution": "q_beta", "b": "1"}}, {}, "b=1 is not a number"),
    (
        {"optimizer.momentum": {"distribution": "beta"}},
        {"method": "grid"},
        "beta is a continuous range, a grid needs values",
    ),
    (
        {"optimizer.learning_rate": {"distribution": "normal"}},
        {"method": "grid"},
        "normal is a continuous range, a grid needs values",
    ),
    ({"model.depth": {"min": 8, "max": 20}}, {"run_cap": 3}, "depth is 6n+2"),
]


@pytest.mark.parametrize(("parameters", "more", "reason"), BAD, ids=[b[2][:30] for b in BAD])
def test_what_cannot_be_searched_is_refused_in_one_line(
    tmp_path: Path, parameters: dict[str, Any], more: dict[str, Any], reason: str
) -> None:
    path = write(tmp_path, parameters, **more)
    with pytest.raises(UserError) as caught:
        read_sweep(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message
