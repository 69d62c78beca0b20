"""What a claim is judged by: one number per run, a threshold, and further numbers by name.

What every measure of a claim shares; the measures are those of `resnet_study.phenomena`, how they
are judged is in `claim`, how they are told in `words`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from resnet_study.errors import UserError, is_number, require, told
from resnet_study.files import strict
from resnet_study.records import DONE, Frames

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
        numbers: what the claim's template tells, by name: numbers, names of what was judged, and
            mappings by depth. None where there is no such number.
        theory: name and value of a prediction to compare the interval with.
    """

    arms: tuple[Arm, ...]
    threshold: float
    claimed: Side
    unit: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    theory: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", strict(self.threshold))
        if isinstance(self.theory, tuple):
            object.__setattr__(self, "theory", tuple(strict(self.theory)))
        sides, arms = get_args(Side), self.arms
        require(self.claimed in sides, "claimed", self.claimed, f"valid are {', '.join(sides)}")
        listed = isinstance(arms, tuple | list) and len(arms) in (1, 2)
        series = listed and all(isinstance(a, pd.Series) and _numeric(a) for a in arms)
        require(series, "arms", arms, "one, or two to be compared: pandas Series of numbers")
        require(isinstance(self.unit, str), "unit", self.unit, "a text is needed, or an empty one")
        require(
            is_number(self.threshold) and (self.claimed != "within" or self.threshold >= 0),
            "threshold",
            self.threshold,
            "a finite number is needed, and none below 0 for within",
        )
        predicted = (
            isinstance(self.theory, tuple) and len(self.theory) == 2 and is_number(self.theory[-1])
        )
        require(self.theory is None or predicted, "theory", self.theory, "give a name and a number")
        _check_numbers(self.numbers)


@dataclass(frozen=True)
class Missing:
    """The runs that the claim takes (`claim.Claim.runs`) are not there.

    Attributes:
        needed: what they lack, where it is not simply that there are none.
        numbers: what was measured nevertheless, as in `Measurement`; none, or all that the claim's
            template names.
    """

    needed: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(isinstance(self.needed, str), "needed", self.needed, "a text is needed")
        _check_numbers(self.numbers)


def _numeric(arm: Arm) -> bool:
    # An empty series of pandas may have any type; its claim lacks runs, and that is told.
    return arm.empty or is_numeric_dtype(arm)


def _check_numbers(numbers: Mapping[str, Any]) -> None:
    named = isinstance(numbers, Mapping) and all(isinstance(name, str) for name in numbers)
    require(named, "numbers", numbers, "a mapping from names to numbers is needed")
    try:
        json.dumps(strict(numbers), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"numbers: cannot be written ({told(error)}); give numbers") from None


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


def medians(arms: Mapping[int, Arm]) -> dict[int, float]:
    """Of each depth's runs."""
    return {int(depth): float(arms[depth].median()) for depth in sorted(arms)}


def other_depths(
    first: Mapping[int, Arm], second: Mapping[int, Arm], judged: int
) -> dict[int, float]:
    """Differences of the medians, first − second, at the depths that are not judged."""
    shared = sorted((set(first) & set(second)) - {judged})
    return {int(depth): float(first[depth].median() - second[depth].median()) for depth in shared}


def ended_counts(group: Frames) -> dict[str, int]:
    """How many runs ``diverged`` and are ``not_ended``."""
    status = group.runs["status"]
    not_ended = int((~status.isin(DONE)).sum())
    return {"diverged": int((status == "diverged").sum()), "not_ended": not_ended}


def finite(value: float) -> float | None:
    """A number that can be told; None for one that is not finite."""
    return float(value) if math.isfinite(value) else None


def geometric_mean(values: Arm | np.ndarray) -> float:
    """Of positive numbers."""
    return float(np.exp(np.mean(np.log(values))))
