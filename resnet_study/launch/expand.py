"""The runs of a sweep: every point of a grid, or seeded draws of a random search.

Both follow wandb. A grid is the Cartesian product over the parameters *sorted by name*, the
last one fastest, whatever their order in the file. A random search inverts the cumulative
distribution function of each parameter at uniform numbers; ours come from a stream for each
parameter, so that the same seed gives the same points on every machine, more runs extend
fewer, and another parameter does not change the draws of the rest.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from resnet_study.errors import UserError
from resnet_study.launch.sweep import Parameter, Sweep, load_sweep
from resnet_study.spec import RunSpec, from_flat

DRAWS_PER_RUN = 100


def read_sweep(path: Path, *, seed: int = 0, runs: int | None = None) -> list[RunSpec]:
    """Read a sweep file and expand it.

    Raises:
        UserError: as `load_sweep` and `expand`.
    """
    return expand(load_sweep(path), seed=seed, runs=runs)


def expand(sweep: Sweep, *, seed: int = 0, runs: int | None = None) -> list[RunSpec]:
    """The runs of a sweep, each once.

    Args:
        sweep: a checked sweep.
        seed: of a random search.
        runs: how many; by default ``run_cap``, and for a grid all of them.

    Raises:
        UserError: naming the file, if a point is no valid run, if a grid holds a run twice,
            or if a random search does not say how many or has not as many.
    """
    count = min((n for n in (runs, sweep.run_cap) if n is not None), default=None)
    if sweep.method == "grid":
        return _each_once(sweep, _grid(sweep))[:count]
    if count is None:
        raise UserError(f"{sweep.path}: a random search needs an end; add run_cap or give --runs")
    return _draw(sweep, seed, count)


def _grid(sweep: Sweep) -> Iterator[dict[str, Any]]:
    choices = [[_typed(p, value) for value in _grid_values(p)] for p in sweep.parameters]
    names = [parameter.name for parameter in sweep.parameters]
    for values in itertools.product(*choices):
        yield dict(zip(names, values, strict=True))


def _grid_values(parameter: Parameter) -> list[Any]:
    options = parameter.options
    match parameter.distribution:
        case "constant":
            return [options["value"]]
        case "int_uniform":
            return list(range(options["min"], options["max"] + 1))
        case "q_uniform":
            # As wandb does it: the maximum is no point of the grid.
            values: list[Any] = np.arange(options["min"], options["max"], options["q"]).tolist()
            return values
        case _:
            return list(options["values"])


def _each_once(sweep: Sweep, points: Iterator[dict[str, Any]]) -> list[RunSpec]:
    specs: list[RunSpec] = []
    seen: dict[str, int] = {}
    for number, point in enumerate(points):
        spec = from_flat(point, str(sweep.path))
        if spec.run_id in seen:
            raise UserError(
                f"{sweep.path}: grid points {seen[spec.run_id]} and {number} are the same run "
                f"({spec.run_id}); remove the repeated value"
            )
        seen[spec.run_id] = number
        specs.append(spec)
    return specs


def _draw(sweep: Sweep, seed: int, count: int) -> list[RunSpec]:
    # Seeding with text and Random.random are the same in every version of Python.
    streams = [random.Random(f"{seed}/{p.name}") for p in sweep.parameters]
    specs: dict[str, RunSpec] = {}
    for _ in range(DRAWS_PER_RUN * count):
        point = {
            parameter.name: _typed(parameter, quantile(parameter, stream.random()))
            for parameter, stream in zip(sweep.parameters, streams, strict=True)
        }
        spec = from_flat(point, str(sweep.path))
        specs.setdefault(spec.run_id, spec)
        if len(specs) == count:
            return list(specs.values())
    raise UserError(
        f"{sweep.path}: only {len(specs)} different runs in {DRAWS_PER_RUN * count} draws; "
        f"ask for at most {len(specs)}"
    )


def quantile(parameter: Parameter, probability: float) -> Any:
    """Value below which a draw of the parameter falls with this probability, in [0, 1).

    The definitions are those of wandb's documentation: bounds of ``log_uniform`` and
    ``inv_log_uniform`` are exponents, those of the ``_values`` forms the values themselves;
    ``q_`` forms round to multiples of ``q``.
    """
    options, u = parameter.options, probability
    name = parameter.distribution
    if name == "constant":
        return options["value"]
    if name.startswith("categorical"):
        values = options["values"]
        shares = options.get("probabilities") or [1 / len(values)] * len(values)
        reached = (i for i, total in enumerate(itertools.accumulate(shares)) if u < total)
        return values[next(reached, len(values) - 1)]
    if name == "int_uniform":
        return options["min"] + math.floor(u * (options["max"] - options["min"] + 1))
    value = _continuous(name.removeprefix("q_"), options, u)
    return round(value / options["q"]) * options["q"] if name.startswith("q_") else value


def _continuous(name: str, options: dict[str, Any], u: float) -> float:
    if name.endswith("normal"):
        # The inverse is infinite at 0, which a generator may return.
        z = NormalDist().inv_cdf(max(u, math.ulp(0.5)))
        value: float = options["mu"] + options["sigma"] * z
        return math.exp(value) if name == "log_normal" else value
    low, high = options["min"], options["max"]
    if name.endswith("_values"):
        low, high = math.log(low), math.log(high)
    if name == "inv_log_uniform":
        low, high = -high, -low
    between: float = low + u * (high - low)
    return between if name == "uniform" else math.exp(between)


def _typed(parameter: Parameter, value: Any) -> Any:
    """The value as wandb's flag would be read: text where YAML left a number as text."""
    if parameter.kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    drawn = parameter.distribution not in ("constant", "categorical", "categorical_w_probabilities")
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if drawn and whole and parameter.kind is not float else value
