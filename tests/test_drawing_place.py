"""Figures in a figure of one's own show what they show alone."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from resnet_study import phenomena
from resnet_study.drawing.data import data_of
from resnet_study.drawing.place import drawing_into
from resnet_study.errors import UserError
from tests.pictured import draw, words
from tests.planted import planted_frames

FRAMES = planted_frames((8, 20), 2, 60)
FIGURES = phenomena.figures()


@pytest.mark.parametrize(
    "name", ["signal_and_turn", "gradient_heatmap", "training_curves", "error_against_depth"]
)
def test_in_the_place_of_a_panel_it_shows_the_same(name: str) -> None:
    alone = draw(name, FRAMES)
    own = Figure(figsize=(12, 6))
    left, right = own.subplots(1, 2)
    left.plot([1, 2])
    window = own.canvas
    inside = FIGURES[name](FRAMES, ax=right)
    assert own.canvas is window
    pd.testing.assert_frame_equal(data_of(inside), data_of(alone))
    assert right not in own.axes
    assert left in own.axes
    assert set(words(inside).split()) | set(title_of(inside).split()) >= set(words(alone).split())
    own.draw_without_rendering()
    assert title_of(inside) == title_of(alone)
    # Within its half: nothing is drawn over the other panel.
    half = own.bbox.width / 2
    for panel in inside.axes:
        assert panel.get_tightbbox().x0 >= half - 1


def title_of(figure: Figure) -> str:
    outer = figure.get_figure(root=False)
    found = [text for text in [*figure.texts, *outer.texts] if text.get_gid() == "title"]
    return found[0].get_text()


def test_a_part_of_a_figure_and_a_whole_one_are_places_too() -> None:
    own = Figure()
    left, right = own.subfigures(1, 2)
    FIGURES["training_curves"](FRAMES, figure=left)
    assert not right.axes
    whole = Figure(figsize=(4, 3), layout="tight")
    FIGURES["training_curves"](FRAMES, figure=whole)
    assert whole.get_size_inches().tolist() == [4, 3]
    assert own.get_layout_engine() is not None


def test_a_panel_without_a_grid_is_refused() -> None:
    with (
        pytest.raises(UserError, match="ax: a panel of a grid"),
        drawing_into(Figure().add_axes((0, 0, 1, 1))),
    ):
        pass
