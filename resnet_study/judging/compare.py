"""Compare any recorded quantity against depth, layer or step, over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from resnet_study.errors import UserError
from resnet_study.judging.selections import (
    DERIVED,
    KEYS,
    conv_layers,
    ended,
    final_error,
    growth_per_layer,
    layer_quantity,
    median_over_seeds,
    over_last,
    rows_at,
    select,
    varying_fields,
)
from resnet_study.names import nearest_hint
from resnet_study.records import LAYER_COLUMNS, METRIC_COLUMNS, PROBES, Frames

Against = Literal["depth", "layer", "step"]

METRICS = ("error", "loss", "learning_rate")
"""Quantities of ``metrics``, of one split."""

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

SPLITS = ("train", "train_clean", "val", "test")


def compare(
    frames: Frames,
    quantity: str,
    against: str = "depth",
    where: Mapping[str, str] | None = None,
    at_step: int | None = None,
    split: str = "test",
) -> pd.DataFrame:
    """Median over seeds of a quantity, per family and whatever else tells runs apart.

    Args:
        frames: the records.
        quantity: one of `METRICS`, `LAYER_QUANTITIES`, `RUN_STEP_QUANTITIES`, any further
            numeric column of ``metrics`` or ``layers``, or a numeric column of ``runs`` such
            as ``test_error_selected`` or ``images_per_second``.
        against: ``depth``, ``layer`` (layer quantities) or ``step`` (all but run columns).
        where: selection of runs, column of ``runs`` to comma-separated values, such as
            ``{"model.depth": "20,56", "family": "plain"}``.
        at_step: for depth and layer, the recorded step nearest to this one (runs without one
            within a factor of 2 are left out); by default the last step of each run that
            finished or diverged.
        split: train, train_clean, val or test, for quantities of ``metrics``.

    Returns:
        Sorted, with columns ``family``, ``depth``, every other spec field that differs among
        the selected runs, ``layer`` or ``step`` if asked against it, ``median``, ``low``,
        ``high`` (lowest and highest run) and ``n``.

    Raises:
        UserError: for an unknown quantity, field, split or axis, and if nothing is selected.
    """
    _check(against, split)
    frames = choose(frames, where or {})
    if at_step is None and against != "step":
        frames = ended(frames)
        if not len(frames.runs):
            raise UserError("no selected run has finished; give a step to compare earlier ones")
    table = _values(frames, quantity, against, at_step, split)
    table = table[table["value"].notna()]
    if not len(table):
        step = "" if at_step is None else f" near step {at_step}"
        raise UserError(f"{quantity}: the selected runs have no value{step}; choose other runs")
    fields = varying_fields(frames.runs)
    # The family and depth of the records are the same as these; one name each is enough.
    table = table.join(frames.runs[fields], on="run_id")
    axis = [against] if against != "depth" else []
    by = ["family", "depth", *fields, *axis]
    return median_over_seeds(table, "value", by).sort_values(by, ignore_index=True)


def choose(frames: Frames, where: Mapping[str, str]) -> Frames:
    """The records of the runs that match every selection (see `compare`).

    Raises:
        UserError: for an unknown field, and if nothing matches.
    """
    runs = frames.runs
    for field, text in where.items():
        if field not in runs:
            raise UserError(f"where: unknown field {field}; {nearest_hint(field, runs.columns)}")
        wanted = [part.strip() for part in text.split(",")]
        matching = runs[_matches(runs[field], field, wanted)]
        if not len(matching):
            present = ", ".join(sorted(map(str, runs[field].unique())))
            raise UserError(f"where {field}={text}: no such run; recorded are {present}")
        runs = matching
    return select(frames, runs.index)


def _matches(column: pd.Series, field: str, wanted: list[str]) -> pd.Series:
    if is_bool_dtype(column):
        return column.map(lambda value: str(value).lower()).isin([w.lower() for w in wanted])
    if is_numeric_dtype(column):
        try:
            return column.isin([float(w) for w in wanted])
        except ValueError:
            raise UserError(
                f"where {field}={','.join(wanted)}: {field} is a number; give numbers such as "
                f"{column.iloc[0]}"
            ) from None
    return column.astype(str).isin(wanted)


def _check(against: str, split: str) -> None:
    axes = get_args(Against)
    if against not in axes:
        raise UserError(f"against={against}: {nearest_hint(against, axes)}")
    if split not in SPLITS:
        raise UserError(f"split={split}: {nearest_hint(split, SPLITS)}")


def _values(
    frames: Frames, quantity: str, against: str, at_step: int | None, split: str
) -> pd.DataFrame:
    """Columns ``run_id, family, depth, value`` and ``layer`` or ``step``."""
    metric = [c for c in _numeric(frames.metrics, METRICS) if c not in METRIC_COLUMNS[:3]]
    layer = [c for c in _numeric(frames.layers, LAYER_QUANTITIES) if c not in LAYER_COLUMNS]
    of_runs = [c for c in _numeric(frames.runs, ()) if c not in ("depth", "seed")]
    if quantity in layer:
        return _layer_values(frames, quantity, against, at_step)
    if against == "layer":
        valid = nearest_hint(quantity, layer)
        raise UserError(f"{quantity} cannot be compared against layer; {valid}")
    if quantity in metric:
        return _metric_values(frames, quantity, against, at_step, split)
    if quantity in RUN_STEP_QUANTITIES:
        return _run_step_values(frames, quantity, against, at_step)
    if quantity not in of_runs:
        known = [*metric, *layer, *RUN_STEP_QUANTITIES, *of_runs]
        raise UserError(f"unknown quantity {quantity}; {nearest_hint(quantity, known)}")
    if against == "step" or at_step is not None:
        raise UserError(f"{quantity} has one value per run; compare it against depth, at no step")
    return frames.runs.reset_index().rename(columns={quantity: "value"})[
        ["run_id", "family", "depth", "value"]
    ]


def _numeric(table: pd.DataFrame, always: tuple[str, ...]) -> list[str]:
    """Quantities of a table: those named, and its other numeric columns."""
    found = [str(c) for c in table.columns if is_numeric_dtype(table[c])]
    others = [c for c in found if c not in always and c not in KEYS and not is_bool_dtype(table[c])]
    return [*always, *others]


def _metric_values(
    frames: Frames, quantity: str, against: str, at_step: int | None, split: str
) -> pd.DataFrame:
    if quantity == "error" and against == "depth" and at_step is None:
        # As for the claims: a diverged run counts with its last finite error.
        return final_error(frames, split).rename(columns={"error": "value"}).reset_index()
    rows = frames.metrics[frames.metrics["split"] == split]
    rows = rows if against == "step" else rows_at(rows, at_step)
    return rows.assign(value=rows[quantity])


def _layer_values(frames: Frames, quantity: str, against: str, at_step: int | None) -> pd.DataFrame:
    rows = frames.layers if against == "step" else rows_at(frames.layers, at_step)
    rows = rows.assign(value=layer_quantity(rows, quantity))
    if against == "layer":
        return rows
    return conv_layers(rows).groupby([*KEYS, "step"])["value"].mean().reset_index()


def _run_step_values(
    frames: Frames, quantity: str, against: str, at_step: int | None
) -> pd.DataFrame:
    if quantity == "growth_per_layer":
        steps = sorted(frames.layers["step"].unique()) if against == "step" else [at_step]
        tables = [growth_per_layer(frames, step=step).reset_index() for step in steps]
        joined = pd.concat(tables).drop_duplicates(["run_id", "step"])
        return joined.rename(columns={"growth": "value"})
    ratios = over_last(frames, RATIOS[quantity])
    rows = ratios if against == "step" else rows_at(ratios, at_step)
    return rows.rename(columns={"ratio": "value"})
