"""How one claim is judged: interval, verdict, and what would decide.

A verdict needs an interval, and an interval needs seeds:

- ``reproduced``: the whole interval lies on the claimed side of the threshold;
- ``not reproduced``: the whole interval lies on the other side;
- ``undecided``: the interval contains the threshold, or runs are missing; ``needed`` says
  what would decide;
- ``indicated``: the estimate is on the claimed side but there is no interval, because an
  arm has a single seed or no run differs from another.

For a claim that an effect lies within ±threshold, the claimed side is the inside of this band:
reproduced if the whole interval lies inside, not reproduced if it lies outside on one side.
That is the equivalence test by two one-sided tests (Schuirmann 1987), each at half of one minus
the level of the interval.

Intervals are t intervals over runs (Welch's for two arms). A bootstrap interval over runs at the
same level stands beside (BCa from `statistics.BCA_RUNS` runs per arm on, else percentile). It
does not decide: with the few seeds of such studies it is too narrow, so that it would call
effects that are not there (with three runs per arm a 95 % percentile interval holds the truth
about four times in five at best).

Only comparable runs meet: those that a claim is about (`Claim.where`) and that differ in depth,
family and seed alone; some claims name further fields in which their runs may differ
(`Claim.may_differ`). If the records hold several such groups, each claim takes the one
with most seeds in its smaller arm, then with most runs, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from resnet_study.judging.measurement import Measurement, Missing, Side
from resnet_study.judging.selections import comparable_groups, select, varying_fields
from resnet_study.judging.statistics import (
    BCA_RUNS,
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    mean_interval,
    seeds_needed,
    welch,
)
from resnet_study.judging.words import in_words
from resnet_study.records import Frames

Verdict = Literal["reproduced", "indicated", "not reproduced", "undecided"]

BATCH_NORMALIZATION: Mapping[str, Any] = {"model.normalization": "batch"}
"""The runs that most claims are about, see `Claim.where`."""


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict and the numbers that it rests on.

    Attributes:
        claim: name of the `Claim`.
        statement: what is claimed, as a testable sentence.
        source: where the claim is from.
        quote: the source's own words.
        verdict: see the module.
        effect: estimate, None if runs are missing.
        unit: of effect and interval.
        interval: confidence limits, None if there are none.
        confidence: level of this interval, after the correction for several claims.
        n: number of seeds, such as ``3 seeds per arm``.
        detail: the numbers, in plain sentences.
        numbers: the same by name, as measured.
        needed: what would decide; empty if decided.
        bootstrap: confidence limits of the effect by resampling runs, at the same level; beside
            the interval, not deciding (see the module).
        runs: the runs that the claim takes.
    """

    claim: str
    statement: str
    source: str
    quote: str | None
    verdict: Verdict
    effect: float | None
    unit: str
    interval: tuple[float, float] | None
    confidence: float
    n: str
    detail: str
    needed: str
    bootstrap: tuple[float, float] | None = None
    runs: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A testable statement and how it is measured in a group of comparable runs.

    Attributes:
        name, statement, source, quote: as in `Finding`.
        measure: takes one group of comparable runs.
        runs: the networks, schedules and seeds that it takes to judge the claim, as a phrase.
        may_differ: spec fields, beside depth, family and seed, in which the runs of a group may
            differ; the measure then tells them apart.
        of_initialization: whether it is about `Frames.initialization`, measured without runs: the
            measure then takes all records as they are.
        where: spec fields with the value that the runs have to have; an empty one takes all runs.
        words: template of the sentences in which the numbers are told (`words.in_words`).
    """

    name: str
    statement: str
    source: str
    quote: str | None
    measure: Callable[[Frames], Measurement | Missing]
    runs: str
    may_differ: tuple[str, ...] = ()
    of_initialization: bool = False
    where: Mapping[str, Any] = field(default_factory=lambda: BATCH_NORMALIZATION)
    words: str = ""

    def evaluate(self, frames: Frames, confidence: float = 0.95) -> Finding:
        """Judge the claim by itself.

        Args:
            frames: any records; what the claim is not about is left aside.
            confidence: level of the interval.
        """
        return self.conclude(self.best(frames), confidence)

    def best(self, frames: Frames) -> Measurement | Missing:
        """Measure in the group of comparable runs with most seeds (see the module)."""
        if self.of_initialization:
            return self.measure(frames)
        runs = frames.runs
        for name, value in self.where.items():
            runs = runs[runs[name] == value]
        if not len(runs):
            wanted = " and ".join(f"{name}={value}" for name, value in self.where.items())
            return Missing(f"runs with {wanted}" if wanted else "")
        groups = comparable_groups(select(frames, runs.index), self.may_differ)
        results = [self.measure(group) for group in groups]
        sizes = [
            (smaller_arm(result), len(group.runs)) if isinstance(result, Measurement) else (0, 0)
            for result, group in zip(results, groups, strict=True)
        ]
        chosen = sizes.index(max(sizes))
        result = results[chosen]
        if isinstance(result, Missing) or len(groups) == 1:
            return result
        judged = _judged_group([group.runs for group in groups], chosen, self.may_differ)
        return replace(result, numbers={**result.numbers, **judged})

    def conclude(self, m: Measurement | Missing, confidence: float) -> Finding:
        """The finding of what `best` measured, with its interval at a level."""
        detail = in_words(self.words, m.numbers) if m.numbers else ""
        if isinstance(m, Missing):
            detail = detail or "The records do not hold what it takes."
            needed = f"{m.needed}: {self.runs}" if m.needed else self.runs
            return self._finding("undecided", detail=detail, needed=needed, numbers=m.numbers)
        interval = _interval(m, confidence)
        verdict = _verdict(interval, m.threshold, m.claimed)
        return self._finding(
            verdict,
            effect=interval.estimate,
            unit=m.unit,
            interval=(interval.low, interval.high) if interval.exists else None,
            confidence=confidence,
            n=_count(m.arms),
            detail=detail + _theory_note(m, interval),
            numbers=m.numbers,
            needed=_needed(m, interval, verdict, confidence),
            bootstrap=_bootstrap(m, confidence),
        )

    def _finding(
        self,
        verdict: Verdict,
        *,
        detail: str,
        needed: str,
        effect: float | None = None,
        unit: str = "",
        interval: tuple[float, float] | None = None,
        confidence: float = 0.95,
        n: str = "none",
        bootstrap: tuple[float, float] | None = None,
        numbers: Mapping[str, Any],
    ) -> Finding:
        return Finding(
            claim=self.name,
            statement=self.statement,
            source=self.source,
            quote=self.quote,
            verdict=verdict,
            effect=effect,
            unit=unit,
            interval=interval,
            confidence=confidence,
            n=n,
            detail=detail,
            needed=needed,
            bootstrap=bootstrap,
            runs=self.runs,
            numbers=numbers,
        )


def smaller_arm(m: Measurement) -> int:
    """Runs in the smaller arm."""
    return min(len(arm) for arm in m.arms)


def _interval(m: Measurement, confidence: float) -> Interval:
    if len(m.arms) == 1:
        return mean_interval(m.arms[0], confidence)
    return welch(m.arms[0], m.arms[1], confidence)


def _bootstrap(m: Measurement, confidence: float) -> tuple[float, float] | None:
    method: Literal["BCa", "percentile"] = "BCa" if smaller_arm(m) >= BCA_RUNS else "percentile"
    if len(m.arms) == 1:
        interval = bootstrap_mean(m.arms[0], confidence, method)
    else:
        interval = bootstrap_difference(m.arms[0], m.arms[1], confidence, method)
    return (interval.low, interval.high) if interval.exists else None


def _verdict(interval: Interval, threshold: float, claimed: Side) -> Verdict:
    estimate, low, high = interval
    if claimed == "below":
        # The mirror image of a claim of "above".
        estimate, low, high, threshold = -estimate, -high, -low, -threshold
    if claimed == "within":
        supports = abs(estimate) < threshold
        inside, outside = (
            -threshold < low and high < threshold,
            low > threshold or high < -threshold,
        )
    else:
        supports = estimate > threshold
        inside, outside = low > threshold, high < threshold
    if not interval.exists:
        return "indicated" if supports else "undecided"
    if inside:
        return "reproduced"
    return "not reproduced" if outside else "undecided"


def _needed(m: Measurement, interval: Interval, verdict: Verdict, confidence: float) -> str:
    if verdict in ("reproduced", "not reproduced"):
        return ""
    if smaller_arm(m) < 2:
        return "at least 2 seeds per arm; with one there is no interval"
    if not interval.exists:
        return "more seeds: so far all seeds of an arm agree exactly, which gives no interval"
    sd = float(np.sqrt(np.mean([np.var(arm, ddof=1) for arm in m.arms])))
    band = m.claimed == "within"
    seeds = seeds_needed(
        sd,
        interval.estimate if band else interval.estimate - m.threshold,
        arms=1 if len(m.arms) == 1 else 2,
        alpha=1 - confidence,
        half_width=m.threshold if band else None,
    )
    arm = " per arm" if len(m.arms) == 2 else ""
    if seeds is None:
        return f"more than 10,000 seeds{arm}: the estimate lies on the threshold"
    # So few seeds may look enough only because two of them happened to lie close together.
    seeds = max(seeds, smaller_arm(m) + 1)
    return (
        f"about {seeds} seeds{arm} for a power of 80 %, if the difference from the threshold "
        "and the spread stay as they are"
    )


def _theory_note(m: Measurement, interval: Interval) -> str:
    if m.theory is None:
        return ""
    name, value = m.theory
    if not interval.exists:
        return f" Predicted: {value:.4g} ({name})."
    inside = interval.low <= value <= interval.high
    return f" Predicted: {value:.4g} ({name}), {'inside' if inside else 'outside'} the interval."


def _count(arms: Sequence[np.ndarray]) -> str:
    sizes = [len(arm) for arm in arms]
    unit = "seed" if max(sizes) == 1 else "seeds"
    if len(sizes) == 1:
        return f"{sizes[0]} {unit}"
    if sizes[0] == sizes[1]:
        return f"{sizes[0]} {unit} per arm"
    return f"{sizes[0]} and {sizes[1]} {unit}"


def _judged_group(
    groups: Sequence[pd.DataFrame], chosen: int, may_differ: Sequence[str]
) -> dict[str, Any]:
    """Which of several groups was judged: the fields by which they differ."""
    fields = [f for f in varying_fields(pd.concat(list(groups))) if f not in may_differ]
    values = {field: str(groups[chosen][field].iloc[0]) for field in fields}
    return {"groups": len(groups), "judged_group": values}
