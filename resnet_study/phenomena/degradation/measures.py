"""What the claims about errors against depth measure: one number per run, from comparable runs.

Every function takes one group of comparable runs and returns a `Measurement`, or `Missing` with the
runs that it would take. Which depths are judged is fixed before any number is seen: up to 56 in
`resnet_study.phenomena.depths`; beyond, 110 against 20 and 1202 against 110, without substitutes,
because the paper's statements are about these; deep ones may warm up (`with_one_warmup`).
"""

from __future__ import annotations

from typing import Any

from resnet_study import reference
from resnet_study.judging.measurement import (
    Measurement,
    Missing,
    Side,
    arms_by_depth,
    ended_counts,
    medians,
    other_depths,
)
from resnet_study.judging.selections import final_error, papers_models
from resnet_study.phenomena.depths import depth_pair
from resnet_study.records import Frames

MARGIN = 1.0
"""Percentage points of training error within which two depths count as equal; the paper's plain
networks are several apart (`reference.fig6_ends`)."""

FITTED = 0.1
"""Training error in percent below which the training set is fitted: the paper's "<0.1%"."""


def training_error_difference(
    group: Frames,
    family: str,
    threshold: float,
    claimed: Side,
    pair: tuple[int, int] | None = None,
) -> Measurement | Missing:
    """Final training error of a deep network minus that of a shallow one of a family.

    Of this pair of depths, shallow and deep; by default of `depth_pair`.
    """
    arms = arms_by_depth(final_error(group, "train"), family, "error")
    pair = pair or depth_pair(arms)
    if pair is None or not set(pair) <= set(arms):
        return Missing()
    shallow, deep = pair
    clean = medians(arms_by_depth(final_error(group, "train_clean"), family, "error"))
    ends = reference.fig6_ends()
    theirs = ends[ends["family"] == family].set_index("depth")["train_error_percent"]
    paper = theirs.dropna().to_dict() if papers_models(group.runs).all() else {}
    base = {d: arms[shallow] for d in arms if d != shallow}
    numbers = {
        "family": family,
        "shallow": shallow,
        "deep": deep,
        "errors": medians(arms),
        "clean_errors": {d: clean[d] for d in pair} if set(pair) <= set(clean) else {},
        "above_shallow_elsewhere": other_depths(arms, base, deep),
        "paper": {d: paper[d] for d in pair} if set(pair) <= set(paper) else {},
        **ended_counts(group),
    }
    return Measurement(
        (arms[deep], arms[shallow]), threshold, claimed, "percentage points", numbers
    )


def deepest_training_error(group: Frames) -> Measurement | Missing:
    """Final training error of residual-1202, to lie below `FITTED`."""
    arms = arms_by_depth(final_error(group, "train"), "residual", "error")
    if 1202 not in arms:
        return Missing()
    clean = arms_by_depth(final_error(group, "train_clean"), "residual", "error")
    errors = medians(arms)
    numbers = {
        "error": errors.pop(1202),
        "clean_error": medians(clean).get(1202),
        "errors_elsewhere": errors,
        **ended_counts(group),
    }
    return Measurement((arms[1202],), FITTED, "below", "percent training error", numbers)


def test_error_difference(
    group: Frames, pair: tuple[int, int], claimed: Side
) -> Measurement | Missing:
    """Final test error of the deeper minus that of the shallower residual network."""
    arms = arms_by_depth(final_error(group, "test"), "residual", "error")
    if not set(pair) <= set(arms):
        return Missing()
    shallow, deep = pair
    train = medians(arms_by_depth(final_error(group, "train"), "residual", "error"))
    numbers = {
        "errors": medians(arms),
        "train_errors": {d: train[d] for d in pair if d in train},
        "paper": published_test_errors(pair),
        "reproductions": reproduced_test_errors(pair),
        **ended_counts(group),
    }
    return Measurement((arms[deep], arms[shallow]), 0.0, claimed, "percentage points", numbers)


def published_test_errors(depths: tuple[int, int]) -> dict[int, dict[str, Any]]:
    """``error`` of residual networks that Table 6 has, ``runs``, their ``mean`` and ``sd``."""
    table = reference.table6().set_index("depth")
    names = {"error": "test_error_percent", "mean": "mean_percent", "sd": "std_percent"}
    return {
        depth: {
            "runs": int(table["runs"][depth]),
            **{name: float(table[column][depth]) for name, column in names.items()},
        }
        for depth in depths
        if depth in table.index
    }


def reproduced_test_errors(depths: tuple[int, int]) -> list[dict[str, Any]]:
    """``source``, ``errors`` by depth and whether they are the ``best`` on the test set.

    Only the public reproductions that have both depths.
    """
    table = reference.reproductions()
    table = table[(table["family"] == "residual") & table["depth"].isin(depths)]
    return [
        {
            "source": source,
            "errors": rows.set_index("depth")["test_error_percent"].to_dict(),
            "best": "best-on-test" in set(rows["selection"]),
        }
        for source, rows in table.groupby("source", sort=False)
        if set(rows["depth"]) == set(depths)
    ]
