"""Tables of comparisons as figures."""

import numpy as np
import pytest

from resnet_study.drawing.comparison import comparison_figure
from resnet_study.errors import UserError
from resnet_study.judging.compare import Question, compare, differences, label_of
from tests.pictured import FRAMES, line, panels, words
from tests.planted import join, planted_frames


@pytest.mark.parametrize(
    ("quantity", "against"), [("error", "depth"), ("response_std", "layer"), ("loss", "step")]
)
def test_comparison_draws_the_table(quantity: str, against: str) -> None:
    table = compare(FRAMES, Question(quantity, against))
    figure = comparison_figure({quantity: table}, against, "Of some runs.")
    assert "Of some runs." in words(figure)
    gid = "plain" if against == "depth" else "plain, depth 20"
    x, y = line(figure, gid)
    rows = table[table.family == "plain"]
    rows = rows if against == "depth" else rows[rows.depth == 20]
    np.testing.assert_array_equal(x, rows[against])
    np.testing.assert_allclose(y, rows["median"])
    assert "n = 3 runs" in words(figure)


def test_comparison_tells_spec_fields_apart_and_masks_nan() -> None:
    slow = planted_frames((8, 20), 2, 60, values={"optimizer.learning_rate": 0.01})
    both = join(planted_frames((8, 20), 2, 60), slow)
    table = compare(both, Question("error"))
    table.loc[0, "median"] = np.nan
    text = words(comparison_figure({"error": table}, "depth"))
    assert "plain, learning_rate=0.01" in text
    assert "residual, learning_rate=0.1" in text
    assert "1 value not finite" in text
    names = comparison_figure({"error": compare(both, Question("error", "family"))}, "family")
    assert [tick.get_text() for tick in names.axes[0].get_xticklabels()] == ["plain", "residual"]


def test_of_many_settings_those_at_their_default_are_not_told() -> None:
    values = {
        "optimizer.learning_rate": 0.01,
        "optimizer.weight_decay": 0.0,
        "optimizer.nesterov": True,
        "data.batch_size": 64,
        "model.width": 3,
        "model.initialization": "lecun",
    }
    arms = [planted_frames((8,), 1, 60, values={name: value}) for name, value in values.items()]
    both = join(planted_frames((8,), 1, 60), *arms)
    text = words(comparison_figure({"error": compare(both, Question("error"))}, "depth"))
    assert "plain, width=3" in text
    assert "batch_size=128" not in text


def test_comparison_has_a_panel_per_quantity_and_says_what_bars_are() -> None:
    asked = (Question("error"), Question("signal_ratio"))
    frames = planted_frames((8, 20, 56), 5, 60)
    tables = {label_of(one): differences(frames, one, "family") for one in asked}
    figure = comparison_figure(tables, "depth")
    labels = [panel.get_ylabel() for panel in panels(figure)]
    assert labels == ["test error\nresidual - plain (%)", "signal ratio\nresidual - plain"]
    assert "exact intervals of the median (93.8 %)" in words(figure)


def test_comparison_of_nothing_is_a_user_error() -> None:
    table = compare(FRAMES, Question("error"))
    with pytest.raises(UserError, match="no column layer"):
        comparison_figure({"error": table}, "layer")
    with pytest.raises(UserError, match="no finite median"):
        comparison_figure({"error": table.assign(median=np.nan)}, "depth")
