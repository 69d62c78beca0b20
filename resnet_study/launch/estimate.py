"""How long runs will take: a rough model, scaled by what runs took here before."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from resnet_study import records, runtime
from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS, DatasetShape
from resnet_study.errors import UserError
from resnet_study.spec import RunSpec, split_sizes

GIGAFLOP_SECONDS = 0.0135
COMPILE_SECONDS = 0.15
"""Seconds for 1e9 floating point operations, and for compilation per layer: medians over the
runs of the quick study with one worker on each core of a two-core x86 machine."""


class Estimate(NamedTuple):
    """Seconds of each run by its id, and where the speed comes from.

    `seconds` is empty where there is nothing to judge by: on an accelerator before the first
    run has finished.
    """

    seconds: dict[str, float]
    source: str


def multiplications(model: ModelSpec, shape: DatasetShape) -> float:
    """Products of all convolutions of a network for one image."""
    pixels, width, depth = shape.height * shape.width, model.width, model.depth
    # Half the size and twice the width: every stage has as many operations per layer. Of the three
    # of a bottleneck one has 9 weights for a pair of its filters, and two have 4.
    per_layer = {"basic": 9, "bottleneck": (4 + 9 + 4) / 3}[model.block]
    return pixels * width * (9 * shape.channels + per_layer * width * (depth - 2))


def cost(spec: RunSpec) -> float:
    """Time of a run on the machine of `GIGAFLOP_SECONDS`, in seconds."""
    shape = DATASETS[spec.data.name]
    iterations = cast(int, spec.schedule.iterations)
    evaluations = iterations // cast(int, spec.probes.evaluate_every) + 1
    evaluated = sum(split_sizes(spec.data)) + shape.test_examples
    # A step goes forward once and backward twice.
    passes = 3 * iterations * spec.data.batch_size + evaluations * evaluated
    gigaflops = 2 * multiplications(spec.model, shape) * passes / 1e9
    return gigaflops * GIGAFLOP_SECONDS + spec.model.depth * COMPILE_SECONDS


def estimate(specs: Sequence[RunSpec], runs: Path) -> Estimate:
    """Time of each run, from finished runs beside it where there are some.

    Args:
        specs: the runs.
        runs: the sweep's folder of run folders; other studies are looked for beside it.
    """
    ratios = _ratios(runs) or [
        ratio for other in sorted(runs.parent.parent.glob("*/runs")) for ratio in _ratios(other)
    ]
    if ratios:
        factor, source = (
            statistics.median(ratios),
            f"as {len(ratios)} finished run{'s'[: len(ratios) > 1]} took here",
        )
    elif runtime.uses_cpu():
        factor, source = 1.0, "as on one core of a two-core x86 machine; better after a first run"
    else:
        return Estimate({}, "no estimate before a first run has finished here")
    return Estimate({spec.run_id: factor * cost(spec) for spec in specs}, source)


def _ratios(runs: Path) -> list[float]:
    """Measured over modelled time of every finished run that used this kind of device."""
    ratios = []
    for summary_file in sorted(runs.glob("*/summary.json")):
        summary = records.read_summary(summary_file.parent)
        if summary.get("status") != "finished" or not summary.get("wall_seconds"):
            continue
        try:
            run = records.read_run(summary_file.parent)
        except UserError:
            continue
        platform = run.environment.get("device", {}).get("platform")
        if (platform == "cpu") == runtime.uses_cpu():
            ratios.append(summary["wall_seconds"] / cost(run.spec))
    return ratios
