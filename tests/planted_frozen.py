"""Records of layers that freeze and thaw as a closed form says, made without training.

A layer without scale whose loss gradient has the norm c/‖w‖ obeys, with weight decay λ and
independent gradients, d‖w‖⁴/dt = (4/τ)(‖w*‖⁴ − ‖w‖⁴), where ‖w*‖ is the norm at which its
effective step is the equilibrium e*: the mean of the growth η²‖g‖²/(1−μ)² and the loss 2‖w‖²/τ
of ‖w‖² per iteration. Hence ‖w(t)‖ and e(t) = e* ‖w*‖²/‖w(t)‖² in closed form.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resnet_study.records import Frames, Run, frames_of, summarize_errors
from resnet_study.spec import RunSpec, from_flat
from tests.planted import layer_steps

RATE, MOMENTUM = 0.1, 0.9
INFLATED_BY = 27
"""Iteration by which the weights have grown."""


def growth_of(layer: int, depth: int) -> float:
    """Planted growth: 50 in the first layer, 1 in the second half of the network."""
    return 50.0 ** max(0.0, 1 - 2 * (layer - 1) / depth)


def frozen_frames(
    decays: Sequence[float] = (0.005,),
    seeds: int = 5,
    iterations: int = 1500,
    *,
    depth: int = 44,
    family: str = "plain",
    growth: Callable[[int, int], float] = growth_of,
    balance: float = 1.0,
    delay: float = 1.0,
    error: Callable[[int], float] = lambda step: 90.0,
    noise: float = 0.0,
    values: dict[str, Any] | None = None,
    first_seed: int = 0,
) -> Frames:
    """Frames of plain networks whose early layers freeze.

    Args:
        decays, seeds, iterations, depth, family, first_seed: the grid.
        growth: of a layer by its number and the depth; without weight decay it stays.
        balance: norm of every layer in equilibrium at a weight decay of 0.005, relative to
            that at initialisation.
        delay: how many times more slowly than by weight decay the weights shrink.
        error: training error by iteration.
        noise: standard deviation of ln(gradient norm), by record and layer and by run.
        values: further spec fields.
    """
    runs = []
    for decay, seed in itertools.product(decays, range(first_seed, first_seed + seeds)):
        fields = {
            "model.depth": depth,
            "model.residual": family == "residual",
            "seed": seed,
            "data.batch_size": 64,
            "optimizer.weight_decay": decay,
            "schedule.iterations": iterations,
            "schedule.first_drop": "100%",
            "schedule.second_drop": "100%",
            "probes.log_every": 20,
            "probes.layers_every": 20,
        }
        spec = from_flat({**fields, **(values or {})})
        rng = np.random.default_rng([seed, round(1e6 * decay)])
        shift = noise * rng.normal()
        rows = [
            _layers(spec, step, growth, balance, delay, shift + noise * rng.normal(size=depth))
            for step in layer_steps(spec)
        ]
        metrics = _metrics(spec, error)
        summary = {"status": "finished", **summarize_errors(metrics)}
        folder = Path("planted") / "runs" / spec.run_id
        runs.append(Run(folder, spec, {}, summary, metrics, pd.concat(rows, ignore_index=True)))
    return frames_of(runs)


def norm_at(step: float, grown: float, balance: float, decay: float, delay: float = 1.0) -> float:
    """Closed form of ‖w‖/‖w(0)‖ after the growth."""
    if decay == 0 or step <= INFLATED_BY:
        return grown ** min(1.0, step / INFLATED_BY)
    tau = delay * (1 - MOMENTUM) / (RATE * decay)
    fraction = math.exp(-4 * (step - INFLATED_BY) / tau)
    return (balance**4 + (grown**4 - balance**4) * fraction) ** 0.25


def thaw_at(grown: float, balance: float, decay: float, moving: float = 0.5) -> float:
    """Iteration at which e is ``moving`` of e*: ‖w‖⁴ = ‖w*‖⁴/moving²."""
    tau = (1 - MOMENTUM) / (RATE * decay)
    left = balance**4 * (moving**-2 - 1) / (grown**4 - balance**4)
    return INFLATED_BY - tau / 4 * math.log(left)


def equilibrium_norm(balance: float, decay: float) -> float:
    """‖w*‖ at a decay: the gradient at given norm is the same, so it goes as λ^(−1/4)."""
    return balance * (0.005 / decay) ** 0.25 if decay else balance


def _layers(
    spec: RunSpec,
    step: int,
    growth: Callable[[int, int], float],
    balance: float,
    delay: float,
    noise: np.ndarray,
) -> pd.DataFrame:
    depth, decay = spec.model.depth, spec.optimizer.weight_decay
    layer = np.arange(1, depth + 1)
    star = equilibrium_norm(balance, decay)
    norm = np.array([norm_at(step, growth(k, depth), star, decay, delay) for k in layer.tolist()])
    # The gradient at norm 1 is the same at every decay: e ‖w‖² = e* ‖w*‖² at decay 0.005.
    unit = math.sqrt(2 * RATE * 0.005 / (1 + MOMENTUM)) * balance**2
    # At initialisation the gradient explodes.
    step_size = unit / norm**2 * np.exp(noise) * (1e3 if step == 0 else 1.0)
    gradient = step_size * norm * math.sqrt(1 - MOMENTUM**2) / RATE
    block = (layer - 2) // 2 % ((depth - 2) // 6) + 1
    return pd.DataFrame(
        {
            "step": step,
            "layer": layer,
            "name": [f"layer{k}" for k in layer],
            "stage": np.clip((layer - 2) * 3 // (depth - 2) + 1, 1, 4),
            "block": block,
            "activation_gradient_norm": gradient,
            "response_gradient_norm": gradient,
            "weight_gradient_norm": gradient,
            "weight_norm": norm,
            "update_norm": RATE * gradient,
            "response_mean": 0.0,
            "response_std": 1.0,
            "inactive_fraction": 0.5,
        }
    )


def _metrics(spec: RunSpec, error: Callable[[int], float]) -> pd.DataFrame:
    total, every = int(spec.schedule.iterations), int(spec.probes.log_every)
    warm, rate = int(spec.schedule.warmup_iterations), spec.optimizer.learning_rate
    steps = sorted({*range(every, total + 1, every), total})
    drop = int(spec.schedule.first_drop)
    rates = [
        spec.schedule.warmup_learning_rate
        if step <= warm
        else rate * spec.schedule.drop_factor ** (step > drop)
        for step in steps
    ]
    errors = [error(step) for step in steps]
    table = {"step": steps, "epoch": np.array(steps) / 20, "split": "train", "error": errors}
    train = pd.DataFrame({**table, "loss": 1.0, "learning_rate": rates})
    return pd.concat([train, train.assign(split="test")], ignore_index=True)
