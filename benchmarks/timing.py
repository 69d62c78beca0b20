"""Interleaved timing: A B A B ..., medians, ratios per round, their spread, and a refusal.

Machines are noisy, so only ratios within one run are compared. No conclusion is drawn from
fewer than `FEWEST` rounds or where the rounds disagree by more than `WIDEST`. Standard
library only.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDEST = 0.25
"""Spread of the per-round ratios (interquartile range / median) that still allows a ratio."""
FEWEST = 5
"""Rounds that a spread can be judged from."""


def interleaved(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each variant returns in each round; every variant is called once per round, in turn.

    Args:
        variants: functions that return seconds, by name; see `timed`.
        rounds: how often each is called.
    """
    values: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            values[name].append(variant())
    return values


def timed(function: Callable[[], object], warm_up: int = 3) -> Callable[[], float]:
    """The function as one that returns its seconds; it is called `warm_up` times before."""
    for _ in range(warm_up):
        function()

    def seconds() -> float:
        began = time.perf_counter()
        function()
        return time.perf_counter() - began

    return seconds


@dataclass(frozen=True)
class Estimate:
    """A median over rounds with its spread.

    Attributes:
        median: over rounds.
        spread: interquartile range / median.
        rounds: how many there were.
    """

    median: float
    spread: float
    rounds: int

    @property
    def conclusive(self) -> bool:
        """Whether rounds are enough and agree."""
        return self.rounds >= FEWEST and self.spread <= WIDEST

    def __str__(self) -> str:
        """The median with its spread, or a refusal to conclude."""
        text = f"{self.median:.2f} (spread {100 * self.spread:.0f} %)"
        if self.rounds < FEWEST:
            return f"no conclusion from {self.rounds} rounds: {text}"
        return text if self.conclusive else f"no conclusion: {text}"

    def as_json(self) -> dict[str, Any]:
        """For a results file; a spread that is not known is null."""
        spread = self.spread if math.isfinite(self.spread) else None
        return {
            "median": self.median,
            "spread": spread,
            "rounds": self.rounds,
            "conclusive": self.conclusive,
        }


def estimate(values: Sequence[float]) -> Estimate:
    """Median and spread of positive values; the spread of a single one is not known.

    Raises:
        ValueError: if a value is none, such as that of a turn too short to be timed.
    """
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"not all are positive numbers: {list(values)}")
    median = statistics.median(values)
    if len(values) < 2:
        return Estimate(median, math.inf, len(values))
    low, _, high = statistics.quantiles(values, n=4)
    return Estimate(median, (high - low) / median, len(values))


def ratio(values: Mapping[str, Sequence[float]], name: str, base: str) -> Estimate:
    """Of the ratios values[name] / values[base] of each round."""
    return estimate([a / b for a, b in zip(values[name], values[base], strict=True)])


def median_ms(seconds: Sequence[float]) -> float:
    """Median in milliseconds."""
    return 1000 * statistics.median(seconds)
