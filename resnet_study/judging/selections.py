"""Selections from `records.Frames` that claims, comparisons and figures share.

Each takes frames and returns a tidy table with one row per run (index ``run_id``), or per
run and step or layer, and always the columns ``family``, ``depth`` and ``seed``. The
*convolutions* are layers 1 to depth − 1: all weighted layers but the head. Projections and gates
are no layers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from resnet_study.architecture import ModelSpec, is_the_papers
from resnet_study.datasets import DATASETS
from resnet_study.judging.keeping import per_group
from resnet_study.judging.statistics import log_slope
from resnet_study.probes import DERIVED, FIRST
from resnet_study.records import DONE, KEYS, Frames
from resnet_study.spec import RunSpec

ARM_FIELDS = ("model.depth", "model.residual", "seed")
"""Spec fields in which the runs of one comparison may differ."""

LENGTH_FIELDS = (
    "schedule.iterations",
    "schedule.first_drop",
    "schedule.second_drop",
    "probes.log_every",
    "probes.evaluate_every",
    "probes.layers_every",
)
"""Spec fields in which a longer schedule of the same shape may differ."""

WARMUP_FIELDS = (
    "schedule.warmup_learning_rate",
    "schedule.warmup_iterations",
    "schedule.warmup_error",
)
"""Spec fields in which the depths of one comparison may differ: the paper warms up at depth 110
alone (He et al. 2015, section 4.2)."""


def select(frames: Frames, run_ids: Iterable[str]) -> Frames:
    """The records of some runs, each run, step, split and layer once.

    The same run may lie in two folders that were read together; its first copy counts. What was
    measured at initialisation belongs to no run and stays.
    """
    wanted = set(run_ids)
    # Not by pandas, which takes ten times as long for text.
    chosen = np.array([run_id in wanted for run_id in frames.runs.index.tolist()], bool)
    runs = frames.runs[chosen]
    return frames.of(runs[~runs.index.duplicated()])


def ended(frames: Frames) -> Frames:
    """Only the runs that finished or diverged."""
    runs = frames.runs
    return select(frames, runs.index[runs["status"].isin(DONE)])


def varying_fields(runs: pd.DataFrame) -> list[str]:
    """Spec fields, other than depth, family and seed, that differ among these runs.

    Without those of `LENGTH_FIELDS` that follow from the number of iterations: of a schedule that
    is three times as long, with its drops at the same fractions, the length tells all.
    """
    fields = [f for f in RunSpec().flat() if f not in ARM_FIELDS and f in runs]
    fields = [field for field in fields if runs[field].nunique(dropna=False) > 1]
    length, *following = LENGTH_FIELDS
    return [f for f in fields if length not in fields or f not in following or _own(runs, f)]


def _own(runs: pd.DataFrame, field: str) -> bool:
    """Whether a field says something that the number of iterations does not."""
    length = runs[LENGTH_FIELDS[0]]
    if field.endswith("_drop"):
        return bool((runs[field] / length).round(3).nunique() > 1)
    return bool((runs.groupby(length)[field].nunique(dropna=False) > 1).any())


def own_fields(runs: pd.DataFrame) -> list[str]:
    """Fields that differ, without a warm-up that follows from family and depth; where each network
    has one run, every one would."""
    fields, networks = varying_fields(runs), runs.groupby(["family", "depth"], observed=True)
    if networks.ngroups == len(runs):
        return fields
    return [
        field
        for field in fields
        if field not in WARMUP_FIELDS or (networks[field].nunique(dropna=False) > 1).any()
    ]


def comparable_groups(frames: Frames, may_differ: Sequence[str] = ()) -> list[Frames]:
    """Groups that differ in depth, family, seed and ``may_differ`` only; the largest first."""
    fields = [field for field in varying_fields(frames.runs) if field not in may_differ]
    if not fields:
        return [select(frames, frames.runs.index)]
    ids = [list(group.index) for _, group in frames.runs.groupby(fields, dropna=False)]
    return [select(frames, group) for group in sorted(ids, key=len, reverse=True)]


def groups_by_recipe(frames: Frames) -> list[Frames]:
    """The same, but that depths may warm up differently, if each depth does so in one way."""
    groups = []
    for group in comparable_groups(frames, WARMUP_FIELDS):
        settings = group.runs.groupby("depth")[list(WARMUP_FIELDS)].nunique(dropna=False)
        groups += [group] if (settings <= 1).all(axis=None) else comparable_groups(group)
    return sorted(groups, key=lambda group: len(group.runs), reverse=True)


def warm_up(runs: pd.DataFrame) -> pd.Series:
    """Which runs begin at another rate."""
    return (runs["schedule.warmup_iterations"] > 0) | (runs["schedule.warmup_error"] > 0)


def models_of(runs: pd.DataFrame) -> list[ModelSpec]:
    """The network of each run."""
    names = [field.name for field in fields(ModelSpec)]
    columns = runs[[f"model.{name}" for name in names]].astype(object)
    return [ModelSpec(**dict(zip(names, row, strict=True))) for row in columns.to_numpy()]


def papers_models(runs: pd.DataFrame) -> pd.Series:
    """Which runs are of the paper's networks, on any data."""
    own = [is_the_papers(model) for model in models_of(runs)]
    return pd.Series(own, index=runs.index, dtype=bool)


def papers_networks(runs: pd.DataFrame) -> pd.Series:
    """Which of these are on its data too, so that its numbers may stand beside."""
    whole = (runs["data.name"] == "cifar10") & ~runs["data.subset"].eq(True)
    return whole & papers_models(runs)


def step_nearest(steps: Iterable[int], wanted: int) -> int | None:
    """The recorded step nearest to a wanted one, on a logarithmic scale.

    Distance is |ln((s+1)/(wanted+1))|, so that step 0 has its place; the earlier one wins a
    tie. Steps a factor of 2 or more away are no answer: None is returned if nothing is
    nearer, and only step 0 itself stands for step 0.
    """
    return _nearest(tuple(sorted(set(steps))), wanted)


# Most runs of a study record the same steps.
@functools.lru_cache(maxsize=256)
def _nearest(steps: tuple[int, ...], wanted: int) -> int | None:
    distance = {s: abs(float(np.log((s + 1) / (wanted + 1)))) for s in steps}
    best = min(distance, key=lambda s: distance[s], default=None)
    return int(best) if best is not None and distance[best] < np.log(2) - 1e-12 else None


def rows_at(table: pd.DataFrame, step: int | None) -> pd.DataFrame:
    """The rows of each run at its recorded step nearest to ``step``; None: its last step.

    Runs without a recorded step within a factor of 2 are left out (`step_nearest`).
    """
    if not len(table):
        return table
    if step is None:
        return table[
            table["step"] == table.groupby("run_id", observed=True)["step"].transform("max")
        ]
    recorded = table[["run_id", "step"]].drop_duplicates().groupby("run_id", observed=True)["step"]
    chosen = {run: step_nearest(steps, step) for run, steps in recorded}
    return table[table["step"] == of_run(table, chosen)]


def rows_reached(frames: Frames, table: pd.DataFrame, step: int) -> pd.DataFrame:
    """As `rows_at`, of runs that ended or came as far: what others record later may be nearer."""
    last = table.groupby("run_id", observed=True)["step"].max()
    over = [*last.index[last >= step], *frames.runs.index[frames.runs["status"].isin(DONE)]]
    return rows_at(table[table["run_id"].isin(over)], step)


def of_run(table: pd.DataFrame, values: Mapping[Any, Any] | pd.Series) -> pd.Series:
    """A number of the run of each row, from one by id; NaN where there is none."""
    # Of a categorical pandas makes a categorical, of numbers too.
    return table["run_id"].map(pd.Series(values, dtype=float)).astype(float)


def per_run(grouped: pd.Series) -> pd.Series:
    """What was found of each run, with the ids as text.

    pandas does not align categories that are numbered in bytes with some that need more.
    """
    return grouped.set_axis(grouped.index.astype(str))


def conv_layers(layers: pd.DataFrame) -> pd.DataFrame:
    """The rows of the convolutions."""
    return layers[layers["layer"] < layers["depth"]]


def chance_error(frames: Frames) -> pd.Series:
    """Error of guessing, in percent, per run."""
    names = frames.runs["data.name"]
    chance = [100.0 * (1 - 1 / DATASETS[name].classes) for name in names]
    return pd.Series(chance, index=frames.runs.index, dtype=float)


def final_error(frames: Frames, split: str = "test") -> pd.DataFrame:
    """Last recorded error of every run that finished or diverged.

    A diverged run counts with the error of guessing, or its last recorded one if that is larger:
    leaving it out, or counting how far it came before, would flatter the configuration that
    diverges.

    Args:
        frames: the records.
        split: train (mean over the mini-batches since the row before, as trained),
            train_clean, val or test.

    Returns:
        Indexed by run: ``family, depth, seed, status, error`` (percent). Finished runs
        without this split are left out.
    """
    frames = ended(frames)
    rows = frames.metrics[(frames.metrics["split"] == split) & frames.metrics["error"].notna()]
    last = per_run(rows.sort_values("step").groupby("run_id", observed=True)["error"].last())
    table = frames.runs[["family", "depth", "seed", "status"]].copy()
    table["error"] = last.reindex(table.index).astype(float)
    guessing = chance_error(frames).reindex(table.index)
    diverged = table["status"] == "diverged"
    table["error"] = table["error"].mask(diverged, np.fmax(table["error"], guessing))
    return table.dropna(subset=["error"])


EARLY = 0.25
"""Of the scheduled iterations, for `early_error`."""


def early_error(frames: Frames) -> pd.DataFrame:
    """Training error averaged over the first part of the run: area under the curve.

    The mean over mini-batches of the error as trained, from iteration 0 to `EARLY` of
    the scheduled iterations. Each ``train`` row is itself a mean over the mini-batches since
    the row before and is weighted by their number. A run that diverged in that time holds
    its last error to the end of it, that of guessing if it has none.

    Returns:
        Indexed by run that finished or diverged: ``family, depth, seed, error`` (percent).
    """
    frames = ended(frames)
    rows = frames.metrics[(frames.metrics["split"] == "train") & frames.metrics["error"].notna()]
    curves = dict(iter(rows.sort_values("step").groupby("run_id", observed=True)))
    table = frames.runs[["family", "depth", "seed"]].copy()
    errors = []
    for run, iterations, status, guessing in zip(
        frames.runs.index,
        frames.runs["schedule.iterations"],
        frames.runs["status"],
        chance_error(frames),
        strict=True,
    ):
        end = EARLY * float(iterations)
        curve = curves.get(run)
        if curve is None:
            errors.append(float(guessing) if status == "diverged" else np.nan)
            continue
        edges = np.minimum(np.append(curve["step"].to_numpy(float), np.inf), end)
        weights = np.diff(edges, prepend=0.0)
        values = curve["error"].to_numpy(float)
        errors.append(float(weights @ np.append(values, values[-1]) / end))
    table["error"] = errors
    return table.dropna(subset=["error"])


def iterations_to_error(frames: Frames, error: float) -> pd.DataFrame:
    """Recorded iteration from which on the training error stays at or below a level, in percent.

    Returns:
        Indexed by run, of any status: ``family, depth, seed, iterations`` (NaN: not reached by the
        last row).
    """
    rows = frames.metrics[frames.metrics["split"] == "train"].sort_values("step")
    table = frames.runs[["family", "depth", "seed"]].copy()
    reached = {}
    for run, curve in rows.groupby("run_id", observed=True):
        # Not "error > level": NaN, a diverged loss, is above every level.
        above = np.flatnonzero(~(curve["error"].to_numpy(float) <= error))
        start = 0 if not len(above) else int(above[-1]) + 1
        reached[run] = float(curve["step"].iloc[start]) if start < len(curve) else np.nan
    table["iterations"] = pd.Series(reached, dtype=float).reindex(table.index)
    return table


def columns_of(quantity: str) -> list[str]:
    """The columns of ``layers`` that `layer_quantity` takes."""
    if quantity not in DERIVED:
        return [quantity]
    first, second, _ = DERIVED[quantity]
    return columns_of(first) + columns_of(second)


def layer_quantity(layers: pd.DataFrame, quantity: str) -> pd.Series:
    """A column of ``layers`` as floats, or a number that follows from several (`DERIVED`).

    NaN throughout where the records lack a column that it takes.
    """
    if quantity in DERIVED:
        first, second, join = DERIVED[quantity]
        return join(layer_quantity(layers, first), layer_quantity(layers, second))
    if quantity not in layers:
        return pd.Series(np.nan, index=layers.index)
    return pd.to_numeric(layers[quantity], errors="coerce").astype(float)


@per_group
def over_last(frames: Frames, quantity: str) -> pd.DataFrame:
    """A `layer_quantity` at layer `FIRST` over the same at the last convolution, per run and step.

    Returns:
        ``run_id, family, depth, seed, step, ratio``: above 1 it grows toward the input. NaN or 0
        where a norm is.
    """
    layers = frames.layers_with(*columns_of(quantity))
    layers = layers[(layers["layer"] == FIRST) | (layers["layer"] == layers["depth"] - 1)]
    values = layers[[*KEYS, "step", "layer"]].assign(value=layer_quantity(layers, quantity))
    first = values[values["layer"] == FIRST].drop(columns="layer")
    last = values[values["layer"] == layers["depth"] - 1].drop(columns="layer")
    both = first.merge(last, on=[*KEYS, "step"], suffixes=("", "_last"))
    return both[[*KEYS, "step"]].assign(ratio=both["value"] / both["value_last"])


def growth_per_layer(
    frames: Frames, step: int | None = 0, within_stages: bool = False
) -> pd.DataFrame:
    """Factor per layer by which the norm of ∂L/∂z grows toward the input.

    exp(−slope) of the least-squares line of ln(norm) against layer, from `FIRST` to the last
    convolution.

    Args:
        frames: the records; runs of any status.
        step: the recorded step nearest to it (`step_nearest`); None for each run's last.
        within_stages: one common slope with an intercept per stage, which leaves out the
            jumps where map size and channel count change.

    Returns:
        Indexed by run: ``family, depth, seed, step, growth``; comparable with the factors of
        `resnet_study.phenomena.gradients.theory`.
    """
    probe = "activation_gradient_norm"
    rows = conv_layers(rows_at(frames.layers_with(probe), step))
    rows = rows[rows["layer"] >= FIRST]
    table = rows.drop_duplicates("run_id").astype({"run_id": str}).set_index("run_id")
    table = table[["family", "depth", "seed", "step"]]
    slopes = {
        run: log_slope(
            part["layer"].to_numpy(float),
            part[probe].to_numpy(float),
            part["stage"].tolist() if within_stages else None,
        )
        for run, part in rows.groupby("run_id", observed=True)
    }
    table["growth"] = np.exp(-pd.Series(slopes, dtype=float).reindex(table.index))
    return table


SPREAD = ("median", "low", "high", "n")
"""Columns of `median_over_seeds`."""


def median_over_seeds(table: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Median, lowest and highest of the runs, and their number.

    Where some networks fail to start, mean and standard deviation are no network's. Missing values
    are not counted.

    Returns:
        The columns ``by``, which tell apart what is not reduced, and `SPREAD`.
    """
    groups = table.groupby(list(by), dropna=False, observed=True)[value]
    result = groups.agg(median="median", low="min", high="max", n="count").reset_index()
    return result[result["n"] > 0].reset_index(drop=True)
