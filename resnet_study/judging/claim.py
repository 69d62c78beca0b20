"""What a claim and a finding are, and which runs meet; how it is judged: `verdict`.

Only comparable runs meet: those that a claim is about (`Claim.where`) and that differ in depth,
family and seed alone; some claims name further fields in which their runs may differ
(`Claim.may_differ`). If the records hold several such groups, each claim takes the one
with most seeds in its smaller arm, then with most runs, and says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd

from resnet_study.durations import Duration
from resnet_study.errors import UserError, told
from resnet_study.files import strict
from resnet_study.judging.measurement import Measurement, Missing
from resnet_study.judging.selections import comparable_groups, select, varying_fields
from resnet_study.judging.statistics import Interval, median_interval
from resnet_study.judging.verdict import (
    VERDICTS,
    Role,
    Tally,
    effects,
    needed,
    share_text,
    tally,
    verdict,
)
from resnet_study.judging.words import in_words, template
from resnet_study.names import nearest_hint
from resnet_study.records import Frames
from resnet_study.spec import check_type, parameter_types

BATCH_NORMALIZATION: Mapping[str, Any] = {"model.normalization": "batch"}
"""The networks that most claims of the package are about, for `Claim.where`."""


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict and the numbers that it rests on.

    Attributes:
        claim: name of the `Claim`.
        statement: what is claimed, as a testable sentence.
        source: where the claim is from.
        quote: the source's own words.
        verdict: in words (`verdict`); of a claim that is not primary they begin with its role.
        effect: median over the seeds, None if runs are missing.
        unit: of effect and interval.
        interval: exact confidence limits of this median, None if the seeds are too few for any.
        confidence: level of this interval by itself.
        n: seeds on the claimed side, of those that there are, such as ``4 of 5 seeds``.
        detail: the numbers, in plain sentences.
        numbers: the same by name, as measured.
        needed: what would decide; empty if decided.
        answer: what was found, in plain words; empty where there is no estimate.
        runs: the runs that the claim takes.
        series, common: as in `Claim`.
    """

    claim: str
    statement: str
    source: str
    quote: str | None
    verdict: str
    effect: float | None
    unit: str
    interval: tuple[float, float] | None
    confidence: float
    n: str
    detail: str
    needed: str
    runs: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    answer: str = ""
    series: str = ""
    common: str = ""

    @property
    def member(self) -> str:
        """What tells it apart in its series: ``after 1 step``."""
        return self.claim.removeprefix(f"{self.series}_").replace("_", " ")


def in_series(findings: Sequence[Finding]) -> list[tuple[Finding, ...]]:
    """The findings in their order, those of one series that follow one another together."""
    groups = itertools.groupby(findings, lambda finding: finding.series or finding.claim)
    return [tuple(members) for _, members in groups]


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
        where: spec fields with the value that the runs have to have; by default it takes all runs.
        words: template of the sentences in which the numbers are told (`words.in_words`).
        answer: template of the answer in plain words, of the same numbers and the median `effect`.
        fact: common to claims that are one by algebra; they count once among several.
        series: what the names of claims begin with that differ in one thing, such as the iteration:
            ``signal_healthy`` of ``signal_healthy_after_1_step``; they are shown side by side.
        common: the statement without that thing.
    """

    name: str
    statement: str
    source: str
    quote: str | None
    measure: Callable[[Frames], Measurement | Missing]
    runs: str
    may_differ: tuple[str, ...] = ()
    of_initialization: bool = False
    where: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""
    answer: str = ""
    fact: str = ""
    series: str = ""
    common: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.strip()):
            raise UserError(f"claim {self.name!r}: give a name, such as first_layers_balanced")
        if not callable(self.measure):
            raise UserError(f"claim {self.name}: measure={self.measure!r} is no function")
        for part in ("statement", "source", "runs", "words", "answer", "fact", "series", "common"):
            if not isinstance(getattr(self, part), str):
                raise UserError(f"claim {self.name}: {part}={getattr(self, part)!r} is no text")
        if not isinstance(self.quote, str | None):
            raise UserError(f"claim {self.name}: quote={self.quote!r} is no text; None is none")
        if not isinstance(self.where, Mapping) or not isinstance(
            self.may_differ, tuple | list | set | frozenset
        ):
            raise UserError(
                f"claim {self.name}: where maps fields to values, may_differ is a tuple of fields"
            )
        object.__setattr__(self, "may_differ", tuple(self.may_differ))
        known = parameter_types()
        for field_name in (*self.where, *self.may_differ):
            if field_name not in known:
                hint = nearest_hint(field_name, known)
                raise UserError(f"claim {self.name}: no field {field_name} of a spec; {hint}")
        object.__setattr__(self, "where", strict(self.where))
        for field_name, value in self.where.items():
            hint = known[field_name]
            if value == "auto":
                raise UserError(
                    f"claim {self.name}: where {field_name}=auto: give what it stands for"
                )
            # Durations are iterations once a spec is made.
            check_type(
                f"claim {self.name}: where {field_name}", value, int if hint == Duration else hint
            )
        if not self.name.startswith(self.series):
            raise UserError(f"claim {self.name}: its name does not begin with series={self.series}")

    def check(self) -> None:
        """Refuse what can be seen to be wrong before there are records, at the price of a moment.

        Raises:
            UserError: for a template that is none.
        """
        for part in ("words", "answer"):
            try:
                template(getattr(self, part))
            except Exception as error:
                raise UserError(
                    f"claim {self.name}: {part} is no template ({told(error)})"
                ) from error

    def evaluate(self, frames: Frames, confidence: float = 0.95) -> Finding:
        """Judge the claim by itself, as the only primary one.

        Args:
            frames: any records; what the claim is not about is left aside.
            confidence: one minus the probability of either wrong verdict.
        """
        return self.conclude(self.best(frames), confidence)

    def best(self, frames: Frames, groups: Groups | None = None) -> Measurement | Missing:
        """Measure in the group of comparable runs with most seeds (see the module).

        Several claims may share the ``groups`` of the same records.
        """
        if self.of_initialization:
            return self._measured(frames)
        found = (groups or Groups(frames)).of(self.where, self.may_differ)
        if not found:
            wanted = " and ".join(f"{name}={value}" for name, value in self.where.items())
            return Missing(f"runs with {wanted}" if wanted else "")
        results = [self._measured(group) for group in found]
        sizes = [
            (len(effects(result)), len(group.runs)) if isinstance(result, Measurement) else (0, 0)
            for result, group in zip(results, found, strict=True)
        ]
        chosen = sizes.index(max(sizes))
        result = results[chosen]
        if isinstance(result, Missing) or len(found) == 1:
            return result
        varying = varying_fields(pd.concat([group.runs for group in found]))
        own = found[chosen].runs.iloc[0]
        judged = {field: str(own[field]) for field in varying if field not in self.may_differ}
        numbers = {**result.numbers, "groups": len(found), "judged_group": judged}
        return replace(result, numbers=numbers)

    def conclude(
        self,
        m: Measurement | Missing,
        confidence: float,
        *,
        role: Role = "primary",
        found: Tally | None = None,
        p_values: tuple[float, float] | None = None,
        family: int = 1,
    ) -> Finding:
        """The finding of what `best` measured.

        Args:
            m, confidence: the measurement; as of `evaluate`.
            role: of the claim in its study.
            found: its seeds, by default those of the measurement.
            p_values: adjusted for several claims, by default those of these seeds.
            family: primary claims that share the level.
        """
        finding = partial(
            Finding,
            self.name,
            self.statement,
            self.source,
            self.quote,
            runs=self.runs,
            numbers=m.numbers,
            series=self.series,
            common=self.common,
        )
        alpha = 1 - confidence
        detail = self._told("words", m.numbers) if m.numbers else ""
        if isinstance(m, Missing):
            word = VERDICTS[-1] if role == "primary" else f"{role}: {VERDICTS[-1]}"
            wanted = f"{m.needed}: {self.runs}" if m.needed else self.runs
            detail = detail or "The records do not hold what it takes."
            return finding(word, None, "", None, confidence, "none", detail, wanted)
        found = found or tally(m)
        p_values = p_values or found.p_values
        interval = median_interval(found.effects, alpha)
        return finding(
            verdict(found, p_values, role, alpha),
            interval.estimate,
            m.unit,
            (interval.low, interval.high) if interval.exists else None,
            interval.level if interval.exists else 1 - 2 * alpha,
            found.text,
            detail + _theory_note(m, interval) + share_text(found, p_values, family, alpha),
            "" if min(p_values) <= alpha else needed(found, alpha / family),
            answer=self._told("answer", {**m.numbers, "effect": interval.estimate}, ""),
        )

    def _measured(self, frames: Frames) -> Measurement | Missing:
        try:
            found = self.measure(frames)
        except UserError as error:
            raise UserError(f"claim {self.name}: {error}") from error
        except (Exception, SystemExit) as error:  # a measure of one's own can raise anything
            raise UserError(f"claim {self.name}: its measure fails ({told(error)})") from error
        if isinstance(found, Missing):
            return found
        if not isinstance(found, Measurement):
            kind = type(found).__name__
            raise UserError(
                f"claim {self.name}: its measure gives {kind}, not a Measurement or Missing()"
            )
        seeds = set((frames.initialization if self.of_initialization else frames.runs)["seed"])
        for arm in found.arms:
            if seeds and not set(arm.index) <= seeds:
                raise UserError(
                    f"claim {self.name}: its measure gives an arm whose index is not by seed; "
                    "give one number per run, such as groupby('seed').mean()"
                )
        if effects(found).empty:
            return Missing(numbers=found.numbers)
        return found

    def _told(self, part: str, numbers: Mapping[str, Any], *ending: str) -> str:
        try:
            return in_words(getattr(self, part), numbers, *ending)
        except Exception as error:  # a template likewise
            raise UserError(f"claim {self.name}: {part}: {told(error)}") from error


class Groups:
    """Groups of comparable runs in some records, each made once.

    Many claims are about the same runs, and measures keep what they find in a group (`keeping`).
    """

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self._found: dict[Any, list[Frames]] = {}

    def of(self, where: Mapping[str, Any], may_differ: tuple[str, ...]) -> list[Frames]:
        """As `comparable_groups` of the runs that have these values; none without such runs."""
        key = (*where.items(), may_differ)
        if key not in self._found:
            runs = self.frames.runs
            for name, value in where.items():
                runs = runs[runs[name] == value]
            own = comparable_groups(select(self.frames, runs.index), may_differ)
            self._found[key] = own if len(runs) else []
        return self._found[key]


def _theory_note(m: Measurement, interval: Interval) -> str:
    if m.theory is None:
        return ""
    name, value = m.theory
    if not interval.exists:
        return f" Predicted: {value:.4g} ({name})."
    inside = interval.low <= value <= interval.high
    return f" Predicted: {value:.4g} ({name}), {'inside' if inside else 'outside'} the interval."
