"""Claims of the literature, each judged from the records with its evidence.

A verdict needs an interval, and an interval needs seeds:

- ``reproduced``: the whole interval lies on the claimed side of the threshold;
- ``not reproduced``: the whole interval lies on the other side;
- ``undecided``: the interval contains the threshold, or runs are missing; ``needed`` says
  what would decide;
- ``indicated``: the estimate is on the claimed side but there is no interval, because an
  arm has a single seed or no run differs from another.

Intervals are t intervals over runs (Welch's for two arms). When several claims are judged
together, `judge` makes them simultaneous: with m claims that have two seeds per arm, each is
formed at level 1 − (1 − confidence)/m (Bonferroni), so that the probability of any wrong
verdict among them is at most 1 − confidence. The price is width, above all with two seeds.

Only comparable runs meet: those that differ in depth, family and seed alone, all with batch
normalisation, as the claims are about. If the records hold several such groups, each claim
takes the one with most seeds in its smaller arm, then with most runs, and says so.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from resnet_study.analysis import measurements
from resnet_study.analysis.frames import (
    comparable_groups,
    nearest_hint,
    select,
    varying_fields,
)
from resnet_study.analysis.measurements import Measurement, Missing
from resnet_study.analysis.statistics import Interval, mean_interval, seeds_needed, welch
from resnet_study.errors import UserError
from resnet_study.records import Frames

Verdict = Literal["reproduced", "indicated", "not reproduced", "undecided"]


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict and evidence.

    Attributes:
        claim: name in `CLAIMS`.
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
        needed: what would decide; empty if decided.
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


@dataclass(frozen=True)
class Claim:
    """A testable statement and how it is measured in a group of comparable runs."""

    name: str
    statement: str
    source: str
    quote: str | None
    measure: Callable[[Frames], Measurement | Missing]

    def evaluate(self, frames: Frames, confidence: float = 0.95) -> Finding:
        """Judge the claim by itself.

        Args:
            frames: any records; what the claim is not about is left aside.
            confidence: level of the interval.
        """
        return self.conclude(self.best(frames), confidence)

    def best(self, frames: Frames) -> Measurement | Missing:
        """Measure in the group of comparable runs with most seeds (see the module)."""
        bn = frames.runs.index[frames.runs["model.normalization"] == "batch"]
        if not len(bn):
            return Missing("runs with batch normalisation")
        groups = comparable_groups(select(frames, bn))
        results = [self.measure(group) for group in groups]
        sizes = [
            (_smaller_arm(result), len(group.runs)) if isinstance(result, Measurement) else (0, 0)
            for result, group in zip(results, groups, strict=True)
        ]
        chosen = sizes.index(max(sizes))
        result = results[chosen]
        if isinstance(result, Missing) or len(groups) == 1:
            return result
        note = _group_note([group.runs for group in groups], chosen)
        return replace(result, detail=result.detail + note)

    def conclude(self, m: Measurement | Missing, confidence: float) -> Finding:
        """The finding of what `best` measured, with its interval at a level."""
        if isinstance(m, Missing):
            detail = "No such runs are recorded."
            return self._finding("undecided", detail=detail, needed=m.needed)
        interval = _interval(m, confidence)
        verdict = _verdict(interval, m.threshold, m.claimed)
        return self._finding(
            verdict,
            effect=interval.estimate,
            unit=m.unit,
            interval=(interval.low, interval.high) if interval.exists else None,
            confidence=confidence,
            n=_count(m.arms),
            detail=m.detail + _theory_note(m, interval),
            needed=_needed(m, interval, verdict, confidence),
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
        )


def judge(names: Sequence[str], frames: Frames, confidence: float = 0.95) -> list[Finding]:
    """Judge several claims with simultaneous intervals (see the module).

    Args:
        names: of `CLAIMS`, in the order wanted; repetitions are ignored.
        frames: the records.
        confidence: joint level of all intervals together.

    Raises:
        UserError: for an unknown claim, with the nearest known one, and for a confidence
            that is none.
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence={confidence:g}: a level lies between 0 and 1, such as 0.95")
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in CLAIMS:
            raise UserError(f"unknown claim {name}; {nearest_hint(name, CLAIMS)}")
    measured = {name: CLAIMS[name].best(frames) for name in names}
    # Counted by what could be decided, which depends on the runs and not on their numbers.
    together = sum(isinstance(m, Measurement) and _smaller_arm(m) >= 2 for m in measured.values())
    level = 1 - (1 - confidence) / max(1, together)
    note = (
        f" The interval is at {100 * level:.2f} %, for {100 * confidence:g} % over all "
        f"{together} claims together (Bonferroni)."
    )
    findings = [CLAIMS[name].conclude(m, level) for name, m in measured.items()]
    return [
        replace(f, detail=f.detail + note) if together > 1 and f.interval is not None else f
        for f in findings
    ]


def findings_table(findings: Sequence[Finding]) -> pd.DataFrame:
    """One row per finding; the interval in the columns ``low`` and ``high``."""
    columns = [f.name for f in dataclasses.fields(Finding)]
    position = columns.index("interval")
    columns[position : position + 1] = ["low", "high"]
    rows = []
    for finding in findings:
        low, high = finding.interval or (math.nan, math.nan)
        rows.append({**dataclasses.asdict(finding), "low": low, "high": high})
    return pd.DataFrame(rows, columns=columns)


def findings_json(findings: Sequence[Finding]) -> str:
    """Strict JSON: a list with one object per finding; what does not exist is null."""
    rows = [dataclasses.asdict(finding) for finding in findings]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _smaller_arm(m: Measurement) -> int:
    return min(len(arm) for arm in m.arms)


def _interval(m: Measurement, confidence: float) -> Interval:
    if len(m.arms) == 1:
        return mean_interval(m.arms[0], confidence)
    return welch(m.arms[0], m.arms[1], confidence)


def _verdict(interval: Interval, threshold: float, claimed: Literal["above", "below"]) -> Verdict:
    sign = 1.0 if claimed == "above" else -1.0
    if not interval.exists:
        return "indicated" if sign * (interval.estimate - threshold) > 0 else "undecided"
    nearer, farther = sorted(sign * (limit - threshold) for limit in interval[1:])
    if nearer > 0:
        return "reproduced"
    return "not reproduced" if farther < 0 else "undecided"


def _needed(m: Measurement, interval: Interval, verdict: Verdict, confidence: float) -> str:
    if verdict in ("reproduced", "not reproduced"):
        return ""
    if _smaller_arm(m) < 2:
        return "at least 2 seeds per arm; with one there is no interval"
    if not interval.exists:
        return "more seeds: so far all seeds of an arm agree exactly, which gives no interval"
    sd = float(np.sqrt(np.mean([np.var(arm, ddof=1) for arm in m.arms])))
    seeds = seeds_needed(
        sd,
        interval.estimate - m.threshold,
        arms=1 if len(m.arms) == 1 else 2,
        alpha=1 - confidence,
    )
    arm = " per arm" if len(m.arms) == 2 else ""
    if seeds is None:
        return f"more than 10,000 seeds{arm}: the estimate lies on the threshold"
    # So few seeds may look enough only because two of them happened to lie close together.
    seeds = max(seeds, _smaller_arm(m) + 1)
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


def _group_note(groups: Sequence[pd.DataFrame], chosen: int) -> str:
    """Which of several groups was judged."""
    fields = varying_fields(pd.concat(list(groups)))
    values = ", ".join(f"{field}={groups[chosen][field].iloc[0]}" for field in fields)
    return f" Of {len(groups)} groups of comparable runs, judged: {values}."


_HE = "He et al. 2015, arXiv 1512.03385"
_YANG = "Yang et al. 2019, arXiv 1902.08129"

_VANISH_SOURCE = (
    f"{_HE}, section 4.1, says the opposite, in the quoted words; that gradients vanish is the "
    "common explanation of degradation"
)


def _gradients_vanish(iterations: int) -> Claim:
    steps = f"{iterations}_step" if iterations == 1 else f"{iterations}_steps"
    return Claim(
        f"gradients_vanish_after_{steps}",
        "In a plain network of 56 layers (without it: the deepest, of at least "
        f"{measurements.MINIMUM_DEEP}) with batch normalisation the activation gradient at the "
        "first 3x3 layer is less than a tenth of that at the last one after "
        f"{steps.replace('_', ' ')}.",
        _VANISH_SOURCE,
        "We also verify that the backward propagated gradients exhibit healthy norms with BN.",
        partial(measurements.plain_ratio_after, iterations=iterations),
    )


_CLAIMS = (
    Claim(
        "deeper_plain_higher_training_error",
        "A plain network of 56 layers (without it: the deepest from 44 to 110) ends with a higher "
        "training error than one of 20.",
        f"{_HE}, section 4.2 and Figure 6 left",
        "The deep plain nets suffer from increased depth, and exhibit higher training error "
        "when going deeper.",
        measurements.deeper_plain_training_error,
    ),
    Claim(
        "residual_no_degradation",
        "A residual network of 56 layers (without it: the deepest from 44 to 110) does not end "
        "with a higher training error than one of 20, within a margin of "
        f"{measurements.MARGIN:g} percentage point.",
        f"{_HE}, section 4.2 and Figure 6 middle",
        "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
        "gains when the depth increases.",
        measurements.deeper_residual_training_error,
    ),
    Claim(
        "residual_converges_faster",
        "At depth 20 (without it: the shallowest that both have) the mean training error over the "
        "first quarter of the run is higher for the plain than for the residual network.",
        f"{_HE}, section 4.1, of the 18-layer networks on ImageNet",
        "the ResNet eases the optimization by providing faster convergence at the early stage.",
        measurements.early_error_difference,
    ),
    Claim(
        "residual_responses_smaller",
        "At depth 20 (without it: the shallowest that both have) the responses of the 3x3 layers "
        "after training have a larger standard deviation in the plain than in the residual "
        "network.",
        f"{_HE}, section 4.2 and Figure 7",
        "ResNets have generally smaller responses than their plain counterparts.",
        measurements.response_difference,
    ),
    Claim(
        "gradients_explode_at_initialization_plain_bn",
        "At initialisation the activation gradient of a plain network of 56 layers (without it: "
        "the deepest) with batch normalisation grows toward the input, by a factor above 1 per "
        "layer.",
        f"{_YANG}, abstract",
        "gradient signals grow exponentially in depth",
        measurements.plain_growth_at_initialization,
    ),
    Claim(
        "gradients_at_initialization_residual_mild",
        "At initialisation the activation gradient of a residual network of 56 layers (without "
        f"it: the deepest, of at least {measurements.MINIMUM_DEEP}) with batch normalisation is "
        "larger at the first 3x3 layer than at the last one by a factor smaller than the depth: "
        "no exponential growth.",
        f"hypothesis of this project, the counterpart of {_YANG}",
        None,
        measurements.residual_ratio_at_initialization,
    ),
    *(_gradients_vanish(iterations) for iterations in (1, 10, 100)),
)

CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _CLAIMS}
"""Every claim by name."""
