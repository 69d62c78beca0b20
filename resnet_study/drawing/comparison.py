"""A figure of any tables of `resnet_study.judging.compare`.

It draws what the tables say, medians, the lowest and the highest: other seeds are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from resnet_study.drawing import panels
from resnet_study.drawing.look import current
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
    shades,
    titled,
)
from resnet_study.errors import UserError
from resnet_study.judging.selections import SPREAD
from resnet_study.spec import RunSpec

AXES = {"depth": DEPTH, "layer": "layer (1 = input)", "step": ITERATION}

SHADES = 4
"""Kinds of networks of a family that are told apart by shades of its colour."""

FEW = 12
"""Positions up to which each has a marker, a tick and a bar; more have a band."""


def comparison_figure(tables: Mapping[str, pd.DataFrame], against: str, about: str = "") -> Figure:
    """Median of quantities, from the lowest to the highest run, one line per group of runs.

    A y axis is logarithmic if all medians are positive and span a factor of 100 or more.

    Args:
        tables: a panel each, by the label of its y axis; columns `SPREAD` and the one named
            `against`; the other columns tell the lines apart: family by colour, line style and
            marker, all else by shades of that colour, or by colours of a map where there is one
            family, a look with a palette, or more than `SHADES` kinds. With a column ``level`` the
            ends are those of intervals.
        against: column of the x axis; ``step`` is drawn on a logarithmic axis that holds iteration
            0, and what is no number in the order of its names.
        about: what was selected, for the small print.

    Raises:
        UserError: if a column is missing or nothing in ``median`` is finite.
    """
    shown = {}
    for label, table in tables.items():
        absent = [c for c in (against, *SPREAD) if c not in table]
        if absent:
            raise UserError(
                f"comparison: no column {', '.join(absent)}; there are {', '.join(table.columns)}"
            )
        rows = table[panels.drawable(table["median"], positive=False)].sort_values(against)
        if rows.empty:
            raise UserError(
                f"comparison: {label} has no finite median against {against}; choose other runs"
            )
        shown[label] = rows
    with drawing():
        dropped = sum(map(len, tables.values())) - sum(map(len, shown.values()))
        return _draw(shown, against, about, dropped)


def _draw(tables: Mapping[str, pd.DataFrame], against: str, about: str, dropped: int) -> Figure:
    figure, axes = new_figure(len(tables), 1, 2.8 * len(tables), sharex=True)
    handles: dict[str, Artist] = {}
    for panel, (label, rows) in zip(axes.flat, tables.items(), strict=True):
        handles |= _panel(panel, label, rows, against)
    log = " (log scale)" if axes[-1, 0].get_xscale() == "log" else ""
    words = against.rpartition(".")[2].replace("_", " ")
    axes[-1, 0].set_xlabel(AXES.get(against, words + log))
    joined = pd.concat(tables.values())
    # Of one seed there may be several, where lines pool what differs.
    what = "pair of runs" if "difference" in joined else "run"
    sentences = [f"Medians over {panels.seeds(joined['n'], what)}.", _ends(joined), about]
    title = f"{', '.join(label.partition(' (')[0] for label in tables)} against {words}"
    return titled(
        finish(figure, list(handles.values()), [*sentences, panels.left_out(dropped)]), title
    )


def _panel(panel: Axes, label: str, rows: pd.DataFrame, against: str) -> dict[str, Artist]:
    """Draw one table; keys of the legend by label."""
    positions, medians = rows[against].unique(), rows["median"]
    if medians.min() > 0 and medians.max() / medians.min() >= 100:
        panel.set_yscale("log")
    numeric = is_numeric_dtype(rows[against]) and not is_bool_dtype(rows[against])
    if not numeric:
        rows = rows.assign(**{against: rows[against].map(list(positions).index)})
        panel.set_xticks(range(len(positions)), [str(name) for name in positions])
        panel.set_xlim(-0.5, len(positions) - 0.5)
    elif against == "step":
        iteration_axis(panel, int(positions.max()))
    elif len(positions) <= FEW:
        depth_axis(panel, positions)
    handles: dict[str, Artist] = {}
    for name, look, line in _lines(rows, against):
        x, ends = line[against], (line["low"], line["high"])
        if len(positions) > FEW:
            look["marker"] = ""
            panel.fill_between(x, *ends, color=look["color"], alpha=0.18, linewidth=0)
        else:
            bars = {"color": look["color"], "linewidth": 1.0}
            panel.vlines(x, *ends, **bars)
        # The first and the last marker lie on the ends of an axis of iterations.
        panel.plot(x, line["median"], gid=name or label, clip_on=False, **look)
        handles[name or label] = key(name or label, **look)
    told = list(rows["difference"].unique()) if "difference" in rows else []
    name, unit = label.partition(" (")[::2]
    panel.set_ylabel(f"{name}\n{told[0]}{f' ({unit}' if unit else ''}" if len(told) == 1 else label)
    panel.grid(axis="y", color=FAINT, linewidth=0.5)
    return handles


def _ends(rows: pd.DataFrame) -> str:
    """What bars and bands are."""
    if "level" in rows:
        levels = sorted({f"{100 * level:.1f}" for level in rows["level"].dropna()})
        named = " to ".join(dict.fromkeys((levels[0], levels[-1]))) if levels else ""
        what = f"exact intervals of the median ({named} %)" if named else "none, for too few seeds"
        return f"Differences between runs of one seed. Bars and bands: {what}."
    single = rows["n"].max() == 1
    return "One run each: no spread." if single else "Bars and bands: lowest to highest."


def _lines(rows: pd.DataFrame, against: str) -> list[tuple[str, dict[str, Any], pd.DataFrame]]:
    """Label, look and rows of every line."""
    groups = [
        c for c in rows.columns if c not in (against, *SPREAD, "level") and rows[c].nunique() > 1
    ]
    others = [c for c in groups if c != "family"]
    kinds = sorted(set(rows[others].itertuples(index=False, name=None)), key=_sortable)
    ordered = list(sequential(range(len(kinds))).values())
    by_shade = "family" in groups and not current().palette and len(kinds) <= SHADES
    parts = rows.groupby(groups, dropna=False, observed=True) if groups else [((), rows)]
    lines = []
    for values, part in parts:
        named = dict(zip(groups, values, strict=True))
        family = str(part["family"].iloc[0]) if "family" in part else ""
        look = FAMILIES[family].look if family in FAMILIES else {"color": INK, "marker": "o"}
        if others:
            place = kinds.index(tuple(named[c] for c in others))
            tints = shades(look["color"], len(kinds)) if by_shade else ordered
            look["color"] = tints[place]
        lines.append((_label(named) if groups else family, look, part))
    return lines


def _label(named: dict[str, Any]) -> str:
    """``plain, depth 20, learning_rate=0.01``; of many settings those not at their default."""
    parts = [str(named["family"])] if "family" in named else []
    parts += [f"depth {named['depth']}"] if "depth" in named else []
    rest = {k: v for k, v in named.items() if k not in ("family", "depth")}
    usual = RunSpec().flat() if len(rest) > panels.MANY else {}
    parts += [f"{k.split('.')[-1]}={v}" for k, v in rest.items() if usual.get(k) != v]
    return ", ".join(parts) or "defaults"


def _sortable(kind: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    """Numbers by size, before text: spec fields of one table may be of several types."""
    return [(isinstance(value, str), value) for value in kind]
