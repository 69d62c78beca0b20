"""Records of a study made small enough to commit; all that is drawn and judged regenerates."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from resnet_study import files, lease, records
from resnet_study.errors import UserError
from resnet_study.names import counted
from resnet_study.records import Run, copies_of
from resnet_study.studies.find import studies

_ABSOLUTE = re.compile(r"(?<![\w./-])(?:~|[A-Za-z]:)?[/\\][^\s'\",;]*")

INITIALIZATION = "initialization"

MOST = 64
"""Of the regular steps at least every so-manieth is kept."""


def publish(source: Path, target: Path, megabytes: float = 25.0) -> str:
    """Copy all records, those of runs without checkpoints and with as many steps as fit.

    Of ``layers.parquet`` stay the geometric steps (0, 1, 2, 3, 5, 8, 13, ...), the last one, and
    every k-th of the regular cadence, k the smallest power of 2 for which everything fits. The
    numbers stay as they are: columns are only stored in another order of their bytes and
    compressed with zstd. Of copies of a run, whatever their names, one is taken, the finished or
    furthest. A run that was not done gets the status ``stopped`` and the iteration
    that its records reach.

    Args:
        source: folder of a study.
        target: gets ``runs/`` and ``initialization/``, which are replaced, and ``README.md``.
        megabytes: limit of all files together, in 10⁶ bytes.

    Returns:
        The text of ``README.md``: what was left out, and which runs are not finished.

    Raises:
        UserError: if nothing is recorded, records of a run were lost, it is too much in any case,
            or something else than a published copy would be replaced.
    """
    if target.resolve() == source.resolve():
        raise UserError(f"{target}: is the folder to copy from; give another one")
    files.refuse_missing(source)
    files.restore_folders(target)
    networks = sorted((source / INITIALIZATION).glob("*"))
    if not networks and not (source / "runs").is_dir():
        raise UserError(
            f"{source}: is no study folder, with runs/ in it; give one, such as results/quick"
        )
    found = (
        records.find_runs([source / "runs"]) if not networks or (source / "runs").is_dir() else []
    )
    runs = [copies[0] for copies in copies_of(map(records.read_whole, found)).values()]
    _check_target(target, [*(run.folder for run in runs), *networks])
    rest = sum(
        (run.folder / name).stat().st_size
        for run in runs
        for name in ("spec.json", "environment.json", "summary.json", "metrics.parquet")
        if (run.folder / name).exists()
    )
    rest += sum(file.stat().st_size for file in networks)
    every = 1
    while (size := rest + sum(len(layers_bytes(run, every)) for run in runs)) > megabytes * 1e6:
        every *= 2
        if every > MOST:
            raise UserError(
                f"--megabytes={megabytes:g}: {size / 1e6:.1f} MB are left with every "
                f"{MOST}th regular step; allow more"
            )
    target.mkdir(parents=True, exist_ok=True)
    # One at a time, so that what others left was left by kills.
    with (
        lease.alone(target),
        tempfile.TemporaryDirectory(dir=target, prefix=".publishing.") as name,
    ):
        fresh = Path(name)
        for left in target.glob(".publishing.*"):
            if left != fresh:
                files.remove(left)
        files.clear_drafts(target, ["README.md"])
        for file in networks:
            _copy_measured(file, fresh / INITIALIZATION / file.name)
        for run in runs:
            _copy(run, fresh / "runs" / run.spec.run_id, every)
        for name in ("runs", INITIALIZATION):
            if (fresh / name).exists():
                files.replace_folder(fresh / name, target / name)
            else:
                files.remove(target / name)
        text = _readme(
            source.name, runs, sum(f.suffix == ".parquet" for f in networks), every, size
        )
        files.write_atomically(target / "README.md", text)
    return text


def _check_target(target: Path, sources: Sequence[Path]) -> None:
    """Refuse to replace anything but an earlier copy."""
    for name in ("runs", INITIALIZATION):
        replaced = target / name
        inside = [s for s in sources if s.resolve().is_relative_to(replaced.resolve())]
        if inside:
            raise UserError(
                f"{replaced}: would be replaced and leads to {inside[0]}, which is to be copied; "
                "give another folder"
            )
        entries = replaced.iterdir() if replaced.is_dir() else ()
        for entry in sorted(entry for entry in entries if not entry.name.startswith(".")):
            published = (entry / "spec.json").is_file() and not (entry / "checkpoints").exists()
            if not (published if name == "runs" else entry.suffix in (".parquet", ".json")):
                raise UserError(
                    f"{entry}: is no published copy and would be removed; move it, or give another "
                    "folder"
                )


def layers_bytes(run: Run, every: int) -> bytes:
    """``layers.parquet`` with every so-manieth regular step."""
    layers, cadence = run.layers, int(run.spec.probes.layers_every)
    if cadence and len(layers):
        step = layers["step"]
        left_out = (step > 0) & (step % cadence == 0) & (step % (cadence * every) != 0)
        # A geometric step may fall on the cadence: the early ones are never left out.
        left_out &= (step > 100) & (step < step.max())
        layers = layers[~left_out]
    floats = [name for name in layers if pd.api.types.is_float_dtype(layers[name])]
    buffer = io.BytesIO()
    layers.to_parquet(
        buffer,
        index=False,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in layers if name not in floats],
        # Equal bytes lie together: a float32 in a float64 then costs as much as a float32.
        use_byte_stream_split=floats,
    )
    return buffer.getvalue()


def without_paths(environment: Any) -> Any:
    """The same without folders of this machine, such as that of the data in a command."""
    if isinstance(environment, dict):
        return {name: without_paths(value) for name, value in environment.items()}
    if isinstance(environment, list):
        return [without_paths(value) for value in environment]
    return _ABSOLUTE.sub("PATH", environment) if isinstance(environment, str) else environment


def reached(run: Run) -> int:
    """Last iteration of the metrics."""
    return int(run.metrics["step"].max()) if len(run.metrics) else 0


def _copy(run: Run, folder: Path, every: int) -> None:
    folder.mkdir(parents=True)
    for name in ("spec.json", "metrics.parquet"):
        if (run.folder / name).exists():
            files.write_atomically(folder / name, (run.folder / name).read_bytes())
    if run.environment:
        files.write_json(folder / "environment.json", without_paths(run.environment))
    files.write_atomically(folder / "layers.parquet", layers_bytes(run, every))
    summary = dict(run.summary)
    if summary.get("status", "running") == "running":
        summary |= {"status": "stopped", "iterations": run.spec.schedule.iterations}
        summary |= {"step": reached(run)}
    records.write_summary(folder, summary)


def _copy_measured(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".json":
        files.write_json(target, without_paths(files.read_json(file)))
    else:
        files.write_atomically(target, file.read_bytes())


def _readme(name: str, runs: list[Run], networks: int, every: int, size: int) -> str:
    steps = "every recorded step" if every == 1 else f"the regular steps by every {every}th,"
    kept = steps if every == 1 else f"{steps} the early geometric ones and the last as they were"
    unfinished = [run for run in runs if run.summary.get("status") not in records.DONE]
    held = [f"{size / 1e6:.1f} MB."]
    if runs:
        held.append(
            f"{counted(len(runs), 'run')}, without checkpoints. `layers.parquet` has {kept}."
        )
    if networks:
        held.append(f"{counted(networks, 'network')} measured at initialisation.")
    lines = [
        f"# Records of {name}",
        "",
        " ".join(held)
        + " No number was rounded. Figures, verdicts and the report regenerate from these files:",
        "",
        f"    resnet-study report {name if name in studies() else 'STUDY'} FOLDER",
        "",
    ]
    if unfinished:
        lines += [
            f"**Not finished: {counted(len(unfinished), 'run')}.** Only what was recorded at the "
            "iteration in question is used, and nothing about the end of training:",
            "",
            *(
                f"- `{run.spec.run_id}`: {reached(run):,} of {run.spec.schedule.iterations:,} "
                "iterations"
                for run in unfinished
            ),
            "",
        ]
    return "\n".join(lines)
