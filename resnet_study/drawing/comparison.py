"""A figure of any table of `resnet_study.judging.compare`.

It draws what the table says, medians, the lowest and the highest: other seeds are not in it.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_study.drawing import panels
from resnet_study.drawing.plots import DEPTH, ITERATION, depth_axis, iteration_axis
from resnet_study.drawing.style import (
    FAINT,
    FAMILIES,
    INK,
    drawing,
    finish,
    key,
    new_figure,
    sequential,
    titled,
)
from resnet_study.errors import UserError
from resnet_study.judging.selections import SPREAD

AXES = {"depth": DEPTH, "layer": "layer (1 = input)", "step": ITERATION}

FEW = 12
"""Positions up to which each has a marker, a tick and a bar; more have a band."""


def comparison_figure(table: pd.DataFrame, quantity: str, against: str) -> Figure:
    """Median of a quantity, from its lowest to its highest run, one line per group of runs.

    The y axis is logarithmic if all medians are positive and span a factor of 100 or more.

    Args:
        table: columns `SPREAD` and the one named `against`; the other columns
            tell the lines apart: family by line style and marker, all else by colour.
        quantity: label of the y axis, with its unit.
        against: column of the x axis, numeric; ``step`` is drawn on a logarithmic axis that
            holds iteration 0.

    Raises:
        UserError: if a column is missing or nothing in ``median`` is finite.
    """
    absent = [c for c in (against, *SPREAD) if c not in table]
    if absent:
        raise UserError(
            f"comparison: no column {', '.join(absent)}; there are {', '.join(table.columns)}"
        )
    rows = table[panels.drawable(table["median"], positive=False)].sort_values(against)
    if rows.empty:
        raise UserError(
            f"comparison: {quantity} has no finite median against {against}; choose other runs"
        )
    with drawing():
        return _draw(rows, quantity, against, dropped=len(table) - len(rows))


def _draw(rows: pd.DataFrame, quantity: str, against: str, dropped: int) -> Figure:
    figure, axes = new_figure(1, 1, 2.8)
    panel: Axes = axes[0, 0]
    positions, medians = rows[against].unique(), rows["median"]
    if medians.min() > 0 and medians.max() / medians.min() >= 100:
        panel.set_yscale("log")
    if against == "step":
        iteration_axis(panel, int(positions.max()))
    elif len(positions) <= FEW:
        depth_axis(panel, positions)
    handles = []
    for label, look, line in _lines(rows, against):
        x, ends = line[against], (line["low"], line["high"])
        if len(positions) > FEW:
            look["marker"] = ""
            panel.fill_between(x, *ends, color=look["color"], alpha=0.18, linewidth=0)
        else:
            bars = {"color": look["color"], "linewidth": 1.0}
            panel.vlines(x, *ends, **bars)
        panel.plot(x, line["median"], gid=label or quantity, **look)
        handles.append(key(label or quantity, **look))
    panel.set(xlabel=AXES.get(against, against), ylabel=quantity)
    panel.grid(axis="y", color=FAINT, linewidth=0.5)
    single = rows["n"].max() == 1
    sentences = [
        f"Medians over {panels.seeds(rows['n'])}.",
        "One seed each: no spread." if single else "Bars and bands: lowest to highest.",
        panels.left_out(dropped),
    ]
    return titled(finish(figure, handles, sentences), f"{quantity} against {against}")


def _lines(rows: pd.DataFrame, against: str) -> list[tuple[str, dict[str, Any], pd.DataFrame]]:
    """Label, look and rows of every line."""
    groups = [c for c in rows.columns if c not in (against, *SPREAD) and rows[c].nunique() > 1]
    others = [c for c in groups if c != "family"]
    kinds = sorted(set(rows[others].itertuples(index=False, name=None)), key=_sortable)
    colours = dict(zip(kinds, sequential(range(len(kinds))).values(), strict=True))
    parts = rows.groupby(groups, dropna=False) if groups else [((), rows)]
    lines = []
    for values, part in parts:
        named = dict(zip(groups, values, strict=True))
        family = str(part["family"].iloc[0]) if "family" in part else ""
        look = FAMILIES[family].look if family in FAMILIES else {"color": INK, "marker": "o"}
        if others:
            look["color"] = colours[tuple(named[c] for c in others)]
        lines.append((_label(named) if groups else family, look, part))
    return lines


def _label(named: dict[str, Any]) -> str:
    """``plain, depth 20, learning_rate=0.01``."""
    parts = [str(named["family"])] if "family" in named else []
    parts += [f"depth {named['depth']}"] if "depth" in named else []
    rest = {k: v for k, v in named.items() if k not in ("family", "depth")}
    return ", ".join([*parts, *(f"{k.split('.')[-1]}={v}" for k, v in rest.items())])


def _sortable(kind: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    """Numbers by size, before text: spec fields of one table may be of several types."""
    return [(isinstance(value, str), value) for value in kind]
