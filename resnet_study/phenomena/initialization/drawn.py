"""What the figures of networks at initialisation share: the selected rows, numbers by depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from resnet_study.drawing import panels, plots
from resnet_study.drawing.style import FAMILIES
from resnet_study.errors import UserError
from resnet_study.phenomena.initialization.fits import BN_PLAIN, BN_RESIDUAL, NetworkKind, rows_of
from resnet_study.records import Frames

NORMALIZED = {"plain": BN_PLAIN, "residual": BN_RESIDUAL}

LOOKS: plots.Looks = {family: look.look for family, look in FAMILIES.items()}


def measured(
    frames: Frames, quantity: str, networks: Mapping[str, NetworkKind], positive: bool = True
) -> pd.DataFrame:
    """What was measured of some networks, as `rows_of` has it, named by the column ``kind``.

    Left out is what is not finite, with ``positive`` also what a logarithmic axis has no place for.

    Raises:
        UserError: that says how to measure it, if nothing was.
    """
    parts = [
        rows_of(frames, quantity, network).assign(kind=kind) for kind, network in networks.items()
    ]
    rows = pd.concat(parts, ignore_index=True)
    return required(rows[panels.drawable(rows["value"], positive)])


def required(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows.

    Raises:
        UserError: if there are none.
    """
    if rows.empty:
        raise UserError(
            "no such quantity was measured at initialisation; "
            "measure with `resnet-study reproduce signal_propagation`"
        )
    return rows


def by_depth(
    panel: Axes, tables: Mapping[Any, pd.DataFrame], gid: str, looks: plots.Looks = LOOKS
) -> None:
    """One number per network against depth.

    Args:
        panel: where.
        tables: of seeds by depths (`fits.per_network`), by name.
        gid: of the lines; ``{style}`` stands for the name.
        looks: of the lines by name, by default those of the families.
    """
    long = [
        table.melt(var_name="depth", ignore_index=False).rename_axis("seed").assign(name=name)
        for name, table in tables.items()
        if table.size
    ]
    if not long:
        return
    rows = pd.concat(long).reset_index().astype({"depth": int})
    plots.lines(panel, rows, "depth", "value", gid, style=("name", looks), joined=False)
    plots.depth_axis(panel, rows["depth"])
    panel.set_xlabel(plots.DEPTH)
