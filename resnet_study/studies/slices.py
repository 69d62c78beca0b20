"""A study in slices of some minutes, on machines that share nothing but an archive.

The archive is a tar file with the records of every run, and of those that are not done the newest
checkpoint. A slice takes from it what is further than what lies in the folder, trains on, and
writes it again. Nothing is drawn or judged: that needs no GPU.

On an accelerator the compiled programs travel too (the newest, up to `COMPILED_BYTES`), so that a
bare machine need not compile again and computes with the program that a run was begun with.
"""

from __future__ import annotations

import math
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from resnet_study import files, lease, records, runtime
from resnet_study.datasets import IN_FILES
from resnet_study.errors import UserError
from resnet_study.launch.resources import Pool
from resnet_study.launch.status import how_far
from resnet_study.records import integrity
from resnet_study.studies.find import checked_specs
from resnet_study.studies.run import train_runs
from resnet_study.studies.study import Study
from resnet_study.training.options import Options

COMPILED_BYTES = 32 << 20
RECORDS = ("spec.json", "environment.json", "summary.json", "metrics.parquet", "layers.parquet")


def run_slice(
    study: Study,
    folder: Path,
    archive: Path,
    command: str,
    options: Options,
    pool: Pool,
) -> int:
    """Continue a study until a time, and leave an archive to go on from.

    Args:
        study: the study.
        folder: its results; may be empty, and is not needed again.
        archive: read if it exists, replaced at the end.
        command: command line for ``environment.json``.
        options, pool: as of `run_local`.

    Returns:
        Exit code: 0, 1 if a run failed, 130 if interrupted; the archive is written in each case.
    """
    specs = checked_specs(study, options.source)
    names = [spec.run_id for spec in specs]
    runs = folder / "runs"
    if archive.exists():
        taken = unpack(archive, folder)
        print(f"{archive}: {len(taken)} runs taken from it")
    if not runtime.uses_cpu():
        runtime.keep_programs((folder / "compiled").resolve())
    real = next((spec for spec in specs if spec.data.name in IN_FILES), None)
    if real is not None:
        # Decoded once, here: the workers find it in the cache.
        from resnet_study.data import load_dataset

        load_dataset(real.data, real.seed, options.source)
    outcome = train_runs(study, specs, folder, command, options, pool)
    size = pack(folder, names, archive)
    more = "; the same command with this archive continues" if outcome.expired else ""
    print(f"{how_far(runs, names)}. {archive}: {size / 1e6:.1f} MB{more}.")
    return outcome.code


def pack(folder: Path, run_ids: Sequence[str], archive: Path) -> int:
    """Write what is needed to go on, replacing the archive in one step.

    Args:
        folder: of the study; no worker may be writing to it.
        run_ids: runs that belong in it.
        archive: the tar file.

    Returns:
        Its size in bytes.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    # Uncompressed: weights and parquet files do not shrink further.
    with (
        files.replacing(archive) as file,
        tarfile.open(fileobj=file, mode="w", dereference=True) as tar,
    ):
        for path in _needed(folder, run_ids):
            tar.add(path, str(path.relative_to(folder)))
    return archive.stat().st_size


def unpack(archive: Path, folder: Path) -> list[str]:
    """Take from an archive the runs that are further in it than in the folder.

    So an older archive loses nothing, and archives of several machines can be joined one after
    the other.

    Returns:
        Ids of the runs taken.

    Raises:
        UserError: if the file is no whole archive of a study, or a run that is to be replaced
            is being trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files.restore_folders(folder / "runs")
    taken = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking.") as name:
        fresh = Path(name)
        files.clear_drafts(folder, ["unpacking"], before=fresh.stat().st_mtime - 3600)
        try:
            files.check_regular(archive)
            with tarfile.open(archive) as tar:
                tar.extractall(fresh, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"{archive}: is no whole archive of a study ({error})") from None
        for run in sorted((fresh / "runs").glob("*")):
            target = folder / "runs" / run.name
            if (held := records.read_spec(run / "spec.json").run_id) != run.name:
                raise UserError(f"{archive}: holds {held} as {run.name}; give one that was packed")
            if progress_of(run) <= progress_of(target):
                continue
            if lease.is_held(target):
                raise UserError(f"{target}: is being trained; wait for it or stop it")
            target.parent.mkdir(parents=True, exist_ok=True)
            files.replace_folder(run, target)
            taken.append(run.name)
        for file in (fresh / "compiled").glob("*"):
            (folder / "compiled").mkdir(exist_ok=True)
            file.replace(folder / "compiled" / file.name)
    return taken


def progress_of(run: Path) -> float:
    """Iterations after which a run can be continued; infinite if it is done, −1 without a run.

    One of whose records some were lost counts for nothing.
    """
    if not (run / "spec.json").exists():
        return -1
    if integrity.problem_of(run):
        return 0
    if records.read_summary(run).get("status") in records.DONE:
        return math.inf
    return max(integrity.saved_steps(run / "checkpoints"), default=0)


def _needed(folder: Path, run_ids: Sequence[str]) -> Iterator[Path]:
    for run in (folder / "runs" / run_id for run_id in run_ids):
        if not (run / "spec.json").exists():
            continue
        yield from (run / name for name in RECORDS if (run / name).exists())
        if records.read_summary(run).get("status") not in records.DONE:
            for newest in integrity.saved_steps(run / "checkpoints")[-1:]:
                yield run / "checkpoints" / str(newest)
    size = 0
    compiled = (folder / "compiled").glob("*")
    for file in sorted(compiled, key=lambda path: path.stat().st_mtime, reverse=True):
        size += file.stat().st_size
        if size <= COMPILED_BYTES:
            yield file
