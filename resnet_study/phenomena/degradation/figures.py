"""Errors against depth, rate and iteration, in the style of He et al. 2015, Figure 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import ScaledTranslation

from resnet_study import reference
from resnet_study.drawing import panels, plots, style
from resnet_study.drawing.look import current
from resnet_study.drawing.render import figure
from resnet_study.errors import UserError
from resnet_study.judging.selections import chance_error, final_error
from resnet_study.records import Frames

PAPER_LIMIT = 20.0
"""Upper end of the error axis of He et al. 2015, Figure 6, in percent."""

TRAINING_ERROR = {
    "train": "Training error of the mini-batches as trained.",
    "train_clean": "Training error of all training images, not augmented.",
}

GRID = (5.0, 10.0)
"""Percent, where Figure 6 has lines across."""

RATE = "optimizer.learning_rate"

SQUARE = ((-1, -1), (1, -1), (1, 1), (-1, 1))

CELL = 19.0
"""Points: height of a cell of `rate_and_depth`, and width of the stripes of its seeds together."""

_HE = "He et al. 2015, arXiv 1512.03385"

LOOKS: Mapping[str, dict[str, Any]] = {
    "training": {"linestyle": "--", "linewidth": 1.0},
    "test": {"linewidth": 2.0},
}
"""Of curves."""

_COLUMNS = ["family", "depth", "seed", "split", "step", "error"]


@figure(
    "Error against depth",
    "Error at the end of training against depth, (a) on the training images and (b) on the "
    f"test images, of plain and residual networks. {panels.MEDIANS} A run that diverged counts "
    "with the error of guessing, or its last one if that is larger, and is drawn as a cross.",
    beside=f"Hollow diamonds are published values ({_HE}): test errors of residual networks from "
    "Table 6 (for ResNet-110 the mean of five runs), all others read off Figure 6; an upward "
    "arrow on a diamond marks a published lower bound.",
)
def error_against_depth(frames: Frames) -> Figure:
    """Training and test error at the end (`final_error`) against depth, both families."""
    splits = {train_split(frames): "Training error", "test": "Test error"}
    ends = pd.concat([final_error(frames, split).assign(split=split) for split in splits])
    if ends.empty:
        raise UserError("no run has come to its end; finish the runs or choose a study that has")
    families, limit = panels.families_in(ends), error_limit(frames)
    looks = {family: style.FAMILIES[family].look for family in families}
    overlay = reference.published_errors()
    overlay = overlay[overlay["depth"].isin(ends["depth"]) & panels.beside_the_paper(frames)]
    drawn, axes = style.new_figure(1, 2, 2.5, splits.values(), sharey=True)
    for panel, own, split in plots.cells(axes, ends, split=splits):
        plots.depth_axis(panel, ends["depth"])
        panel.grid(axis="y", color=style.FAINT, linewidth=0.5)
        gid = f"{{style}}-{split}"
        plots.lines(panel, own, "depth", "error", gid, style=("family", looks), joined=False)
        theirs = overlay[overlay["split"] == split.removesuffix("_clean")]
        for family in families:
            look = {"color": looks[family]["color"], "linestyle": "none"}
            lost = own[(own["family"] == family) & (own["status"] == "diverged")]
            panel.plot(lost["depth"], lost["error"], marker="x", ms=7, mew=1.3, **look)
            of_family = theirs[theirs["family"] == family]
            look |= {**style.HOLLOW, "marker": "D", "ms": 7.5, "zorder": 1}
            panel.plot(of_family["depth"], of_family["error"], **look)
        for family, depth, error in _values(theirs[theirs["bound"]]):
            _arrow(panel, family, depth, error + 2, error + 12)
        for family, depth, error in _values(panels.medians(own, ["family", "depth"], "error")):
            if limit and error > limit:
                _arrow(panel, family, depth, 0.90 * limit, 0.99 * limit, f"{error:.0f} %")
    plots.error_axis(axes[0, 0], limit)
    style.label(axes, plots.DEPTH, "error (%)")
    handles = style.family_keys(families)
    if len(overlay):
        mark = {**style.HOLLOW, "color": style.INK, "marker": "D"}
        handles.append(style.key("He et al. 2015", **mark))
    if (ends["status"] == "diverged").any():
        handles.append(style.key("diverged run", color=style.INK, linestyle="none", marker="x"))
    digitised = "He et al.: Table 6 (test, residual) and Figure 6, digitised (all else)."
    sentences = [
        panels.over_seeds(ends, ["family", "depth", "split"]),
        TRAINING_ERROR[train_split(frames)],
        digitised if len(overlay) else "",
        f"Arrows: beyond the axis, which ends at {limit:g} % as in the paper." if limit else "",
        panels.of_runs(frames),
    ]
    return style.finish(drawn, handles, sentences)


@figure(
    "Training curves",
    f"Error against iteration in the style of {_HE}, Figure 6: training error dashed, test error "
    f"bold, darker for deeper networks. {panels.MEDIANS}",
    beside="Hollow marks on the right edge are published final errors (triangles: training; "
    "circles: test) of Figure 6 and Table 6.",
)
def training_curves(frames: Frames) -> Figure:
    """Error over training: one panel per family, training dashed, test bold."""
    train = train_split(frames)
    looks = {train: LOOKS["training"], "test": LOOKS["test"]}
    rows = frames.metrics[frames.metrics["split"].isin(looks)]
    rows, _ = panels.drawable_rows(rows, "error", positive=False)
    families, colours = panels.families_in(rows), style.sequential(rows["depth"])
    overlay = reference.published_errors()
    overlay = overlay[overlay["depth"].isin(colours) & ~overlay["bound"]]
    overlay = overlay[overlay["family"].isin(families) & panels.beside_the_paper(frames)]
    limit, last = error_limit(frames), int(rows["step"].max())
    drawn, axes = style.new_figure(1, len(families), 2.9, families, sharey=True)
    published = {"train": ("training, He et al.", "^"), "test": ("test, He et al.", "o")}
    for panel, own, family in plots.cells(axes, rows, family=families):
        plots.linear_iterations(panel, last)
        plots.vertical(panel, {*frames.runs["schedule.first_drop"]})
        plots.vertical(panel, {*frames.runs["schedule.second_drop"]})
        told: dict[str, Any] = {"hue": ("depth", colours), "style": ("split", looks)}
        plots.lines(panel, own, "step", "error", f"{family}-{{hue}}-{{style}}", **told)
        for (split, depth), end in overlay[overlay["family"] == family].groupby(["split", "depth"]):
            mark = {**style.HOLLOW, "marker": published[split][1], "color": colours[depth]}
            panel.plot(last, end["error"], zorder=5, clip_on=False, **mark)
    plots.error_axis(axes[0, 0], limit)
    style.label(axes, "iteration", "error (%)")
    handles = style.keys(colours)
    handles += [style.key(name, color=style.INK, **look) for name, look in LOOKS.items()]
    if len(overlay):
        handles += [
            style.key(name, color=style.INK, marker=m, **style.HOLLOW)
            for name, m in published.values()
        ]
    sentences = [
        panels.over_seeds(rows, ["family", "depth", "split", "step"]),
        TRAINING_ERROR[train],
        "Vertical lines: drops of the learning rate.",
        _beyond(frames, limit),
        "He et al. 2015: ends of the curves in Figure 6, digitised, and Table 6."
        if len(overlay)
        else "",
        panels.of_runs(frames),
    ]
    return style.finish(drawn, handles, sentences)


@figure(
    "Training curves beside the paper's",
    f"Error against iteration, training dashed and test bold. (Above) {_HE}, Figure 6 left and "
    "middle, read off its vector paths; Figure 1 shows plain-20 and plain-56 of them. One run "
    "each. (Below) The same of these runs, in the same axes: those of the paper, beyond which "
    f"errors above {PAPER_LIMIT:g} % lie, or up to 100 % where most of these networks end there. "
    f"{panels.MEDIANS}",
)
def curves_beside_paper(frames: Frames) -> Figure:
    """The paper's curves above, those of runs on CIFAR-10 below, a column per family."""
    if not panels.beside_the_paper(frames):
        raise UserError("no curves of the paper: these are not its networks on CIFAR-10")
    train = train_split(frames)
    looks = {"train": LOOKS["training"], "test": LOOKS["test"]}
    rows = pd.concat({"paper": _published(), "runs": _measured(frames, train)}, names=["source"])
    rows = rows.reset_index("source").reset_index(drop=True)
    rows, _ = panels.drawable_rows(rows, "error", positive=False)
    measured = rows[rows["source"] == "runs"]
    if measured.empty:
        raise UserError("no run has recorded errors")
    families, colours = panels.families_in(measured), style.sequential(rows["depth"])
    titles = [f"{family}, {source}" for source in panels.SOURCES.values() for family in families]
    drawn, axes = style.new_figure(2, len(families), 4.6, titles, sharey=True)
    told: dict[str, Any] = {"hue": ("depth", colours), "style": ("split", looks)}
    for panel, own, (source, family) in plots.cells(
        axes, rows, source=panels.SOURCES, family=families
    ):
        last = int(rows.loc[rows["source"] == source, "step"].max())
        plots.linear_iterations(panel, last)
        for error in GRID:
            panel.axhline(error, color=style.FAINT, linewidth=0.7, zorder=0)
        plots.lines(panel, own, "step", "error", f"{source}-{family}-{{hue}}-{{style}}", **told)
    plots.error_axis(axes[0, 0], error_limit(frames) or 100.0)
    style.label(axes, "iteration", "error (%)")
    handles = style.keys(colours)
    handles += [style.key(name, color=style.INK, **look) for name, look in LOOKS.items()]
    sentences = [
        f"Below: {panels.over_seeds(measured, ['family', 'depth', 'split', 'step'])}",
        TRAINING_ERROR[train],
        "Above: Figure 6, digitised, one run each.",
        panels.of_runs(frames),
    ]
    return style.finish(drawn, handles, sentences)


@figure(
    "Training error by learning rate and depth",
    "Training error at the end, of plain and residual networks, by learning rate and depth. A cell "
    "has a stripe for each seed, from the lowest error to the highest, so that the middle one is "
    "the median and seeds that fail are seen beside those that do not. The colours go from no "
    "error to that of guessing. A run that diverged counts with that of guessing, or its last one "
    "if that is larger.",
    across=True,
)
def rate_and_depth(frames: Frames) -> Figure:
    """A panel per family; other than by rate, depth and seed runs may not differ."""
    apart = panels.arms(frames.runs, [RATE], following=False).unique()
    if len(apart) > 1:
        raise UserError(f"the runs differ in more than rate and depth: {' or '.join(apart[:2])}")
    split = train_split(frames)
    ends = final_error(frames, split).join(frames.runs[RATE].astype(float).rename("rate"))
    if ends["rate"].nunique() < 2 or ends["depth"].nunique() < 2:
        raise UserError(
            "takes several learning rates and depths, such as of sweeps/rate_and_depth.yaml"
        )
    families = panels.families_in(ends)
    drawn, axes = style.new_figure(1, len(families), 2.9, families, sharey=True, sharex=True)
    scale = Normalize(0, float(chance_error(frames).max()))
    for panel, own, family in plots.cells(axes, ends, family=families):
        panel.set_yscale("log")
        plots.depth_axis(panel, ends["depth"])
        for order, total, part in _stripes(own):
            width = CELL / total
            away = current().text * (order - (total - 1) / 2) * width / 72
            beside = ScaledTranslation(away, 0, drawn.dpi_scale_trans)
            points = panel.scatter(
                part["depth"],
                part["rate"],
                s=CELL**2,
                c=part["error"],
                norm=scale,
                cmap="cividis",
                marker=Path([(x / total, y) for x, y in SQUARE]),
                linewidths=0,
                transform=panel.transData + beside,
                gid=f"{family}, {order + 1} of {total} seeds by error",
            )
        # What is moved aside does not count for the limits.
        panel.update_datalim(own[["depth", "rate"]].to_numpy(float))
        panel.margins(y=0.12)
        panel.autoscale_view(scalex=False)
    style.label(axes, plots.DEPTH, "learning rate (log scale)")
    drawn.colorbar(points, ax=list(axes[0]), label="training error (%)", aspect=32)
    sentences = [
        f"{panels.seeds(ends.groupby(['family', 'depth', 'rate'], observed=True).size())} per "
        "cell, each a stripe.",
        TRAINING_ERROR[split],
        panels.of_runs(frames),
    ]
    return style.finish(drawn, [], sentences)


def _published() -> pd.DataFrame:
    """Of the plain networks, and of the residual ones to 110 layers."""
    table = reference.fig6()
    table = table[table["panel"] != "deep"]
    names = {"iteration": "step", "error_percent": "error"}
    return table.rename(columns=names).assign(seed=0)[_COLUMNS]


def _measured(frames: Frames, train: str) -> pd.DataFrame:
    rows = frames.metrics[frames.metrics["split"].isin((train, "test"))]
    return rows.assign(split=rows["split"].replace(train, "train"))[_COLUMNS]


def train_split(frames: Frames) -> str:
    """``train`` (mini-batches as trained, what the claims judge), else ``train_clean``.

    He et al. do not say which of the two their training errors are.
    """
    return "train" if (frames.metrics["split"] == "train").any() else "train_clean"


def error_limit(frames: Frames) -> float | None:
    """Upper end of the error axis: the paper's 20 % if most CIFAR-10 networks end below it."""
    ends = _median_ends(frames)
    most_fit = len(ends) and ends["error"].median() < 0.9 * PAPER_LIMIT
    return PAPER_LIMIT if panels.beside_the_paper(frames) and most_fit else None


def _median_ends(frames: Frames) -> pd.DataFrame:
    """Test error at the end: ``family``, ``depth``, ``error``."""
    return panels.medians(final_error(frames), ["family", "depth"], "error")


def _beyond(frames: Frames, limit: float | None) -> str:
    named = ", ".join(
        f"{family}-{depth} (ends at {error:.0f} % test error)"
        for family, depth, error in _values(_median_ends(frames))
        if limit and error > limit
    )
    return f"Beyond the axis: {named}." if named else ""


def _values(rows: pd.DataFrame) -> list[tuple[str, int, float]]:
    columns = (rows[name].tolist() for name in ("family", "depth", "error"))
    return list(zip(*columns, strict=True))


def _arrow(panel: Axes, family: str, depth: int, start: float, end: float, text: str = "") -> None:
    """Upward, in the colour of the family."""
    colour = style.FAMILIES[family].colour
    look = {"arrowstyle": "->", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
    words: dict[str, Any] = {"ha": "right", "color": colour, "annotation_clip": True}
    panel.annotate(text, (depth, end), (depth, start), arrowprops=look, **words)


def _stripes(rows: pd.DataFrame) -> list[tuple[int, int, pd.DataFrame]]:
    """Place of a seed among those of its cell by error, their number, and the rows there."""
    cells = rows.groupby(["depth", "rate"])["error"]
    order, total = cells.rank(method="first") - 1, cells.transform("size")
    return [
        (place, seeds, rows[(order == place) & (total == seeds)])
        for seeds in sorted(total.unique().tolist())
        for place in range(seeds)
    ]


FIGURES = (
    error_against_depth,
    training_curves,
    curves_beside_paper,
    rate_and_depth,
)
