"""Colours are told apart by the colour-blind and in grey."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure

from resnet_study.drawing.comparison import comparison_figure
from resnet_study.drawing.style import FAMILIES, KINDS, sequential
from resnet_study.judging.compare import Question, compare
from tests.pictured import (
    RUN_FIGURES,
    draw,
    panels,
)
from tests.planted import planted_frames

COLOUR_BLIND = {
    "protanopia": """0.152286 1.052583 -0.204868
                     0.114503 0.786281 0.099216
                     -0.003882 -0.048116 1.051998""",
    "deuteranopia": """0.367322 0.860646 -0.227968
                       0.280085 0.672501 0.047413
                       -0.011820 0.042940 0.968881""",
    "tritanopia": """1.255528 -0.076749 -0.178779
                     -0.078411 0.930809 0.147602
                     0.004733 0.691367 0.303900""",
}
"""What is seen of linear sRGB: Machado, Oliveira & Fernandes 2009, at full severity."""

SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
"""To CIE XYZ (IEC 61966-2-1)."""


@pytest.mark.parametrize("kind", COLOUR_BLIND)
def test_colours_are_told_apart_by_the_colour_blind(kind: str) -> None:
    blindness = np.array(COLOUR_BLIND[kind].split(), float).reshape(3, 3)
    for colours in ([f.colour for f in FAMILIES.values()], KINDS):
        seen = [np.clip(blindness @ linear(np.array(to_rgb(c))), 0, 1) for c in colours]
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(lab(one) - lab(other)) > 15  # 2.3 is just noticeable


def linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB, D65, of linear sRGB."""
    xyz = SRGB @ rgb / (SRGB @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_sequential_colours_keep_their_order_in_grey() -> None:
    for palette in ("viridis", "plasma"):
        colours = sequential((8, 20, 56, 110), palette)
        grey = [np.dot(to_rgb(c), (0.299, 0.587, 0.114)) for c in colours.values()]
        assert all(np.diff(grey) < -0.05)


@pytest.mark.parametrize("name", RUN_FIGURES)
def test_lines_of_every_figure_are_told_apart_by_the_colour_blind(name: str) -> None:
    lines_are_told_apart(draw(name))


@pytest.mark.parametrize("by", [("depth",), ("family", "depth")])
def test_lines_of_comparisons_are_told_apart_by_the_colour_blind(by: tuple[str, ...]) -> None:
    frames = planted_frames((8, 20, 56, 110), 2, 60)
    figure = comparison_figure({"loss": compare(frames, Question("loss", "step", by=by))}, "step")
    lines_are_told_apart(figure)
    if "family" in by:
        for family, style in FAMILIES.items():
            own = [
                rgb_to_hsv(to_rgb(key.get_color()))
                for key in figure.legends[0].get_lines()
                if key.get_label().startswith(family)
            ]
            hue = rgb_to_hsv(to_rgb(style.colour))[0]
            assert len(own) == 4
            np.testing.assert_allclose([hsv[0] for hsv in own], hue, atol=0.02)


def lines_are_told_apart(figure: Figure) -> None:
    for panel, kind in itertools.product(panels(figure), COLOUR_BLIND):
        blindness = np.array(COLOUR_BLIND[kind].split(), float).reshape(3, 3)
        lines = [line for line in panel.lines if line.get_gid() and len(line.get_xdata())]
        for one, other in itertools.combinations(lines, 2):
            alike = all(
                getattr(one, f"get_{look}")() == getattr(other, f"get_{look}")()
                for look in ("linestyle", "marker", "linewidth")
            )
            colours = [to_rgb(line.get_color()) for line in (one, other)]
            if alike and colours[0] != colours[1]:
                seen = [np.clip(blindness @ linear(np.array(c)), 0, 1) for c in colours]
                assert np.linalg.norm(lab(seen[0]) - lab(seen[1])) > 10, (one.get_gid(), kind)
