"""Layer responses after training, as He et al. 2015, Figure 7."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from resnet_study import reference
from resnet_study.drawing import panels, plots, style
from resnet_study.drawing.render import figure
from resnet_study.errors import UserError
from resnet_study.judging.selections import rows_at
from resnet_study.records import Frames

LOG_RANGE = 30.0
"""Largest over median response standard deviation from which the axis is logarithmic: a deep plain
network that exploded in its first steps would flatten all others."""

ORDERS = {"layer": "in layer order", "rank": "sorted by magnitude"}


@figure(
    "Layer responses after training",
    "Standard deviation of the responses of the convolutions (output after batch normalisation, "
    "before nonlinearity and addition) after training, in layer order and sorted by magnitude "
    "within each run, as He et al. 2015, arXiv 1512.03385, Figure 7, of finished runs. "
    f"{panels.MEDIANS} Where the data are CIFAR-10, circles are that figure's values, read off "
    "its vector paths (one run each).",
)
def response_std(frames: Frames) -> Figure:
    """Standard deviation of the responses of finished runs, by layer and by rank."""
    rows = panels.layer_rows(frames, "response_std")
    done = frames.runs.index[frames.runs["status"] == "finished"]
    rows = rows_at(rows[rows["run_id"].isin(done)], None)
    rows = rows[panels.drawable(rows["response_std"], positive=False)]
    if rows.empty:
        raise UserError(
            "no finished run has recorded its responses; "
            "finish a run with probes.layers_every above 0"
        )
    families, colours = panels.families_in(rows), style.sequential(rows["depth"])
    theirs = reference.fig7().rename(columns={"layer_index": "layer", "network": "run_id"})
    theirs = theirs[theirs["depth"].isin(colours) & panels.beside_the_paper(frames)]
    titles = [f"{family}, {order}" for order in ORDERS.values() for family in families]
    drawn, axes = style.new_figure(2, len(families), 3.7, titles, sharey=True, sharex=True)
    if rows["response_std"].max() > LOG_RANGE * rows["response_std"].median():
        axes[0, 0].set_yscale("log")
    cells = plots.cells(axes, _by_order(rows), order=ORDERS, family=families)
    for panel, own, (order, family) in cells:
        gid = f"{family}-{{hue}}-{order}"
        plots.lines(panel, own, "at", "response_std", gid, hue=("depth", colours), linewidth=1.4)
        published = _by_order(theirs[theirs["family"] == family])
        for depth, part in published[published["order"] == order].groupby("depth"):
            look = {**style.HOLLOW, "color": colours[depth], "marker": "o", "ms": 2.6, "mew": 0.7}
            panel.plot(part["at"], part["response_std"], **look)
        panel.set_xlabel(order)
        panel.tick_params(labelbottom=True)
    style.label(axes[:1], "layer", "response std")
    style.label(axes[1:], "rank", "response std")
    axes[0, 0].set_xlim(left=0)
    if axes[0, 0].get_yscale() == "linear":
        axes[0, 0].set_ylim(bottom=0)
    handles = style.keys(colours)
    if len(theirs):
        mark = {**style.HOLLOW, "color": style.INK, "marker": "o", "ms": 3.2}
        handles.append(style.key("He et al. 2015, Fig. 7", **mark))
    sentences = [
        f"Last iteration. {panels.over_seeds(rows, ['family', 'depth', 'layer'])}",
        "Response: output of a convolution after BN, before nonlinearity and addition.",
        panels.of_runs(frames),
    ]
    return style.finish(drawn, handles, sentences)


def _by_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Every row twice, for each ``order`` with its place ``at``: the layer, and the rank by size.

    Ranks are within each run, as in the paper; sorting the medians would flatten the peaks.
    """
    ranks = rows.groupby("run_id")["response_std"].rank(method="first", ascending=False)
    places = {"layer": rows["layer"], "rank": ranks.astype(int)}
    return pd.concat([rows.assign(order=order, at=at) for order, at in places.items()])


FIGURES = (response_std,)
