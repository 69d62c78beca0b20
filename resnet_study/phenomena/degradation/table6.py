"""Test errors on CIFAR-10 beside Table 6 of He et al. 2015 and public reproductions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from resnet_study import reference
from resnet_study.judging import selections
from resnet_study.judging.words import SPREAD_WORDS, spread
from resnet_study.records import Frames, read_environment

ERRORS = ("train_error_last", "test_error_last", "test_error_selected", "test_error_best")
"""Columns of the summaries, in percent, of which seeds have a median."""


def paper_table(frames: Frames) -> pd.DataFrame:
    """A row per network and setting of the paper's family, ended runs only.

    Returns:
        ``network, images`` (their source, such as "CIFAR-10 (JPEG)"), ``iterations, setting, n,
        parameters``, each of `ERRORS` (`selections.SPREAD` by name; None where no run has it),
        ``table6`` (test error; of ResNet-110 the mean of five runs), ``reproductions`` (text).
        Empty where no run of the paper's networks on CIFAR-10 has ended.
    """
    frames = selections.ended(frames)
    frames = frames._replace(runs=frames.runs[selections.papers_networks(frames.runs)])
    published = _table6()
    rows = []
    fields = selections.varying_fields(frames.runs)
    for group in selections.comparable_groups(frames) if len(frames.runs) else []:
        setting = ", ".join(f"{f}={group.runs[f].iloc[0]}" for f in fields)
        for (family, depth), some in group.runs.groupby(["family", "depth"]):
            network = f"{'ResNet' if family == 'residual' else 'plain'}-{depth}"
            row: dict[str, Any] = {
                "network": network,
                "images": _images(some["folder"]),
                "iterations": int(some["schedule.iterations"].iloc[0]),
                "setting": setting,
                "n": len(some),
            }
            row["parameters"] = some["parameters"].iloc[0] if "parameters" in some else None
            for name in ERRORS:
                table = selections.median_over_seeds(
                    some.reindex(columns=["depth", name]), name, ["depth"]
                )
                row[name] = dict(table.iloc[0]) if len(table) else None
            row["table6"] = published.get(network, math.nan)
            row["reproductions"] = _reproductions(network)
            rows.append((family, depth, row))
    ordered = [row for *_, row in sorted(rows, key=lambda r: (r[0], r[1], r[2]["setting"]))]
    return pd.DataFrame(ordered)


def paper_table_text(table: pd.DataFrame) -> str:
    """The table in Markdown."""
    titles = ("training, last", "test, last", "test, selected", "test, best")
    columns = ["network", "images", "iterations", "setting", "parameters", *titles]
    columns += ["Table 6", "reproductions"]
    lines = [
        "# Errors beside the paper and public reproductions",
        "",
        f"Percent, {SPREAD_WORDS}, runs that ended. *Selected*: at the "
        "lowest validation error; *best* is chosen on the test set, hence optimistic. Table 6 of "
        "He et al. 2015 (arXiv 1512.03385) has test errors of one run each, of ResNet-110 the mean "
        "of five; reproductions as their READMEs state them. The paper trained for 64,000 "
        "iterations on the original images, with batch normalisation over the 64 images of each "
        "of two GPUs: compare with that in mind.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    for row in table.to_dict("records"):
        cells = [spread(row[name]) if row[name] else "–" for name in ERRORS]
        paper = "–" if math.isnan(row["table6"]) else f"{row['table6']:.2f}"
        words = (
            row["network"],
            row["images"],
            f"{row['iterations']:,}",
            row["setting"] or "–",
            f"{row['parameters']:,.0f}",
            *cells,
            paper,
            row["reproductions"] or "–",
        )
        lines.append(f"| {' | '.join(words)} |".replace("nan", "–"))
    return "\n".join(lines) + "\n"


def _images(folders: pd.Series) -> str:
    """Where the images came from, as every run's environment says."""
    labels = [read_environment(Path(folder)).get("data", "unknown") for folder in folders]
    return ", ".join(dict.fromkeys(labels))


def _table6() -> dict[str, float]:
    table = reference.table6()
    error = table["mean_percent"].fillna(table["test_error_percent"])
    return {str(network): float(e) for network, e in zip(table["network"], error, strict=True)}


def _reproductions(network: str) -> str:
    table = reference.reproductions()
    parts = []
    for row in table[table["network"] == network].to_dict("records"):
        spread = "" if pd.isna(row["std_percent"]) else f" ± {row['std_percent']:.2f}"
        chosen = row["selection"].replace("-", " ")
        error = f"{row['test_error_percent']:.2f}{spread}"
        parts.append(f"{error} ({row['source']}, n = {row['runs']}, {chosen})")
    return "; ".join(parts)
