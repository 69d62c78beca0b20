"""A study from its sweeps to its report: run, read, draw, judge, write."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from resnet_study import files, records
from resnet_study.drawing.render import render
from resnet_study.errors import UserError
from resnet_study.judging.judge import Finding
from resnet_study.judging.printing import print_findings
from resnet_study.launch.local import Outcome, run_local
from resnet_study.launch.resources import Pool
from resnet_study.launch.status import how_far
from resnet_study.phenomena.degradation.table6 import paper_table, paper_table_text
from resnet_study.phenomena.initialization.recording import record_initialization
from resnet_study.records import integrity
from resnet_study.report import write_report
from resnet_study.spec import RunSpec
from resnet_study.studies.find import checked_specs
from resnet_study.studies.study import Study
from resnet_study.training.options import Options


def run_study(
    study: Study,
    folder: Path,
    command: str,
    options: Options | None = None,
    pool: Pool | None = None,
) -> int:
    """Train what is missing, then write figures, findings and report into the folder.

    Runs that are not done when the time is up are reported as such. Nothing is drawn where none has
    begun, where all failed, and after an interrupt.

    Returns:
        Exit code: 0, 1 if a run failed, 130 if interrupted.

    Raises:
        UserError: as `checked_specs`.
    """
    options = options or Options()
    specs = checked_specs(study, options.source)
    print(f"{study.title}\n{study.question}")
    if study.cost:
        print(f"Cost: {study.cost}")
    if study.initialization:
        try:
            place = folder / "initialization"
            record_initialization(place, command, study.initialization, study.measured_seeds)
        except KeyboardInterrupt:
            print("Interrupted: the same command continues.", file=sys.stderr)
            return 130
    outcome = train_runs(study, specs, folder, command, options, pool)
    if outcome.interrupted:
        done = f"{len(outcome.summaries)} of {len(specs)} runs are done"
        print(f"Interrupted: {done}; the same command continues.", file=sys.stderr)
        return 130
    runs = [folder / "runs" / spec.run_id for spec in specs]
    if outcome.code and not study.initialization and not any(map(_is_done, runs)):
        return outcome.code  # there is nothing to judge, and why is told
    if outcome.expired:
        far = how_far(folder / "runs", [run.name for run in runs])
        print(f"Time is up: {far}; the same command continues.")
        if not any((run / "spec.json").exists() for run in runs) and not study.initialization:
            return outcome.code
    print_findings(write_study(study, folder, runs))
    for name in ("report.html", "findings.md", "figures"):
        print(folder / name)
    return outcome.code


def _is_done(run: Path) -> bool:
    return records.read_summary(run).get("status") in records.DONE


def train_runs(
    study: Study,
    specs: Sequence[RunSpec],
    folder: Path,
    command: str,
    options: Options,
    pool: Pool | None,
) -> Outcome:
    """Train the runs of a study (`checked_specs`) that are not done; failures are printed."""
    outcome = run_local(
        specs,
        folder / "runs",
        options,
        pool,
        command=command,
        in_order=study.order != "longest",
        probes=study.probes,
    )
    for line in outcome.lines():
        print(line, file=sys.stderr)
    return outcome


def write_study(study: Study, folder: Path, runs: Sequence[Path]) -> list[Finding]:
    """Figures, findings and report from recorded runs alone.

    Raises:
        UserError: if none of the runs was recorded.
    """
    recorded = [run for run in runs if (run / "spec.json").exists() or integrity.problem_of(run)]
    if study.initialization:
        places = [folder / name for name in records.INITIALIZATION_FOLDERS]
        recorded += [place for place in places if place.is_dir()]
    if not recorded:
        raise UserError(f"{folder}: no run of the study {study.name} is recorded")
    frames = records.read_frames(recorded)
    figures = render(study.figures, frames, folder / "figures")
    findings = study.judge(frames)
    write_report(study, frames, findings, figures, folder)
    table = paper_table(frames)
    if len(table):
        files.write_atomically(folder / "table6.md", paper_table_text(table))
    return findings
