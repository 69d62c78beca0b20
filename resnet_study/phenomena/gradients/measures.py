"""What the claims about gradients measure: one number per run, from comparable runs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from resnet_study.judging.measurement import (
    FAMILIES,
    Measurement,
    Missing,
    arms_by_depth,
    geometric_mean,
    means,
)
from resnet_study.judging.selections import (
    conv_layers,
    ended,
    gradient_ratio,
    growth_per_layer,
    rows_at,
    select,
)
from resnet_study.phenomena.depths import deep_depth
from resnet_study.phenomena.gradients import theory
from resnet_study.records import Frames

VANISHED = 0.1
"""First/last gradient ratio below which the gradient is said to vanish."""


HEALTHY = 1.0
"""Powers of ten, either way, within which the first/last gradient ratio counts as healthy: from
`VANISHED` to its inverse. The paper gives no number. Depth alone does not make a ratio unhealthy
by this rule, but theory does not expect a plain network to keep it at initialisation: 31 at depth
20, 3e4 at depth 56 (`theory.first_last_ratio`, stages of equal width). The ratios of all depths
stand beside, so that those of networks that train well can be compared."""


def plain_growth_at_initialization(group: Frames) -> Measurement | Missing:
    """Growth of the activation-gradient norm per layer toward the input at step 0."""
    arms = arms_by_depth(growth_per_layer(group), "plain", "growth")
    if not arms:
        return Missing()
    depth = 56 if 56 in arms else max(arms)
    within = arms_by_depth(growth_per_layer(group, within_stages=True), "plain", "growth")[depth]
    factors = means(arms)
    numbers = {
        "depth": depth,
        "factor": factors.pop(depth),
        "factor_within_stages": float(within.mean()),
        "factors_elsewhere": factors,
    }
    predicted = ("mean-field theory √(π/(π−1)), wide layers", theory.BN_RELU_GROWTH)
    return Measurement((arms[depth],), 1.0, "above", "factor per layer", numbers, predicted)


def residual_ratio_at_initialization(group: Frames) -> Measurement | Missing:
    """log10 of first/last gradient ratio over depth, of a deep residual network.

    Growth by a constant factor per layer, even 1.1, exceeds one unit per layer from 44
    layers on; growth in proportion to depth, at up to one unit per layer, does not.
    """
    ratios = rows_at(gradient_ratio(group), 0)
    arms = {f: arms_by_depth(ratios, f, "ratio", positive=True) for f in FAMILIES}
    depth = deep_depth(arms["residual"])
    if depth is None:
        return Missing()
    numbers = {"depth": depth, **{f: means(arms[f], geometric_mean) for f in FAMILIES}}
    values = np.log10(arms["residual"][depth] / depth)
    return Measurement((values,), 0.0, "below", "log10(ratio/depth)", numbers)


def plain_ratio_after(group: Frames, iterations: int) -> Measurement | Missing:
    """log10 of the first/last activation-gradient ratio of a deep plain network."""
    ratios = rows_at(gradient_ratio(group), iterations)
    arms = arms_by_depth(ratios, "plain", "ratio", positive=True)
    depth = deep_depth(arms)
    if depth is None:
        return Missing()
    chosen = ratios[(ratios["family"] == "plain") & (ratios["depth"] == depth)]
    response = rows_at(gradient_ratio(group, "response_gradient_norm"), iterations)
    start = rows_at(gradient_ratio(group), 0)
    numbers = {
        "depth": depth,
        "wanted": iterations,
        "steps": [int(step) for step in sorted(chosen["step"].unique())],
        "ratio": geometric_mean(arms[depth]),
        "response_ratio": _plain_ratios(response).get(depth),
        "ratio_at_initialization": _plain_ratios(start).get(depth),
        **_weight_growth(group, depth, iterations),
        "without_finite_gradients": len(chosen) - len(arms[depth]),
    }
    border = float(np.log10(VANISHED))
    return Measurement((np.log10(arms[depth]),), border, "below", "log10(first/last)", numbers)


def healthy_norms(group: Frames, iterations: int | None) -> Measurement | Missing:
    """log10 of the first/last activation-gradient ratio of a deep plain network, to be near 0.

    A run without finite gradients there, because they are not finite or because it diverged
    before, is not healthy: it counts with the largest float32 as its ratio, which makes the
    interval so wide that the claim cannot be reproduced.

    Args:
        group: comparable runs.
        iterations: the recorded step nearest to it; None: the last one of runs that ended.
    """
    runs = (ended(group) if iterations is None else group).runs
    plain = runs[runs["family"] == "plain"]
    ratios = rows_at(gradient_ratio(select(group, plain.index)), iterations)
    finite = ratios.set_index("run_id")["ratio"].astype(float)
    finite = finite[np.isfinite(finite)].clip(lower=float(np.finfo(np.float32).tiny))
    diverged = plain.index[plain["status"] == "diverged"]
    if iterations is None:
        finite = finite.drop(diverged, errors="ignore")
    unhealthy = diverged.union(pd.Index(ratios["run_id"])).difference(finite.index)
    values = plain[["family", "depth", "seed"]].assign(ratio=finite.reindex(plain.index))
    values.loc[unhealthy, "ratio"] = float(np.finfo(np.float32).max)
    arms = arms_by_depth(values, "plain", "ratio")
    depth = deep_depth(arms)
    if depth is None:
        return Missing()
    chosen = ratios[ratios["run_id"].isin(plain.index[plain["depth"] == depth])]
    response = rows_at(gradient_ratio(group, "response_gradient_norm"), iterations)
    response = response[response["run_id"].isin(finite.index)]
    numbers = {
        "iteration": iterations,
        "ratios": means(arms, geometric_mean),
        "depth": depth,
        "steps": [int(step) for step in sorted(chosen["step"].unique())],
        "healthy": HEALTHY,
        "response_ratio": _plain_ratios(response).get(depth),
        "without_finite_gradients": int(plain.loc[unhealthy, "depth"].eq(depth).sum()),
    }
    return Measurement((np.log10(arms[depth]),), HEALTHY, "within", "log10(first/last)", numbers)


def _plain_ratios(ratios: pd.DataFrame) -> dict[int, float]:
    """Geometric means over the plain runs, by depth."""
    return means(arms_by_depth(ratios, "plain", "ratio", positive=True), geometric_mean)


def _weight_growth(group: Frames, depth: int, iterations: int) -> dict[str, float]:
    """The layer whose weights grew most since initialisation, ``grown``, and its ``growth``."""
    layers = conv_layers(group.layers)
    rows = layers[(layers["family"] == "plain") & (layers["depth"] == depth)]
    norms = [rows_at(rows, step).set_index(["run_id", "layer"]) for step in (iterations, 0)]
    growth = (norms[0]["weight_norm"] / norms[1]["weight_norm"]).dropna()
    if growth.empty:
        return {}
    by_layer = growth.astype(float).map(math.log).groupby("layer").mean()
    return {"grown": int(str(by_layer.idxmax())), "growth": math.exp(by_layer.max())}
