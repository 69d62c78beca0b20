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
    listed,
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
stand in the detail, so that those of networks that train well can be compared."""


def plain_growth_at_initialization(group: Frames) -> Measurement | Missing:
    """Growth of the activation-gradient norm per layer toward the input at step 0."""
    arms = arms_by_depth(growth_per_layer(group), "plain", "growth")
    if not arms:
        return Missing()
    depth = 56 if 56 in arms else max(arms)
    within = arms_by_depth(growth_per_layer(group, within_stages=True), "plain", "growth")[depth]
    others = listed({d: f"{a.mean():.4g}" for d, a in arms.items() if d != depth})
    detail = (
        f"plain-{depth} at initialisation: the norm grows by a factor {arms[depth].mean():.4g} "
        f"per layer toward the input ({within.mean():.4g} within stages of equal width)."
        f"{f' Other depths: {others}.' if others else ''}"
    )
    predicted = ("mean-field theory √(π/(π−1)), wide layers", theory.BN_RELU_GROWTH)
    return Measurement((arms[depth],), 1.0, "above", "factor per layer", detail, predicted)


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
    lists = {
        family: listed({d: f"{geometric_mean(a):.3g}" for d, a in arms[family].items()})
        for family in FAMILIES
    }
    plain = f" Plain networks: {lists['plain']}." if lists["plain"] else ""
    detail = (
        f"First/last ratio of the activation-gradient norm at initialisation, geometric mean "
        f"over seeds, residual networks: {lists['residual']}.{plain} Judged: log10(ratio/depth) "
        f"at depth {depth}; below 0 the ratio is smaller than the depth."
    )
    values = np.log10(arms["residual"][depth] / depth)
    return Measurement((values,), 0.0, "below", "log10(ratio/depth)", detail)


def plain_ratio_after(group: Frames, iterations: int) -> Measurement | Missing:
    """log10 of the first/last activation-gradient ratio of a deep plain network."""
    ratios = rows_at(gradient_ratio(group), iterations)
    arms = arms_by_depth(ratios, "plain", "ratio", positive=True)
    depth = deep_depth(arms)
    if depth is None:
        return Missing()
    chosen = ratios[(ratios["family"] == "plain") & (ratios["depth"] == depth)]
    steps = sorted(chosen["step"].unique())
    response = gradient_ratio(group, "response_gradient_norm")
    response_arms = arms_by_depth(rows_at(response, iterations), "plain", "ratio", positive=True)
    start = arms_by_depth(rows_at(gradient_ratio(group), 0), "plain", "ratio", positive=True)
    parts = [
        f"plain-{depth} after {', '.join(map(str, steps))} "
        f"{'iteration' if steps == [1] else 'iterations'} (the recorded one nearest to "
        f"{iterations}): first/last ratio {geometric_mean(arms[depth]):.3g} of ∂L/∂z (before "
        "normalisation, judged)"
    ]
    if depth in response_arms:
        parts.append(f" and {geometric_mean(response_arms[depth]):.3g} of ∂L/∂y (after it)")
    if depth in start:
        parts.append(f"; of ∂L/∂z at initialisation {geometric_mean(start[depth]):.3g}")
    parts.append(
        f".{_weight_growth(group, depth, iterations)} ∂L/∂z of a normalised layer falls as "
        "1/‖w‖ when its weights grow and ∂L/∂y does not: only where both are small has the "
        "signal itself vanished. The paper (section 4.1, of plain-34 on ImageNet) reports "
        "healthy norms."
    )
    lost = len(chosen) - len(arms[depth])
    if lost:
        parts.append(f" Runs without finite gradients, left out: {lost}.")
    values = np.log10(arms[depth])
    return Measurement(
        (values,), float(np.log10(VANISHED)), "below", "log10(first/last)", "".join(parts)
    )


def healthy_norms(group: Frames, iterations: int | None) -> Measurement | Missing:
    """log10 of the first/last activation-gradient ratio of a deep plain network, to be near 0.

    A run without finite gradients there, because they are not finite or because it diverged
    before, is not healthy: it counts with the largest float32 as its ratio, which makes the
    interval so wide that the claim cannot be reproduced.

    Args:
        group: comparable runs.
        iterations: the recorded step nearest to it; None: the last one of runs that ended.
    """
    when = "the end" if iterations is None else f"iteration {iterations}"
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
    after = arms_by_depth(response, "plain", "ratio", positive=True)
    listing = listed({d: f"{geometric_mean(a):.3g}" for d, a in arms.items()})
    lost = int(plain.loc[unhealthy, "depth"].eq(depth).sum())
    detail = (
        f"First/last ratio of ∂L/∂z (before normalisation) in plain networks at {when}, geometric "
        f"mean over seeds: {listing}. Judged: its log10 at depth {depth} (recorded at "
        f"{', '.join(map(str, sorted(chosen['step'].unique()))) or 'no step'}), healthy within "
        f"±{HEALTHY:g}."
        f"{f' Of ∂L/∂y (after it): {geometric_mean(after[depth]):.3g}.' if depth in after else ''}"
        f"{f' Runs without finite gradients, counted as unhealthy: {lost}.' if lost else ''}"
    )
    return Measurement((np.log10(arms[depth]),), HEALTHY, "within", "log10(first/last)", detail)


def _weight_growth(group: Frames, depth: int, iterations: int) -> str:
    """Sentence on the layer whose weights grew most since initialisation."""
    layers = conv_layers(group.layers)
    rows = layers[(layers["family"] == "plain") & (layers["depth"] == depth)]
    norms = [rows_at(rows, step).set_index(["run_id", "layer"]) for step in (iterations, 0)]
    growth = (norms[0]["weight_norm"] / norms[1]["weight_norm"]).dropna()
    if growth.empty:
        return ""
    by_layer = growth.astype(float).map(math.log).groupby("layer").mean()
    return (
        f" Since initialisation the weight norm grew most in layer {by_layer.idxmax()}, "
        f"by a factor {math.exp(by_layer.max()):.3g}."
    )
