"""What each claim measures: one number per run, from one group of comparable runs.

A *group* holds runs that differ in depth, family and seed only. Every function returns a
`Measurement`, or `Missing` with the runs that it would take. Which depths are judged is
fixed here, before any number is seen:

- degradation (`depth_pair`): 20 against 56, the pair of the paper's Figure 1; without 56,
  against the deepest from 44 to 110;
- plain against residual at equal depth (`common_depth`): 20, which the plain network still
  learns; without it, the shallowest depth that both families have;
- gradients (`deep_depth`): 56, the deep network of that pair; without it, the deepest, of at
  least 44 layers for "vanishing".

Other depths are reported in the detail and do not enter the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from resnet_study import reference
from resnet_study.analysis import theory
from resnet_study.analysis.frames import (
    ENDED,
    conv_layers,
    early_error,
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

Arm = np.ndarray


@dataclass(frozen=True)
class Measurement:
    """Numbers to be judged against a threshold.

    Attributes:
        arms: one value per run, for one arm (its mean is judged) or two (first − second).
        threshold: border of the claimed side.
        claimed: side of the threshold that the claim is about.
        unit: of the effect.
        detail: plain sentences with the numbers.
        theory: name and value of a prediction to compare the interval with.
    """

    arms: tuple[Arm, ...]
    threshold: float
    claimed: Literal["above", "below"]
    unit: str
    detail: str
    theory: tuple[str, float] | None = None


class Missing(NamedTuple):
    """The claim cannot be judged; ``needed`` names the runs that it takes."""

    needed: str


def deeper_plain_training_error(group: Frames) -> Measurement | Missing:
    """Final training error of the deep plain network minus that of plain-20."""
    return _deep_minus_shallow(group, "plain", threshold=0.0, claimed="above")


def deeper_residual_training_error(group: Frames) -> Measurement | Missing:
    """The same of the residual networks, to lie below `MARGIN`."""
    return _deep_minus_shallow(group, "residual", threshold=MARGIN, claimed="below")


def early_error_difference(group: Frames) -> Measurement | Missing:
    """Training error over the first quarter of the run, plain minus residual."""
    arms = {family: _arms(early_error(group), family, "error") for family in FAMILIES}
    depth = common_depth(arms)
    if depth is None:
        return Missing("finished plain and residual runs of equal depth, best 20")
    plain, residual = arms["plain"][depth], arms["residual"][depth]
    detail = (
        f"Mean training error over the first quarter of the run at depth {depth}: "
        f"plain {plain.mean():.3g} %, residual {residual.mean():.3g} %."
        f"{_other_depths('Plain minus residual', arms['plain'], arms['residual'], depth)}"
        f"{_ended_note(group)}"
    )
    return Measurement((plain, residual), 0.0, "above", "percentage points", detail)


def response_difference(group: Frames) -> Measurement | Missing:
    """Mean response standard deviation over 3x3 layers at the end, plain minus residual."""
    finished = select(group, group.runs.index[group.runs["status"] == "finished"])
    rows = conv_layers(rows_at(finished.layers, None))
    means = rows.groupby(["run_id", "family", "depth"])["response_std"].mean().reset_index()
    arms = {family: _arms(means, family, "response_std") for family in FAMILIES}
    depth = common_depth(arms)
    if depth is None:
        return Missing("finished plain and residual runs of equal depth with layer records")
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
        f"{_other_depths('Plain minus residual', arms['plain'], arms['residual'], depth)}"
        f"{paper} Finished runs only."
    )
    return Measurement((plain, residual), 0.0, "above", "response standard deviation", detail)


def plain_growth_at_initialization(group: Frames) -> Measurement | Missing:
    """Growth of the activation-gradient norm per layer toward the input at step 0."""
    arms = _arms(growth_per_layer(group), "plain", "growth")
    if not arms:
        return Missing("plain runs with batch normalisation and layer records at iteration 0")
    depth = 56 if 56 in arms else max(arms)
    within = _arms(growth_per_layer(group, within_stages=True), "plain", "growth")[depth]
    others = _list({d: f"{a.mean():.4g}" for d, a in arms.items() if d != depth})
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
    arms = {f: _arms(ratios, f, "ratio", positive=True) for f in FAMILIES}
    depth = deep_depth(arms["residual"])
    if depth is None:
        return Missing(
            f"residual runs of depth {MINIMUM_DEEP} or more with layer records at iteration 0"
        )
    lists = {
        family: _list({d: f"{_geometric(a):.3g}" for d, a in arms[family].items()})
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
    arms = _arms(ratios, "plain", "ratio", positive=True)
    depth = deep_depth(arms)
    if depth is None:
        return Missing(
            f"plain runs of depth {MINIMUM_DEEP} or more with batch normalisation and layer "
            f"records near iteration {iterations}"
        )
    chosen = ratios[(ratios["family"] == "plain") & (ratios["depth"] == depth)]
    steps = sorted(chosen["step"].unique())
    response = gradient_ratio(group, "response_gradient_norm")
    response_arms = _arms(rows_at(response, iterations), "plain", "ratio", positive=True)
    start = _arms(rows_at(gradient_ratio(group), 0), "plain", "ratio", positive=True)
    parts = [
        f"plain-{depth} after {', '.join(map(str, steps))} "
        f"{'iteration' if steps == [1] else 'iterations'} (the recorded one nearest to "
        f"{iterations}): first/last ratio {_geometric(arms[depth]):.3g} of ∂L/∂z (before "
        "normalisation, judged)"
    ]
    if depth in response_arms:
        parts.append(f" and {_geometric(response_arms[depth]):.3g} of ∂L/∂y (after it)")
    if depth in start:
        parts.append(f"; of ∂L/∂z at initialisation {_geometric(start[depth]):.3g}")
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


FAMILIES = ("plain", "residual")


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


def _deep_minus_shallow(
    group: Frames, family: str, threshold: float, claimed: Literal["above", "below"]
) -> Measurement | Missing:
    arms = _arms(final_error(group, "train"), family, "error")
    pair = depth_pair(arms)
    if pair is None:
        return Missing(
            f"finished {family} runs of depth 20 and of depth 56 (or another from "
            f"{MINIMUM_DEEP} to 110)"
        )
    shallow, deep = pair
    clean = _arms(final_error(group, "train_clean"), family, "error")
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
        f"{_other_depths(f'Minus {family}-{shallow}', arms, base, deep)}"
        f"{published}{_ended_note(group)}"
    )
    return Measurement((arms[deep], arms[shallow]), threshold, claimed, "percentage points", detail)


def _arms(table: pd.DataFrame, family: str, value: str, positive: bool = False) -> dict[int, Arm]:
    """Finite values by depth; ``positive`` is for ratios that will be logged.

    A ratio of exactly 0 is a float32 norm that underflowed. It counts as the smallest
    normal float32, an upper bound, rather than being lost: it is the strongest vanishing.
    """
    rows = table[(table["family"] == family) & np.isfinite(table[value].astype(float))]
    arms = {d: rows[value][rows["depth"] == d].to_numpy(float) for d in rows["depth"].unique()}
    if positive:
        return {d: np.maximum(a, float(np.finfo(np.float32).tiny)) for d, a in arms.items()}
    return arms


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


def _other_depths(
    what: str, first: Mapping[int, Arm], second: Mapping[int, Arm], judged: int
) -> str:
    shared = sorted((set(first) & set(second)) - {judged})
    values = _list({d: f"{first[d].mean() - second[d].mean():+.3g}" for d in shared})
    return f" {what} at other depths: {values}." if values else ""


def _ended_note(group: Frames) -> str:
    status = group.runs["status"]
    diverged, left = int((status == "diverged").sum()), int((~status.isin(ENDED)).sum())
    note = f" Diverged runs ({diverged}) count with their last error." if diverged else ""
    return note + (f" Runs that have not ended ({left}) are left out." if left else "")


def _list(by_depth: Mapping[int, str]) -> str:
    return ", ".join(f"{value} at {depth}" for depth, value in sorted(by_depth.items()))


def _geometric(values: Arm) -> float:
    return float(np.exp(np.mean(np.log(values))))
