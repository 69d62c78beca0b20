"""A figure of any table of `resnet_study.judging.compare`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_study.drawing import panels
from resnet_study.drawing.style import (
    FAINT,
    FAMILIES,
    INK,
    band,
    drawing,
    error_bars,
    finish,
    key,
    log1p_iterations,
    new_figure,
    numeric_axis,
    sequential,
)
from resnet_study.errors import UserError

STATISTICS = ["mean", "sd", "n"]

AXES = {"depth": "depth (weighted layers)", "layer": "layer (1 = input)", "step": "iteration"}


def comparison_figure(table: pd.DataFrame, quantity: str, against: str) -> Figure:
    """Mean ± standard deviation of a quantity, one line per group of runs.

    The y axis is logarithmic if all means are positive and span a factor of 100 or more.

    Args:
        table: columns ``mean``, ``sd``, ``n`` and the one named `against`; the other columns
            tell the lines apart: family by line style and marker, all else by colour.
        quantity: label of the y axis, with its unit.
        against: column of the x axis, numeric; ``step`` is drawn on a logarithmic axis that
            holds iteration 0.

    Raises:
        UserError: if a column is missing or nothing in ``mean`` is finite.
    """
    absent = [c for c in (against, *STATISTICS) if c not in table]
    if absent:
        raise UserError(
            f"comparison: no column {', '.join(absent)}; there are {', '.join(table.columns)}"
        )
    rows = table[panels.drawable(table["mean"], positive=False)]
    if rows.empty:
        raise UserError(
            f"comparison: {quantity} has no finite mean against {against}; choose other runs"
        )
    with drawing():
        return _draw(rows, quantity, against, dropped=len(table) - len(rows))


def _draw(rows: pd.DataFrame, quantity: str, against: str, dropped: int) -> Figure:
    figure, axes = new_figure(1, 1, 2.8)
    panel: Axes = axes[0, 0]
    logarithmic = bool((rows["mean"] > 0).all()) and _span(rows["mean"]) >= 100
    if logarithmic:
        panel.set_yscale("log")
    values = sorted(rows[against].unique())
    if against == "step":
        log1p_iterations(panel, int(values[-1]))
    elif len(values) <= 12:
        numeric_axis(panel, values)
    lines = _lines(rows, against)
    handles: list[Artist] = []
    for label, look, line in lines:
        line = line.sort_values(against)
        sd = line.sd.fillna(0.0)
        low = line["mean"] - sd
        if logarithmic:
            # A bar that reaches zero has no place on a log axis; it ends at the lowest mean.
            low = low.where(low > 0, np.minimum(line["mean"], rows["mean"].min()))
        if len(values) > 12:
            look = {**look, "marker": ""}
            band(panel, line[against], low, line["mean"] + sd, look["color"])
            panel.plot(line[against], line["mean"], gid=label or quantity, **look)
        else:
            below = line["mean"] - low
            error_bars(panel, line[against], line["mean"], below, sd, label or quantity, **look)
        handles.append(key(label or quantity, **look))
    panel.set_xlabel(AXES.get(against, against))
    panel.set_ylabel(quantity)
    panel.grid(axis="y", color=FAINT, linewidth=0.5)
    counts = list(rows.n)
    sentences = [
        f"Mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bars and bands: ± one standard deviation"),
        panels.left_out_count(dropped, "not finite"),
    ]
    widest = max(len(label) for label, _, _ in lines)
    columns = 4 if widest < 12 else 3 if widest < 20 else 2 if widest < 38 else 1
    return finish(figure, f"{quantity} against {against}", handles, sentences, columns)


def _lines(rows: pd.DataFrame, against: str) -> list[tuple[str, dict[str, Any], pd.DataFrame]]:
    """Label, look and rows of every line."""
    groups = [c for c in rows.columns if c not in (against, *STATISTICS) and rows[c].nunique() > 1]
    others = [c for c in groups if c != "family"]
    if not groups:
        family = str(rows["family"].iloc[0]) if "family" in rows else ""
        look = _look(family, FAMILIES[family].colour if family in FAMILIES else INK)
        return [(family, look, rows)]
    kinds = sorted(set(rows[others].itertuples(index=False, name=None)), key=_sortable)
    colours = sequential(range(len(kinds)))
    order = {kind: colours[index] for index, kind in enumerate(kinds)}
    lines = []
    for values, part in rows.groupby(groups, sort=True, dropna=False):
        named = dict(zip(groups, values, strict=True))
        family = str(part["family"].iloc[0]) if "family" in part else ""
        kind = tuple(named[c] for c in others)
        own = FAMILIES[family].colour if family in FAMILIES else INK
        look = _look(family, order[kind] if others else own)
        lines.append((_label(named), look, part))
    return lines


def _look(family: str, colour: str) -> dict[str, Any]:
    style = FAMILIES.get(family)
    return {
        "color": colour,
        "linestyle": style.linestyle if style else "-",
        "marker": style.marker if style else "o",
    }


def _label(named: dict[str, Any]) -> str:
    """``plain, depth 20, learning_rate=0.01``."""
    parts = [str(named["family"])] if "family" in named else []
    parts += [f"depth {named['depth']}"] if "depth" in named else []
    rest = {k: v for k, v in named.items() if k not in ("family", "depth")}
    return ", ".join([*parts, *(f"{k.split('.')[-1]}={v}" for k, v in rest.items())])


def _sortable(kind: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    """Numbers by size, before text: spec fields of one table may be of several types."""
    return [(isinstance(value, str), value) for value in kind]


def _span(means: Sequence[float] | pd.Series) -> float:
    return float(max(means) / min(means))
