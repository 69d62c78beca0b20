"""Findings as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from resnet_study.judging.claim import Finding, in_series
from resnet_study.judging.verdict import VERDICTS
from resnet_study.terminal import console_for_tables

MEDIAN = 24
"""Characters of the column of medians, at most."""

SYMBOLS = {
    "reproduced": "✓",
    "supported": "✓",
    "indicated": "~",
    "not reproduced": "✗",
    "contradicted": "✗",
    "undecided": "?",
}


def print_findings(findings: Sequence[Finding], details: bool = False) -> None:
    """Table of verdicts, of primary claims and of the others apart, those of a series side by side,
    and the names of those that have no estimate; with details, each claim's quote, runs, numbers
    and what would decide."""
    console = console_for_tables(width=100, highlight=False)
    primary = [finding for finding in findings if finding.verdict in VERDICTS]
    blocks = [block for block in in_series(findings) if any(f not in primary for f in block)]
    without = []
    if len(blocks) > 1 and not details:
        bare = [block for block in blocks if all(finding.effect is None for finding in block)]
        blocks = [block for block in blocks if block not in bare]
        without = [finding for block in bare for finding in block if finding not in primary]
    others = [block[0] for block in blocks if len(block) == 1]
    if primary:
        console.print(_table("Primary claims, named before the runs", primary, console.width))
    if others:
        title = "All other claims" if primary else "Claims"
        console.print(_table(title, others, console.width))
    for block in blocks:
        if len(block) > 1:
            console.print(_series(block))
    if without:
        other = "other " if primary or blocks else ""
        stay = "claim stays" if len(without) == 1 else "claims stay"
        console.print(
            f"{len(without)} {other}{stay} undecided, without an estimate from these runs "
            f"(--details says what they take): {', '.join(finding.claim for finding in without)}."
        )
    for finding in findings if details else ():
        quote = f"“{finding.quote}” " if finding.quote else ""
        console.print(f"\n{finding.claim}: {finding.verdict}", style="bold")
        console.print(f"{finding.statement}\n{quote}({finding.source})")
        console.print(f"Takes {finding.runs}. {finding.detail}")
        if finding.needed:
            console.print(f"Needed: {finding.needed}.")


def _series(block: Sequence[Finding]) -> Table:
    """A column per claim: verdict, median over seeds, its interval, seeds on the claimed side."""
    units = sorted({finding.unit for finding in block if finding.unit})
    median = f", median in {' and '.join(units)}" if units else ""
    title = f"Exploratory: {block[0].series}_…{median}\n{block[0].common}"
    table = Table(title=title, title_justify="left")
    for finding in block:
        table.add_column(f"… {finding.member}", ratio=1, overflow="fold")
    table.add_row(*(_member_verdict(finding) for finding in block))
    table.add_row(*("–" if f.effect is None else f"{f.effect:.3g}" for f in block))
    if any(finding.interval for finding in block):
        table.add_row(*(_interval(finding) for finding in block))
    table.add_row(*(finding.n for finding in block))
    return table


def _table(title: str, findings: Sequence[Finding], width: int) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    # A name is typed again: it is not broken where there is room, and its verdict stands below it.
    longest = max(len(finding.claim) for finding in findings)
    table.add_column("claim", overflow="fold", min_width=min(longest, max(12, width - MEDIAN - 7)))
    table.add_column("median, its interval, seeds", max_width=MEDIAN)
    for finding in findings:
        claim = f"{finding.claim}\n{_verdict(finding)}\n{finding.statement}"
        table.add_row(claim, _effect(finding))
    return table


def _verdict(finding: Finding) -> str:
    return f"{SYMBOLS[finding.verdict.rpartition(': ')[2]]} {finding.verdict}"


def _member_verdict(finding: Finding) -> str:
    role, _, word = finding.verdict.rpartition(": ")
    told = {"": " (primary)", "exploratory": ""}.get(role, f" ({role})")
    return f"{SYMBOLS[word]} {word}{told}"


def _interval(finding: Finding) -> str:
    if finding.interval is None:
        return ""
    low, high = finding.interval
    return f"{low:.3g} to {high:.3g} ({100 * finding.confidence:.1f} %)"


def _effect(finding: Finding) -> str:
    estimate = "–" if finding.effect is None else f"{finding.effect:.3g} {finding.unit}"
    required = f"needed: {finding.needed}" if finding.needed else ""
    return "\n".join(filter(None, (estimate, _interval(finding), finding.n, required)))
