"""Whether the records of a run are all there: what its summary and its checkpoints promise.

The tables are replaced before a checkpoint is written, and before the summary says how a run
ended. Rows that are missing beside these were lost later, and whoever goes on without them gets
the numbers of another run. Every reader asks here, so that none of them does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from resnet_study.errors import UserError
from resnet_study.files import irregular, json_object, read_text
from resnet_study.probes import recorded_steps
from resnet_study.records.checking import problem_of_table, read_summary
from resnet_study.records.columns import DONE, INITIALIZATION_FOLDERS
from resnet_study.spec import RunSpec, from_json

if TYPE_CHECKING:
    import pyarrow as pa

METRICS, LAYERS = "metrics.parquet", "layers.parquet"


class Extent(NamedTuple):
    """First and last iteration in a table."""

    first: int
    last: int


def problem_of(folder: Path, summary: Mapping[str, Any] | None = None) -> str | None:
    """What the records of a run lack, in one line that says how to mend it; None if nothing.

    Of a run that is done they must reach its end, of another one its newest checkpoint. Of the
    tables only the footers are read.

    Args:
        folder: of the run.
        summary: what its ``summary.json`` says, where that was read just now.
    """
    try:
        # Before the tables: a live run replaces those first.
        if summary is None:
            summary = read_summary(folder)
        file = folder / "spec.json"
        if not file.is_file():
            return without_spec(folder)
        if not summary and _has_tables(folder):
            return (
                f"{folder}: has records but no summary.json; restore it, or give the command of "
                "this run again, which goes on from the last checkpoint"
            )
        if _reach_the_end(folder, summary):
            json_object(read_text(file), str(file))  # its values are checked where it is read
            return None
        spec = from_json(read_text(file), str(file))
        status, step = _promise(folder, summary, spec)
        return None if step is None else _problem(folder, spec, status, step)
    except UserError as error:
        return str(error)


def problem_at(folder: Path, spec: RunSpec, step: int) -> str | None:
    """As `problem_of`, for going on from the checkpoint of an iteration."""
    try:
        return _problem(folder, spec, None, step)
    except UserError as error:
        return str(error)


def check_afresh(folder: Path) -> int:
    """Refuse to train a run from its start over records that nothing else holds.

    A run that was killed before its first checkpoint may have written rows; no more than the
    seconds before that are lost with them.

    Returns:
        The iteration to which rows will be replaced; 0 if there are none.

    Raises:
        UserError: if the records are of a run that was done or stopped, such as a published copy.
    """
    rows = extent(folder / METRICS)
    reached = 0 if rows is None else rows.last
    status = read_summary(folder).get("status")
    if reached and status not in ("running", "failed"):
        raise UserError(
            f"{folder}: has records to iteration {reached:,} but no checkpoint to go on from; "
            "train it in another folder of results, or remove it to train it again"
        )
    return reached


def saved_steps(checkpoints: Path) -> list[int]:
    """Iterations of the complete checkpoints in a folder, ascending.

    Orbax gives one that it is writing a longer name.
    """
    if not checkpoints.is_dir():
        return []
    names = [path.name for path in checkpoints.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if is_step(name))


def is_step(name: str) -> bool:
    """Whether a checkpoint is named so: 0, or digits without zeros in front."""
    return (name.isascii() and name.isdigit() and name == name.lstrip("0")) or name == "0"


def extent(table: Path) -> Extent | None:
    """First and last iteration of a table of records; None if it has no rows or is not there.

    Raises:
        UserError: if it cannot be read.
    """
    from pyarrow import OSFile, parquet

    if not table.exists() and not table.is_symlink():
        return None
    if reason := irregular(table):
        raise unreadable(table, reason)
    try:
        # Opened by itself: pyarrow looks for the kind of file system first.
        with OSFile(str(table)) as file:
            footer = parquet.read_metadata(file)
        if footer.num_rows == 0:
            return None
        column = footer.schema.names.index("step")
        ranges = [
            footer.row_group(group).column(column).statistics
            for group in range(footer.num_row_groups)
        ]
        if all(found is not None and found.has_min_max for found in ranges):
            found = Extent(min(r.min for r in ranges), max(r.max for r in ranges))
            if not all(type(step) is int for step in found):
                raise ValueError("column step holds no integers")
            return found
        steps = parquet.read_table(table, columns=["step"])["step"].to_numpy()
        return Extent(int(steps.min()), int(steps.max()))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise unreadable(table, error) from None


def read_columns(
    table: Path, names: Sequence[str] | None, needed: Sequence[str]
) -> tuple[pa.Table, os.stat_result, list[str]]:
    """Columns of a table, by default all, the state of its file, and names of all its columns.

    Args:
        table: its file.
        names: of the columns, of which there may be none.
        needed: columns that the file must have.

    Raises:
        UserError: if it cannot be read, or is no table of ours.
    """
    from pyarrow import BufferReader, parquet

    if reason := irregular(table):
        raise unreadable(table, reason)
    try:
        # In one read: a live run replaces the file in between.
        with open(table, "rb") as opened:
            state = os.fstat(opened.fileno())
            file = parquet.ParquetFile(BufferReader(opened.read()))
        problem = problem_of_table(file.schema_arrow, file.metadata.num_rows, needed)
        if problem is None:
            return file.read(names, use_threads=False), state, file.schema_arrow.names
    except Exception as error:
        raise unreadable(table, error) from None
    raise unreadable(table, problem)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the tables that are there, by name: what the summary of a run that is done holds."""
    found = {}
    for name in (METRICS, LAYERS):
        with suppress(OSError):
            found[name] = os.stat(folder / name).st_size
    return found


def unreadable(table: Path, error: object) -> UserError:
    """That a table of a run is no parquet file with these columns."""
    reason = " ".join(str(error).split())
    return UserError(f"{table}: cannot be read as parquet ({reason}); {_mend(table.parent)}")


def _mend(folder: Path) -> str:
    if folder.name in INITIALIZATION_FOLDERS:
        return "restore or remove it"
    return "restore it, or remove its folder to train that run again"


def without_spec(folder: Path) -> str | None:
    """As `problem_of` a folder that has no ``spec.json``."""
    if _has_tables(folder):
        return (
            f"{folder}: has records but no spec.json; restore it, or give the command of this run "
            "again, which writes it"
        )
    return None


def _has_tables(folder: Path) -> bool:
    return (folder / METRICS).exists() or (folder / LAYERS).exists()


def _reach_the_end(folder: Path, summary: Mapping[str, Any]) -> bool:
    """Whether a run that is done is whole at a glance, as nearly all are.

    Tables of the lengths that its summary says need not be opened, and those that reach its number
    of iterations not be compared with its spec: both take long where there are many runs.
    """
    if (told := summary.get("bytes")) and told == sizes(folder):
        return summary.get("status") in DONE
    whole = (0, summary.get("iterations"))
    return summary.get("status") == "finished" and all(
        extent(folder / name) == whole for name in (METRICS, LAYERS)
    )


def _promise(
    folder: Path, summary: Mapping[str, Any], spec: RunSpec
) -> tuple[str | None, int | None]:
    """How a run ended, if it did, and the iteration to which it must have records."""
    status = summary.get("status")
    if status == "finished":
        return status, cast(int, spec.schedule.iterations)
    if status == "diverged":
        return status, summary.get("diverged_at")
    saved = saved_steps(folder / "checkpoints")
    if saved:
        return None, saved[-1]
    # Published copies have no checkpoints.
    return None, summary.get("step") if status == "stopped" else None


def _problem(folder: Path, spec: RunSpec, ended: str | None, step: int) -> str | None:
    for name, last in _due(spec, ended, step).items():
        table = folder / name
        found = extent(table)
        said = f"although the run came to {step:,}; {_mend(folder)}"
        if found is None:
            return f"{table}: {'has no rows' if table.exists() else 'is missing'}, {said}"
        if found.last < last:
            return f"{table}: ends at iteration {found.last:,}, {said}"
        if found.first > 0:
            return f"{table}: begins at iteration {found.first:,} and not at 0, {said}"
    return None


def _due(spec: RunSpec, ended: str | None, step: int) -> dict[str, int]:
    """The last iteration that each table has when a run has come to an iteration.

    The step at which a run diverged has a row of its own. A step's layers are recorded by the
    iteration that follows it, and those of the trained network by one more at the end.
    """
    total = cast(int, spec.schedule.iterations)
    cadences = (cast(int, spec.probes.log_every), cast(int, spec.probes.evaluate_every))
    whole = ended == "diverged" or step == total
    due = {METRICS: step if whole else max(step - step % every for every in cadences)}
    recorded = recorded_steps(total, cast(int, spec.probes.layers_every))
    layers = [k for k in recorded if k < step or ended == "finished"]
    return {**due, LAYERS: layers[-1]} if layers else due
