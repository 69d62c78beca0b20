"""Writes the tables of README.md and docs/ that hold measured numbers, from results/reference.

    python docs/tables.py

A table lies between ``<!-- NAME -->`` and ``<!-- end -->``, NAME a function of `TABLES`. Verdicts
and effects come from `findings.json`, all other numbers from the records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resnet_study.drawing.panels import published_errors
from resnet_study.judging.judge import Finding, read_findings
from resnet_study.judging.selections import final_error
from resnet_study.records import Frames, read_frames
from resnet_study.report.content import error_table, verdict_counts
from resnet_study.report.words import effect_text

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")

GRADIENT_STEPS = (0, 1, 10, 100, 1_000, 10_000, 30_000, 39_680, 64_000)
GRADIENT_NETWORKS = ("plain-56", "plain-110", "residual-56")

_BLOCK = re.compile(r"<!-- (\w+) -->.*?<!-- end -->", re.DOTALL)


def cifar10_errors() -> str:
    """Last errors at full length beside the paper's, percent."""
    frames = _frames("cifar10")
    published = published_errors().set_index(["family", "depth", "split"])["error"]
    ours = pd.concat({split: final_error(frames, split) for split in ("train", "test")})
    rows = []
    networks: Iterable[Any] = ours.groupby(["family", "depth"])
    for (family, depth), runs in networks:
        row = [f"{family}-{depth}"]
        for split in ("train", "test"):
            row.append(f"{runs.loc[split]['error'].mean():.2f}")
            row.append(f"{published.loc[(family, depth, split)]:.2f}")
        rows.append(row)
    return _table(("network", "training", "paper", "test", "paper"), rows)


def quick_errors() -> str:
    """Last errors on digits by depth and family: percent, mean ± standard deviation (n)."""
    table = error_table("", _frames("quick"))
    rows = [[str(depth), *(cell.text for cell in cells)] for depth, cells in table.rows]
    return _table(("depth", *table.columns), rows)


def quick_verdicts() -> str:
    """Claim, verdict, median effect with interval, and the seeds on the claimed side."""
    rows = [
        (f"`{finding.claim}`", f"**{finding.verdict}**", effect_text(finding), finding.n)
        for finding in _findings("quick")
    ]
    return _table(("claim", "verdict", "median effect", "seeds that agree"), rows)


def quick_counts() -> str:
    """How often each verdict was given."""
    return _counts("quick")


def cifar10_counts() -> str:
    """The same."""
    return _counts("cifar10")


def signal_propagation_counts() -> str:
    """The same."""
    return _counts("signal_propagation")


def cifar10_gradients() -> str:
    """log10 of three gradients at layer 2 over the same at the last 3x3 layer."""
    columns = {name: _three_gradients(name) for name in GRADIENT_NETWORKS}
    rows = [
        [f"{step:,}", *(columns[name].get(step, "") for name in GRADIENT_NETWORKS)]
        for step in GRADIENT_STEPS
    ]
    return _table(("iteration", *GRADIENT_NETWORKS), rows)


TABLES = {
    table.__name__: table
    for table in (
        cifar10_errors,
        quick_errors,
        quick_verdicts,
        quick_counts,
        cifar10_counts,
        signal_propagation_counts,
        cifar10_gradients,
    )
}


def filled(text: str) -> str:
    """A page with every table written anew.

    Raises:
        KeyError: if a name is none of `TABLES`.
    """
    return _BLOCK.sub(lambda m: f"<!-- {m[1]} -->\n\n{TABLES[m[1]]()}\n\n<!-- end -->", text)


def _three_gradients(network: str) -> dict[int, str]:
    """``raw / signal / turn`` by recorded step."""
    frames = _frames("cifar10")
    family, depth = network.split("-")
    runs = frames.runs[(frames.runs["family"] == family) & (frames.runs["depth"] == int(depth))]
    layers = frames.layers[frames.layers["run_id"].isin(runs.index)]
    first, last = (
        layers[layers["layer"] == layer].set_index("step") for layer in (2, int(depth) - 1)
    )
    ratios = pd.DataFrame(
        {
            "raw": first["activation_gradient_norm"] / last["activation_gradient_norm"],
            "signal": (first["weight_norm"] * first["weight_gradient_norm"])
            / (last["weight_norm"] * last["weight_gradient_norm"]),
            "turn": first["angular_step"] / last["angular_step"],
        }
    )
    logs = np.log10(ratios.to_numpy(float))
    return {
        int(step): " / ".join(map(_signed, row))
        for step, row in zip(ratios.index, logs.tolist(), strict=True)
    }


def _signed(value: float) -> str:
    """One decimal, with the sign that a minus should have, and none before zero."""
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def _counts(study: str) -> str:
    counts = verdict_counts(_findings(study))
    return ", ".join(f"{count} {verdict}" for verdict, count in counts if count)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---")


@cache
def _frames(study: str) -> Frames:
    return read_frames([REFERENCE / study])


def _findings(study: str) -> list[Finding]:
    return list(read_findings(REFERENCE / study / "findings.json").values())


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
