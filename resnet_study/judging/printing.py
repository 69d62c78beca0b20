"""Findings as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from resnet_study.judging.claim import Finding
from resnet_study.judging.verdict import VERDICTS
from resnet_study.terminal import console_for_tables

MEDIAN = 24
"""Characters of the column of medians, at most."""

SYMBOLS = {"reproduced": "✓", "indicated": "~", "not reproduced": "✗", "undecided": "?"}


def print_findings(findings: Sequence[Finding], details: bool = False) -> None:
    """Table of verdicts, of primary claims and of the others apart, and the names of those that
    have no estimate; with details, each claim's quote, runs, numbers and what would decide."""
    console = console_for_tables(width=100, highlight=False)
    primary = [finding for finding in findings if finding.verdict in VERDICTS]
    others = [finding for finding in findings if finding.verdict not in VERDICTS]
    without = []
    if len(others) > 1 and not details:
        without = [finding.claim for finding in others if finding.effect is None]
        others = [finding for finding in others if finding.effect is not None]
    if primary:
        console.print(_table("Primary claims, named before the runs", primary, console.width))
    if others:
        title = "All other claims" if primary else "Claims"
        console.print(_table(title, others, console.width))
    if without:
        rest = "other claims" if primary or others else "claims"
        console.print(
            f"{len(without)} {rest} stay undecided, without an estimate from these runs (--details "
            f"says what they take): {', '.join(without)}."
        )
    for finding in findings if details else ():
        quote = f"“{finding.quote}” " if finding.quote else ""
        console.print(f"\n{finding.claim}: {finding.verdict}", style="bold")
        console.print(f"{finding.statement}\n{quote}({finding.source})")
        console.print(f"Takes {finding.runs}. {finding.detail}")
        if finding.needed:
            console.print(f"Needed: {finding.needed}.")


def _table(title: str, findings: Sequence[Finding], width: int) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    # A name is typed again: it is not broken where there is room, and its verdict stands below it.
    longest = max(len(finding.claim) for finding in findings)
    table.add_column("claim", overflow="fold", min_width=min(longest, max(12, width - MEDIAN - 7)))
    table.add_column("median over seeds", max_width=MEDIAN)
    for finding in findings:
        verdict = f"{SYMBOLS.get(finding.verdict, '')} {finding.verdict}"
        claim = f"{finding.claim}\n{verdict.strip()}\n{finding.statement}"
        table.add_row(claim, _effect(finding))
    return table


def _effect(finding: Finding) -> str:
    lines = ["–" if finding.effect is None else f"{finding.effect:.3g} {finding.unit}"]
    if finding.interval is not None:
        low, high = finding.interval
        lines.append(f"{low:.3g} to {high:.3g} ({100 * finding.confidence:.1f} %)")
    lines += [finding.n, f"needed: {finding.needed}" if finding.needed else ""]
    return "\n".join(filter(None, lines))
