"""The growth of gradients at initialisation against the number of filters and of images."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from resnet_study.drawing import panels, plots, style
from resnet_study.drawing.render import figure
from resnet_study.phenomena.gradients.theory import BN_RELU_GROWTH
from resnet_study.phenomena.initialization import size_measures as measures
from resnet_study.phenomena.initialization.drawn import required
from resnet_study.phenomena.initialization.gradient_measures import SIDES, padded_growth
from resnet_study.records import Frames

STAGES: dict[int, dict[str, Any]] = {
    stage: {"color": colour, "marker": marker}
    for stage, colour, marker in zip((1, 2, 3), style.KINDS, "os^", strict=False)
}

NO_BORDERS: dict[str, Any] = {"color": style.QUIET, "linestyle": "--", "linewidth": 1.1}


@figure(
    "Growth of gradients by width and mini-batch",
    "Factor per layer toward the input of the norm of ∂L/∂z, from least-squares lines in each "
    "stage, of plain networks with batch normalisation and ReLU at initialisation, against the "
    "filters of the stage and against the images of the mini-batch. Dashed: π/(π−1), rooted (Yang "
    "et al. 2019, arXiv 1902.08129, infinitely many of both, fully connected layers). Dotted: the "
    "same mean field for 3×3 convolutions with zero padding around maps of the stage's size, whose "
    "border lowers the squared mean that batch normalisation subtracts more than the second "
    f"moment. {panels.MEDIANS}",
    across=True,
)
def growth_by_size(frames: Frames) -> Figure:
    """Factor per layer against width and against batch, by stage, beside theory."""
    tables = {field: measures.factors(frames, field) for field in measures.KINDS}
    width, images = (required(rows[rows["stage"] > 0]) for rows in tables.values())
    width = width.assign(filters=width["width"] * 2 ** (width["stage"] - 1))
    drawn, axes = style.new_figure(1, 2, 2.9, ["Width", "Mini-batch"], sharey=True)
    for panel, rows, column, name in (
        (axes[0, 0], width, "filters", "filters of the stage (log scale)"),
        (axes[0, 1], images, "images", "images in the mini-batch (log scale)"),
    ):
        for growth, (stage, look) in zip(padded_growth(), STAGES.items(), strict=True):
            line = {**style.THEORY, "color": look["color"], "gid": f"theory-{column}-stage{stage}"}
            panel.axhline(growth, **line)
        panel.axhline(BN_RELU_GROWTH, gid=f"theory-{column}", **NO_BORDERS)
        gid = f"{column}-stage{{style}}"
        plots.lines(panel, rows, column, "factor", gid, style=("stage", STAGES), joined=False)
        plots.depth_axis(panel, rows[column].astype(int))
        panel.set_xlabel(name)
    axes[0, 0].set_ylabel("factor per layer")
    handles = [
        style.key(f"stage {stage}, {side}×{side} pixels", **look)
        for (stage, look), side in zip(STAGES.items(), SIDES, strict=True)
    ]
    handles.append(style.key("theory, zero padding included", **style.THEORY))
    handles.append(style.key(f"theory, no borders: {BN_RELU_GROWTH:.3f}", **NO_BORDERS))
    sentences = [
        f"Plain-{measures.SIZES_DEPTH} with BN, He, ReLU, at initialisation; {measures.BATCH} "
        f"images in (a), {measures.BN_PLAIN.width} filters in the first stage in (b).",
        panels.over_seeds(width, ["width", "stage"]),
        "Theory for infinitely many filters and images: Yang et al. 2019, fully connected layers, "
        "and the same mean field for convolutions with zero padding.",
    ]
    return style.finish(drawn, handles, sentences, columns=2)


FIGURES = (growth_by_size,)
