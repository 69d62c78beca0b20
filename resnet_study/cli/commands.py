"""The subcommands. Their signatures are the flags, their docstrings the help.

What takes long to import is imported by the subcommand that needs it: help and mistakes show at
once, and jax is there only for what trains.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnet_study import kernels as native_kernels
from resnet_study.datasets import IN_FILES, DatasetName, DataSource
from resnet_study.errors import UserError
from resnet_study.launch.agent import check_point
from resnet_study.launch.resources import Pool
from resnet_study.spec import RunSpec
from resnet_study.tracking.tracker import ALL_RECORDS, make_tracker, under_agent
from resnet_study.training.options import Host, Options, StopFlag

if TYPE_CHECKING:
    from rich.console import Console

    from resnet_study.data import Dataset
    from resnet_study.records import Frames

Positional = tyro.conf.Positional
StudyName = Annotated[str, Positional, tyro.conf.arg(metavar="STUDY")]
Runs = Annotated[list[Path], Positional, tyro.conf.arg(help_behavior_hint="(one or more)")]
Flat = tyro.conf.arg(name="")
Shared = Annotated[Options, Flat, tyro.conf.OmitArgPrefixes]
"""The flags of every command that trains."""


def command_line() -> str:
    """What the user typed, with the program's name in place of its path."""
    return shlex.join(["resnet-study", *sys.argv[1:]])


def flags_typed() -> set[str]:
    """Names of the flags that the user typed."""
    words = (word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--"))
    return {word[2:].replace("-", "_") for word in words}


def train(
    spec: Annotated[RunSpec, Flat, tyro.conf.FlagConversionOff],
    results: Path = Path("results/train"),
    distributed: bool = False,
    *,
    options: Shared,
) -> int:
    """Train one network and record every layer.

    Writes RESULTS/runs/<run id>/. A run that was interrupted or killed continues from its
    last checkpoint when the same command is given again; a finished one is only reported.

    Such as:
    $ resnet-study train --model.depth=56 --model.residual=false
    $ resnet-study train --data.name=cifar10 --cifar10=PATH --schedule.iterations=30ep

    Args:
        spec: the run.
        results: Folder of the study.
        distributed: This process is one of several that train the run on the devices of all
            (see docs/gpu.md); the first one writes the records.
        options: what is no part of the spec.
    """
    from resnet_study import runtime

    if under_agent():
        check_point(spec)
    runtime.prepare()
    from resnet_study import records
    from resnet_study.progress import run_progress
    from resnet_study.training import devices
    from resnet_study.training.loop import train as train_run

    if distributed:
        devices.join_processes()
    options.source.refuse_unused([spec.data.name])
    folder = results / "runs" / spec.run_id
    dataset = _load(spec, options.source)
    if distributed and not devices.is_main():
        with StopFlag().listening(signal.SIGINT, signal.SIGTERM) as stop:
            summary = train_run(spec, dataset, folder, options, Host(stop=stop))
        return 130 if summary["status"] == "stopped" else 0
    print(f"{spec.run_id} ({dataset.source}, {len(dataset.train)} training images)")
    tracker = make_tracker(options.tracking, lambda line: print(line, file=sys.stderr))
    finished_before = records.read_summary(folder).get("status") in records.DONE
    with StopFlag().listening(signal.SIGINT, signal.SIGTERM) as stop, closing(tracker):
        with run_progress() as report:
            host = Host(command_line(), tracker, stop, report)
            summary = train_run(spec, dataset, folder, options, host)
        if finished_before and under_agent():
            # wandb's server asked for a run that is there: let it know the result.
            recorded = records.read_environment(folder)
            tracker.start(spec, folder, recorded, ALL_RECORDS)
            tracker.finish(summary)
    print(_summary_line(summary))
    print(folder)
    if options.tracking.mode == "offline":
        print(sync_line(results))
    if summary["status"] == "stopped":
        print("Stopped with a checkpoint; the same command continues.")
        return 130
    return 0


def reproduce(
    study: StudyName,
    results: Path = Path("results"),
    *,
    pool: Annotated[Pool, Flat],
    options: Shared,
) -> int:
    """Run a study from its sweeps to its report: one of experiments/, or a file of your own.

    Interrupted, it continues where it was when the same command is given again. Ends with
    figures, findings.md and report.html in RESULTS/<study>/, and prints the verdicts; when the
    time is up before, on what there is.

    Args:
        study: Name of a module in experiments/, such as quick, or a file, such as ./mine.py.
        results: Folder of all studies.
        pool: workers and time.
        options: of every run.
    """
    from resnet_study.studies.find import load_study
    from resnet_study.studies.run import run_study

    chosen = load_study(study)
    folder = results / chosen.name
    code = run_study(chosen, folder, command_line(), options, pool)
    if options.tracking.mode != "off" and code != 130:
        from resnet_study.cli.mirroring import send_explorer

        if problem := send_explorer(folder, options.tracking):
            print(f"wandb has no explorer of this study: {problem}", file=sys.stderr)
    return code


def data(
    name: Annotated[DatasetName, Positional] = "cifar10",
    subset: bool = False,
    *,
    source: Annotated[DataSource, Flat],
) -> int:
    """Check a data set; fetch CIFAR-10 if it is nowhere to be found.

    CIFAR-10 and CIFAR-100 are read from (1) the official Python or (2) binary archive, (3) images
    train/<class>/* and test/<class>/* (png, jpg, webp, bmp), (4) Hugging Face's parquet files or
    (5) Kaggle's images with labelled test images; each a folder, or a tar (gz, xz, bz2) or zip.
    All is known by its content (docs/data.md): images that are not all there, or not the
    original's, are refused or named. They are looked for at --cifar10 (which serves both), then at
    the environment variable RESNET_STUDY_CIFAR10, then in data/, then in the cache. If there is no
    CIFAR-10, the official Python archive is downloaded to the cache (163 MiB), resumed if broken
    off, and checked.

    Args:
        name: The data set.
        subset: Accept fewer images than the data set has, as a run with --data.subset=true does.
        source: where it is.
    """
    from resnet_study.data import load_dataset
    from resnet_study.data.cifar10 import is_available
    from resnet_study.data.download import download_cifar10
    from resnet_study.progress import count_progress
    from resnet_study.runtime import cache_folder
    from resnet_study.spec import DataSpec

    source.refuse_unused([name])
    if subset and name not in IN_FILES:
        raise UserError(f"--subset: {name} needs no files; leave it out")
    if name == "cifar10" and source.cifar10 is None and not is_available():
        with count_progress("downloading", "B") as progress:
            source = DataSource(download_cifar10(cache_folder(), progress=progress))
    spec = DataSpec(name=name, subset=subset, batch_size=1)
    with count_progress("decoding", "images") as progress:
        dataset = load_dataset(spec, 0, source, progress)
    height, width, channels = dataset.train.images.shape[1:]
    print(
        f"{dataset.source}: {len(dataset.train)} training, {len(dataset.val)} validation and "
        f"{len(dataset.test)} test images of {height}x{width}x{channels}, "
        f"{dataset.classes} classes"
    )
    for split, digest in dataset.digest.items():
        print(f"{split}: {digest}")
    return 0


def doctor() -> int:
    """Show devices, versions, data and settings: what a run would use here."""
    from rich.table import Table

    from resnet_study import runtime

    settings = runtime.prepare()
    from resnet_study.data.cifar10 import find_cifar10
    from resnet_study.environment import describe

    environment = describe("resnet-study doctor", "")
    device, git = environment["device"], environment["git"]
    try:
        cifar10 = str(find_cifar10())
    except UserError as error:
        cifar10 = str(error)
    rows = [
        ("resnet-study", environment["resnet_study"]),
        ("revision", f"{git['revision'][:12]}{' (modified)' if git['dirty'] else ''}")
        if git
        else ("revision", "not a git checkout"),
        ("Python", environment["python"]),
        ("system", environment["system"]),
        ("device", f"{device['count']} x {device['kind']} ({device['platform']})"),
        ("cores", str(device["cores"])),
        ("kernels", native_kernels.summary()),
        *environment["packages"].items(),
        *((name.replace("_", " "), value) for name, value in settings.items()),
        ("cache", str(runtime.cache_folder())),
        ("digits", "bundled with scikit-learn"),
        ("CIFAR-10", cifar10),
    ]
    table = Table(show_header=False, box=None)
    for left, right in rows:
        table.add_row(left, right)
    console_for_tables().print(table)
    return 0


def _load(spec: RunSpec, source: DataSource) -> Dataset:
    from resnet_study.data import load_dataset
    from resnet_study.progress import count_progress

    with count_progress("decoding", "images") as progress:
        return load_dataset(spec.data, spec.seed, source, progress)


def frames_in(runs: list[Path]) -> Frames:
    """The records in study or run folders, of which at least one is named."""
    from resnet_study.records import read_frames

    refuse_nothing(runs)
    return read_frames(runs)


def refuse_nothing(runs: list[Path]) -> None:
    """Where no folder is named."""
    if not runs:
        raise UserError(
            "name at least one study folder (results/quick) or run folder, before flags that take "
            "several values"
        )


def refuse_no_study(folder: Path) -> None:
    """Where there is no folder."""
    if not folder.is_dir():
        what = "is a file, no folder" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {what}; give a study such as results/quick")


def _summary_line(summary: dict) -> str:
    errors = [
        f"{label} {summary[key]:.2f} %"
        for label, key in (
            ("training error", "train_error_last"),
            ("test error: last", "test_error_last"),
            ("validation-selected", "test_error_selected"),
            ("best", "test_error_best"),
        )
        if summary.get(key) is not None
    ]
    rate = summary.get("images_per_second")
    speed = f"; {rate:.0f} images/s" if rate else ""
    return f"{summary['status']}: {', '.join(errors) or 'no error recorded'}{speed}"


def check_count(flag: str, count: int | None) -> None:
    """Refuse a number below 1 of a flag that counts."""
    if count is not None and count < 1:
        raise UserError(f"{flag}={count}: at least 1 is needed")


def sync_line(results: Path) -> str:
    """How to send what was mirrored offline."""
    folder = os.environ.get("WANDB_DIR") or results
    return f"Send it to wandb with: wandb sync {shlex.quote(str(folder))}/wandb/offline-run-*"


def in_columns(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> str:
    """Rows under their header, the columns named in `right` flush right; empty ones are left out.

    For tables of a row per run: rich takes a millisecond for each.
    """
    columns = [column for column in zip(header, *rows, strict=True) if any(column[1:]) or not rows]
    padded = [
        [cell.rjust(width) if column[0] in right else cell.ljust(width) for cell in column]
        for column, width in ((column, max(map(len, column))) for column in columns)
    ]
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def console_for_tables() -> Console:
    """As `resnet_study.terminal.console_for_tables`, imported when there is a table."""
    from resnet_study import terminal

    return terminal.console_for_tables()
