"""Sentences and numbers of the report, from findings and figures."""

from __future__ import annotations

import numbers
import re
from collections.abc import Sequence

from resnet_study.drawing.render import RenderedFigure
from resnet_study.judging.judge import Finding


def question_text(finding: Finding) -> str:
    """The statement, without the networks that would have stood in for one that is there."""
    return _without_stand_ins(finding, finding.statement)


def common_text(block: Sequence[Finding]) -> str:
    """The same of a series."""
    judged = next((finding for finding in block if finding.effect is not None), block[0])
    return _without_stand_ins(judged, judged.common)


def _without_stand_ins(finding: Finding, statement: str) -> str:
    judged = {int(v) for v in finding.numbers.values() if isinstance(v, numbers.Integral)}

    def shorter(match: re.Match[str]) -> str:
        return match[1] if int(match[2]) in judged else match[0]

    return re.sub(r"((\d+)(?: layers)?) \(without it: [^)]*\)", shorter, statement)


def answer_text(finding: Finding) -> str:
    """What was found, the median, in plain words, and the seeds in which the claim holds."""
    if finding.effect is None:
        return "There is no estimate."
    if not finding.answer:
        return f"The median effect is {estimate_text(finding)}; the claim holds in {finding.n}."
    medians = "" if " 1 seed" in finding.n else "Medians; "
    return f"{finding.answer} ({medians}the claim holds in {finding.n}.)"


def level_text(finding: Finding) -> str:
    """What the level of the interval is; empty where there is no interval."""
    if finding.interval is None:
        return ""
    return (
        "The limits are the effects of two of the seeds. Such limits hold the true median with a "
        f"probability of {100 * finding.confidence:.4g} % or more, whatever the distribution; "
        "fewer seeds allow fewer levels."
    )


def estimate_text(finding: Finding) -> str:
    """``4.31 percentage points``."""
    if finding.effect is None:
        return "no estimate"
    return f"{_signed(finding.effect)} {finding.unit}".strip()


def cell_text(finding: Finding) -> tuple[str, str]:
    """Estimate and interval for the cell of a table, the unit being said elsewhere."""
    if finding.effect is None:
        return "–", ""
    if finding.interval is None:
        return _signed(finding.effect, 3), ""
    low, high = (_signed(limit, 3) for limit in finding.interval)
    return _signed(finding.effect, 3), f"{low} to {high} ({100 * finding.confidence:.1f} %)"


def unit_text(block: Sequence[Finding]) -> str:
    """The unit of a series of findings; empty where there is no estimate."""
    return " and ".join(sorted({finding.unit for finding in block if finding.unit}))


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


def _signed(value: float, digits: int = 4) -> str:
    """So many digits, with the sign that a minus should have."""
    return f"{value:.{digits}g}".replace("-", "−")
