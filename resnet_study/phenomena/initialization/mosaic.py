"""What the figures of signals at initialisation share: panels, axes of depth, legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from resnet_study.drawing import panels
from resnet_study.drawing.style import (
    FAMILIES,
    INK,
    WIDTH,
    at_most,
    error_bars,
    key,
    numeric_axis,
)
from resnet_study.errors import UserError

THEORY: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.4}


def require(rows: pd.DataFrame, name: str) -> None:
    """Raise if there is nothing to draw.

    Raises:
        UserError: that says how to measure it.
    """
    if rows.empty:
        raise UserError(
            f"{name}: no such signal was measured at initialisation; "
            "measure with `resnet-study reproduce signal_propagation`"
        )


def mosaic_of(mosaic: list[list[str]], height: float) -> tuple[Figure, dict[str, Axes]]:
    """An empty figure and its panels by name; height of all rows together in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplot_mosaic(cast(Any, mosaic))


def shown_depths(rows: pd.DataFrame) -> list[int]:
    """At most three: the paper's pair and the deepest if there are more, or an even choice."""
    depths = sorted(int(d) for d in rows["depth"].unique())
    if len(depths) > 3 and {20, 56} <= set(depths):
        return sorted({20, 56, depths[-1]})
    return at_most(depths, 3)


def depth_axis(panel: Axes, depths: Sequence[int]) -> None:
    """Logarithmic depth axis with the depths as ticks."""
    if depths:
        numeric_axis(panel, depths)
        crowded = 44 in depths and 56 in depths
        labels = {d: "" if crowded and d == 44 else str(d) for d in depths}
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: labels.get(round(x), "")))
    panel.set_xlabel("depth (weighted layers)")


def depth_keys(colours: dict[int, str]) -> list[Artist]:
    """Legend entries of the depths."""
    return [key(f"depth {d}", color=c, linewidth=2.4) for d, c in colours.items()]


def family_keys(families: Sequence[str]) -> list[Artist]:
    """Legend entries of the families."""
    styles = (FAMILIES[f] for f in families)
    return [
        key(s.label, color=s.colour, linestyle=s.linestyle, marker=s.marker, ms=4) for s in styles
    ]


def draw_by_depth(
    panel: Axes, table: pd.DataFrame, family: str, gid: str, geometric: bool = False
) -> list[int]:
    """One number per network against depth, in the look of its family; returns the n of each."""
    style = FAMILIES[family]
    look = {"color": style.colour, "linestyle": style.linestyle, "marker": style.marker, "ms": 4}
    return draw_table(panel, table, gid, look, geometric)


def draw_table(
    panel: Axes, table: pd.DataFrame, gid: str, look: dict[str, Any], geometric: bool = True
) -> list[int]:
    """The same in any look: mean and range over the seeds of a table of seeds by depths."""
    long = table.melt(var_name="depth", value_name="value").astype(float)
    means = panels.summarize(long, ["depth"], "value", geometric)
    if len(means):
        # A geometric mean of one number differs from it by rounding.
        below = (means["mean"] - means.low).clip(lower=0)
        above = (means.high - means["mean"]).clip(lower=0)
        error_bars(panel, means.depth, means["mean"], below, above, gid, **look)
    return list(means.n)
