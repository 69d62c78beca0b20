"""Figures of planted records, and what is on them."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_study import phenomena
from resnet_study.phenomena.information import probes as information
from resnet_study.records import Frames
from resnet_study.studies.find import load_study
from tests.planted import planted_frames


def informed(frames: Frames) -> Frames:
    """With the probes of phenomena beside the built-in ones, where layers are recorded."""
    if frames.layers.empty:
        return frames
    some = 0.01 * frames.layers["weight_norm"]
    probes = {probe.name: some for probe in information.PROBES}
    return frames._replace(layers=frames.layers.assign(**probes))


FRAMES = informed(planted_frames((8, 20, 56), 3, 60))
FIGURES = phenomena.figures()
RUN_FIGURES = [
    name
    for name in FIGURES
    if name not in {f.name for f in load_study("signal_propagation").figures}
    and not name.endswith(("_beside_paper", "rate_and_depth"))
]
"""Those that are drawn from any runs, rather than from some sweeps or networks at
initialisation."""

LAYER_FIGURES = (
    "signal_and_turn",
    "gradient_profile",
    "gradient_ratio",
    "gradient_heatmap",
    "update_heatmap",
    "response_std",
    "information",
)


def draw(name: str, frames: Frames = FRAMES) -> Figure:
    return FIGURES[name](informed(frames))


def line(figure: Figure, gid: str) -> tuple[np.ndarray, np.ndarray]:
    """Data of the only line with this id."""
    found = [
        artist
        for panel in figure.axes
        for artist in panel.lines
        if artist.get_gid() == gid and len(artist.get_xdata())
    ]
    assert len(found) == 1, f"{gid}: {len(found)} lines"
    return np.asarray(found[0].get_xdata(), float), np.asarray(found[0].get_ydata(), float)


def words(figure: Figure) -> str:
    """All text outside of the panels, in one line: title, legend, small print."""
    legends = [t.get_text() for box in figure.legends for t in box.get_texts()]
    return " ".join([*(t.get_text() for t in figure.texts), *legends]).replace("\n", " ")


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def changed(frames: Frames, **tables: pd.DataFrame) -> Frames:
    return frames._replace(**tables)


def of_family(frames: Frames, family: str) -> Frames:
    return Frames(*(table[table.family == family] for table in frames))
