"""Compare any recorded quantity against depth, layer or step, over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from resnet_study.errors import UserError
from resnet_study.judging import selections
from resnet_study.judging.choosing import choose, selection
from resnet_study.judging.selections import conv_layers, rows_at
from resnet_study.judging.statistics import median_interval
from resnet_study.names import counted, nearest_hint
from resnet_study.probes import DERIVED, known
from resnet_study.records import DONE, KEYS, LAYER_COLUMNS, METRIC_COLUMNS, PROBES, Frames

AXES = ("depth", "layer", "step")
"""Beside the fields of runs."""

METRICS = ("error", "loss", "learning_rate")
"""Quantities of ``metrics``, of one split."""

ALIASES = {"model.residual": "family", "model.depth": "depth"}
"""Fields of a spec that have a column of their own besides."""

LAYER_QUANTITIES = (*PROBES, *DERIVED)
"""Per layer; against depth or step the mean over the convolutions."""

RATIOS = {
    "gradient_ratio": "activation_gradient_norm",
    "response_gradient_ratio": "response_gradient_norm",
    "signal_ratio": "signal",
    "turn_ratio": "angular_step",
}
"""Layer 2 over the last convolution, of which quantity."""

RUN_STEP_QUANTITIES = (*RATIOS, "growth_per_layer")
"""One number per run and recorded step, derived from the layers: `RATIOS`, and the growth of
‖∂L/∂z‖ per layer toward the input."""

LABELS = {
    "train": "training ",
    "train_clean": "clean training ",
    "val": "validation ",
    "test": "test ",
}
"""Splits, and how an axis names them."""


@dataclass(frozen=True)
class Question:
    """What is compared, of which runs.

    Attributes:
        quantity: one of `METRICS`, `LAYER_QUANTITIES`, `RUN_STEP_QUANTITIES`, any further numeric
            column of ``metrics`` or ``layers``, or a numeric column of ``runs`` such as
            ``test_error_selected`` or ``images_per_second``.
        against: ``depth``, ``layer`` (layer quantities), ``step`` (all but run columns), or a field
            of ``runs`` such as ``optimizer.learning_rate``.
        where: selections of runs (`choosing.selection`), all of which hold.
        at_step: the recorded step nearest to this one (runs without one within a factor of 2 are
            left out); by default the last step of each run that finished or diverged.
        split: a key of `LABELS`, for quantities of ``metrics`` alone; by default test.
        by: fields of ``runs`` that tell lines apart; all else is pooled. By default everything that
            differs, so that nothing is.
        classifier: with ``layer``, whether the last layer counts, which is no convolution.
    """

    quantity: str
    against: str = "depth"
    where: Sequence[str] = ()
    at_step: int | None = None
    split: str | None = None
    by: Sequence[str] = ()
    classifier: bool = False


def compare(frames: Frames, asked: Question) -> pd.DataFrame:
    """Median over seeds of a quantity, per family and whatever else tells runs apart.

    Returns:
        Sorted, with the columns that tell apart (by default ``family``, ``depth``, every other spec
        field that differs among the selected runs), the axis, and `selections.SPREAD`. Its
        ``attrs`` have ``left_out``, sentences on runs that do not count or diverged, and ``steps``,
        the recorded ones that were taken, where one was asked for.

    Raises:
        UserError: for an unknown quantity, field, split or axis, for what the quantity does not
            take, and if nothing is selected.
    """
    table, groups = _by_run(frames, asked)
    found = selections.median_over_seeds(table, "value", groups).sort_values(
        groups, ignore_index=True
    )
    found.attrs = table.attrs
    return found


def differences(frames: Frames, asked: Question, between: str) -> pd.DataFrame:
    """Median over seeds of a difference between runs of one seed, with an exact interval.

    ``between`` is a field of ``runs`` such as ``family``: each of its values minus the first one.

    Returns:
        As of `compare`, with ``difference`` (``residual - plain``) in place of the field; ``low``
        and ``high`` are the interval of `statistics.median_interval`, NaN for fewer than five
        seeds, ``level`` its level, ``n`` the seeds that both have.

    Raises:
        UserError: likewise, and if the field has one value or no seed is in both.
    """
    between = ALIASES.get(between, between)
    if between == asked.against != Question.against:
        raise UserError(f"--difference={between}: is the axis too; choose another --against")
    table, groups = _by_run(frames, asked)
    groups = [name for name in groups if name != between]
    if between == "seed":
        raise UserError("--difference=seed: takes runs of one seed; name another field")
    if between not in frames.runs:
        hint = nearest_hint(between, map(str, frames.runs.columns))
        raise UserError(f"--difference={between}: unknown field; {hint}")
    if between not in table:
        table = table.join(frames.runs[between], on="run_id")
    first, *others = sorted(table[between].unique())
    if not others:
        raise UserError(f"--difference={between}: all runs have {first}; choose others")
    if table.duplicated([*groups, between, "seed"]).any():
        raise UserError(f"--difference={between}: several runs of one seed; name more with --by")
    wide = table.pivot(index=[*groups, "seed"], columns=between, values="value")
    rows = []
    for other in others:
        paired = (wide[other] - wide[first]).dropna().rename("value").reset_index()
        for key, own in paired.groupby(groups, observed=True) if groups else [((), paired)]:
            found = median_interval(own["value"])
            row = {**dict(zip(groups, key, strict=True)), "difference": f"{other} - {first}"}
            row |= {"median": found.estimate, "low": found.low, "high": found.high}
            rows.append({**row, "n": len(own), "level": found.level})
    if not any(row["n"] for row in rows):
        raise UserError(f"--difference={between}: no seed is in runs with different values")
    # In the order of the values: as text 110 comes before 20.
    order = {f"{other} - {first}": at for at, other in enumerate(others)}
    result = pd.DataFrame(rows).sort_values(
        ["difference", *groups],
        key=lambda column: column.map(order) if column.name == "difference" else column,
        ignore_index=True,
    )
    result.attrs = table.attrs
    alone = table[between].ne(first) & ~table.set_index([*groups, "seed"]).index.isin(
        wide[first].dropna().index
    )
    if alone.any():
        runs = counted(table.loc[alone, "run_id"].nunique(), "run")
        said = f"{runs} whose seed has none with {between}={first} left out; choose with --where"
        result.attrs["left_out"] = [*table.attrs["left_out"], said]
    return result


def takes_split(frames: Frames, quantity: str) -> bool:
    """Whether it is one of ``metrics``, of which every split has its own."""
    of_layers = quantity in (*LAYER_QUANTITIES, *RUN_STEP_QUANTITIES)
    return quantity in METRICS or (not of_layers and quantity in _of_metrics(frames))


def _by_run(frames: Frames, asked: Question) -> tuple[pd.DataFrame, list[str]]:
    """A row per run and position, with ``value``, and the columns that tell groups apart."""
    quantity, against = asked.quantity, asked.against
    if asked.split not in (None, *LABELS):
        raise UserError(f"split={asked.split}: {nearest_hint(str(asked.split), LABELS)}")
    if asked.at_step is not None and (asked.at_step < 0 or against == "step"):
        raise UserError(
            f"--at_step={asked.at_step}: "
            + ("iterations begin at 0" if asked.at_step < 0 else "--against=step shows them all")
        )
    if asked.classifier and against != "layer":
        raise UserError("--classifier: goes with --against=layer alone")
    frames = choose(frames, [selection(text) for text in asked.where])
    fields = [str(name) for name in frames.runs]
    for field, known_ones in (*((name, fields) for name in asked.by), (against, [*AXES, *fields])):
        if field not in known_ones:
            raise UserError(f"unknown field {field}; {nearest_hint(field, known_ones)}")
    left_out = []
    if asked.at_step is None and against != "step":
        going = frames.runs[~frames.runs["status"].isin(DONE)]
        frames = selections.ended(frames)
        if not len(frames.runs):
            raise UserError("no selected run has finished; --at_step=STEP compares earlier ones")
        if len(going):
            runs = counted(len(going), "run")
            told = f"{runs} that did not end left out ({_networks(going)}); --at_step takes them"
            left_out.append(told)
        if (diverged := frames.runs[frames.runs["status"] == "diverged"]).size:
            at_end = quantity == "error" and against != "layer"
            how = "with the error of guessing or more" if at_end else "as last recorded"
            runs = counted(len(diverged), "run")
            left_out.append(f"{runs} that diverged count {how} ({_networks(diverged)})")
    if asked.split is not None and not takes_split(frames, quantity):
        raise UserError(f"--split={asked.split}: {quantity} has no splits; leave it out")
    axis = against if against in AXES else "depth"
    table = _values(frames, replace(asked, against=axis, split=asked.split or "test"))
    table = table[table["value"].notna()]
    if against == "layer" and not asked.classifier:
        table = conv_layers(table)
    if not len(table):
        step = "" if asked.at_step is None else f" within a factor of 2 of step {asked.at_step}"
        raise UserError(
            f"{quantity}: the selected runs have no value{step}; --against=step shows where they do"
        )
    # The family and depth of the records are the same as these; one name each is enough.
    apart = list(asked.by) or ["family", "depth", *selections.own_fields(frames.runs)]
    groups = list(dict.fromkeys([*apart, against]))
    wanted = [name for name in dict.fromkeys([*groups, "seed"]) if name not in table]
    table = table.join(frames.runs[wanted], on="run_id")
    table.attrs = {"left_out": left_out}
    if asked.at_step is not None:
        table.attrs["steps"] = sorted(map(int, table["step"].unique()))
    return table, groups


def _networks(runs: pd.DataFrame) -> str:
    """``plain-8, residual-20``."""
    names = runs["family"].astype(str) + "-" + runs["depth"].astype(str)
    return ", ".join(dict.fromkeys(names))


def label_of(asked: Question, difference: bool = False) -> str:
    """What an axis says: ``test error (%)``, ``difference in test error (percentage points)``."""
    quantity = asked.quantity
    units = {"loss": "nats", "wall_seconds": "s"} | {p.name: p.unit for p in known().values()}
    unit = "%" if "error" in quantity else units.get(quantity, "")
    words = quantity.replace("_", " ")
    named = LABELS[asked.split or "test"] + words if quantity in METRICS[:2] else words
    if difference:
        named, unit = f"difference in {named}", "percentage points" if unit == "%" else unit
    return f"{named} ({unit})" if unit else named


def _values(frames: Frames, asked: Question) -> pd.DataFrame:
    """Columns ``run_id, family, depth, value`` and ``layer`` or ``step``."""
    quantity, against = asked.quantity, asked.against
    of_runs = [c for c in _numeric(frames.runs, ()) if c not in ("depth", "seed")]
    elsewhere = (*METRICS, *RUN_STEP_QUANTITIES, *of_runs)
    # The table is read where the name alone does not tell.
    if quantity in LAYER_QUANTITIES or (
        quantity not in elsewhere and quantity in _of_layers(frames.layers_with(quantity))
    ):
        return _layer_values(frames, asked)
    if against == "layer":
        valid = nearest_hint(quantity, _of_layers(frames.layers))
        raise UserError(f"{quantity} cannot be compared against layer; {valid}")
    if quantity in RUN_STEP_QUANTITIES:
        return _run_step_values(frames, asked)
    if quantity in METRICS or (quantity not in of_runs and quantity in _of_metrics(frames)):
        return _metric_values(frames, asked)
    if quantity not in of_runs:
        known = [*_of_metrics(frames), *_of_layers(frames.layers), *RUN_STEP_QUANTITIES, *of_runs]
        raise UserError(f"unknown quantity {quantity}; {nearest_hint(quantity, known)}")
    if against == "step" or asked.at_step is not None:
        raise UserError(f"{quantity} has one value per run; compare it against depth, at no step")
    return frames.runs.reset_index().rename(columns={quantity: "value"})[
        ["run_id", "family", "depth", "value"]
    ]


def _of_metrics(frames: Frames) -> list[str]:
    return [c for c in _numeric(frames.metrics, METRICS) if c not in METRIC_COLUMNS[:3]]


def _of_layers(layers: pd.DataFrame) -> list[str]:
    return [c for c in _numeric(layers, LAYER_QUANTITIES) if c not in LAYER_COLUMNS]


def _numeric(table: pd.DataFrame, always: tuple[str, ...]) -> list[str]:
    """Quantities of a table: those named, and its other numeric columns."""
    found = [str(c) for c in table.columns if is_numeric_dtype(table[c])]
    others = [c for c in found if c not in always and c not in KEYS and not is_bool_dtype(table[c])]
    return [*always, *others]


def _at(rows: pd.DataFrame, asked: Question) -> pd.DataFrame:
    """Those that the question is about."""
    return rows if asked.against == "step" else rows_at(rows, asked.at_step)


def _metric_values(frames: Frames, asked: Question) -> pd.DataFrame:
    split = str(asked.split)
    if asked.quantity == "error" and asked.against == "depth" and asked.at_step is None:
        # As for the claims: a diverged run counts with the error of guessing, or more.
        last = selections.final_error(frames, split)
        return last.rename(columns={"error": "value"}).reset_index()
    rows = _at(frames.metrics[frames.metrics["split"] == split], asked)
    return rows.assign(value=rows[asked.quantity])


def _layer_values(frames: Frames, asked: Question) -> pd.DataFrame:
    rows = _at(frames.layers_with(*selections.columns_of(asked.quantity)), asked)
    rows = rows.assign(value=selections.layer_quantity(rows, asked.quantity))
    if asked.against == "layer":
        return rows
    return conv_layers(rows).groupby([*KEYS, "step"], observed=True)["value"].mean().reset_index()


def _run_step_values(frames: Frames, asked: Question) -> pd.DataFrame:
    if asked.quantity == "growth_per_layer":
        steps = [asked.at_step]
        if asked.against == "step":
            steps = sorted(frames.layers_with()["step"].unique())
        tables = [selections.growth_per_layer(frames, step).reset_index() for step in steps]
        joined = pd.concat(tables).drop_duplicates(["run_id", "step"])
        return joined.rename(columns={"growth": "value"})
    ratios = _at(selections.over_last(frames, RATIOS[asked.quantity]), asked)
    return ratios.rename(columns={"ratio": "value"})
