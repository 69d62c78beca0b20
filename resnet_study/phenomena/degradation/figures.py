"""Errors against depth and over training, in the style of He et al. 2015, Figure 6."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from resnet_study.drawing import panels
from resnet_study.drawing.render import figure
from resnet_study.drawing.style import (
    FAINT,
    FAMILIES,
    INK,
    band,
    error_bars,
    finish,
    key,
    letter,
    new_figure,
    numeric_axis,
    sequential,
    thousands,
)
from resnet_study.errors import UserError
from resnet_study.judging.selections import final_error
from resnet_study.records import Frames

PAPER_LIMIT = 20.0
"""Upper end of the error axis of He et al. 2015, Figure 6, in percent."""

WHOLE: dict[str, Any] = {"clip_on": False, "in_layout": False}
"""Markers on the border of a panel, such as an error of 0 %, are not cut off by it."""

TRAINING_ERROR = {
    "train": "Training error of the mini-batches as trained.",
    "train_clean": "Training error of all training images, not augmented.",
}

HOLLOW: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "markeredgewidth": 1.2}

_HE = "He et al. 2015, arXiv 1512.03385"


@figure(
    "Error against depth",
    "Error at the end of training against depth, (a) on the training images and (b) on the "
    "test images, of plain and residual networks. Lines join means over seeds, faint points "
    "are single seeds, bars are ± one standard deviation. A run that diverged counts with its "
    "last error and is drawn as a cross. Where the data are CIFAR-10, hollow diamonds are "
    f"published values ({_HE}): test errors of residual networks from Table 6 (for ResNet-110 "
    "the mean of five runs), all others read off Figure 6; an upward arrow on a diamond marks "
    "a published lower bound.",
)
def error_against_depth(frames: Frames) -> Figure:
    """Training and test error at the end of training against depth, both families.

    A diverged run counts with its last error (`final_error`), drawn as a cross.

    Raises:
        UserError: if no run has come to its end.
    """
    ends = {split: final_error(frames, split) for split in (train_split(frames), "test")}
    table = pd.concat(ends.values())
    if table.empty:
        raise UserError(
            "error_against_depth: no run has come to its end; "
            "finish the runs or choose a study that has"
        )
    families = panels.families_in(table)
    overlay = panels.published_errors() if panels.beside_the_paper(frames) else None
    limit = error_limit(frames)
    figure, axes = new_figure(1, 2, 2.5, sharey=True)
    counts: list[int] = []
    for index, (split, rows) in enumerate(ends.items()):
        panel: Axes = axes[0, index]
        for family in families:
            counts += _mean_line(panel, rows[rows.family == family], family, split, limit)
            if overlay is not None:
                own = overlay[(overlay.family == family) & overlay.depth.isin(table.depth)]
                _published(panel, own[own.split == split.removesuffix("_clean")], family, limit)
        numeric_axis(panel, sorted({int(d) for d in table.depth}))
        panel.set_xlabel("depth (weighted layers)")
        panel.grid(axis="y", color=FAINT, linewidth=0.5)
        letter(panel, index, "Test error" if split == "test" else "Training error")
    _error_axis(axes[0, 0], limit)
    handles: list[Artist] = [
        key(s.label, color=s.colour, linestyle=s.linestyle, marker=s.marker)
        for s in (FAMILIES[f] for f in families)
    ]
    if overlay is not None:
        handles.append(key("He et al. 2015", color=INK, marker="D", **HOLLOW))
    if (table.status == "diverged").any():
        handles.append(key("diverged run", color=INK, linestyle="none", marker="x"))
    sentences = [
        f"Mean over {panels.seeds(counts)} per point, every seed faint.",
        panels.spread(counts, "Bars: ± one standard deviation"),
        TRAINING_ERROR[train_split(frames)],
        "He et al.: Table 6 (test, residual) and Figure 6, digitised (all else)."
        if overlay is not None
        else "",
        "Arrows: beyond the axis, which ends at 20 % as in the paper." if limit else "",
        panels.unfinished(frames),
    ]
    return finish(figure, "Error against depth", handles, sentences)


@figure(
    "Training curves",
    f"Error against iteration in the style of {_HE}, Figure 6: training error thin and dashed, "
    "test error bold, darker for deeper networks. Lines are means over seeds, bands reach from "
    "the smallest to the largest seed. Where the data are CIFAR-10, hollow marks on the right "
    "edge are published final errors (triangles: training; circles: test) of Figure 6 and "
    "Table 6.",
)
def training_curves(frames: Frames) -> Figure:
    """Error over training: one panel per family, training dashed and thin, test bold.

    Raises:
        UserError: if no error was recorded.
    """
    table = frames.metrics[panels.drawable(frames.metrics.error, positive=False)]
    if table.empty:
        raise UserError("training_curves: no run has recorded an error; train at least one")
    train = train_split(frames)
    families = panels.families_in(table)
    colours = sequential(table.depth)
    overlay = panels.published_errors() if panels.beside_the_paper(frames) else None
    limit, last = error_limit(frames), int(table.step.max())
    figure, axes = new_figure(1, len(families), 2.9, sharey=True)
    counts: list[int] = []
    for index, family in enumerate(families):
        panel: Axes = axes[0, index]
        for column in ("schedule.first_drop", "schedule.second_drop"):
            for step in frames.runs[column].unique():
                panel.axvline(step, color=FAINT, linewidth=0.8, zorder=0)
        for depth in sorted(table.depth[table.family == family].unique()):
            rows = table[(table.family == family) & (table.depth == depth)]
            for split, look in (
                (train, {"linestyle": "--", "linewidth": 1.0}),
                ("test", {"linewidth": 2.0}),
            ):
                means = panels.summarize(rows[rows.split == split], ["step"], "error")
                counts += [int(means.n.max())] if len(means) else []
                band(panel, means.step, means.low, means.high, colours[depth])
                panel.plot(
                    means.step,
                    means["mean"],
                    color=colours[depth],
                    gid=f"{family}-{depth}-{split}",
                    **look,
                )
            if overlay is not None:
                own = overlay[(overlay.family == family) & (overlay.depth == depth)]
                _published_margin(panel, own, last, colours[depth])
        panel.set_xlim(0, last)
        panel.set_xlabel("iteration")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x)))
        letter(panel, index, FAMILIES[family].label)
    _error_axis(axes[0, 0], limit)
    handles: list[Artist] = [key(f"depth {d}", color=c, linewidth=2.4) for d, c in colours.items()]
    handles.append(key("training", color=INK, linestyle="--", linewidth=1.0))
    handles.append(key("test", color=INK, linewidth=2.0))
    if overlay is not None:
        handles.append(key("training, He et al.", color=INK, marker="^", **HOLLOW))
        handles.append(key("test, He et al.", color=INK, marker="o", **HOLLOW))
    sentences = [
        f"Mean over {panels.seeds(counts)}.",
        panels.spread(counts, "Bands: minimum to maximum"),
        TRAINING_ERROR[train],
        "Vertical lines: drops of the learning rate.",
        _beyond(frames, limit),
        "He et al. 2015: ends of the curves in Figure 6, digitised, and Table 6."
        if overlay is not None
        else "",
        panels.unfinished(frames),
    ]
    return finish(figure, "Training curves", handles, sentences)


def train_split(frames: Frames) -> str:
    """``train`` (mini-batches as trained, what the claims judge), else ``train_clean``.

    He et al. do not say which of the two their training errors are.
    """
    return "train" if (frames.metrics["split"] == "train").any() else "train_clean"


def error_limit(frames: Frames) -> float | None:
    """Upper end of the error axis: the paper's 20 % if most CIFAR-10 networks end below it."""
    ends = _mean_ends(frames)
    most_fit = len(ends) and ends.error.median() < 0.9 * PAPER_LIMIT
    return PAPER_LIMIT if panels.beside_the_paper(frames) and most_fit else None


def _error_axis(panel: Axes, limit: float | None) -> None:
    panel.set_ylim(0, limit or min(100.0, panel.get_ylim()[1]))
    panel.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    panel.set_ylabel("error (%)")


def _mean_ends(frames: Frames) -> pd.DataFrame:
    """Mean test error at the end: ``family``, ``depth``, ``error``."""
    return final_error(frames).groupby(["family", "depth"])["error"].mean().reset_index()


def _beyond(frames: Frames, limit: float | None) -> str:
    ends = _mean_ends(frames)
    out = ends[ends.error > limit] if limit else ends[:0]
    named = ", ".join(
        f"{family}-{depth} (ends at {error:.0f} % test error)"
        for family, depth, error in out.itertuples(index=False)
    )
    return f"Beyond the axis: {named}." if named else ""


def _mean_line(
    panel: Axes, rows: pd.DataFrame, family: str, split: str, limit: float | None
) -> list[int]:
    """Every seed faint, the mean with bars of one sd on top; returns the n of each mean."""
    style = FAMILIES[family]
    top = limit or float("inf")
    inside = rows[rows.error <= top]
    dots: dict[str, Any] = {
        "linestyle": "none",
        "color": style.colour,
        "clip_on": False,
        "in_layout": False,
    }
    finished, diverged = (inside[inside.status == s] for s in ("finished", "diverged"))
    panel.plot(finished.depth, finished.error, marker=style.marker, ms=4, mew=0, alpha=0.3, **dots)
    panel.plot(diverged.depth, diverged.error, marker="x", ms=7, mew=1.3, **dots)
    means = panels.summarize(rows, ["depth"], "error")
    sd = means.sd.fillna(0.0)
    look = {"color": style.colour, "linestyle": style.linestyle, "marker": style.marker}
    error_bars(panel, means.depth, means["mean"], sd, sd, f"{family}-{split}", **look)
    for depth, mean in means.loc[means["mean"] > top, ["depth", "mean"]].itertuples(index=False):
        _arrow(panel, depth, 0.90 * top, 0.99 * top, style.colour)
        panel.text(
            depth * 0.96, 0.93 * top, f"{mean:.0f} %", color=style.colour, ha="right", va="center"
        )
    return list(means.n)


def _published(panel: Axes, rows: pd.DataFrame, family: str, limit: float | None) -> None:
    """Hollow diamonds; with an arrow where only a lower bound is published."""
    colour = FAMILIES[family].colour
    shown = rows[rows.error <= (limit or 100.0)]
    panel.plot(
        shown.depth, shown.error, marker="D", color=colour, ms=7.5, zorder=1, **WHOLE, **HOLLOW
    )
    for depth, error in shown.loc[shown.bound, ["depth", "error"]].itertuples(index=False):
        _arrow(panel, depth, error + 2, error + 12, colour)


def _arrow(panel: Axes, x: float, start: float, end: float, colour: str) -> None:
    look = {"arrowstyle": "->", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
    panel.annotate("", xy=(x, end), xytext=(x, start), arrowprops=look)


def _published_margin(panel: Axes, rows: pd.DataFrame, last: int, colour: str) -> None:
    """Published final errors on the right edge: triangles for training, circles for test."""
    for split, marker in (("train", "^"), ("test", "o")):
        errors = rows.error[(rows.split == split) & ~rows.bound]
        dots = {"color": colour, "zorder": 5, **WHOLE, **HOLLOW}
        panel.plot([last] * len(errors), errors, marker=marker, **dots)


FIGURES = (
    error_against_depth,
    training_curves,
)
