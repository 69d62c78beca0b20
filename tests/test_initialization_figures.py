"""Figures of signals at initialisation hold what was measured and what theory says."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from resnet_study import phenomena
from resnet_study.drawing.render import render
from resnet_study.errors import UserError
from resnet_study.phenomena.gradients import theory as gradient_theory
from resnet_study.phenomena.initialization.fits import BN_PLAIN, PREACTIVATED, NetworkKind, rows_of
from resnet_study.phenomena.initialization.gradient_measures import PADDING, padded_growth
from resnet_study.records import Frames, frames_of
from tests.planted_initialization import planted_initialization

NAMES = (
    "signal_gradients",
    "vanishing_gradients",
    "branch_variance",
    "signal_propagation_plot",
    "shattered_gradients",
    "growth_by_size",
    "path_lengths",
    "norm_preservation",
)
SOURCES = {
    "signal_gradients": "Yang et al. 2019",
    "vanishing_gradients": "Glorot & Bengio 2010",
    "branch_variance": "De & Smith 2020",
    "signal_propagation_plot": "Brock et al. 2021",
    "shattered_gradients": "Balduzzi et al. 2017",
    "growth_by_size": "Yang et al. 2019",
    "path_lengths": "Veit et al. 2016",
    "norm_preservation": "Zaeemzadeh et al. 2018",
}
FRAMES = planted_initialization((8, 20, 44, 56, 110), 3)


def draw(name: str, frames: Frames = FRAMES) -> Figure:
    return phenomena.figures()[name].draw(frames)


def line(figure: Figure, gid: str) -> tuple[np.ndarray, np.ndarray]:
    """Data of the only line with this id."""
    found = [a for panel in figure.axes for a in panel.lines if a.get_gid() == gid]
    assert len(found) == 1, f"{gid}: {len(found)} lines"
    return np.asarray(found[0].get_xdata(), float), np.asarray(found[0].get_ydata(), float)


def ids(figure: Figure) -> set[str]:
    return {str(a.get_gid()) for panel in figure.axes for a in panel.lines if a.get_gid()}


def words(figure: Figure) -> str:
    legends = [t.get_text() for box in figure.legends for t in box.get_texts()]
    return " ".join([*(t.get_text() for t in figure.texts), *legends]).replace("\n", " ")


def values(quantity: str, network: NetworkKind, depth: int) -> pd.DataFrame:
    """Table of indices by seeds."""
    rows = rows_of(FRAMES, quantity, network)
    return rows[rows["depth"] == depth].pivot(index="index", columns="seed", values="value")


def median(table: pd.DataFrame) -> np.ndarray:
    return table.median(axis=1).to_numpy()


def test_gradients_by_layer_are_relative_to_the_last_and_end_at_the_stem() -> None:
    x, y = line(draw("signal_gradients"), "plain-56")
    table = values("activation_gradient_norm", BN_PLAIN, 56)
    np.testing.assert_array_equal(x, np.arange(55))
    np.testing.assert_allclose(y, median(table / table.loc[55])[::-1])


def test_residual_gradients_average_the_two_layers_of_a_block() -> None:
    x, y = line(draw("signal_gradients"), "residual-20")
    table = values("activation_gradient_norm", NetworkKind("residual"), 20)
    relative = (table / table.loc[19]).iloc[::-1].to_numpy()
    np.testing.assert_array_equal(x, [*np.arange(0.5, 18, 2), 18])
    pairs = np.sqrt(relative[:-1:2] * relative[1::2])
    np.testing.assert_allclose(y, np.median([*pairs, relative[-1]], axis=1))


def test_ratio_and_factor_stand_beside_their_theory() -> None:
    figure = draw("signal_gradients")
    x, y = line(figure, "ratio-plain")
    assert list(x) == [8, 20, 44, 56, 110]
    table = values("activation_gradient_norm", BN_PLAIN, 44)
    assert y[2] == pytest.approx((table.loc[1] / table.loc[43]).median())
    x, y = line(figure, "theory-ratio-plain")
    np.testing.assert_allclose(np.log(y), (x - 2) * math.log(gradient_theory.BN_RELU_GROWTH))
    x, y = line(figure, "theory-ratio-residual")
    np.testing.assert_allclose(y / x, y[0] / x[0])
    assert set(line(figure, "theory-factor")[1]) == {gradient_theory.BN_RELU_GROWTH}
    padded = float(np.prod(padded_growth())) ** (1 / 3)
    assert set(line(figure, "theory-factor-padded")[1]) == {padded}
    np.testing.assert_allclose(
        line(figure, "factor-plain")[1][2:], gradient_theory.BN_RELU_GROWTH, rtol=0.01
    )
    assert list(line(figure, "factor-stage2")[0]) == [20, 44, 56, 110]


def test_vanishing_gradients_hold_measured_and_predicted_ratios() -> None:
    figure = draw("vanishing_gradients")
    x, y = line(figure, "plain-lecun-relu")
    table = values("activation_gradient_norm", NetworkKind("plain", "none", "lecun"), 110)
    assert y[-1] == pytest.approx((table.loc[1] / table.loc[109]).median())
    expected = [2 ** (-(d - 2) / 2) * np.prod(PADDING) ** ((d - 2) / 3) for d in x]
    np.testing.assert_allclose(line(figure, "theory-plain-lecun-relu")[1], expected)
    assert "theory-residual-lecun-relu" not in ids(figure)
    _, predicted = line(figure, "predicted-uniform-linear")
    assert predicted[0] == pytest.approx(3**-0.5 * np.prod(PADDING) ** (1 / 3))
    measured = line(figure, "factor-uniform-linear")[1]
    assert len(measured) == 3
    np.testing.assert_allclose(measured, predicted[0], rtol=0.02)
    assert "glorot" not in " ".join(ids(figure))  # not measured: no place of its own


def test_branch_over_skip_variance_is_drawn_against_its_theory() -> None:
    figure = draw("branch_variance")
    x, y = line(figure, "full-preactivation-110")
    branch, skip = (values(f"{path}_variance", PREACTIVATED, 110) for path in ("branch", "skip"))
    np.testing.assert_allclose(x, np.arange(1, 55))
    np.testing.assert_allclose(y, median(branch / skip))
    np.testing.assert_allclose(line(figure, "theory")[1], y, rtol=0.15)
    x, y = line(figure, "inverse-original")
    np.testing.assert_allclose(x * y, 1)


def test_signal_propagation_shows_the_deepest_networks_with_theory() -> None:
    figure = draw("signal_propagation_plot")
    x, y = line(figure, "channel_variance-batch-full-preactivation")
    table = values("channel_variance", PREACTIVATED, 110)
    np.testing.assert_array_equal(x, np.arange(55))
    np.testing.assert_allclose(y, table.median(axis=1))
    np.testing.assert_allclose(line(figure, "theory-channel_variance-batch")[1], y, rtol=0.15)
    _, y = line(figure, "channel_mean_square-none-full-preactivation")
    theirs = line(figure, "theory-channel_mean_square-none")[1]
    assert theirs[0] == pytest.approx(y[0])
    np.testing.assert_allclose(np.log(theirs), np.log(y), atol=0.4)


def test_signal_propagation_without_unnormalised_networks_has_one_column() -> None:
    figure = draw(
        "signal_propagation_plot", planted_initialization((56,), 2, networks=[PREACTIVATED])
    )
    assert len(figure.axes) == 2
    assert "BN" in figure.axes[0].get_title(loc="left")


def test_signal_propagation_shows_the_depth_of_most_networks() -> None:
    wide = planted_initialization((56,), 2)
    one = planted_initialization((110,), 2, networks=[NetworkKind("residual")])
    table = pd.concat([wide.initialization, one.initialization])
    figure = draw("signal_propagation_plot", wide._replace(initialization=table))
    assert "depth 56" in words(figure)
    assert len(line(figure, "channel_variance-batch-original")[0]) == 28


def test_autocorrelations_by_lag_and_by_depth() -> None:
    figure = draw("shattered_gradients")
    x, y = line(figure, "plain-44")
    table = values("gradient_autocorrelation", BN_PLAIN, 44)
    np.testing.assert_array_equal(x, np.arange(65))
    np.testing.assert_allclose(y, table.median(axis=1))
    x, y = line(figure, "lag1-plain")
    assert y[list(x).index(44)] == pytest.approx(table.loc[1].median())
    assert "lag64-residual" in ids(figure)
    x, y = line(figure, "theory-residual")
    np.testing.assert_allclose(y * np.sqrt(x), 1)


def test_path_lengths_hold_gradient_fit_and_shares() -> None:
    figure = draw("path_lengths")
    table = values("path_gradient_norm", NetworkKind("residual"), 110)
    k, y = line(figure, "gradient")
    np.testing.assert_allclose(y, median(table / table.loc[0]))
    np.testing.assert_allclose(line(figure, "fit")[1][1:], y[1:], rtol=0.3)
    binomial = np.array([math.comb(54, int(i)) for i in k], float)
    np.testing.assert_allclose(line(figure, "paths")[1], 100 * binomial / 2.0**54)
    carried = binomial[:, None] * table.to_numpy()
    expected = np.median(100 * carried / carried.sum(axis=0), axis=1)
    np.testing.assert_allclose(line(figure, "carried")[1], expected, atol=1e-9)
    assert "×0.25 per branch" in words(figure)


def test_growth_is_drawn_by_filters_of_the_stage_and_by_images_beside_theory() -> None:
    figure = draw("growth_by_size")
    for stage, padded in enumerate(padded_growth(), start=1):
        x, y = line(figure, f"filters-stage{stage}")
        assert list(x) == [width * 2 ** (stage - 1) for width in (32, 64, 128)]
        np.testing.assert_allclose(y, padded, rtol=0.03)
        assert list(line(figure, f"images-stage{stage}")[0]) == [16, 64, 512]
        for column in ("filters", "images"):
            assert set(line(figure, f"theory-{column}-stage{stage}")[1]) == {padded}
    assert set(line(figure, "theory-filters")[1]) == {gradient_theory.BN_RELU_GROWTH}


def test_norm_preservation_leaves_out_blocks_that_change_the_shape() -> None:
    figure = draw("norm_preservation")
    table = values("block_gradient_norm", NetworkKind("residual"), 56)
    expected = median(table / table.shift(-1))
    for stage, blocks in ((1, range(1, 10)), (2, range(11, 19)), (3, range(20, 28))):
        x, y = line(figure, f"ratio-56-stage{stage}")
        np.testing.assert_allclose(27 * x, list(blocks))
        np.testing.assert_allclose(y, [expected[b - 1] for b in blocks])
    x, y = line(figure, "deviation")
    assert list(x) == [8, 20, 44, 56, 110]
    assert (np.diff(y) < 0).all()
    _, fitted = line(figure, "fit")
    slope = np.polyfit(np.log(x), np.log(fitted), 1)[0]
    assert f"depth^{slope:.2f}".replace("-", "−") in words(figure)


@pytest.mark.parametrize("name", NAMES)
def test_n_spread_and_source_are_on_the_figure_and_in_the_caption(name: str) -> None:
    text = words(draw(name))
    assert "n = 3 seeds" in text
    assert "every seed" in text
    assert SOURCES[name] in text
    assert SOURCES[name] in phenomena.figures()[name].caption
    assert "arXiv" in phenomena.figures()[name].caption


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_is_drawn_and_said(name: str) -> None:
    assert "no spread" in words(draw(name, planted_initialization((20, 110), 1)))


@pytest.mark.parametrize("name", NAMES)
def test_without_such_signals_one_line_says_how_to_measure_them(name: str) -> None:
    for frames in (
        frames_of([]),
        FRAMES._replace(initialization=FRAMES.initialization.assign(value=np.nan)),
    ):
        with pytest.raises(UserError, match="reproduce signal_propagation") as raised:
            draw(name, frames)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_not_finite_are_not_drawn(name: str) -> None:
    table = FRAMES.initialization.copy()
    table.loc[(table["seed"] == 1) & (table["index"] > 0), "value"] = np.nan
    figure = draw(name, FRAMES._replace(initialization=table))
    drawn = [np.asarray(a.get_ydata(), float) for panel in figure.axes for a in panel.lines]
    assert all(np.isfinite(y).all() for y in drawn)
    assert "n = 2" in words(figure)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("path_lengths", "growth_by_size")])
def test_few_depths_and_one_family_are_enough(name: str) -> None:
    few = planted_initialization((20, 26), 2)
    assert draw(name, few).axes
    own = few.initialization["family"] == ("plain" if "gradients" in name else "residual")
    alone = draw(name, few._replace(initialization=few.initialization[own]))
    assert "n = 2 seeds" in words(alone)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_sticks_out_of_the_figure(name: str) -> None:
    figure = draw(name)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    whole = figure.bbox
    boxes = [box.get_window_extent(renderer) for box in (*figure.legends, *figure.texts)]
    boxes += [panel.get_tightbbox(renderer) for panel in figure.axes]
    for box in boxes:
        assert box.x0 >= whole.x0 - 1
        assert box.x1 <= whole.x1 + 1
        assert box.y0 >= whole.y0 - 1
        assert box.y1 <= whole.y1 + 1


def test_rendered_once_for_all_networks_with_the_same_bytes(tmp_path: Path) -> None:
    figures = [phenomena.figures()["norm_preservation"]]
    first = render(figures, FRAMES, tmp_path / "a", strict=True)
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True}):
        second = render(figures, FRAMES, tmp_path / "b", strict=True)
    assert [done.name for done in first] == ["norm_preservation"]
    for a, b in zip(first, second, strict=True):
        assert a.png is not None
        assert b.png is not None
        assert a.png.read_bytes() == b.png.read_bytes()
