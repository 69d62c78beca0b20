"""What the explorer shows, taken from frames: pure functions, and plain arrays per run.

A *group* holds runs that differ in depth, family and seed only, as in every figure: pooling over
anything else would hide it. All of it is about the convolutions, 1 to depth - 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from resnet_study import probes
from resnet_study.drawing import panels
from resnet_study.errors import UserError
from resnet_study.judging.selections import conv_layers
from resnet_study.phenomena.gradients.measures import predicted_growth
from resnet_study.records import KEYS, LAYER_COLUMNS, Frames

SPLITS: Mapping[str, str] = {
    "train": "training, as trained",
    "train_clean": "training, as it is",
    "val": "validation",
    "test": "test",
}

THEORY = "activation_gradient_norm"
"""The only quantity of which theory speaks (`theory.theory_line`)."""

OPENING: Mapping[str, str] = {"quantity": "signal", "axis": "relative", "iteration": "100"}
"""What is looked at first, where it is recorded: whether the gradient reaches a layer, when that
has come to differ; playing begins at iteration 0. Named as in the page's address."""


@dataclass(frozen=True)
class Quantity:
    """Something that can be looked at, layer by layer.

    Attributes:
        name: of the column, or of a product.
        label: what an axis says.
        unit: of the number; empty for none.
        linear: whether its axis is linear; else it is logarithmic, without what is not positive.
        product: columns that are multiplied; empty for a column itself.
    """

    name: str
    label: str
    unit: str = ""
    linear: bool = False
    product: tuple[str, ...] = ()


SIGNAL = Quantity("signal", "signal ‖w‖·‖∂L/∂w‖", product=probes.DERIVED["signal"][:2])
"""Whether the gradient reaches a layer (`resnet_study.probes`); recorded as its two factors."""


@dataclass(frozen=True)
class Layers:
    """The convolutions of one network, in forward order."""

    names: tuple[str, ...]
    stages: tuple[int, ...]


@dataclass(frozen=True)
class Recorded:
    """One run.

    Attributes:
        family, depth, seed: which it is.
        steps: at which layers were recorded, rising.
        values: per column, shape (steps, convolutions); NaN where nothing was recorded.
        errors: per split, iterations and errors in percent.
    """

    family: str
    depth: int
    seed: int
    steps: np.ndarray
    values: Mapping[str, np.ndarray]
    errors: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def at(self, kept: Sequence[int]) -> Recorded:
        """The same with some of the steps."""
        wanted = np.isin(self.steps, kept)
        values = {name: table[wanted] for name, table in self.values.items()}
        return replace(self, steps=self.steps[wanted], values=values)


@dataclass(frozen=True)
class Group:
    """Runs that may share a picture.

    Attributes:
        label: folder, and what tells its groups apart.
        runs: that recorded layers.
        layers: of each network, by ``plain-56`` and the like.
        growth: per layer toward the input, as theory has it for the plain ones; None: no theory.
        note: a sentence on runs that did not finish.
    """

    label: str
    runs: tuple[Recorded, ...]
    layers: Mapping[str, Layers]
    growth: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Records:
    """Everything that can be chosen.

    Attributes:
        quantities: in the order of the list.
        groups: in the order of the folders.
        width: bytes per value, as `reducing.encode` writes them.
        left_out: sentences on what was left out to make the page small.
    """

    quantities: tuple[Quantity, ...]
    groups: tuple[Group, ...]
    width: int = 4
    left_out: tuple[str, ...] = ()


def collect(studies: Sequence[tuple[str, Frames]]) -> Records:
    """Take what the explorer shows from the frames of one or several folders.

    Args:
        studies: the name of each folder, and what was read there.

    Raises:
        UserError: if a folder has no layer records.
    """
    groups = [group for name, frames in studies for group in _groups(name, frames)]
    return Records(quantities_of(groups), tuple(groups))


def names_of(folders: Sequence[Path]) -> list[str]:
    """The shortest name of each folder that tells it from the others; the path if none does."""
    names = [folder.resolve().name for folder in folders]
    longer = [str(Path(*folder.resolve().parts[-2:])) for folder in folders]
    return [
        name if names.count(name) == 1 else long if longer.count(long) == 1 else str(folder)
        for name, long, folder in zip(names, longer, folders, strict=True)
    ]


def quantities_of(groups: Sequence[Group]) -> tuple[Quantity, ...]:
    """What these groups recorded, in the order of the probes, the signal after the raw gradient."""
    found = {name for group in groups for run in group.runs for name in run.values}
    known = probes.known()
    ordered = [name for name in known if name in found] + sorted(found - set(known))
    columns = [_quantity(name, groups) for name in ordered]
    if set(SIGNAL.product) <= found:
        columns.insert(1, SIGNAL)
    return tuple(columns)


def _quantity(name: str, groups: Sequence[Group]) -> Quantity:
    probe = probes.known().get(name)
    label, unit = (probe.label or name, probe.unit) if probe else (name, "")
    tables = [run.values[name] for group in groups for run in group.runs if name in run.values]
    # A logarithmic axis has no room for what is below 0.
    negative = any(bool((table < 0).any()) for table in tables)
    return Quantity(name, label, unit, negative or bool(probe and probe.linear))


def _groups(name: str, frames: Frames) -> list[Group]:
    frames = panels.with_status(frames)
    groups = [
        _group(f"{name}, {label}" if label else name, group)
        for label, group in panels.labelled_groups(frames)
        if len(group.layers_with())
    ]
    if not groups:
        unfinished = panels.unfinished(frames) if len(frames.runs) else ""
        asked = len(frames.runs) and (frames.runs["probes.layers_every"] > 0).any()
        how = "let a run go on" if asked else "run with probes.layers_every above 0"
        raise UserError(
            f"{name}: no layer was recorded, so there is nothing to explore; {how}. "
            f"{unfinished}".strip()
        )
    return groups


def _group(label: str, frames: Frames) -> Group:
    rows = conv_layers(frames.layers)
    columns = _columns(rows)
    errors = frames.metrics.dropna(subset=["error"])
    by_run = dict(iter(errors.groupby("run_id", observed=True)))
    runs = [
        _recorded(own, columns, by_run.get(run, errors.iloc[:0]))
        for run, own in rows.groupby("run_id", observed=True)
    ]
    networks = rows.groupby(["family", "depth"], observed=True)
    layers = {f"{family}-{depth}": _layers(own) for (family, depth), own in networks}
    # All runs of a group differ in depth, family and seed alone.
    growth = predicted_growth(frames.runs) if (frames.runs["family"] == "plain").any() else None
    ordered = sorted(runs, key=lambda run: (run.depth, run.family, run.seed))
    return Group(label, tuple(ordered), layers, growth and growth.factor, panels.of_runs(frames))


def _columns(rows: pd.DataFrame) -> list[str]:
    """Columns that hold a number per layer."""
    others = {*KEYS, *LAYER_COLUMNS}
    numbers = {c: pd.to_numeric(rows[c], errors="coerce") for c in rows if c not in others}
    return [str(column) for column, values in numbers.items() if values.notna().any()]


def _recorded(rows: pd.DataFrame, columns: Sequence[str], errors: pd.DataFrame) -> Recorded:
    first = rows.iloc[0]
    depth = int(first["depth"])
    steps = np.sort(rows["step"].unique()).astype(int)
    places = np.searchsorted(steps, rows["step"]), rows["layer"].to_numpy(int) - 1
    values = {}
    for column in columns:
        table = np.full((len(steps), depth - 1), np.nan, np.float32)
        with np.errstate(over="ignore"):
            table[places] = pd.to_numeric(rows[column], errors="coerce").to_numpy(float)
        if not np.isnan(table).all():
            values[column] = table
    curves = {
        split: (own["step"].to_numpy(int), own["error"].to_numpy(float))
        for split in SPLITS
        if len(own := errors[errors["split"] == split].sort_values("step"))
    }
    return Recorded(str(first["family"]), depth, int(first["seed"]), steps, values, curves)


def _layers(rows: pd.DataFrame) -> Layers:
    own = rows.drop_duplicates("layer").sort_values("layer")
    return Layers(tuple(own["name"].astype(str)), tuple(int(stage) for stage in own["stage"]))
