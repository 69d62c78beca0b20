"""The subcommand ``compare``: any recorded quantity over any runs, as a table and a figure."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from resnet_study.cli.commands import Positional, Runs, console_for_tables, frames_in
from resnet_study.errors import UserError
from resnet_study.files import strict, write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from resnet_study.judging.compare import Question
    from resnet_study.records import Frames


def compare(
    quantity: Annotated[str, Positional, tyro.conf.arg(metavar="QUANTITY")],
    runs: Runs,
    against: Annotated[str, tyro.conf.arg(metavar="FIELD")] = "depth",
    where: Annotated[list[str] | None, tyro.conf.arg(metavar="FIELD=VALUE ...")] = None,
    by: Annotated[str, tyro.conf.arg(metavar="FIELD,...")] = "run",
    difference: Annotated[str | None, tyro.conf.arg(metavar="FIELD")] = None,
    at_step: int | None = None,
    split: Literal["train", "train_clean", "val", "test"] | None = None,
    classifier: bool = False,
    plot: Path | None = None,
    csv: Path | None = None,
    json: bool = False,
) -> int:
    """Compare recorded quantities against depth, layer, step or any setting, over any runs.

    Prints median, lowest and highest, and n over seeds, as a table, and draws it if asked.

    Such as:
    $ resnet-study compare error results/quick --split=train
    $ resnet-study compare error,signal_ratio results/quick --where 'depth>20'
    $ resnet-study compare error results/quick --difference=family
    $ resnet-study compare response_std results/quick --against=layer --plot=a.pdf
    $ resnet-study compare error results/quick results/reference/quick --by=folder

    Args:
        quantity: error, loss; a per-layer probe such as activation_gradient_norm or
            response_std; signal, relative_update; signal_ratio, turn_ratio, gradient_ratio (layer
            2 over the last convolution), growth_per_layer; or any number of the summaries, such as
            test_error_selected or images_per_second. Several with commas between.
        runs: Study folders (results/quick) or run folders.
        against: The axis: depth, layer, step, or a setting such as optimizer.learning_rate.
        where: Selections such as family=plain, model.depth=20,56, 'depth>20' or seed!=0, all of
            which hold.
        by: run takes the runs of all folders together, each once; folder compares the folders,
            which may hold the same runs. Else the fields that tell lines apart, such as
            family,model.depth, all others being pooled; folder may be one of them.
        difference: Of runs of one seed that differ in this field, such as family: medians with
            exact intervals.
        at_step: The recorded step nearest to this one; by default the end of each run.
        split: Of error and loss: train (as trained), train_clean, val or, by default, test.
        classifier: With layers, the last one too, which is no convolution.
        plot: File for the figure, .png, .svg or .pdf.
        csv: File for the table.
        json: Print JSON for machines instead of a table.
    """
    import pandas as pd

    from resnet_study.judging.compare import Question, label_of

    if plot is not None and plot.suffix[1:] not in ("png", "svg", "pdf"):
        raise UserError(f"--plot={plot}: the file ends in .png, .svg or .pdf")
    for flag, file in (("--plot", plot), ("--csv", csv)):
        if file is not None and file.is_dir():  # before anything is computed
            raise UserError(f"{flag}={file}: is a folder; name a file in it")
    told = _words("--by", by)
    fields = [name for name in told if name not in ("run", "folder")]
    if "run" in told and len(told) > 1:
        raise UserError(f"--by={by}: run takes all runs together; leave it out, or name it alone")
    asked = Question("", against, where or [], at_step, split, fields, classifier)
    questions = [replace(asked, quantity=name) for name in _words("QUANTITY", quantity)]
    named = partial(label_of, difference=difference is not None)
    if "folder" in told:
        if again := [str(folder) for folder in runs if runs.count(folder) > 1]:
            raise UserError(f"{again[0]}: is named twice; name each folder once")
        found = {str(folder): frames_in([folder]) for folder in runs}
        questions = _splits(questions, found.values())
        tables = {named(one): _by_folder(found, one, difference) for one in questions}
    else:
        frames = frames_in(runs)
        questions = _splits(questions, [frames])
        tables = {named(one): _table(frames, one, difference) for one in questions}
        _say_copies(frames)
    for said in dict.fromkeys(said for one in tables.values() for said in one.attrs["left_out"]):
        print(said, file=sys.stderr)
    about = _about(questions, tables)
    together = [
        table.assign(quantity=one.quantity)[["quantity", *table]] if len(questions) > 1 else table
        for one, table in zip(questions, tables.values(), strict=True)
    ]
    table = pd.concat(together, ignore_index=True)
    if json:
        print(_as_json(table))
    else:
        _print(table, f"{', '.join(tables)}. {about}")
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(csv, table.to_csv(index=False))
    if plot is not None:
        from resnet_study.drawing.comparison import comparison_figure
        from resnet_study.drawing.render import save

        plot.parent.mkdir(parents=True, exist_ok=True)
        figure = comparison_figure(tables, against, about)
        save(figure, plot.parent, plot.stem, [plot.suffix[1:]])
    for written in filter(None, (csv, plot)):
        print(written, file=sys.stderr if json else sys.stdout)
    return 0


def _words(flag: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UserError(f"{flag}={text}: names with commas between are needed")
    return list(dict.fromkeys(words))


def _splits(questions: list[Question], folders: Iterable[Frames]) -> list[Question]:
    """A split is of the quantities that have one; that none of several has any is refused later."""
    from resnet_study.judging.compare import takes_split

    known = [any(takes_split(one, asked.quantity) for one in folders) for asked in questions]
    if not any(known):
        return questions
    return [
        one if has else replace(one, split=None) for one, has in zip(questions, known, strict=True)
    ]


def _about(questions: list[Question], tables: Mapping[str, pd.DataFrame]) -> str:
    """What was selected, for the title and the small print."""
    from resnet_study.judging.compare import LAYER_QUANTITIES

    asked = questions[0]
    step = "" if asked.against == "step" else "At the end of each run."
    if asked.at_step is not None:
        taken = sorted({step for table in tables.values() for step in table.attrs["steps"]})
        step = f"At the recorded iteration nearest to {asked.at_step:,}: {_list(taken)}."
    averaged = [one.quantity for one in questions if one.quantity in LAYER_QUANTITIES]
    mean = "" if asked.against == "layer" or not averaged else "Mean over the convolutions."
    if mean and len(averaged) < len(questions):
        mean = f"Of {', '.join(averaged)} the mean over the convolutions."
    where = f"Where {', '.join(asked.where)}." if asked.where else ""
    pooled = f"Told apart by {', '.join(asked.by)} alone." if asked.by else ""
    return " ".join(filter(None, (step, mean, where, pooled)))


def _list(steps: list[int]) -> str:
    return " or ".join(f"{step:,}" for step in steps) if len(steps) < 4 else "several"


def _table(frames: Frames, asked: Question, difference: str | None) -> pd.DataFrame:
    from resnet_study.judging.compare import compare as medians
    from resnet_study.judging.compare import differences

    return medians(frames, asked) if difference is None else differences(frames, asked, difference)


def _by_folder(
    folders: Mapping[str, Frames], asked: Question, difference: str | None
) -> pd.DataFrame:
    """A table with a column that tells the folders apart."""
    import pandas as pd

    tables = []
    for folder, frames in folders.items():
        table = _table(frames, asked, difference)
        table.insert(min(2, len(table.columns)), "folder", folder)
        tables.append(table)
    joined = pd.concat(tables, ignore_index=True)
    joined.attrs = {
        name: [part for table in tables for part in table.attrs.get(name, ())]
        for name in ("left_out", "steps")
    }
    return joined


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


def _as_json(table: pd.DataFrame) -> str:
    # Not pandas' own, which keeps ten decimal places: gradients of deep networks are smaller.
    return json.dumps([strict(row) for row in table.to_dict("records")], indent=2)


def _print(table: pd.DataFrame, title: str) -> None:
    from pandas.api.types import is_numeric_dtype
    from rich.table import Table

    shown = Table(title=title, title_justify="left", title_style="")
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    for at, column in enumerate(table.columns):
        numbers = is_numeric_dtype(table[column])
        longest = max((len(row[at]) for row in rows), default=0)
        # Names may be broken where there is no room; of a number the end tells most.
        least = longest if numbers else min(longest, len("residual"))
        name = str(column).rpartition(".")[2]
        shown.add_column(name, justify="right", overflow="fold", min_width=least)
    for row in rows:
        shown.add_row(*row)
    console = console_for_tables()
    console.print(shown, crop=False)
    if shown.__rich_measure__(console, console.options).minimum > console.width:
        print(
            f"{len(table.columns)} columns are wider than {console.width}: --where chooses runs "
            "that differ in less, --by names what tells them apart",
            file=sys.stderr,
        )


def _cell(value: object) -> str:
    """A number in five digits; a dash for the spread of a single run."""
    if not isinstance(value, float):
        return str(value)
    return "–" if math.isnan(value) else f"{value:.5g}"
