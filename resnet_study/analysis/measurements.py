"""What the claims up to depth 56 measure: one number per run, from one group of comparable runs.

A *group* holds runs that differ in depth, family and seed only. Every function returns a
`Measurement`, or `Missing` with the runs that it would take. Which depths are judged is
fixed here, before any number is seen:

- degradation (`depth_pair`): 20 against 56, the pair of the paper's Figure 1; without 56,
  against the deepest from 44 to 110;
- plain against residual at equal depth (`common_depth`): 20, which the plain network still
  learns; without it, the shallowest depth that both families have;
- gradients (`deep_depth`): 56, the deep network of that pair; without it, the deepest, of at
  least 44 layers for "vanishing" and "healthy".

Other depths are reported in the detail and do not enter the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from resnet_study import reference
from resnet_study.analysis import theory
from resnet_study.analysis.evidence import (
    FAMILIES,
    Arm,
    Measurement,
    Missing,
    Side,
    arms_by_depth,
    ended_note,
    geometric_mean,
    listed,
    other_depths,
)
from resnet_study.analysis.frames import (
    conv_layers,
    early_error,
    ended,
    final_error,
    gradient_ratio,
    growth_per_layer,
    rows_at,
    select,
)
from resnet_study.records import Frames

MARGIN = 1.0
"""Percentage points of training error within which two depths count as equal. The paper's
plain-56 ends 4.3 points above plain-20, its ResNet-56 0.6 points below ResNet-20."""

VANISHED = 0.1
"""First/last gradient ratio below which the gradient is said to vanish."""

MINIMUM_DEEP = 44
"""Least depth called deep: the first at which the paper's plain networks degrade."""

HEALTHY = 1.0
"""Powers of ten, either way, within which the first/last gradient ratio counts as healthy: from
`VANISHED` to its inverse. The paper gives no number. Depth alone does not make a ratio unhealthy
by this rule, but theory does not expect a plain network to keep it at initialisation: 31 at depth
20, 3e4 at depth 56 (`theory.first_last_ratio`, stages of equal width). The ratios of all depths
stand in the detail, so that those of networks that train well can be compared."""


def deeper_plain_training_error(group: Frames) -> Measurement | Missing:
    """Final training error of the deep plain network minus that of plain-20."""
    return training_error_difference(group, "plain", threshold=0.0, claimed="above")


def deeper_residual_training_error(group: Frames) -> Measurement | Missing:
    """The same of the residual networks, to lie below `MARGIN`."""
    return training_error_difference(group, "residual", threshold=MARGIN, claimed="below")


def early_error_difference(group: Frames) -> Measurement | Missing:
    """Training error over the first quarter of the run, plain minus residual."""
    arms = {family: arms_by_depth(early_error(group), family, "error") for family in FAMILIES}
    depth = common_depth(arms)
    if depth is None:
        return Missing()
    plain, residual = arms["plain"][depth], arms["residual"][depth]
    detail = (
        f"Mean training error over the first quarter of the run at depth {depth}: "
        f"plain {plain.mean():.3g} %, residual {residual.mean():.3g} %."
        f"{other_depths('Plain minus residual', arms['plain'], arms['residual'], depth)}"
        f"{ended_note(group)}"
    )
    return Measurement((plain, residual), 0.0, "above", "percentage points", detail)


def response_difference(group: Frames) -> Measurement | Missing:
    """Mean response standard deviation over 3x3 layers at the end, plain minus residual."""
    finished = select(group, group.runs.index[group.runs["status"] == "finished"])
    rows = conv_layers(rows_at(finished.layers, None))
    means = rows.groupby(["run_id", "family", "depth"])["response_std"].mean().reset_index()
    arms = {family: arms_by_depth(means, family, "response_std") for family in FAMILIES}
    depth = common_depth(arms)
    if depth is None:
        return Missing()
    plain, residual = arms["plain"][depth], arms["residual"][depth]
    ends = reference.fig7().groupby(["family", "depth"])["response_std"].mean()
    paper = (
        f" In the paper (CIFAR-10, Figure 7): {ends['plain', depth]:.3g} and "
        f"{ends['residual', depth]:.3g}."
        if ("plain", depth) in ends.index
        else ""
    )
    detail = (
        f"Response standard deviation after training, mean over the 3x3 layers, at depth "
        f"{depth}: plain {plain.mean():.3g}, residual {residual.mean():.3g}."
        f"{other_depths('Plain minus residual', arms['plain'], arms['residual'], depth)}"
        f"{paper} Finished runs only."
    )
    return Measurement((plain, residual), 0.0, "above", "response standard deviation", detail)


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
    values = plain[["family", "depth"]].assign(ratio=finite.reindex(plain.index))
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


def deep_depth(depths: Mapping[int, Arm]) -> int | None:
    """Depth of the claims about deep networks; None if there is none deep enough."""
    deep = [d for d in depths if d >= MINIMUM_DEEP]
    return 56 if 56 in deep else max(deep, default=None)


def depth_pair(depths: Mapping[int, Arm]) -> tuple[int, int] | None:
    """Shallow and deep network of the degradation claims; None if either is missing."""
    deep = [d for d in depths if MINIMUM_DEEP <= d <= 110]
    if 20 not in depths or not deep:
        return None
    return 20, 56 if 56 in deep else max(deep)


def common_depth(arms: Mapping[str, Mapping[int, Arm]]) -> int | None:
    """Depth at which the families are compared; None if they share none."""
    shared = set(arms["plain"]) & set(arms["residual"])
    return 20 if 20 in shared else min(shared, default=None)


def training_error_difference(
    group: Frames,
    family: str,
    threshold: float,
    claimed: Side,
    pair_of: Callable[[Mapping[int, Arm]], tuple[int, int] | None] = depth_pair,
) -> Measurement | Missing:
    """Final training error of a deep network minus that of a shallow one.

    Args:
        group: comparable runs.
        family: plain or residual.
        threshold, claimed: as in `Measurement`.
        pair_of: picks the depths, shallow and deep, among those with runs.
    """
    arms = arms_by_depth(final_error(group, "train"), family, "error")
    pair = pair_of(arms)
    if pair is None:
        return Missing()
    shallow, deep = pair
    clean = arms_by_depth(final_error(group, "train_clean"), family, "error")
    without = (
        f" (images as they are, running statistics: {clean[deep].mean():.3g} and "
        f"{clean[shallow].mean():.3g} %)"
        if deep in clean and shallow in clean
        else ""
    )
    base = {d: arms[shallow] for d in arms if d != shallow}
    ends = reference.fig6_ends()
    paper = ends[ends["family"] == family].set_index("depth")["train_error_percent"]
    published = (
        f" In the paper (CIFAR-10, one run each, Figure 6): {paper[deep]:.2f} and "
        f"{paper[shallow]:.2f} %."
        if deep in paper.index and np.isfinite(paper[deep])
        else ""
    )
    detail = (
        f"{family}-{deep} ends at {arms[deep].mean():.3g} % training error as trained, "
        f"{family}-{shallow} at {arms[shallow].mean():.3g} %{without}."
        f"{other_depths(f'Minus {family}-{shallow}', arms, base, deep)}"
        f"{published}{ended_note(group)}"
    )
    return Measurement((arms[deep], arms[shallow]), threshold, claimed, "percentage points", detail)


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
