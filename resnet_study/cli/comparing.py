"""The subcommand ``compare``: any recorded quantity over any runs, as a table and a figure."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from resnet_study.cli.commands import Positional, console_for_tables, frames_in
from resnet_study.errors import UserError
from resnet_study.names import pairs

if TYPE_CHECKING:
    import pandas as pd

    from resnet_study.records import Frames


def compare(
    quantity: Annotated[str, Positional],
    runs: Annotated[list[Path], Positional],
    against: Literal["depth", "layer", "step"] = "depth",
    where: list[str] | None = None,
    by: Literal["run", "folder"] = "run",
    at_step: int | None = None,
    split: Literal["train", "train_clean", "val", "test"] = "test",
    plot: Path | None = None,
    csv: Path | None = None,
    json: bool = False,
) -> int:
    """Compare any recorded quantity against depth, layer or step, over any runs.

    Prints median, lowest and highest, and n over seeds, as a table, and draws it if asked.

    Examples: resnet-study compare error results/quick --split=train;
    resnet-study compare response_std results/quick --against=layer --where depth=56
    --plot=response.png; resnet-study compare error results/quick results/reference/quick
    --by=folder.

    Args:
        quantity: error, loss; a per-layer probe such as activation_gradient_norm or
            response_std; signal, relative_update; signal_ratio, turn_ratio, gradient_ratio (layer
            2 over the last convolution), growth_per_layer; or any number of the summaries, such as
            test_error_selected or images_per_second.
        runs: Study folders (results/quick) or run folders.
        against: The axis.
        where: Selections such as family=plain or model.depth=20,56.
        by: run takes the runs of all folders together, each once; folder compares the folders,
            which may hold the same runs.
        at_step: The recorded step nearest to this one; by default the end of each run.
        split: Of error and loss.
        plot: File for the figure, .png or .svg.
        csv: File for the table.
        json: Print JSON for machines instead of a table.
    """
    from resnet_study.judging.compare import compare as make_table

    selections = pairs("--where", where or [], "model.depth=20,56")
    if plot is not None and plot.suffix not in (".png", ".svg"):
        raise UserError(f"--plot={plot}: the file ends in .png or .svg")
    asked: dict[str, Any] = {"quantity": quantity, "against": against, "where": selections}
    asked |= {"at_step": at_step, "split": split}
    if by == "folder":
        if again := [str(folder) for folder in runs if runs.count(folder) > 1]:
            raise UserError(f"{again[0]}: is named twice; name each folder once")
        table = _by_folder({str(folder): frames_in([folder]) for folder in runs}, asked)
    else:
        frames = frames_in(runs)
        table = make_table(frames, **asked)
        _say_copies(frames)
    if json:
        print(table.to_json(orient="records", indent=2))
    else:
        _print(table)
    if csv is not None:
        from resnet_study.files import write_atomically

        csv.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(csv, table.to_csv(index=False))
    if plot is not None:
        from resnet_study.drawing.comparison import comparison_figure

        plot.parent.mkdir(parents=True, exist_ok=True)
        comparison_figure(table, quantity, against).savefig(plot, dpi=200)
    for written in filter(None, (csv, plot)):
        print(written, file=sys.stderr if json else sys.stdout)
    return 0


def _by_folder(folders: Mapping[str, Frames], asked: Mapping[str, Any]) -> pd.DataFrame:
    """A table with a column that tells the folders apart."""
    import pandas as pd

    from resnet_study.judging.compare import compare as make_table

    tables = []
    for folder, frames in folders.items():
        table = make_table(frames, **asked)
        table.insert(2, "folder", folder)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _say_copies(frames: Frames) -> None:
    """Of a run that lies in several folders one copy counts: say which."""
    again = frames.runs[frames.runs.index.duplicated()]
    if len(again):
        run = again.index[0]
        first, *others = frames.runs.loc[[run], "folder"]
        print(
            f"{len(set(again.index))} runs lie in several folders and count once, {run} as in "
            f"{first}, not {', '.join(others)}; --by=folder tells the folders apart",
            file=sys.stderr,
        )


def _print(table: pd.DataFrame) -> None:
    from rich.table import Table

    shown = Table()
    for column in table.columns:
        shown.add_column(str(column), justify="right")
    for row in table.itertuples(index=False):
        shown.add_row(*map(_cell, row))
    console_for_tables().print(shown)


def _cell(value: object) -> str:
    """A number in five digits; a dash for the spread of a single run."""
    if not isinstance(value, float):
        return str(value)
    return "–" if math.isnan(value) else f"{value:.5g}"
