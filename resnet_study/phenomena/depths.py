"""Which depths are judged where, and which runs may meet: fixed before any number is seen.

- degradation: 20 against 56, the pair of the paper's Figure 1; without 56, against the deepest
  from 44 to 110 (`depth_pair`);
- plain against residual at equal depth: 20, which the plain network still learns; without it,
  the shallowest depth that both families have (`families_at_one_depth`);
- gradients: 56, the deep network of that pair; without it, the deepest, of at least 44 layers for
  "vanishing" and "healthy" (`deep_depth`).

Other depths are reported beside and do not enter the verdict. The paper warms up at depth
110 with a rate of 0.01 and trains shallower networks without (section 4.2), so that a comparison
by its recipe joins runs that differ in the warm-up too. Such a group holds one warm-up per depth
(`one_warmup_per_depth`); everything else is equal, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from resnet_study.judging.measurement import (
    FAMILIES,
    Arm,
    Measurement,
    Missing,
    arms_by_depth,
    other_depths,
)
from resnet_study.judging.selections import (
    WARMUP_FIELDS,
    comparable_groups,
    select,
    warm_up,
)
from resnet_study.records import DONE, Frames

MINIMUM_DEEP = 44
"""Least depth called deep: the first at which the paper's plain networks degrade."""

PAIR = f"runs of depth 20 and 56 (or one from {MINIMUM_DEEP} to 110), 5 seeds or more each"
"""What claims about `depth_pair` take, in words."""

Measure = Callable[[Frames], Measurement | Missing]


def depth_pair(depths: Mapping[int, Arm]) -> tuple[int, int] | None:
    """Shallow and deep network of the degradation claims; None if either is missing."""
    deep = [d for d in depths if MINIMUM_DEEP <= d <= 110]
    if 20 not in depths or not deep:
        return None
    return 20, 56 if 56 in deep else max(deep)


def families_at_one_depth(
    table: pd.DataFrame, value: str
) -> tuple[tuple[Arm, Arm], dict[str, Any]] | None:
    """Plain and residual runs of the depth at which they are compared; None if they share none.

    Returns:
        Both arms; ``depth``, both medians, and their difference at the other depths.
    """
    arms = {family: arms_by_depth(table, family, value) for family in FAMILIES}
    shared = set(arms["plain"]) & set(arms["residual"])
    if not shared:
        return None
    depth = 20 if 20 in shared else min(shared)
    plain, residual = (arms[family][depth] for family in FAMILIES)
    return (plain, residual), {
        "depth": depth,
        "plain": float(plain.median()),
        "residual": float(residual.median()),
        "plain_minus_residual_elsewhere": other_depths(arms["plain"], arms["residual"], depth),
    }


FAMILIES_ELSEWHERE = """{% if plain_minus_residual_elsewhere %} Plain minus residual at other
depths: {{ plain_minus_residual_elsewhere|number("+.3g") }}.{% endif %}"""
"""Part of a template of these numbers."""


def deep_depth(depths: Mapping[int, Arm]) -> int | None:
    """Depth of the claims about deep networks; None if there is none deep enough."""
    deep = [d for d in depths if d >= MINIMUM_DEEP]
    return 56 if 56 in deep else max(deep, default=None)


def with_one_warmup(measure: Measure) -> Measure:
    """The measure of the residual runs with one warm-up per depth, which its numbers then name."""

    def of_one(group: Frames) -> Measurement | Missing:
        runs, warmups = one_warmup_per_depth(group)
        result = measure(runs)
        if isinstance(result, Missing):
            return result
        return replace(result, numbers={**result.numbers, "warmups": warmups})

    return of_one


def one_warmup_per_depth(group: Frames) -> tuple[Frames, dict[int, dict[str, Any]]]:
    """Residual runs with a single warm-up setting at each depth, of runs that may differ in it.

    Of several at one depth that with most ended runs counts; of equally many the one that warms
    up from depth 110 on, and the one that does not below, as in the paper.

    Returns:
        The runs, and where they warm up ``rate``, ``iterations`` and ``error`` by depth.
    """
    residual = select(group, group.runs.index[group.runs["family"] == "residual"])
    kept: list[str] = []
    warmups: dict[int, dict[str, Any]] = {}
    parts: list[pd.DataFrame] = [part.runs for part in comparable_groups(residual)]
    for depth in sorted(residual.runs["depth"].unique()):
        settings = [part[part["depth"] == depth] for part in parts]
        runs = max((runs for runs in settings if len(runs)), key=_preference)
        kept += list(runs.index)
        if warm_up(runs).all():
            names = zip(("rate", "iterations", "error"), WARMUP_FIELDS, strict=True)
            warmups[int(depth)] = {name: runs[field].iloc[0] for name, field in names}
    return select(residual, kept), warmups


def _preference(runs: pd.DataFrame) -> tuple[int, bool]:
    """Ended runs, and whether the setting is the paper's."""
    as_in_the_paper = bool(warm_up(runs).all()) == bool(runs["depth"].iloc[0] >= 110)
    return int(runs["status"].isin(DONE).sum()), as_in_the_paper
