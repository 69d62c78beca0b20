"""Layer responses after training, as He et al. 2015, Figure 7."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from resnet_study import reference
from resnet_study.drawing import panels, plots, style
from resnet_study.drawing.render import figure
from resnet_study.errors import UserError
from resnet_study.judging.selections import rows_at
from resnet_study.judging.words import two_digits
from resnet_study.records import Frames

LOG_RANGE = 30.0
"""Largest over median response standard deviation from which the axis is logarithmic: a deep plain
network that exploded in its first steps would flatten all others."""

ORDERS = ("layer", "rank")

PAPER_LIMIT = 4.0
"""Upper end of the axis beside the paper's, above the largest value of Figure 7."""


@figure(
    "Layer responses after training",
    "Standard deviation of the responses of the convolutions (output after batch normalisation, "
    "before nonlinearity and addition) after training, in layer order and sorted by magnitude "
    "within each run, as He et al. 2015, arXiv 1512.03385, Figure 7, of finished runs. "
    f"{panels.MEDIANS}",
    beside="Circles are that figure's values, read off its vector paths (one run each).",
)
def response_std(frames: Frames) -> Figure:
    """Standard deviation of the responses of finished runs, by layer and by rank."""
    rows = _ends(frames)
    families, colours = panels.families_in(rows), style.sequential(rows["depth"])
    theirs = _published()
    theirs = theirs[theirs["depth"].isin(colours) & panels.beside_the_paper(frames)]
    titles = [f"{family}, by {order}" for order in ORDERS for family in families]
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
    return style.titled(style.finish(drawn, handles, sentences), _finding(rows))


def _finding(rows: pd.DataFrame) -> str:
    """The largest response of a run, median over seeds, at the deepest depth up to 56 that all
    families have."""
    depths = [set(own["depth"]) for _, own in rows.groupby("family", observed=True)]
    common = set.intersection(*depths)
    if len(depths) < 2 or not common:
        return ""
    depth = max([d for d in common if d <= max(panels.PAIR)] or common)
    at = rows[rows["depth"] == depth]
    runs = at.groupby(["family", "run_id"], observed=True)["response_std"].max()
    largest = runs.groupby("family", observed=True).median()
    said = ", ".join(f"{family} {two_digits(largest[family])}" for family in panels.families_in(at))
    return f"Largest response at depth {depth}: {said}"


@figure(
    "Layer responses beside the paper's",
    "Standard deviation of the responses of the convolutions (output after batch normalisation, "
    "before nonlinearity and addition) after training, plain networks dashed, (above) in layer "
    "order and (below) sorted by magnitude within each run. (Left) He et al. 2015, arXiv "
    "1512.03385, Figure 7, read off its vector paths, one run each. (Right) The same of finished "
    f"runs, in the same axes: responses above {PAPER_LIMIT:g} lie beyond them. {panels.MEDIANS}",
)
def responses_beside_paper(frames: Frames) -> Figure:
    """The paper's responses on the left, those of runs on CIFAR-10 on the right."""
    if not panels.beside_the_paper(frames):
        raise UserError("no responses of the paper: these are not its networks on CIFAR-10")
    measured = _ends(frames)
    rows = pd.concat({"paper": _published(), "runs": measured}, names=["source"])
    rows = _by_order(rows.reset_index("source").reset_index(drop=True))
    colours = style.sequential(rows["depth"])
    looks = {
        family: {"linestyle": style.FAMILIES[family].linestyle, "linewidth": 1.2}
        for family in style.FAMILIES
    }
    titles = [f"{source}, by {order}" for order in ORDERS for source in panels.SOURCES.values()]
    drawn, axes = style.new_figure(2, 2, 4.2, titles, sharex=True, sharey=True)
    for panel, own, (order, source) in plots.cells(axes, rows, order=ORDERS, source=panels.SOURCES):
        told: dict[str, Any] = {"hue": ("depth", colours), "style": ("family", looks)}
        plots.lines(panel, own, "at", "response_std", f"{source}-{{style}}-{{hue}}-{order}", **told)
        panel.set_xlabel(order)
        panel.tick_params(labelbottom=True)
    axes[0, 0].set(xlim=(0, int(rows["at"].max()) + 1), ylim=(0, PAPER_LIMIT))
    for row in axes:
        row[0].set_ylabel("response std")
    beyond = sorted({*measured.loc[measured["response_std"] > PAPER_LIMIT, "network"]})
    sentences = [
        f"Runs: {panels.over_seeds(measured, ['family', 'depth', 'layer'])}",
        "Paper: Figure 7, digitised, one run each.",
        f"Partly beyond the axis: {', '.join(beyond)}." if beyond else "",
        panels.of_runs(frames),
    ]
    handles = style.keys(colours)
    handles += [style.key(family, color=style.INK, **look) for family, look in looks.items()]
    return style.finish(drawn, handles, sentences, columns=5)


def _ends(frames: Frames) -> pd.DataFrame:
    """Responses of the convolutions at the end of finished runs.

    Raises:
        UserError: if there is none.
    """
    rows = panels.layer_rows(frames, "response_std")
    done = frames.runs.index[frames.runs["status"] == "finished"]
    rows = rows_at(rows[rows["run_id"].isin(done)], None)
    rows = rows[panels.drawable(rows["response_std"], positive=False)]
    if rows.empty:
        raise UserError(
            "no finished run has recorded its responses; "
            "finish a run with probes.layers_every above 0"
        )
    return rows.assign(network=rows["family"].astype(str) + "-" + rows["depth"].astype(str))


def _published() -> pd.DataFrame:
    """Figure 7, a run per network."""
    table = reference.fig7().rename(columns={"layer_index": "layer"})
    return table.assign(run_id=table["network"], seed=0)


def _by_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Every row twice, for each ``order`` with its place ``at``: the layer, and the rank by size.

    Ranks are within each run, as in the paper; sorting the medians would flatten the peaks.
    """
    ranks = rows.groupby("run_id", observed=True)["response_std"].rank(
        method="first", ascending=False
    )
    places = {"layer": rows["layer"], "rank": ranks.astype(int)}
    return pd.concat([rows.assign(order=order, at=at) for order, at in places.items()])


FIGURES = (response_std, responses_beside_paper)
