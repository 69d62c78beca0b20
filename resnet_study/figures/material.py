"""What the figures take from the records: groups, means over seeds, who is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from resnet_study import reference
from resnet_study.analysis.frames import comparable_groups, conv_layers, varying_fields
from resnet_study.errors import UserError
from resnet_study.figures.style import FAMILIES
from resnet_study.records import PROBES, Frames


def labelled_groups(frames: Frames) -> list[tuple[str, Frames]]:
    """Runs that may share a figure: they differ in depth, family and seed only.

    Averaging over anything else would hide it.

    Returns:
        A label such as ``learning_rate=0.01`` and the frames of each group, the largest
        first; one group with an empty label where nothing else differs.
    """
    fields = varying_fields(frames.runs)
    return [
        (
            ", ".join(f"{f.partition('.')[2]}={_shown(group.runs[f].iloc[0])}" for f in fields),
            group,
        )
        for group in comparable_groups(frames)
    ]


def with_status(frames: Frames) -> Frames:
    """The same with ``unknown`` as status of runs whose summary was never written."""
    runs = frames.runs
    status = runs["status"].fillna("unknown") if "status" in runs else "unknown"
    return frames._replace(runs=runs.assign(status=status))


def is_cifar10(frames: Frames) -> bool:
    """Whether the published numbers may be laid over: CIFAR-10 in the paper's networks."""
    runs = frames.runs
    return bool(
        len(runs)
        and (runs["data.name"] == "cifar10").all()
        and (runs["model.width"] == 16).all()
        and (runs["model.normalization"] == "batch").all()
        and not ("data.subset" in runs and runs["data.subset"].eq(True).any())
    )


def published_errors() -> pd.DataFrame:
    """Final errors of He et al. 2015 on CIFAR-10.

    Returns:
        ``family``, ``depth``, ``split`` (train, test), ``error`` in percent, ``bound`` (true:
        only a lower bound is published), ``source``. Test errors of residual networks are
        those of Table 6, for ResNet-110 the mean of its five runs and not the best of them;
        all else is read off Figure 6.
    """
    table, ends = reference.table6(), reference.fig6_ends()
    mean = table.mean_percent.fillna(table.test_error_percent)
    parts = [table[["family", "depth"]].assign(split="test", error=mean, source="Table 6")]
    for column, split in (
        ("train_error_percent", "train"),
        ("test_error_percent", "test"),
        ("test_error_above_percent", "test"),
    ):
        rows = ends[ends.family.eq("plain") | (split == "train")]
        part = rows[["family", "depth"]].assign(split=split, error=rows[column], source="Figure 6")
        parts.append(part.assign(bound=column.endswith("above_percent")))
    joined = pd.concat(parts, ignore_index=True).dropna(subset=["error"])
    joined["bound"] = joined["bound"].eq(True)
    return joined.sort_values(["family", "depth", "split"], ignore_index=True)


def families_in(table: pd.DataFrame) -> list[str]:
    """Families with at least one row, in the order of panels and legends."""
    return [family for family in FAMILIES if (table.family == family).any()]


def summarize(
    table: pd.DataFrame, by: Sequence[str], value: str, geometric: bool = False
) -> pd.DataFrame:
    """Mean and spread over the seeds.

    Values that are not finite are left out, and with `geometric` those that are not
    positive: a logarithmic axis has no place for them.

    Returns:
        One row per group: the columns of `by`, ``mean`` (geometric if asked), ``low`` and
        ``high`` (minimum and maximum), ``sd`` (of the values, n−1; NaN for one seed), ``n``.
    """
    kept = table[drawable(table[value], geometric)]
    values = kept[value].astype(float)
    work = kept[list(by)].assign(value=values, scaled=np.log(values) if geometric else values)
    result = (
        work.groupby(list(by), sort=True)
        .agg(
            mean=("scaled", "mean"),
            low=("value", "min"),
            high=("value", "max"),
            sd=("value", "std"),
            n=("value", "size"),
        )
        .reset_index()
    )
    if geometric:
        result["mean"] = np.exp(result["mean"])
    return result


def drawable(values: pd.Series, positive: bool) -> pd.Series:
    """Which values are finite, and positive where the axis is logarithmic."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    finite = pd.Series(np.isfinite(numbers), index=values.index)
    return finite & (numbers > 0) if positive else finite


def layer_rows(frames: Frames, figure: str, probes: Sequence[str]) -> pd.DataFrame:
    """Rows of the 3x3 layers, with the probes as floats.

    The classifier is left out: it is neither normalised nor a 3x3 layer, so what theory
    and paper say about layers is not about it.

    Raises:
        UserError: if no run recorded these probes.
    """
    layers = frames.layers
    missing = [p for p in probes if p not in layers or not layers[p].notna().any()]
    if layers.empty or missing:
        raise UserError(
            f"{figure}: no run recorded {', '.join(missing or probes)}; "
            "run with probes.layers_every above 0"
        )
    rows = conv_layers(layers).copy()
    for probe in set(PROBES) & set(rows.columns):
        rows[probe] = pd.to_numeric(rows[probe], errors="coerce").astype(float)
    return rows


def seeds(counts: Iterable[int]) -> str:
    """``n = 3 seeds``, or ``n = 2–3 seeds`` where groups differ."""
    found = sorted({int(c) for c in counts})
    if not found:
        return "n = 0 seeds"
    shown = f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"
    return f"n = {shown} seed{'s' if found[-1] > 1 else ''}"


def spread(counts: Iterable[int], shown: str) -> str:
    """What the spread is, or that one seed has none."""
    return f"{shown}." if max(counts, default=0) > 1 else "One seed each: no spread."


def unfinished(frames: Frames) -> str:
    """A sentence on the runs that did not finish; empty if all did."""
    runs = frames.runs[frames.runs["status"] != "finished"]
    if runs.empty:
        return ""
    parts = [
        f"{len(group)} {status} ({networks(group)})" for status, group in runs.groupby("status")
    ]
    return f"Did not finish: {'; '.join(parts)}."


def networks(runs: pd.DataFrame) -> str:
    """``plain-56, plain-110``: the networks of these runs, each once."""
    pairs = runs[["family", "depth"]].drop_duplicates().sort_values(["family", "depth"])
    return ", ".join(f"{family}-{depth}" for family, depth in pairs.itertuples(index=False))


def left_out(values: pd.Series, positive: bool) -> str:
    """A sentence on the values that cannot be drawn; empty if there are none."""
    count = int((~drawable(values, positive)).sum())
    return left_out_count(count, "zero or not finite" if positive else "not finite")


def left_out_count(count: int, what: str) -> str:
    """The sentence of `left_out`."""
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
    sentences = [f"Runs on {data}: {'; '.join(parts)}.", unfinished(frames)]
    return " ".join(sentence for sentence in sentences if sentence)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
