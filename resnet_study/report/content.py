"""What the report says, as plain data; the templates only lay it out."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from resnet_study.drawing import panels
from resnet_study.drawing.render import RenderedFigure
from resnet_study.errors import UserError
from resnet_study.judging.claim import in_series
from resnet_study.judging.judge import Finding, read_findings
from resnet_study.judging.selections import (
    final_error,
    median_over_seeds,
    select,
    varying_fields,
)
from resnet_study.judging.verdict import VERDICTS
from resnet_study.judging.words import spread
from resnet_study.names import lasting
from resnet_study.records import INITIALIZATION_FOLDERS, Frames, read_environment
from resnet_study.reference import published_errors
from resnet_study.studies.find import reference_folder
from resnet_study.studies.study import Study

VERDICT_MEANING: Mapping[str, str] = {
    "reproduced": "so many seeds lie on the claimed side that more than half of all seeds must",
    "indicated": "all seeds lie on the claimed side, but they are too few for a verdict",
    "not reproduced": "so many seeds lie on the other side that more than half of all seeds must",
    "undecided": "seeds lie on both sides or on the other, or runs are missing",
    "exploratory": "not among the claims that were named first, so that no error rate is shared; "
    "supported and contradicted stand for reproduced and not reproduced",
    "sequential": "judged with seeds that were added to the declared ones",
}

LARGEST_SVG = 1_500_000
"""Bytes of an SVG up to which the page embeds it; beyond, the PNG."""

ENVIRONMENT_LABELS: Mapping[str, str] = {
    "resnet_study": "resnet-study",
    "device.kind": "device",
    "device.count": "devices",
    "device.platform": "platform",
    "device.cores": "processor cores",
    "git.revision": "git revision",
    "git.dirty": "uncommitted changes",
    "data": "data",
    "command": "command",
    "started": "started (UTC)",
}

SHOWN_VALUES = 6
"""Different values of one environment entry that are printed before the rest is counted."""


@dataclass(frozen=True)
class Cell:
    """An error of the table (`judging.words.spread`) and what is published for it, if anything."""

    text: str
    published: str = ""


@dataclass(frozen=True)
class ErrorTable:
    """The last errors per depth; a table per group of comparable runs."""

    label: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class RunTable:
    """Every run; ``varying`` are the spec fields in which they differ."""

    varying: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Content:
    """Everything that the templates print.

    ``reference`` are the committed findings by claim, ``primary`` those of the study that are
    judged as such, ``everything`` all in series and ``blocks`` those of them that are not primary
    alone, ``explorer`` a page of its own, and ``unexplored`` why there is none.
    """

    study: Study
    findings: Sequence[Finding]
    reference: Mapping[str, Finding]
    counts: tuple[tuple[str, int], ...]
    primary: tuple[Finding, ...]
    everything: tuple[tuple[Finding, ...], ...]
    blocks: tuple[tuple[Finding, ...], ...]
    open_findings: tuple[Finding, ...]
    error_tables: tuple[ErrorTable, ...]
    drawn: tuple[RenderedFigure, ...]
    missing: tuple[RenderedFigure, ...]
    runs: RunTable
    troubled: tuple[dict[str, Any], ...]
    environment: tuple[tuple[str, tuple[str, ...]], ...]
    warnings: tuple[str, ...]
    subject: str
    explorer: str
    unexplored: str


def collect(
    study: Study,
    frames: Frames,
    findings: Sequence[Finding],
    figures: Sequence[RenderedFigure],
    folder: Path,
) -> Content:
    """Gather the content of a report; `folder` is that of the study."""
    frames = panels.with_status(select(frames, frames.runs.index))
    runs = run_table(frames)
    explorer, unexplored = _explorer(study.name, frames)
    primary = tuple(f for f in findings if f.verdict in VERDICTS)
    everything = tuple(in_series(findings))
    environments = [_environment(Path(folder)) for folder in frames.runs["folder"]]
    if len(frames.initialization):
        places = [folder / name for name in INITIALIZATION_FOLDERS]
        environments.append(next((e for p in places if (e := _environment(p))), {}))
    return Content(
        study=study,
        findings=findings,
        reference=reference_findings(study, folder),
        counts=verdict_counts(findings),
        primary=primary,
        everything=everything,
        blocks=tuple(block for block in everything if any(f not in primary for f in block)),
        open_findings=tuple(f for f in findings if f.verdict in ("not reproduced", "undecided")),
        error_tables=tuple(
            error_table(label, group)
            for label, group in panels.labelled_groups(frames)
            if len(group.runs)
        ),
        drawn=tuple(f for f in figures if f.png is not None),
        missing=tuple(f for f in figures if f.png is None),
        runs=runs,
        troubled=tuple(row for row in runs.rows if row["status"] != "finished"),
        environment=environment_entries(environments),
        warnings=provenance_warnings(environments),
        subject=subject(frames),
        explorer=explorer,
        unexplored=unexplored,
    )


def _explorer(name: str, frames: Frames) -> tuple[str, str]:
    """The explorer's page, or the reason why there is none."""
    from resnet_study.report.explorer import explorer_page

    try:
        return explorer_page(name, frames), ""
    except UserError as error:
        return "", str(error)


def reference_findings(study: Study, folder: Path) -> Mapping[str, Finding]:
    """What is committed of a study, to stand beside; nothing beside these results themselves."""
    committed = reference_folder(study.name)
    if folder.resolve() == committed.resolve():
        return {}
    return read_findings(committed / "findings.json")


def verdict_counts(findings: Sequence[Finding]) -> tuple[tuple[str, int], ...]:
    """How often each verdict of a primary claim fell, then those of others that did."""
    others = sorted({f.verdict for f in findings} - set(VERDICTS))
    return tuple((v, sum(f.verdict == v for f in findings)) for v in (*VERDICTS, *others))


def subject(frames: Frames) -> str:
    """``32 runs on digits``, or how many networks were measured at initialisation."""
    parts = []
    if count := len(frames.runs):
        data = ", ".join(sorted(frames.runs["data.name"].unique()))
        parts.append(f"{count} run{'' if count == 1 else 's'} on {data}")
    if len(frames.initialization):
        networks = frames.initialization.drop(columns=["quantity", "index", "stage", "value"])
        parts.append(f"{len(networks.drop_duplicates())} networks at initialisation")
    return ", ".join(parts)


def error_table(label: str, frames: Frames) -> ErrorTable:
    """Last training and test errors per depth and family, with published ones for CIFAR-10.

    Training error is that of the mini-batches as trained; diverged runs count as in `final_error`.
    """
    families = panels.families_in(frames.runs)
    columns = tuple((family, split) for family in families for split in ("train", "test"))
    by = ["family", "depth"]
    medians = {
        split: median_over_seeds(final_error(frames, split), "error", by).set_index(by)
        for split in ("train", "test")
    }
    published = published_errors() if panels.beside_the_paper(frames) else pd.DataFrame()
    rows = []
    for depth in sorted(int(d) for d in frames.runs["depth"].unique()):
        cells = []
        for family, split in columns:
            row = medians[split].reindex([(family, depth)]).iloc[0]
            text = "–" if math.isnan(row["median"]) else spread(row)
            cells.append(Cell(text, _published(published, family, depth, split)))
        rows.append((depth, tuple(cells)))
    names = {"train": "training", "test": "test"}
    return ErrorTable(label, tuple(f"{f}, {names[s]}" for f, s in columns), tuple(rows))


def run_table(frames: Frames) -> RunTable:
    """A row per run: network, seed, what varies, status, errors, time, and trouble if any."""
    varying = varying_fields(frames.runs)
    rows = []
    for run_id, run in frames.runs.sort_values(["family", "depth", "seed"]).iterrows():
        row = {
            "id": str(run_id),
            "network": f"{run['family']}-{run['depth']}",
            "seed": int(run["seed"]),
            "varying": tuple(f"{run[f]:g}" if _is_float(run[f]) else str(run[f]) for f in varying),
            "status": str(run["status"]),
            "wall": lasting(_number(run.get("wall_seconds"))),
            "trouble": _trouble(run),
        }
        for name in ("train_error_last", "test_error_last", "test_error_best"):
            row[name] = percent(_number(run.get(name)))
        row["test_error_selected"] = percent(_number(run.get("test_error_selected")))
        rows.append(row)
    return RunTable(tuple(varying), tuple(rows))


def environment_entries(
    environments: Sequence[Mapping[str, Any]],
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Every entry of the runs' ``environment.json`` with its different values.

    Each value is followed by the number of runs that it holds for where they differ.
    """
    found: dict[str, dict[str, int]] = {}
    for environment in environments:
        for name, value in _flatten(environment):
            counts = found.setdefault(name, {})
            counts[value] = counts.get(value, 0) + 1
    entries = []
    for name, counts in found.items():
        values = sorted(counts)
        if name == "started" and len(values) > 1:
            shown = [f"{values[0]} to {values[-1]}"]
        elif len(values) == 1 and counts[values[0]] == len(environments):
            shown = values
        else:
            shown = [
                f"{v} ({counts[v]} run{'s' if counts[v] > 1 else ''})"
                for v in values[:SHOWN_VALUES]
            ]
            rest = len(values) - SHOWN_VALUES
            shown += [f"and {rest} more"] if rest > 0 else []
        entries.append((ENVIRONMENT_LABELS.get(name, name.removeprefix("packages.")), tuple(shown)))
    return tuple(entries)


def provenance_warnings(environments: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What weakens the provenance: uncommitted changes, several revisions, no record."""
    warnings = []
    total = len(environments)
    dirty = sum(bool(_section(e, "git").get("dirty")) for e in environments)
    if dirty:
        warnings.append(
            f"{dirty} of {total} runs were made with uncommitted changes: their git revision "
            "does not describe the code completely."
        )
    revisions = {_section(e, "git").get("revision") for e in environments} - {None}
    if len(revisions) > 1:
        warnings.append(f"The runs were made with {len(revisions)} different git revisions.")
    absent = sum(not e for e in environments)
    if absent:
        warnings.append(f"{absent} of {total} runs have no readable environment.json.")
    return tuple(warnings)


def percent(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "–" if value is None else f"{value:.2f}"


def data_uri(figure: RenderedFigure) -> str:
    """The image itself, to be put into the page: SVG, or PNG where that is too large."""
    assert figure.png is not None
    assert figure.svg is not None
    svg = figure.svg.stat().st_size <= LARGEST_SVG
    content = (figure.svg if svg else figure.png).read_bytes()
    kind = "image/svg+xml" if svg else "image/png"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _published(table: pd.DataFrame, family: str, depth: int, split: str) -> str:
    if table.empty:
        return ""
    rows = table[(table.family == family) & (table.depth == depth) & (table.split == split)]
    if rows.empty:
        return ""
    error = rows["error"].iloc[0]
    return f">{error:g}" if rows["bound"].iloc[0] else f"{error:.2f}"


def _trouble(run: pd.Series) -> str:
    """What is known about a run that did not finish."""
    parts = []
    step = _number(run.get("diverged_at"))
    if step is not None:
        parts.append(f"at iteration {step:.0f}")
    taken = _number(run.get("step"))
    if taken is not None:
        parts.append(f"after {taken:.0f} iterations")
    reason = run.get("reason")
    if isinstance(reason, str):
        parts.append(reason)
    return ", ".join(parts)


def _environment(folder: Path) -> dict[str, Any]:
    """The environment of a run; empty if it cannot be read, which the report then says."""
    try:
        return read_environment(folder)
    except UserError:
        return {}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    entries: list[tuple[str, str]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            entries += _flatten(value, f"{prefix}{name}.")
        elif name == "previous":
            entries += [("resumed", f"{len(value)} times")] if value else []
        else:
            shown = {True: "yes", False: "no"}.get(value) if isinstance(value, bool) else value
            entries.append((f"{prefix}{name}", str(shown)))
    return entries


def _section(environment: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = environment.get(name)
    return section if isinstance(section, Mapping) else {}


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _is_float(value: Any) -> bool:
    return isinstance(value, float)
