"""What the figures take from the records: groups, medians over seeds, who is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from resnet_study.drawing.style import FAMILIES, at_most
from resnet_study.errors import UserError
from resnet_study.judging.selections import (
    conv_layers,
    groups_by_recipe,
    own_fields,
    papers_networks,
    step_nearest,
    varying_fields,
    warm_up,
)
from resnet_study.records import PROBES, Frames
from resnet_study.spec import RunSpec

PAIR = (20, 56)
"""Depths of the paper's Figure 1, shown where not all depths can be."""

MANY = 5
"""Settings in which runs may differ before those at their defaults are left untold."""

SOURCES = {"paper": "He et al. 2015", "runs": "these runs"}
"""Titles of panels that show the paper's numbers, and those of the runs."""


def arms(runs: pd.DataFrame, without: Iterable[str] = (), following: bool = True) -> pd.Series:
    """What tells a run apart beside depth, family and seed: ``learning_rate=0.01, steps=400``.

    Without fields that are told otherwise, and unless ``following`` without those that follow from
    depth and family, as a warm-up of one depth does. Of more than `MANY` those at their default are
    left out: ``defaults`` where all are.
    """
    differing = varying_fields(runs) if following else own_fields(runs)
    fields = [field for field in differing if field not in without]
    usual = RunSpec().flat() if len(fields) > MANY else {}
    labels = []
    for row in runs[fields].astype(object).to_numpy():
        told = [
            f"{field.partition('.')[2]}={_shown(value)}"
            for field, value in zip(fields, row, strict=True)
            if field not in usual or usual[field] != value
        ]
        labels.append(", ".join(told) or ("defaults" if usual else ""))
    return pd.Series(labels, index=runs.index, dtype=object)


def labelled_groups(frames: Frames) -> list[tuple[str, Frames]]:
    """Runs that may share a figure: they differ in depth, family and seed only, and in the warm-up
    if each depth has one (`selections.groups_by_recipe`).

    Pooling over anything else would hide it.

    Returns:
        A label such as ``learning_rate=0.01`` (`arms`) and the frames of each group, the largest
        first; one group with an empty label where nothing else differs.
    """
    groups = groups_by_recipe(frames)
    labels = arms(frames.runs, {f for group in groups for f in varying_fields(group.runs)})
    return [
        (labels.loc[group.runs.index[:1]].iloc[0] if len(group.runs) else "", group)
        for group in groups
    ]


def with_status(frames: Frames) -> Frames:
    """The same with ``unknown`` as status of runs whose summary was never written."""
    runs = frames.runs
    status = runs["status"].fillna("unknown") if "status" in runs else "unknown"
    return frames._replace(runs=runs.assign(status=status))


def beside_the_paper(frames: Frames) -> bool:
    """Whether published numbers may be laid over: the paper's networks on CIFAR-10 alone."""
    return bool(len(frames.runs) and papers_networks(frames.runs).all())


def families_in(table: pd.DataFrame) -> list[str]:
    """Families with at least one row, in the order of panels and legends."""
    return [family for family in FAMILIES if (table.family == family).any()]


def shown_depths(rows: pd.DataFrame, by: str = "family") -> list[int]:
    """At most three depths, of those that all families, or values of `by`, have if there are any.

    Where there are more, the paper's pair and the deepest of all, or an even choice.
    """
    own = [set(part["depth"]) for _, part in rows.groupby(by, observed=True)]
    depths = sorted(int(d) for d in set.intersection(*own) or set.union(*own))
    if len(depths) > 3 and set(PAIR) <= set(depths):
        return sorted({*PAIR, depths[-1]})
    return at_most(depths, 3)


def nearest_steps(rows: pd.DataFrame, wanted: Iterable[int]) -> list[int]:
    """Recorded steps nearest to these, or the last one where there is none near."""
    recorded = [int(step) for step in rows["step"].unique()]
    nearest = {step_nearest(recorded, step) for step in wanted}
    return sorted(step for step in nearest if step is not None) or [max(recorded)]


def at_shown_depths(frames: Frames) -> Frames:
    """The records of at most three depths (`shown_depths`), for `FigureDefinition.shown`."""
    recorded = _with_layers(frames)
    depths = shown_depths(recorded) if len(recorded) else []
    return frames.of(frames.runs[frames.runs["depth"].isin(depths)])


def at_depth(frames: Frames, depth: int) -> Frames:
    """The records of this depth, or else of the deepest that all families have; failing that, of
    the deepest of each family."""
    own = {
        family: set(runs["depth"])
        for family, runs in _with_layers(frames).groupby("family", observed=True)
    }
    common = set.intersection(*own.values()) if own else set()
    taken = {f: depth if depth in common else max(common or own[f]) for f in own}
    return frames.of(frames.runs[frames.runs["depth"] == frames.runs["family"].map(taken)])


def _with_layers(frames: Frames) -> pd.DataFrame:
    """The runs with layer records."""
    return frames.runs[frames.runs.index.isin(frames.layers_with()["run_id"].unique())]


def medians(
    rows: pd.DataFrame, by: Sequence[str], value: str, geometric: bool = False
) -> pd.DataFrame:
    """Median over the seeds, the columns of `by` and `value`, sorted.

    Args:
        rows: with finite values, and positive ones if `geometric`.
        by: columns that tell apart what is not pooled.
        value: column.
        geometric: of an even number the geometric mean of the two in the middle: a logarithmic
            axis has no arithmetic.
    """
    values = rows[value].astype(float)
    scaled = values.map(np.log) if geometric else values
    middle = scaled.groupby([rows[column] for column in by], observed=True).median().reset_index()
    return middle.assign(**{value: np.exp(middle[value])}) if geometric else middle


def drawable_rows(
    rows: pd.DataFrame, value: str, positive: bool = True
) -> tuple[pd.DataFrame, str]:
    """The rows that can be drawn, and a sentence on those that cannot.

    Raises:
        UserError: if there is none.
    """
    kept = drawable(rows[value], positive)
    what = "finite and positive" if positive else "finite"
    if not kept.any():
        raise UserError(f"no recorded value is {what}; see the status of the runs")
    return rows[kept], left_out(int((~kept).sum()), positive)


def drawable(values: pd.Series, positive: bool) -> pd.Series:
    """Which values are finite, and positive where the axis is logarithmic."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    finite = pd.Series(np.isfinite(numbers), index=values.index)
    return finite & (numbers > 0) if positive else finite


def layer_rows(frames: Frames, *probes: str) -> pd.DataFrame:
    """Rows of the convolutions, with the probes as floats.

    The classifier is left out: it is neither normalised nor a convolution, so what theory
    and paper say about layers is not about it.

    Raises:
        UserError: if no run recorded these probes.
    """
    layers = frames.layers_with(*probes)
    missing = [p for p in probes if p not in layers or not layers[p].notna().any()]
    if layers.empty or missing:
        built_in = set(missing or probes) <= set(PROBES)
        mend = "probes.layers_every above 0"
        mend += "" if built_in else ", in a study that defines these probes"
        raise UserError(f"no run recorded {', '.join(missing or probes)}; run with {mend}")
    rows = conv_layers(layers).copy()
    for probe in probes:
        rows[probe] = pd.to_numeric(rows[probe], errors="coerce").astype(float)
    return rows


def seeds(counts: Iterable[int], what: str = "seed") -> str:
    """``n = 3 seeds``, or ``n = 2–3 seeds`` where groups differ."""
    found = sorted({int(c) for c in counts})
    first, *more = what.split(" ", 1)
    plural = " ".join([f"{first}s", *more])
    if not found:
        return f"n = 0 {plural}"
    shown = f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"
    return f"n = {shown} {plural if found[-1] > 1 else what}"


MEDIANS = "Lines are medians over seeds; every seed is a thin line or a faint point."
"""For captions: the convention of `resnet_study.drawing.plots`."""


def over_seeds(
    rows: pd.DataFrame, by: Sequence[str], units: str = "seed", single: bool = True
) -> str:
    """A sentence on the convention and on n, the least and largest number of seeds.

    Args:
        rows: that are drawn.
        by: columns that tell apart what is not pooled.
        units: column whose values are the single networks.
        single: whether these are drawn.
    """
    counts = rows.groupby(list(by), observed=True)[units].nunique()
    if counts.max() == 1:
        return "n = 1 seed: no spread."
    return f"Medians over {seeds(counts)}{', every seed thin or faint' if single else ''}."


def unfinished(frames: Frames) -> str:
    """A sentence on the runs that did not finish; empty if all did."""
    runs = frames.runs[frames.runs["status"] != "finished"]
    if runs.empty:
        return ""
    parts = [
        f"{len(group)} {status} ({networks(group)})" for status, group in runs.groupby("status")
    ]
    return f"Did not finish: {'; '.join(parts)}."


def of_runs(frames: Frames) -> str:
    """Sentences on what sets runs of one figure apart: those that warmed up or did not finish."""
    warmed = warm_up(frames.runs)
    told = f"Warmed up: {networks(frames.runs[warmed])}." if warmed.nunique() > 1 else ""
    return " ".join(filter(None, (told, unfinished(frames))))


def networks(runs: pd.DataFrame) -> str:
    """``plain-56, plain-110``: the networks of these runs, each once."""
    pairs = runs[["family", "depth"]].drop_duplicates().sort_values(["family", "depth"])
    return ", ".join(f"{family}-{depth}" for family, depth in pairs.itertuples(index=False))


def left_out(count: int, positive: bool = False) -> str:
    """A sentence on so many values that cannot be drawn; empty if there are none."""
    what = "zero or not finite" if positive else "not finite"
    return f"{count} value{'s' if count > 1 else ''} {what}, left out." if count else ""


def describe(frames: Frames) -> str:
    """The runs behind a figure: data, networks with their number of seeds, unfinished ones."""
    runs = frames.runs
    if runs.empty:
        return ""
    parts = []
    for family in families_in(runs):
        counts = runs[runs.family == family].groupby("depth").seed.nunique()
        depths = ", ".join(str(depth) for depth in counts.index)
        parts.append(f"{family} {depths} ({seeds(counts)} each)")
    data = " and ".join(sorted(runs["data.name"].unique()))
    sentences = [f"Runs on {data}: {'; '.join(parts)}.", of_runs(frames)]
    return " ".join(sentence for sentence in sentences if sentence)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
