"""Figures of records that lack seeds, families, layers or finite values."""

from pathlib import Path

import numpy as np
import pytest

from resnet_study.drawing.data import Networks
from resnet_study.drawing.render import save
from resnet_study.errors import UserError
from tests.pictured import (
    FRAMES,
    LAYER_FIGURES,
    RUN_FIGURES,
    changed,
    draw,
    of_family,
    panels,
    words,
)
from tests.planted import planted_frames


@pytest.mark.parametrize("name", RUN_FIGURES)
def test_n_and_spread_are_on_the_figure(name: str) -> None:
    assert "n = 3 seeds" in words(draw(name))


@pytest.mark.parametrize("name", RUN_FIGURES)
def test_one_seed_is_drawn_and_said(name: str) -> None:
    text = words(draw(name, planted_frames((8, 20), 1, 60)))
    assert "no spread" in text
    assert "3 seeds" not in text


@pytest.mark.parametrize("name", RUN_FIGURES)
@pytest.mark.parametrize("family", ["plain", "residual"])
def test_one_family_is_drawn_alone(name: str, family: str) -> None:
    other = {"plain": "residual", "residual": "plain"}[family]
    figure = draw(name, of_family(FRAMES, family))
    titles = [panel.get_title(loc="left") for panel in panels(figure)]
    assert other not in " ".join([*titles, words(figure)])


@pytest.mark.parametrize("name", RUN_FIGURES)
def test_values_that_are_not_finite_are_left_out(name: str, tmp_path: Path) -> None:
    layers, metrics = FRAMES.layers.copy(), FRAMES.metrics.copy()
    bad = {0: np.nan, 1: np.inf, 2: 0.0}
    probes = [c for c in layers.columns if c.endswith(("_norm", "_step"))]
    for seed, value in bad.items():
        hit = (layers.seed == seed) & layers.step.isin([1, 10, 13]) & (layers.family == "plain")
        layers.loc[hit, probes] = value
        metrics.loc[(metrics.seed == seed) & (metrics.step == 30), "error"] = np.nan
    figure = draw(name, changed(FRAMES, layers=layers, metrics=metrics))
    save(figure, tmp_path, name)
    drawn = [np.asarray(line.get_ydata(), float) for p in figure.axes for line in p.lines]
    single = [m for p in figure.axes for m in p.collections if isinstance(m, Networks)]
    drawn += [points for networks in single for points in networks.get_segments()]
    assert all(np.isfinite(values).all() for values in drawn)
    if name in LAYER_FIGURES and name != "response_std":  # of which no value was changed
        assert "not finite, left out" in words(figure)


@pytest.mark.parametrize("name", RUN_FIGURES)
def test_nothing_finite_at_all_is_said_in_one_line(name: str) -> None:
    layers, metrics = FRAMES.layers.copy(), FRAMES.metrics.copy()
    layers[[c for c in layers.columns if c.endswith(("_norm", "_std", "_step"))]] = np.nan
    metrics["error"] = np.nan
    with pytest.raises(UserError, match=r"^no (run|recorded)") as raised:
        draw(name, changed(FRAMES, layers=layers, metrics=metrics))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", LAYER_FIGURES)
def test_no_layers_recorded_says_how_to_record_them(name: str) -> None:
    with pytest.raises(UserError, match="layers_every"):
        draw(name, planted_frames((8,), 1, 60, layers=False))
