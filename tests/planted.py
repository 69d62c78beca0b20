"""Records with planted effects, made without training: the truth is known.

`planted_frames` draws runs whose final errors, gradient growth and response sizes are given
functions of family and depth plus normal noise per run, and joins them with
`records.frames_of`, so that columns and types are those of real records.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resnet_study.records import METRIC_COLUMNS, Frames, Run, frames_of, summarize_errors
from resnet_study.spec import RunSpec, from_flat

ByDepth = Callable[[str, int], float]
ByDepthAndStep = Callable[[str, int, int], float]

CHANCE = 90.0


def degrading_error(family: str, depth: int) -> float:
    """Final training error in percent: plain degrades with depth, residual does not."""
    return max(0.0, depth - 20.0) if family == "plain" else 1.0


def exploding_then_vanishing(family: str, depth: int, step: int) -> float:
    """Growth per layer of ∂L/∂z toward the input."""
    if family == "residual":
        return 1.02
    return 1.2 if step == 0 else 1.15 if step < 5 else 0.9


def shrinking_responses(family: str, depth: int) -> float:
    """Mean standard deviation of the responses after training."""
    return 1.8 if family == "plain" else 1.3


def equal(value: float) -> Callable[..., float]:
    """No effect: the same value everywhere."""
    return lambda *_: value


def planted_frames(
    depths: Sequence[int] = (8, 20, 56),
    seeds: int = 3,
    iterations: int = 300,
    *,
    families: Sequence[str] = ("plain", "residual"),
    final_error: ByDepth = degrading_error,
    error_sd: float = 0.3,
    growth: ByDepthAndStep = exploding_then_vanishing,
    growth_sd: float = 0.003,
    response_std: ByDepth = shrinking_responses,
    response_sd: float = 0.03,
    halving: ByDepth = lambda family, depth: 0.1 if family == "plain" else 0.05,
    halving_sd: float = 0.0,
    test_gap: ByDepth = lambda family, depth: 5.0,
    status: str = "finished",
    layers: bool = True,
    values: Mapping[str, Any] | None = None,
    random: int = 0,
) -> Frames:
    """Frames of every combination of depth, family and seed.

    Args:
        depths, seeds, iterations, families: the grid.
        final_error: training error at the end (percent).
        error_sd: of the final error between runs, in points.
        growth: factor per layer toward the input of ∂L/∂z (and of ∂L/∂y) by step.
        growth_sd: of the factor between runs.
        response_std: mean over layers at the end.
        response_sd: of it between runs.
        halving: fraction of the run in which the training error falls by half the way.
        halving_sd: of its logarithm between runs.
        test_gap: test error minus training error, in points.
        status: of every run.
        layers: whether there are layer records.
        values: spec fields by dotted name, for all runs.
        random: seed of the noise.
    """
    rng = np.random.default_rng(random)
    runs = []
    for depth, family, seed in itertools.product(depths, families, range(seeds)):
        fields = {"model.depth": depth, "model.residual": family == "residual", "seed": seed}
        spec = from_flat({"schedule.iterations": iterations, **fields, **(values or {})})
        end = max(0.0, final_error(family, depth) + error_sd * rng.normal())
        # Drawn only if wanted, which leaves the other noise as it is without.
        factor = np.exp(halving_sd * rng.normal()) if halving_sd else 1.0
        gap = test_gap(family, depth)
        metrics = _metrics(spec, end, halving(family, depth) * factor, gap, rng)
        rows = pd.DataFrame()
        if layers:
            factor, spread = growth_sd * rng.normal(), response_sd * rng.normal()
            final_std = response_std(family, depth) + spread
            rows = pd.concat(
                [
                    _layers(spec, step, growth(family, depth, step) + factor, final_std, rng)
                    for step in layer_steps(spec)
                ],
                ignore_index=True,
            )
        summary = {
            "status": status,
            **summarize_errors(metrics),
            "wall_seconds": 1.5 * depth,
            "images_per_second": 20_000.0 / depth,
            "parameters": 1_000 * depth,
        }
        folder = Path("planted") / "runs" / spec.run_id
        runs.append(Run(folder, spec, {}, summary, metrics, rows))
    return frames_of(runs)


def planted_rates(**fields: Any) -> Frames:
    """Three seeds of two depths at three rates; plain networks end at the depth plus the rate."""
    return join(
        *(
            planted_frames(
                (8, 32),
                3,
                60,
                final_error=lambda family, depth, rate=rate: (
                    depth + rate if family == "plain" else 1.0
                ),
                error_sd=3.0,
                values={"optimizer.learning_rate": rate, **fields},
                layers=False,
                random=number,
            )
            for number, rate in enumerate((0.01, 0.1, 1.0))
        )
    )


def planted_study(seeds: int) -> Frames:
    """A record for every claim: depths 8 to 1202, both families, and a schedule thrice as long.

    As by default, and besides: residual networks test better to 110 layers and worse at 1202,
    their responses shrink with depth, plain networks take exponentially long.
    """
    common: dict[str, Any] = {
        "final_error": lambda family, depth: (
            degrading_error(family, depth) if family == "plain" else 1.0 if depth < 1202 else 0.0
        ),
        "test_gap": lambda family, depth: 8.0 - depth / 50 if depth < 1202 else 15.0,
        "halving": lambda family, depth: 0.02 * np.exp(0.08 * depth) if family == "plain" else 0.05,
        "halving_sd": 0.1,
        "error_sd": 0.1,
        "values": {"probes.layers_every": 250},
    }
    return join(
        planted_frames(
            (8, 14, 20, 56, 110),
            seeds,
            1000,
            response_std=lambda family, depth: 1.8 if family == "plain" else 1.5 - depth / 200,
            **common,
        ),
        planted_frames(
            (1202,),
            seeds,
            1000,
            families=("residual",),
            layers=False,
            random=1,
            **{**common, "error_sd": 0.01},
        ),
        planted_frames(
            (20, 56), seeds, 3000, families=("plain",), layers=False, random=2, **common
        ),
    )


def join(*frames: Frames) -> Frames:
    """Records of several grids as if read together."""
    runs, metrics, layers, _ = zip(*frames, strict=True)
    return Frames(
        runs=pd.concat(runs),
        metrics=pd.concat(metrics, ignore_index=True),
        layers=pd.concat(layers, ignore_index=True),
    )


def with_errors(frames: Frames, errors: Mapping[str, float]) -> Frames:
    """The same runs with another training error each (by run id), constant over the run.

    Many draws from one grid, without describing and joining every run again.
    """
    train = frames.metrics["split"] == "train"
    drawn = frames.metrics["run_id"].map(errors)
    error = frames.metrics["error"].where(~train, drawn)
    return frames._replace(metrics=frames.metrics.assign(error=error))


def layer_steps(spec: RunSpec) -> list[int]:
    """0, 1, 2, 3, 5, 8, ..., the regular cadence, and the last step."""
    total, every = int(spec.schedule.iterations), max(1, int(spec.probes.layers_every))
    steps, following = {0, total, *range(every, total, every)}, (1, 2)
    while following[0] < total:
        steps.add(following[0])
        following = (following[1], sum(following))
    return sorted(steps)


def _metrics(
    spec: RunSpec, end: float, halving: float, gap: float, rng: np.random.Generator
) -> pd.DataFrame:
    total = int(spec.schedule.iterations)
    every = {"train": int(spec.probes.log_every)}
    every |= dict.fromkeys(("train_clean", "val", "test"), int(spec.probes.evaluate_every))
    offset = {"train": 0.0, "train_clean": -0.1, "val": gap, "test": gap}
    parts = []
    for split, cadence in every.items():
        first = cadence if split == "train" else 0
        steps = np.unique([*range(first, total, cadence), total])
        away = np.where(steps == total, 0.0, 0.5 ** (steps / (halving * total)))
        error = end + offset[split] + (CHANCE - end) * away
        error = np.clip(error + 0.2 * away * rng.normal(size=len(steps)), 0, 100)
        part = {"step": steps, "epoch": steps * 128 / 1293, "split": split, "error": error}
        parts.append(pd.DataFrame({**part, "loss": error / 40, "learning_rate": 0.1}))
    return pd.concat(parts)[list(METRIC_COLUMNS)].sort_values("step", ignore_index=True)


def _layers(
    spec: RunSpec, step: int, growth: float, final_std: float, rng: np.random.Generator
) -> pd.DataFrame:
    depth = spec.model.depth
    blocks = (depth - 2) // 6
    layer = np.arange(1, depth + 1)
    names, stages, numbers = ["stem"], [0], [0]
    for stage, block, conv in itertools.product((1, 2, 3), range(1, blocks + 1), (1, 2)):
        names.append(f"stage{stage}.block{block}.conv{conv}")
        stages.append(stage)
        numbers.append(block)
    trained = step / int(spec.schedule.iterations)
    gradient = 0.01 * growth ** (depth - 1.0 - layer) * np.exp(0.02 * rng.normal(size=depth))
    norm = np.sqrt(layer) * (1 + trained)
    std = 1 + (final_std - 1) * trained
    inactive = np.full(depth, 0.5)
    inactive[-1] = np.nan
    return pd.DataFrame(
        {
            "step": step,
            "layer": layer,
            "name": [*names, "head"],
            "stage": [*stages, 4],
            "block": [*numbers, 0],
            "activation_gradient_norm": gradient,
            "response_gradient_norm": 2 * gradient,
            "weight_gradient_norm": 3 * gradient,
            "weight_norm": norm,
            "update_norm": 0.1 * 3 * gradient,
            "angular_step": 0.1 * 3 * gradient / norm,
            "response_mean": np.zeros(depth),
            "response_std": np.full(depth, std),
            "inactive_fraction": inactive,
        }
    )
