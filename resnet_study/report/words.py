"""Sentences and numbers of the report, from findings and figures."""

from __future__ import annotations

import numbers
import re
from dataclasses import replace

from resnet_study.drawing.render import RenderedFigure
from resnet_study.judging.judge import Finding


def question_text(finding: Finding) -> str:
    """The statement, without the networks that would have stood in for one that is there."""
    judged = {int(v) for v in finding.numbers.values() if isinstance(v, numbers.Integral)}

    def shorter(match: re.Match[str]) -> str:
        return match[1] if int(match[2]) in judged else match[0]

    return re.sub(r"((\d+)(?: layers)?) \(without it: [^)]*\)", shorter, finding.statement)


def answer_text(finding: Finding) -> str:
    """What was found, in one sentence: effect, interval and the seeds that agree.

    The logarithm of a ratio is told as the ratio.
    """
    agree = f"{finding.n} agree" if finding.n.endswith("seeds") else f"agreeing: {finding.n}"
    if finding.effect is None:
        return f"There is no estimate; {agree}."
    ratio = re.fullmatch(r"log10\((.+)\)", finding.unit)
    if ratio is None:
        around = interval_text(finding)
        return f"The median effect is {estimate_text(finding)} ({around}); {agree}."
    finding = replace(
        finding,
        effect=10**finding.effect,
        interval=finding.interval and (10 ** finding.interval[0], 10 ** finding.interval[1]),
    )
    around = interval_text(finding)
    return f"The median of {ratio[1]} is {_signed(finding.effect or 0)} ({around}); {agree}."


def estimate_text(finding: Finding) -> str:
    """``4.31 percentage points``."""
    if finding.effect is None:
        return "no estimate"
    return f"{_signed(finding.effect)} {finding.unit}".strip()


def interval_text(finding: Finding) -> str:
    """``95 % interval 3.9 to 4.72``; empty where there is no estimate."""
    if finding.effect is None:
        return ""
    if finding.interval is None:
        return "no interval"
    low, high = finding.interval
    return f"{100 * finding.confidence:.4g} % interval {_signed(low)} to {_signed(high)}"


def effect_text(finding: Finding) -> str:
    """Estimate and interval on one line."""
    return ", ".join(part for part in (estimate_text(finding), interval_text(finding)) if part)


def alt_text(figure: RenderedFigure) -> str:
    """A whole sentence for those who do not see the figure: its title and what its caption begins
    with."""
    first = re.split(r"(?<! al)[.:] (?=[A-Z(‖])", figure.caption, maxsplit=1)[0].strip().rstrip(".")
    # A symbol or an abbreviation keeps its capital.
    if first[1:2].islower():
        first = first[0].lower() + first[1:]
    return f"The figure “{figure.title}” shows {first}."


def _signed(value: float) -> str:
    """Four digits, with the sign that a minus should have."""
    return f"{value:.4g}".replace("-", "−")
