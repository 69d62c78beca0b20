"""The subcommands ``sweep`` and ``status``: many runs, on this machine or on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from resnet_study.cli.commands import (
    Flat,
    Positional,
    Shared,
    check_count,
    command_line,
    flags_typed,
    in_columns,
    refuse_no_study,
    sync_line,
)
from resnet_study.datasets import DataSource
from resnet_study.errors import UserError
from resnet_study.launch.resources import Pool, SlurmOptions
from resnet_study.names import clock, counted

if TYPE_CHECKING:
    from resnet_study.probes import Probe
    from resnet_study.spec import RunSpec
    from resnet_study.training.options import Options


def sweep(
    file: Annotated[Path, Positional],
    results: Path | None = None,
    dry_run: bool = False,
    retry: bool = False,
    runs: int | None = None,
    seed: int = 0,
    on: Literal["local", "slurm"] = "local",
    *,
    pool: Annotated[Pool, Flat],
    options: Shared,
    slurm: Annotated[SlurmOptions, Flat],
) -> int:
    """Run every point of a sweep file on this machine or as a SLURM job array.

    Finished runs are skipped and unfinished ones resumed, so the same command continues an
    interrupted sweep; several of them on one folder share the work.

    Such as:
    $ resnet-study sweep sweeps/quick.yaml --dry_run
    $ resnet-study sweep sweeps/depth_curves.yaml --on=slurm --gpus=1 --time=12:00:00

    Args:
        file: A grid or random search in wandb's sweep schema, such as sweeps/quick.yaml; or a
            study of your own, such as ./mine.py.
        results: Folder of the study; by default the one in the file's command, else
            results/<name of the file>. What else the command says of every run is done here too.
        dry_run: Only print the table of runs, with an estimate of the time.
        retry: Run those again that failed before.
        runs: How many runs of a random search, or of the start of a grid; at most the
            file's run_cap.
        seed: Of the draws of a random search.
        on: Where to run.
        pool: workers and time, on this machine.
        options: of every run.
        slurm: what is asked of SLURM.
    """
    from resnet_study.launch.command import with_options
    from resnet_study.launch.expand import expand
    from resnet_study.launch.local import run_local
    from resnet_study.launch.status import how_far
    from resnet_study.launch.sweep import load_sweep

    check_count("--runs", runs)
    if on == "local" and (given := slurm.given()):
        raise UserError(f"--{given[0]} is for --on=slurm")
    if on == "slurm" and pool.minutes is not None:
        raise UserError("--minutes is for --on=local; --time limits a SLURM task")
    own: Sequence[Probe] = ()
    if file.suffix == ".py":
        specs, results, own = _runs_of_study(file, results, runs)
    else:
        definition = load_sweep(file)
        specs = expand(definition, seed=seed, runs=runs)
        command = definition.command
        results = results or command.results or Path("results") / file.stem
        options = with_options(options, command.options, flags_typed())
        if command.other is not None:
            print(
                f"Without a command, wandb agent would start {command.other}; these are runs of "
                "resnet-study train."
            )
        if definition.early_terminate:
            print("early_terminate is left to wandb's server: every run goes to its end here.")
    options.source.refuse_unused([spec.data.name for spec in specs])
    if dry_run:
        workers = None if on == "slurm" else pool.workers
        _print_runs(specs, results, workers, options.execution.devices or 1)
        return 0
    if on == "slurm":
        _submit(specs, results, options, slurm, retry, own)
        print(f"Follow them with: resnet-study status {results} --sweep={file}")
        return 0
    outcome = run_local(
        specs, results / "runs", options, pool, command=command_line(), retry=retry, probes=own
    )
    if outcome.expired:
        far = how_far(results / "runs", [spec.run_id for spec in specs])
        print(f"Time is up: {far}; the same command continues.")
    else:
        print(f"{len(outcome.summaries)} of {len(specs)} runs are done: {results / 'runs'}")
    if options.tracking.mode == "offline":
        print(sync_line(results))
    if outcome.failures and not outcome.interrupted:
        print("The same command with --retry runs those again that failed.", file=sys.stderr)
    for line in outcome.lines():
        print(line, file=sys.stderr)
    if outcome.interrupted:
        print("Interrupted; the same command continues.", file=sys.stderr)
    return outcome.code


def _runs_of_study(
    file: Path, results: Path | None, runs: int | None
) -> tuple[list[RunSpec], Path, Sequence[Probe]]:
    """The runs of a study's own file, their folder, and its probes."""
    from resnet_study.studies.find import checked_specs, load_study

    study = load_study(str(file))
    specs = checked_specs(study)[:runs]
    if not specs:
        raise UserError(f"{file}: the study has no sweeps")
    return specs, results or Path("results") / study.name, study.probes


def _submit(
    specs: list[RunSpec],
    results: Path,
    options: Options,
    slurm: SlurmOptions,
    retry: bool,
    own: Sequence[Probe],
) -> None:
    from resnet_study import lease, records
    from resnet_study.launch import queue
    from resnet_study.launch.slurm import submit
    from resnet_study.launch.status import run_states
    from resnet_study.launch.worker import Assignment, packed

    runs, logs = results.resolve() / "runs", results / "slurm"
    logs.mkdir(parents=True, exist_ok=True)
    if options.source.cifar10 is not None:
        # A task starts in another folder.
        options = replace(options, source=DataSource(options.source.cifar10.resolve()))
    # Two commands at once would queue the same.
    with lease.alone(logs):
        states = run_states(runs, [spec.run_id for spec in specs])
        over = (*records.DONE, "running", *(() if retry else ("failed",)))
        left = {run.run_id for run in states if run.state not in over}
        queued = {run for run, task in queue.tasks(logs, left).items() if task.state}
        todo = [spec for spec in specs if spec.run_id in left - queued]
        beside = f"; {len(queued)} are in SLURM's queue already" if queued else ""
        if not todo:
            rest = f"{len(specs) - len(queued)} are done, running or failed before{beside}"
            print(f"Nothing to queue: of {len(specs)} runs {rest}")
            return
        assignment = Assignment(runs, options, command_line(), packed(own))
        job = submit(todo, assignment, slurm, logs)
    print(f"Queued as job {job}: {len(todo)} of {len(specs)} runs, output in {logs}{beside}")


def status(
    results: Annotated[Path, Positional],
    sweep: Path | None = None,
    runs: int | None = None,
    seed: int = 0,
) -> int:
    """Show where every run of a study stands, on whatever machine it runs.

    To do (also after its worker was killed), running, stopped, failed, damaged, finished or
    diverged: read from the run folders. What is to do or stopped goes on from its last checkpoint
    when the sweep is started again; of what was given to SLURM, SLURM is asked.

    Args:
        results: Folder of the study, such as results/quick.
        sweep: The sweep file, or a study of your own, such as ./mine.py; shows runs that nobody
            has started or queued, too.
        runs: As for resnet-study sweep.
        seed: As for resnet-study sweep.
    """
    from resnet_study.launch import queue
    from resnet_study.launch.expand import read_sweep
    from resnet_study.launch.status import STATES, run_states

    if sweep is None:
        if runs is not None or seed:
            raise UserError(f"--{'seed' if runs is None else 'runs'} is of --sweep; name the file")
        refuse_no_study(results)
        studies = sorted(str(runs.parent) for runs in results.glob("*/runs"))
        if studies and not (results / "runs").exists():
            raise UserError(f"{results}: holds studies; give one, such as {studies[0]}")
    ids = None
    if sweep is not None and sweep.suffix == ".py":
        if seed:
            raise UserError("--seed: is of random sweeps; a study's file has its own")
        ids = [spec.run_id for spec in _runs_of_study(sweep, results, runs)[0]]
    elif sweep is not None:
        ids = [spec.run_id for spec in read_sweep(sweep, seed=seed, runs=runs)]
    states = run_states(results / "runs", ids)
    if ids is None:
        begun = {run.run_id for run in states}
        more = [run for run in queue.given(results / "slurm") if run not in begun]
        states += run_states(results / "runs", more)
        if not states:
            above = next((at.parent for at in (results, *results.parents) if at.name == "runs"), "")
            hint = f"give {above}" if above else "give a study folder, such as results/quick"
            raise UserError(f"{results}: has no runs in it; {hint}")
    waiting = {run.run_id for run in states if run.state in ("to do", "stopped")}
    try:
        tasks, unknown = queue.tasks(results / "slurm", waiting), ""
    except UserError as error:
        tasks, unknown = {}, str(error)
    header = ("run id", "state", "iterations", "train %", "test %", "")
    rows = []
    for run in states:
        whole = run.step == run.iterations
        at = (
            ""
            if run.step is None
            else f"{run.step}"
            if whole
            else f"{run.step} of {run.iterations}"
        )
        errors = ("" if error is None else f"{error:.2f}" for error in (run.training, run.test))
        task = tasks.get(run.run_id)
        detail = "; ".join(filter(None, (run.detail, task.words if task else "")))
        rows.append((run.run_id, run.state, at, *errors, detail))
    print(in_columns(header, rows, right=header[2:5]))
    counts = [(state, sum(run.state == state for run in states)) for state in STATES]
    queued = sum(bool(task.state) for task in tasks.values())
    told = ", ".join(f"{n} {state}" for state, n in counts if n)
    print(
        f"{counted(len(states), 'run')}: {told}"
        + (f"; {queued} in SLURM's queue" if queued else "")
    )
    if unknown:
        print(f"{unknown[:1].upper()}{unknown[1:]}")
    return 0


def _print_runs(specs: list[RunSpec], results: Path, workers: int | None, devices: int) -> None:
    from resnet_study import records
    from resnet_study.launch.display import differing
    from resnet_study.launch.estimate import estimate
    from resnet_study.launch.placement import default_workers
    from resnet_study.launch.status import run_states

    points = [spec.flat() for spec in specs]
    varying = differing(specs)
    seconds, source = estimate(specs, results / "runs")
    states = run_states(results / "runs", [spec.run_id for spec in specs])
    rows: list[tuple[str, ...]] = []
    left = []
    for point, run in zip(points, states, strict=True):
        time = clock(seconds[run.run_id]) if seconds else ""
        rows.append((run.run_id, *(str(point[name]) for name in varying), run.state, time))
        if run.state not in records.DONE:
            left.append(seconds.get(run.run_id, 0.0))
    short = [name.rpartition(".")[2] for name in varying]
    print(in_columns(("run id", *short, "state", "time"), rows, right=("time",)))
    count = workers or default_workers(devices)
    total = ""
    if seconds and left:
        total = f"; about {clock(max(sum(left) / count, max(left)))} with {count} at a time"
    print(f"{len(specs)} runs, {len(left)} of them to do{total}\n({source})")
