"""What the claims about residual networks of 110 and 1202 layers measure.

The paper warms up at depth 110 with a rate of 0.01 and trains shallower networks without
(section 4.2), so that a comparison by its recipe joins runs that differ in the warm-up too.
Such a group holds one warm-up per depth (`one_warmup_per_depth`); everything else is equal, as
everywhere. Depths are fixed here, before any number is seen: 110 against 20, and 1202 against
110, without substitutes, because the paper's statements are about these; only the responses
take the deepest from 44 to 110 where there is no 110.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from resnet_study import reference
from resnet_study.analysis.evidence import (
    Arm,
    Measurement,
    Missing,
    Side,
    arms_by_depth,
    ended_note,
    listed,
    published_test_errors,
)
from resnet_study.analysis.frames import (
    ENDED,
    comparable_groups,
    conv_layers,
    final_error,
    rows_at,
    select,
)
from resnet_study.analysis.measurements import MARGIN, MINIMUM_DEEP, training_error_difference
from resnet_study.records import Frames

WARMUP_FIELDS = (
    "schedule.warmup_learning_rate",
    "schedule.warmup_iterations",
    "schedule.warmup_error",
)
"""Spec fields in which the depths of one comparison may differ here."""

FITTED = 0.1
"""Training error in percent below which the training set is fitted: the paper's "<0.1%"."""


def training_error_to_110(group: Frames) -> Measurement | Missing:
    """Final training error of residual-110 minus that of residual-20, to lie below `MARGIN`."""
    runs, note = one_warmup_per_depth(group)

    def pair(arms: Mapping[int, Arm]) -> tuple[int, int] | None:
        return (20, 110) if {20, 110} <= set(arms) else None

    result = training_error_difference(runs, "residual", MARGIN, "below", pair)
    return _noted(result, note)


def accuracy_gain_to_110(group: Frames) -> Measurement | Missing:
    """Final test error of residual-110 minus that of residual-20, to lie below 0."""
    return _test_error_difference(group, (20, 110), "below")


def deepest_training_error(group: Frames) -> Measurement | Missing:
    """Final training error of residual-1202, to lie below `FITTED`."""
    runs, note = one_warmup_per_depth(group)
    arms = arms_by_depth(final_error(runs, "train"), "residual", "error")
    if 1202 not in arms:
        return Missing()
    clean = arms_by_depth(final_error(runs, "train_clean"), "residual", "error")
    others = listed({d: f"{a.mean():.3g} %" for d, a in arms.items() if d != 1202})
    detail = (
        f"residual-1202 ends at {arms[1202].mean():.3g} % training error as trained"
        f"{f', {clean[1202].mean():.3g} % on the images as they are' if 1202 in clean else ''}."
        f"{f' Other depths: {others}.' if others else ''}{ended_note(runs)}"
    )
    result = Measurement((arms[1202],), FITTED, "below", "percent training error", detail)
    return _noted(result, note)


def deepest_test_error(group: Frames) -> Measurement | Missing:
    """Final test error of residual-1202 minus that of residual-110, to lie above 0."""
    return _test_error_difference(group, (110, 1202), "above")


def responses_against_depth(group: Frames) -> Measurement | Missing:
    """Mean response standard deviation at the end, deep minus shallow residual network."""
    runs, note = one_warmup_per_depth(group)
    finished = select(runs, runs.runs.index[runs.runs["status"] == "finished"])
    rows = conv_layers(rows_at(finished.layers, None))
    means = rows.groupby(["run_id", "family", "depth"])["response_std"].mean().reset_index()
    arms = arms_by_depth(means, "residual", "response_std")
    deep = max((d for d in arms if MINIMUM_DEEP <= d <= 110), default=None)
    if 20 not in arms or deep is None:
        return Missing()
    points = reference.fig7()
    paper = points[points["family"] == "residual"].groupby("depth")["response_std"].mean()
    published = listed({int(str(d)): f"{value:.3g}" for d, value in paper.items()})
    ours = listed({d: f"{a.mean():.3g}" for d, a in arms.items()})
    detail = (
        "Response standard deviation after training, mean over the 3x3 layers, of residual "
        f"networks: {ours}. Judged: {deep} minus 20. In the paper (CIFAR-10, Figure 7): "
        f"{published}. Finished runs only."
    )
    unit = "response standard deviation"
    return _noted(Measurement((arms[deep], arms[20]), 0.0, "below", unit, detail), note)


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


def _test_error_difference(
    group: Frames, pair: tuple[int, int], claimed: Side
) -> Measurement | Missing:
    """Final test error of the deeper minus that of the shallower network."""
    runs, note = one_warmup_per_depth(group)
    arms = arms_by_depth(final_error(runs, "test"), "residual", "error")
    if not set(pair) <= set(arms):
        return Missing()
    shallow, deep = pair
    train = arms_by_depth(final_error(runs, "train"), "residual", "error")
    trained = listed({d: f"{train[d].mean():.3g} %" for d in pair if d in train})
    ours = listed({d: f"{a.mean():.3g} %" for d, a in arms.items()})
    detail = (
        f"Test error of residual networks at the end (last, not best): {ours}."
        f"{f' Training error as trained: {trained}.' if trained else ''}"
        f"{published_test_errors(pair)}{ended_note(runs)}"
    )
    arm = (arms[deep], arms[shallow])
    result = Measurement(arm, 0.0, claimed, "percentage points", detail)
    return _noted(result, note)


def _noted(result: Measurement | Missing, note: str) -> Measurement | Missing:
    if isinstance(result, Missing):
        return result
    return replace(result, detail=result.detail + note)
