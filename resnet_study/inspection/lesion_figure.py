"""What lesions do to the test error, after Veit et al. 2016 (arXiv 1605.06431), Figures 3 to 5."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_study import records
from resnet_study.drawing import plots, style
from resnet_study.drawing.render import figure
from resnet_study.errors import UserError
from resnet_study.records import Frames

KINDS: dict[str, dict[str, Any]] = {
    "block_deletion_error": {"color": style.KINDS[0], "marker": "o"},
    "layer_deletion_error": {"color": style.KINDS[1], "marker": "s"},
}
COUNTED = {"random_deletion": "random deletions", "swap": "swaps of two blocks"}


@figure(
    "Lesions",
    "Test error of trained networks that lost one block or layer, k random blocks, or have k pairs "
    "of blocks swapped, after Veit et al. 2016 (arXiv 1605.06431), sections 4.1 to 4.3. Bars are "
    "one standard deviation over the samples of random lesions of one network.",
    across=True,
)
def lesions(frames: Frames) -> Figure:
    """Error against the deleted block or layer, and against k, of one network."""
    rows = frames.initialization
    rows = rows[rows["quantity"].isin(["intact_error", *KINDS, *_counted_quantities()])]
    if rows.empty:
        raise UserError("no lesion was measured; measure with `resnet-study measure RUN`")
    networks = rows[["family", "depth"]].drop_duplicates()
    if len(networks) > 1:
        raise UserError("lesions of one network are drawn at a time")
    family, depth = networks.iloc[0]
    titles = ["one block or layer deleted", "several blocks"]
    drawn, axes = style.new_figure(1, 2, 2.9, titles, sharey=True)
    whole = _values(rows, "intact_error")["value"]
    for panel in axes.flat:
        for value in whole:
            panel.axhline(value, gid="intact", **style.THEORY)
        panel.set_ylim(-2, 102)
    handles = [style.key("whole network", **style.THEORY)]
    handles += _single(axes[0, 0], rows, int(depth))
    handles += _several(axes[0, 1], rows)
    axes[0, 0].set_ylabel("test error, %")
    sentences = [
        f"{family}-{depth}, n = 1 network; nothing was trained again.",
        "Bars: standard deviation over samples of random lesions. In place of what is deleted is "
        "the shortcut, in a plain network nothing; where shapes change, what shortcut A does, and "
        "the middle channels where they become fewer.",
    ]
    return style.finish(drawn, handles, sentences)


def _counted_quantities() -> list[str]:
    return [f"{kind}_{statistic}" for kind in COUNTED for statistic in ("error", "sd")]


def _values(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return rows[rows["quantity"] == quantity].sort_values("index")


def _single(panel: Axes, rows: pd.DataFrame, depth: int) -> list[Any]:
    """Errors against the layer, a block in the middle of its own; lines where stages end."""
    stage = (depth - 2) // 3
    plots.vertical(panel, (1 + stage + 0.5, 1 + 2 * stage + 0.5))
    handles = []
    for quantity, look in KINDS.items():
        own = _values(rows, quantity)
        if own.empty:
            continue
        layer = own["index"]
        if quantity.startswith("block"):
            layers = (depth - 2) // len(own)
            layer = 2 + layers * (own["index"] - 1) + (layers - 1) / 2
        look = {**look, "markersize": 3.2, "linewidth": 0.9}
        panel.plot(layer, own["value"], gid=quantity, **look)
        handles.append(style.key(quantity.removesuffix("_deletion_error") + " deleted", **look))
    panel.set_xlabel("layer")
    return handles


def _several(panel: Axes, rows: pd.DataFrame) -> list[Any]:
    """Errors against k."""
    handles = []
    for (kind, words), colour in zip(COUNTED.items(), style.KINDS[2:], strict=True):
        own, spread = (_values(rows, f"{kind}_{of}") for of in ("error", "sd"))
        if own.empty:
            continue
        middle, sd = own["value"].to_numpy(float), np.nan_to_num(spread["value"].to_numpy(float))
        # A bar ends where errors do.
        bars = np.minimum(sd, middle), np.minimum(sd, 100 - middle)
        look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3.2, "linewidth": 0.9}
        panel.errorbar(own["index"], own["value"], yerr=bars, elinewidth=0.9, gid=kind, **look)
        handles.append(style.key(words, **look))
    ticks = sorted(set(rows[rows["quantity"].isin(_counted_quantities())]["index"]))
    if ticks:
        plots.depth_axis(panel, ticks)
    else:
        plots.say(panel, "no block could be moved")
    panel.set_xlabel("k (log scale)")
    return handles


def frames_of(table: pd.DataFrame) -> Frames:
    """A table of `resnet_study.inspection.measure` as frames without runs."""
    return records.frames_of([])._replace(initialization=table)
