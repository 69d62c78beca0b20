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

from collections.abc import Callable, Mapping

import numpy as np

from resnet_study import reference
from resnet_study.judging.measurement import (
    Arm,
    Measurement,
    Missing,
    Side,
    arms_by_depth,
    ended_note,
    other_depths,
)
from resnet_study.judging.selections import (
    final_error,
)
from resnet_study.phenomena.depths import depth_pair
from resnet_study.records import Frames

MARGIN = 1.0
"""Percentage points of training error within which two depths count as equal. The paper's
plain-56 ends 4.3 points above plain-20, its ResNet-56 0.6 points below ResNet-20."""


def deeper_plain_training_error(group: Frames) -> Measurement | Missing:
    """Final training error of the deep plain network minus that of plain-20."""
    return training_error_difference(group, "plain", threshold=0.0, claimed="above")


def deeper_residual_training_error(group: Frames) -> Measurement | Missing:
    """The same of the residual networks, to lie below `MARGIN`."""
    return training_error_difference(group, "residual", threshold=MARGIN, claimed="below")


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
