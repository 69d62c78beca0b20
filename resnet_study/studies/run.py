"""A study from its sweeps to its report: run, read, draw, judge, write."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from resnet_study import files, records, runtime
from resnet_study.drawing.render import render
from resnet_study.errors import UserError
from resnet_study.judging.judge import Finding
from resnet_study.judging.printing import print_findings
from resnet_study.launch.local import Outcome, run_local
from resnet_study.launch.resources import Pool
from resnet_study.launch.status import how_far
from resnet_study.phenomena.degradation.table6 import paper_table, paper_table_text
from resnet_study.phenomena.initialization.arms import ARMS, SEEDS, InitializationArm, seeded_arms
from resnet_study.progress import count_progress
from resnet_study.records import integrity
from resnet_study.report import write_report
from resnet_study.studies.find import refuse_options, specs_of
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

    Runs that are not done when the time is up are reported as such.

    Returns:
        Exit code: 0, 1 if a run failed, 130 if interrupted (nothing is drawn then).
    """
    specs = specs_of(study)
    study.check({spec.seed for spec in specs})
    (options or Options()).source.refuse_unused([spec.data.name for spec in specs])
    print(f"{study.title}\n{study.question}")
    if study.cost:
        print(f"Cost: {study.cost}")
    if study.initialization:
        try:
            measure_initialization(folder / "initialization", command)
        except KeyboardInterrupt:
            print("Interrupted: the same command continues.", file=sys.stderr)
            return 130
    outcome = train_runs(study, folder, command, options, pool)
    if outcome.interrupted:
        done = f"{len(outcome.summaries)} of {len(specs)} runs are done"
        print(f"Interrupted: {done}; the same command continues.", file=sys.stderr)
        return 130
    runs = [folder / "runs" / spec.run_id for spec in specs]
    if outcome.failures and not study.initialization and not any(map(_is_done, runs)):
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
    folder: Path,
    command: str,
    options: Options | None = None,
    pool: Pool | None = None,
) -> Outcome:
    """Train the runs of a study that are not done, in its order; failures are printed.

    Raises:
        UserError: as `refuse_options` and `Study.check`.
    """
    refuse_options(study)
    specs = specs_of(study)
    study.check({spec.seed for spec in specs})
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


def measure_initialization(
    folder: Path,
    command: str,
    arms: Sequence[InitializationArm] = ARMS,
    seeds: Sequence[int] = SEEDS,
) -> None:
    """Measure networks at initialisation, arm by arm; those that are there are kept.

    Args:
        folder: gets one parquet file per arm, and ``environment.json``. Files of other arms
            are removed: they are of another version's grid.
        command: command line for ``environment.json``.
        arms, seeds: the grid.
    """
    wanted = {f"{arm.name}.parquet": arm for arm in seeded_arms(arms, seeds)}
    folder.mkdir(parents=True, exist_ok=True)
    present = {file.name for file in folder.glob("*.parquet")}
    for name in present - wanted.keys():
        (folder / name).unlink()
    missing = [name for name in wanted if name not in present]
    if not missing:
        return
    runtime.prepare()
    from resnet_study.environment import describe
    from resnet_study.phenomena.initialization.measuring import measure_arm

    files.write_json(folder / "environment.json", describe(command, "digits"))
    with count_progress("measuring at initialisation", "networks") as progress:
        for done, name in enumerate(missing):
            progress(len(present & wanted.keys()) + done, len(wanted))
            records.write_initialization(folder / name, measure_arm(wanted[name]))


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
