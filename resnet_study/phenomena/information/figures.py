"""Agreement of gradients, correlation of copies and contrast of classes, by layer."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from resnet_study.drawing import panels, plots, style
from resnet_study.drawing.render import figure
from resnet_study.phenomena.information.probes import NOISE
from resnet_study.probes import FIRST
from resnet_study.records import KEYS, Frames

STEPS = (0, 10, 100)
"""Iterations of the panels; the nearest recorded are drawn."""

QUANTITIES = {
    "copy_correlation": ("copies", "correlation"),
    "class_contrast": ("classes", "contrast"),
    "gradient_agreement": ("gradients", "cosine"),
}
"""Probes, the titles of their rows and what is drawn."""


@figure(
    "Information by layer",
    "At initialisation and after k iterations, layer by layer. (Top) Correlation of the responses "
    f"to an image and to the same image with noise of {NOISE:g} of its norm: near 1 the forward "
    "map is ordered, far below it chaotic. (Middle) Correlation of the responses to two images of "
    "one class minus that of two classes: at 0 nothing is left of the class. (Bottom) Cosine of "
    "the weight gradients of two halves of the mini-batch: at 0 they share no information. Each "
    f"pass is normalised by itself. At most three depths. {panels.MEDIANS}",
    shown=panels.at_shown_depths,
)
def information(frames: Frames) -> Figure:
    """A row of panels per probe, a panel per iteration, all networks in it."""
    rows = panels.layer_rows(frames, *QUANTITIES)
    steps = panels.nearest_steps(rows, STEPS)
    depths = panels.shown_depths(rows)
    rows = rows[rows["step"].isin(steps) & rows["depth"].isin(depths) & (rows["layer"] >= FIRST)]
    table = rows.melt([*KEYS, "step", "layer"], list(QUANTITIES), var_name="quantity")
    shown, left_out = panels.drawable_rows(table, "value", positive=False)
    families = panels.families_in(shown)
    colours = {family: style.FAMILIES[family].colour for family in families}
    dashes = zip(reversed(depths), ("-", "--", ":"), strict=False)
    looks: dict[Any, dict[str, Any]] = {depth: {"linestyle": dash} for depth, dash in dashes}
    titles = [
        f"{name}, k = {style.thousands(step)}" for name, _ in QUANTITIES.values() for step in steps
    ]
    drawn, axes = style.new_figure(3, len(steps), 5.4, titles, sharey="row", sharex=True)
    told = {"quantity": QUANTITIES, "step": steps}
    for panel, own, (quantity, step) in plots.cells(axes, shown, **told):
        panel.axhline(0, color=style.FAINT, linewidth=0.8, zorder=0)
        gid = f"{{hue}}-{{style}}-{quantity}-step{step}"
        how: dict[str, Any] = {"hue": ("family", colours), "style": ("depth", looks)}
        plots.lines(panel, own, "layer", "value", gid, **how)
    style.label(axes, "layer")
    for panel, (_, drawn_there) in zip(axes[:, 0], QUANTITIES.values(), strict=True):
        panel.set_ylabel(drawn_there)
    networks = shown[["family", "depth"]].drop_duplicates().sort_values(["family", "depth"])
    handles = [
        style.key(f"{family}-{depth}", color=colours[family], **looks[depth])
        for family, depth in networks.itertuples(index=False)
    ]
    sentences = [
        panels.over_seeds(shown, ["family", "depth", "quantity", "step", "layer"]),
        left_out,
        panels.of_runs(frames),
    ]
    return style.finish(drawn, handles, sentences)


FIGURES = (information,)
