"""Interleaved timing: A B A B ..., medians, ratios per round and their spread.

Machines are noisy, so only ratios within one run are compared, and no conclusion is drawn
where the rounds disagree by more than `WIDEST`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

WIDEST = 0.25
"""Spread of the per-round ratios (interquartile range / median) that still allows a ratio."""


def interleaved(
    variants: Mapping[str, Callable[[], object]], rounds: int = 20, warm_up: int = 3
) -> dict[str, list[float]]:
    """Seconds of each variant in each round; every variant runs once per round."""
    for _ in range(warm_up):
        for variant in variants.values():
            variant()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            began = time.perf_counter()
            variant()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, base: str) -> tuple[float, float]:
    """Median over rounds of time(name) / time(base), and the relative spread of the ratios."""
    ratios = [a / b for a, b in zip(seconds[name], seconds[base], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    median = statistics.median(ratios)
    return median, (high - low) / median


def verdict(median: float, spread: float) -> str:
    """The ratio with its spread, or a refusal to conclude."""
    text = f"{median:.2f} (spread {100 * spread:.0f} %)"
    return text if spread <= WIDEST else f"no conclusion: {text}"


def median_ms(seconds: list[float]) -> float:
    """Median in milliseconds."""
    return 1000 * statistics.median(seconds)
