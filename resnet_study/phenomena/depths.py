"""Which depths are judged where, and which runs may meet: fixed before any number is seen.

- degradation: 20 against 56, the pair of the paper's Figure 1; without 56, against the deepest
  from 44 to 110 (`depth_pair`);
- plain against residual at equal depth: 20, which the plain network still learns; without it,
  the shallowest depth that both families have (`common_depth`);
- gradients: 56, the deep network of that pair; without it, the deepest, of at least 44 layers for
  "vanishing" and "healthy" (`deep_depth`).

Other depths are reported in the detail and do not enter the verdict. The paper warms up at depth
110 with a rate of 0.01 and trains shallower networks without (section 4.2), so that a comparison
by its recipe joins runs that differ in the warm-up too. Such a group holds one warm-up per depth
(`one_warmup_per_depth`); everything else is equal, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from resnet_study.judging.measurement import (
    Arm,
    Measurement,
    Missing,
    listed,
)
from resnet_study.judging.selections import (
    ENDED,
    comparable_groups,
    select,
)
from resnet_study.records import Frames

MINIMUM_DEEP = 44
"""Least depth called deep: the first at which the paper's plain networks degrade."""


WARMUP_FIELDS = (
    "schedule.warmup_learning_rate",
    "schedule.warmup_iterations",
    "schedule.warmup_error",
)
"""Spec fields in which the depths of one comparison may differ here."""


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


def deep_depth(depths: Mapping[int, Arm]) -> int | None:
    """Depth of the claims about deep networks; None if there is none deep enough."""
    deep = [d for d in depths if d >= MINIMUM_DEEP]
    return 56 if 56 in deep else max(deep, default=None)


def one_warmup_per_depth(group: Frames) -> tuple[Frames, str]:
    """Residual runs with a single warm-up setting at each depth, and a sentence that names it.

    Of several at one depth that with most ended runs counts; of equally many the one that warms
    up from depth 110 on, and the one that does not below, as in the paper.

    Args:
        group: runs that differ in depth, family, seed and `WARMUP_FIELDS` only.
    """
    residual = select(group, group.runs.index[group.runs["family"] == "residual"])
    if not len(residual.runs):
        return residual, ""
    kept: list[str] = []
    names: dict[int, str] = {}
    parts: list[pd.DataFrame] = [part.runs for part in comparable_groups(residual)]
    for depth in sorted(residual.runs["depth"].unique()):
        settings = [part[part["depth"] == depth] for part in parts]
        kept_runs = max((runs for runs in settings if len(runs)), key=_preference)
        kept += list(kept_runs.index)
        if _warms_up(kept_runs.iloc[0]):
            names[int(depth)] = _warmup_text(kept_runs.iloc[0])
    note = f" With a warm-up: {listed(names)}." if names else ""
    return select(residual, kept), note


def _warms_up(run: pd.Series) -> bool:
    return bool(run["schedule.warmup_iterations"] > 0 or run["schedule.warmup_error"] > 0)


def _preference(runs: pd.DataFrame) -> tuple[int, bool]:
    """Ended runs, and whether the setting is the paper's."""
    as_in_the_paper = _warms_up(runs.iloc[0]) == bool(runs["depth"].iloc[0] >= 110)
    return int(runs["status"].isin(ENDED).sum()), as_in_the_paper


def _warmup_text(run: pd.Series) -> str:
    until = (
        f"{run['schedule.warmup_error']:g} % training error"
        if run["schedule.warmup_error"] > 0
        else f"iteration {run['schedule.warmup_iterations']}"
    )
    return f"rate {run['schedule.warmup_learning_rate']:g} until {until}"


def noted(result: Measurement | Missing, note: str) -> Measurement | Missing:
    if isinstance(result, Missing):
        return result
    return replace(result, detail=result.detail + note)
