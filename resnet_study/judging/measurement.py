"""What a claim is judged by: one number per run, a threshold, and the numbers in words.

What every measure of a claim shares; the measures are those of `resnet_study.phenomena`, how they
are judged is in `claim`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from resnet_study.judging.selections import ENDED
from resnet_study.records import Frames

Arm = pd.Series
"""One number per run, by seed."""

FAMILIES = ("plain", "residual")

Side = Literal["above", "below", "within"]


@dataclass(frozen=True)
class Measurement:
    """Numbers to be judged against a threshold.

    Attributes:
        arms: one value per run by seed, for one arm or for two (first − second, seed by seed).
        threshold: border of the claimed side; for ``within`` the claim is that the effect lies
            between −threshold and threshold.
        claimed: side of the threshold that the claim is about.
        unit: of the effect.
        detail: plain sentences with the numbers.
        theory: name and value of a prediction to compare the interval with.
    """

    arms: tuple[Arm, ...]
    threshold: float
    claimed: Side
    unit: str
    detail: str
    theory: tuple[str, float] | None = None


class Missing(NamedTuple):
    """The runs that the claim takes (`claim.Claim.runs`) are not there.

    ``needed`` says what they lack where it is not simply that there are none.
    """

    needed: str = ""


def arms_by_depth(
    table: pd.DataFrame, family: str, value: str, positive: bool = False
) -> dict[int, Arm]:
    """Finite values by depth; ``positive`` is for ratios that will be logged.

    A ratio of exactly 0 is a float32 norm that underflowed. It counts as the smallest
    normal float32, an upper bound, rather than being lost: it is the strongest vanishing.
    """
    rows = table[(table["family"] == family) & np.isfinite(table[value].astype(float))]
    values = rows.set_index("seed")[value].astype(float)
    arms = {d: values[(rows["depth"] == d).to_numpy()] for d in rows["depth"].unique()}
    if positive:
        return {d: a.clip(lower=float(np.finfo(np.float32).tiny)) for d, a in arms.items()}
    return arms


def other_depths(
    what: str, first: Mapping[int, Arm], second: Mapping[int, Arm], judged: int
) -> str:
    """Sentence on the differences of means at the depths that are not judged."""
    shared = sorted((set(first) & set(second)) - {judged})
    values = listed({d: f"{first[d].mean() - second[d].mean():+.3g}" for d in shared})
    return f" {what} at other depths: {values}." if values else ""


def ended_note(group: Frames) -> str:
    """Sentences on diverged runs and on those that have not ended."""
    status = group.runs["status"]
    diverged, left = int((status == "diverged").sum()), int((~status.isin(ENDED)).sum())
    note = f" Diverged runs ({diverged}) count with their last error." if diverged else ""
    return note + (f" Runs that have not ended ({left}) are left out." if left else "")


def listed(by_depth: Mapping[int, str]) -> str:
    """``value at depth, value at depth``, in the order of the depths."""
    return ", ".join(f"{value} at {depth}" for depth, value in sorted(by_depth.items()))


def geometric_mean(values: Arm | np.ndarray) -> float:
    """Of positive numbers."""
    return float(np.exp(np.mean(np.log(values))))
