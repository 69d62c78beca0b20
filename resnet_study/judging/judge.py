"""The judgement of several claims together; what is claimed is in `resnet_study.phenomena`.

*Several claims together.* `judge` makes their intervals simultaneous: with m claims that have
two seeds per arm, each is formed at level 1 − (1 − confidence)/m (Bonferroni), so that the
probability of any wrong verdict among them is at most 1 − confidence. That holds however the
claims depend on each other, and they do: the same runs serve several, and "healthy" and
"vanished" ask about one ratio. m counts what could be decided, which depends on the runs there
are and never on their numbers. The price is width, above all with two seeds; a study that asks
fewer claims pays less, and names them beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resnet_study.errors import UserError
from resnet_study.judging.claim import Claim, Finding, Verdict, smaller_arm
from resnet_study.judging.measurement import Measurement
from resnet_study.judging.words import plain
from resnet_study.records import Frames

__all__ = ["Claim", "Finding", "Verdict", "findings_json", "judge", "read_findings"]


def judge(claims: Sequence[Claim], frames: Frames, confidence: float = 0.95) -> list[Finding]:
    """Judge several claims with simultaneous intervals (see the module).

    Args:
        claims: in the order wanted; repetitions are ignored.
        frames: the records.
        confidence: joint level of all intervals together.

    Raises:
        UserError: for a confidence that is none.
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence={confidence:g}: a level lies between 0 and 1, such as 0.95")
    by_name = {claim.name: claim for claim in claims}
    measured = {name: claim.best(frames) for name, claim in by_name.items()}
    # Counted by what could be decided, which depends on the runs and not on their numbers.
    together = sum(isinstance(m, Measurement) and smaller_arm(m) >= 2 for m in measured.values())
    level = 1 - (1 - confidence) / max(1, together)
    note = (
        f" The interval is at {100 * level:.2f} %, for {100 * confidence:g} % over all "
        f"{together} claims together (Bonferroni)."
    )
    findings = [by_name[name].conclude(m, level) for name, m in measured.items()]
    return [
        replace(f, detail=f.detail + note) if together > 1 and f.interval is not None else f
        for f in findings
    ]


def findings_json(findings: Sequence[Finding]) -> str:
    """Strict JSON: a list with one object per finding; what does not exist is null."""
    rows = [plain(vars(finding)) for finding in findings]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_findings(file: Path) -> dict[str, Finding]:
    """The findings that `findings_json` wrote, by claim; none where there is no such file."""
    if not file.is_file():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))
    for row in rows:
        for name in ("interval", "bootstrap"):
            row[name] = None if row[name] is None else tuple(row[name])
    return {row["claim"]: Finding(**row) for row in rows}
