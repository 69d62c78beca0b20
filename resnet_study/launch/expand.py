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
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

from resnet_study.errors import UserError, is_number, shown
from resnet_study.launch.parameters import Parameter
from resnet_study.launch.sweep import Sweep, load_sweep
from resnet_study.spec import RunSpec, from_flat

DRAWS_PER_RUN = 100
MOST_RUNS = 100_000
"""Of one sweep at a time; a grid that says more is a mistake, or needs ``--runs``."""


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
        UserError: naming the file, if a point is no valid run, if there are more than `MOST_RUNS`,
            if a grid holds a run twice, or if a random search does not say how many or has not as
            many.
    """
    for parameter in sweep.parameters:
        _check_reach(sweep, parameter)
    sizes = [_choices(parameter)[0] for parameter in sweep.parameters]
    size = math.inf if math.inf in sizes else math.prod(sizes)
    bounds = [n for n in (runs, sweep.run_cap) if n is not None]
    if sweep.method == "random" and not bounds:
        raise UserError(f"{sweep.path}: a random search needs an end; add run_cap or give --runs")
    count = min(bounds if sweep.method == "random" else [size, *bounds])
    if count > MOST_RUNS:
        raise UserError(
            f"{sweep.path}: {shown(count)} runs are more than {MOST_RUNS:,}; "
            "give --runs or a smaller run_cap"
        )
    if sweep.method == "grid":
        return _each_once(sweep, _grid(sweep, int(count)))
    return _draw(sweep, seed, int(count), size)


def _check_reach(sweep: Sweep, parameter: Parameter) -> None:
    """Refuse a range with values that no float holds; quantiles are monotonic."""
    if not {"min", "mu", "a"} & set(parameter.options):
        return
    try:
        ends = [quantile(parameter, probability) for probability in (0.0, 1 - 2**-53)]
    except (OverflowError, ValueError):
        ends = [math.inf]
    if not all(is_number(end) for end in ends):
        raise UserError(
            f"{sweep.path}: parameters.{parameter.name}: values of {parameter.distribution} leave "
            "the range of numbers; narrow it"
        )


def _grid(sweep: Sweep, count: int) -> Iterator[dict[str, Any]]:
    """The first points, each made from its number: a grid may be larger than memory."""
    choices = [(parameter, *_choices(parameter)) for parameter in sweep.parameters]
    for number in range(count):
        point, rest = {}, number
        for parameter, size, value in reversed(choices):
            rest, index = divmod(rest, size)
            point[parameter.name] = _typed(parameter, value(index))
        yield point


def _choices(parameter: Parameter) -> tuple[float, Callable[[int], Any]]:
    """How many values a parameter has, and each by its number; infinitely many in a range."""
    options = parameter.options
    match parameter.distribution:
        case "constant":
            return 1, lambda index: options["value"]
        case "int_uniform":
            return options["max"] - options["min"] + 1, lambda index: options["min"] + index
        case "q_uniform":
            # As wandb does it, with numpy.arange: the maximum is no point of the grid, and steps
            # are the first difference of the rounded values.
            low, high, q = options["min"], options["max"], options["q"]
            steps = (float(high) - float(low)) / q
            size = max(1, math.ceil(steps)) if steps < math.inf else math.inf
            return size, lambda index: low + index * ((low + q) - low)
        case "categorical" | "categorical_w_probabilities":
            return len(options["values"]), options["values"].__getitem__
        case _:
            return math.inf, lambda index: None


def _each_once(sweep: Sweep, points: Iterator[dict[str, Any]]) -> list[RunSpec]:
    specs: list[RunSpec] = []
    seen: dict[str, int] = {}
    for number, point in enumerate(points):
        spec = from_flat({**sweep.command.values, **point}, str(sweep.path))
        if spec.run_id in seen:
            raise UserError(
                f"{sweep.path}: grid points {seen[spec.run_id]} and {number} are the same run "
                f"({spec.run_id}); remove the repeated value"
            )
        seen[spec.run_id] = number
        specs.append(spec)
    return specs


def _draw(sweep: Sweep, seed: int, count: int, size: float) -> list[RunSpec]:
    draws = int(DRAWS_PER_RUN * min(count, size))
    # Seeding with text and Random.random are the same in every version of Python.
    streams = [random.Random(f"{seed}/{p.name}") for p in sweep.parameters]
    specs: dict[str, RunSpec] = {}
    for _ in range(draws):
        point = {
            parameter.name: _typed(parameter, quantile(parameter, stream.random()))
            for parameter, stream in zip(sweep.parameters, streams, strict=True)
        }
        spec = from_flat({**sweep.command.values, **point}, str(sweep.path))
        specs.setdefault(spec.run_id, spec)
        if len(specs) == count:
            return list(specs.values())
    raise UserError(
        f"{sweep.path}: only {len(specs)} different runs in {draws} draws; "
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
    if name == "beta":
        # Only here: it takes long to import.
        from scipy.special import betaincinv

        # Its versions differ in the last digits, and a run id is a hash of them.
        return float(f"{betaincinv(options['a'], options['b'], u):.12g}")
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
