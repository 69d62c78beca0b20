"""The judgement of several claims together; what is claimed is in `resnet_study.phenomena`.

The primary claims of a study share its level whatever set of claims is asked for, so that the same
records give the same verdict everywhere. Holm's procedure is applied to each direction apart: the
probability that any claim which is false is called *reproduced* is at most the level, and likewise
that any which is true is called *not reproduced*. That holds however the claims depend on each
other, and they do: the same runs serve several. All declared claims count, whatever the records
hold of them; claims that are one by algebra (`Claim.fact`) count once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from resnet_study.errors import UserError, shown
from resnet_study.files import read_text, strict
from resnet_study.judging.claim import Claim, Finding, Groups
from resnet_study.judging.measurement import Measurement
from resnet_study.judging.statistics import holm
from resnet_study.judging.verdict import Role, Tally, tally
from resnet_study.records import Frames

__all__ = ["Claim", "Finding", "findings_json", "judge", "read_findings"]


def judge(
    claims: Sequence[Claim],
    frames: Frames,
    primary: Sequence[Claim] = (),
    seeds: Collection[int] = (),
    confidence: float = 0.95,
) -> list[Finding]:
    """Judge claims: those that a study named before share its level, the others are exploratory.

    Args:
        claims: in the order wanted; repetitions are ignored.
        frames: the records.
        primary: the study's own, whether asked for or not.
        seeds: declared for them; none: those that are there.
        confidence: one minus the level of each direction.

    Raises:
        UserError: for a confidence that is none.
    """
    if not 0.5 <= confidence < 1:
        raise UserError(f"confidence={confidence:g}: valid are 0.5 to below 1, such as 0.95")
    family = {claim.name: claim for claim in primary}
    by_name = {claim.name: claim for claim in claims}
    groups = Groups(frames)
    measured = {name: claim.best(frames, groups) for name, claim in (family | by_name).items()}
    found = {
        name: tally(m, seeds if name in family else ())
        for name, m in measured.items()
        if isinstance(m, Measurement)
    }
    facts = {name: claim.fact or name for name, claim in family.items()}
    adjusted = _adjusted(facts, found)
    findings = []
    for name, claim in by_name.items():
        role: Role = "exploratory"
        if name in family:
            role = "sequential" if name in found and found[name].beyond else "primary"
        findings.append(
            claim.conclude(
                measured[name],
                confidence,
                role=role,
                found=found.get(name),
                p_values=adjusted.get(name) if role == "primary" else None,
                family=len(set(facts.values())) if role == "primary" else 1,
            )
        )
    return findings


def _adjusted(
    facts: Mapping[str, str], found: Mapping[str, Tally]
) -> dict[str, tuple[float, float]]:
    """p values of the primary claims after Holm, each direction apart.

    Of claims about one fact the larger p value counts; what was not measured counts as undecided.
    """
    both: list[dict[str, float]] = []
    for direction in (0, 1):
        p_values = dict.fromkeys(facts.values(), 0.0)
        for name, fact in facts.items():
            own = found[name].p_values[direction] if name in found else 1.0
            p_values[fact] = max(p_values[fact], own)
        both.append(holm(p_values))
    return {name: (both[0][fact], both[1][fact]) for name, fact in facts.items()}


def findings_json(findings: Sequence[Finding]) -> str:
    """Strict JSON: a list with one object per finding; what does not exist is null."""
    rows = [strict(vars(finding)) for finding in findings]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_findings(file: Path) -> dict[str, Finding]:
    """The findings that `findings_json` wrote, by claim; none where there is no such file.

    Raises:
        UserError: if the file holds anything else.
    """
    if not file.is_file():
        return {}
    try:
        rows = json.loads(read_text(file))
        for row in rows:
            row["interval"] = None if row["interval"] is None else tuple(row["interval"])
        return {row["claim"]: Finding(**row) for row in rows}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {shown(str(error))}"
        raise UserError(f"{file}: holds no findings ({reason}); restore or remove it") from None
