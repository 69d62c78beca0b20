"""Layer responses after training, as He et al. 2015, Figure 7."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_study import reference
from resnet_study.drawing import panels
from resnet_study.drawing.render import figure
from resnet_study.drawing.style import (
    INK,
    band,
    finish,
    key,
    letter,
    log_ticks,
    new_figure,
    sequential,
)
from resnet_study.errors import UserError
from resnet_study.judging.selections import rows_at
from resnet_study.records import Frames

_HE = "He et al. 2015, arXiv 1512.03385"

LOG_RANGE = 30.0
"""Largest over median response standard deviation from which the axis is logarithmic."""


@figure(
    "Layer responses after training",
    "Standard deviation of the responses of the 3×3 layers (output after batch normalisation, "
    "before nonlinearity and addition) after training, in layer order and sorted by magnitude "
    f"within each run, as {_HE}, Figure 7. Means over seeds of finished runs, bands from "
    "smallest to largest. Where the data are CIFAR-10, circles are that figure's values, read "
    "off its vector paths (one run each).",
)
def response_std(frames: Frames) -> Figure:
    """Standard deviation of the responses after training, as He et al. 2015, Figure 7.

    Raises:
        UserError: if no finished run recorded its layers.
    """
    rows = panels.layer_rows(frames, "response_std", ["response_std"])
    done = frames.runs.index[frames.runs["status"] == "finished"]
    rows = rows_at(rows[rows.run_id.isin(done)], None)
    rows = rows[panels.drawable(rows.response_std, positive=False)]
    if rows.empty:
        raise UserError(
            "response_std: no finished run has recorded its responses; "
            "finish a run with probes.layers_every above 0"
        )
    # Sorted within each run, as in the paper; sorting the mean would flatten the seeds' peaks.
    ranks = rows.groupby("run_id").response_std.rank(method="first", ascending=False)
    rows = rows.assign(rank=ranks.astype(int))
    families, depths = panels.families_in(rows), sorted(rows.depth.unique())
    colours = sequential(depths)
    overlay = reference.fig7() if panels.beside_the_paper(frames) else None
    figure, axes = new_figure(2, len(families), 3.7, sharey=True, sharex=True)
    counts: list[int] = []
    for column, family in enumerate(families):
        for row, position in enumerate(("layer", "rank")):
            panel: Axes = axes[row, column]
            for depth in depths:
                part = rows[(rows.family == family) & (rows.depth == depth)]
                means = panels.summarize(part, [position], "response_std")
                counts += list(means.n)
                band(panel, means[position], means.low, means.high, colours[depth])
                panel.plot(
                    means[position],
                    means["mean"],
                    color=colours[depth],
                    linewidth=1.4,
                    gid=f"{family}-{depth}-{position}",
                )
                if overlay is not None:
                    _published_responses(panel, overlay, family, depth, position, colours[depth])
            order = "in layer order" if position == "layer" else "sorted by magnitude"
            letter(panel, row * len(families) + column, f"{family}, {order}")
            panel.set_xlabel("layer" if position == "layer" else "rank")
        axes[0, column].tick_params(labelbottom=True)
    for row in range(2):
        axes[row, 0].set_ylabel("response std")
    if rows.response_std.max() > LOG_RANGE * rows.response_std.median():
        # A deep plain network that exploded in its first steps would flatten all others.
        axes[0, 0].set_yscale("log")
        log_ticks(axes[0, 0])
    else:
        axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_xlim(left=0)
    handles: list[Artist] = [key(f"depth {d}", color=c, linewidth=2.0) for d, c in colours.items()]
    if overlay is not None:
        look = {"linestyle": "none", "marker": "o", "markerfacecolor": "none", "ms": 3.2}
        handles.append(key("He et al. 2015, Fig. 7", color=INK, **look))
    sentences = [
        f"Last iteration, mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bands: minimum to maximum"),
        "Response: output of a 3×3 layer after BN, before nonlinearity and addition.",
        panels.unfinished(frames),
    ]
    return finish(figure, "Layer responses after training", handles, sentences)


def _published_responses(
    panel: Axes, overlay: pd.DataFrame, family: str, depth: int, position: str, colour: str
) -> None:
    """The paper's values as small hollow circles."""
    values = overlay[(overlay.family == family) & (overlay.depth == depth)]
    stds = values.response_std.to_numpy()
    x = values.layer_index.to_numpy() if position == "layer" else np.arange(1, len(stds) + 1)
    y = stds if position == "layer" else np.sort(stds)[::-1]
    panel.plot(x, y, linestyle="none", marker="o", mfc="none", mew=0.7, ms=2.6, color=colour)


FIGURES = (response_std,)
