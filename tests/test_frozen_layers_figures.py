"""Figures of frozen layers hold the numbers of the records."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_study import phenomena
from resnet_study.drawing.render import render
from resnet_study.drawing.style import FAMILIES
from resnet_study.errors import UserError
from resnet_study.phenomena.frozen_layers import thaw as frozen
from resnet_study.records import Frames
from tests.planted import join
from tests.planted_frozen import frozen_frames

ARMS = join(
    frozen_frames((0.0, 0.005), 3, noise=0.2, error=lambda step: 90.0 - step / 50),
    frozen_frames(
        (0.0,), 2, values={"schedule.warmup_iterations": 400}, error=lambda step: 80.0 - step / 50
    ),
    frozen_frames((0.002,), 2, 1500, noise=0.2),
)


def draw(name: str, frames: Frames) -> Figure:
    return phenomena.figures()[name].draw(frames)


def points(figure: Figure, gid: str) -> tuple[np.ndarray, np.ndarray]:
    """Data of the only line with this id."""
    found = [
        line
        for panel in figure.axes
        for line in panel.lines
        if line.get_gid() == gid and len(line.get_xdata())
    ]
    assert len(found) == 1, gid
    return np.asarray(found[0].get_xdata(), float), np.asarray(found[0].get_ydata(), float)


def words(figure: Figure) -> str:
    legends = [t.get_text() for box in figure.legends for t in box.get_texts()]
    return " ".join([*(t.get_text() for t in figure.texts), *legends]).replace("\n", " ")


def test_growth_and_effective_step_are_medians_over_seeds() -> None:
    frames = frozen_frames(seeds=3, noise=0.2)
    figure = draw("weight_growth", frames)
    motion = frozen.layer_motion(frames)
    for layer in (1, 43):
        for quantity in ("growth", "effective"):
            x, y = points(figure, f"plain-44-layer{layer}-{quantity}")
            own = motion[motion["layer"] == layer]
            expected = own[quantity].groupby(own["step"]).median()
            np.testing.assert_allclose(x, expected.index, atol=1e-9)
            np.testing.assert_allclose(y, expected)
    assert "n = 3 seeds" in words(figure)


def test_theory_of_free_decay_and_equilibrium_is_drawn_where_there_is_decay() -> None:
    frames = frozen_frames(seeds=1)
    figure = draw("weight_growth", frames)
    x, y = points(figure, "free decay")
    # τ = (1 − 0.9)/(0.1 · 0.005) = 200.
    np.testing.assert_allclose(np.diff(np.log(y)), -np.diff(x) / 200)
    assert y[0] == pytest.approx(frozen.peak_growth(frames).iloc[0])
    level = points(figure, "equilibrium")[1]
    np.testing.assert_allclose(level, math.sqrt(2 * 0.1 * 0.005 / 1.9))
    without = draw("weight_growth", frozen_frames((0.0,), 1))
    assert not [ln for p in without.axes for ln in p.lines if ln.get_gid() == "equilibrium"]
    assert "No weight decay." in words(without)


def test_theory_is_of_the_rate_that_a_run_begins_with_and_ends_where_it_drops() -> None:
    drops = {"schedule.first_drop": 600, "schedule.second_drop": 900}
    figure = draw("weight_growth", frozen_frames(seeds=3, values=drops))
    for line in ("equilibrium", "free decay"):
        assert points(figure, line)[0].max() == pytest.approx(600)


def test_the_depth_with_most_seeds_is_drawn_of_each_family() -> None:
    frames = join(
        frozen_frames(seeds=2),
        frozen_frames(seeds=1, depth=56),
        frozen_frames(seeds=1, depth=56, family="residual", growth=lambda layer, depth: 1.1),
    )
    titles = [panel.get_title(loc="left") for panel in draw("weight_growth", frames).axes]
    assert titles == ["(a) plain-44", "(b) plain-44", "(c) residual-56", "(d) residual-56"]


def test_every_judged_layer_is_a_point_and_censored_ones_are_bounds() -> None:
    frames = ARMS
    figure = draw("thaw_times", frames)
    table = frozen.thaw_table(frames)
    judged = table[table["judged"].astype(bool)]
    for decay in (0.005, 0.002):
        own = judged[judged["weight_decay"] == decay]
        seen = own[own["thaw"].notna()]
        for predicted in ("from_growth", "from_step"):
            name = f"plain-44, weight decay {decay:g}"
            x, y = points(figure, f"{name}, {predicted}")
            np.testing.assert_allclose(sorted(x), sorted(seen[predicted].astype(float)))
            np.testing.assert_allclose(sorted(y), sorted(seen["thaw"].astype(float)))
            if len(seen) < len(own):
                bounds = points(figure, f"{name}, censored, {predicted}")[1]
                np.testing.assert_array_equal(bounds, own["end"][own["thaw"].isna()])
    # At the smaller decay the first layers are still frozen at the end.
    assert judged.loc[judged["weight_decay"] == 0.002, "thaw"].isna().any()
    text = words(figure)
    assert f"{len(judged)} frozen and inflated layers" in text
    assert "not thawed by then" in text
    assert "n = 2–3 seeds" in text


def test_identity_is_a_diagonal_over_both_axes() -> None:
    figure = draw("thaw_times", ARMS)
    for panel in figure.axes:
        line = next(ln for ln in panel.lines if ln.get_gid() == "identity")
        np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
        assert panel.get_xlim() == panel.get_ylim()


def test_no_frozen_layer_is_said_and_not_an_error() -> None:
    figure = draw("thaw_times", frozen_frames((0.0,), 2))
    assert "No layer was frozen" in words(figure)
    assert "n = 2 seeds" in words(figure)


def panel_of(figure: Figure, title: str) -> Axes:
    return next(p for p in figure.axes if p.get_title(loc="left").endswith(title))


def test_curves_are_medians_by_arm_and_never_over_arms() -> None:
    figure = draw("thaw_curves", ARMS)
    drawn = {
        str(line.get_gid()): np.asarray(line.get_ydata(), float)
        for line in panel_of(figure, "plain-44").lines
        if line.get_gid() and not str(line.get_gid()).endswith("thaw")
    }
    assert set(drawn) == {
        "plain-44, weight_decay=0, warmup_iterations=0",
        "plain-44, weight_decay=0, warmup_iterations=400",
        "plain-44, weight_decay=0.002, warmup_iterations=0",
        "plain-44, weight_decay=0.005, warmup_iterations=0",
    }
    np.testing.assert_allclose(
        drawn["plain-44, weight_decay=0, warmup_iterations=0"][[0, -1]], [89.6, 60]
    )
    np.testing.assert_allclose(
        drawn["plain-44, weight_decay=0, warmup_iterations=400"][[0, -1]], [79.6, 50]
    )
    assert "n = 2–3 seeds" in words(figure)


def test_the_last_thaw_is_marked_where_all_runs_saw_it() -> None:
    figure = draw("thaw_curves", ARMS)
    x, y = points(figure, "plain-44, weight_decay=0.005, warmup_iterations=0, thaw")
    thaws = frozen.last_thaw(frozen.thaw_table(ARMS))
    own = thaws[thaws["weight_decay"] == 0.005]
    assert own["seen"].all()
    assert x.tolist() == [own["iteration"].median()]
    assert y[0] == pytest.approx(90 - x[0] / 50)
    marked = [ln for p in figure.axes for ln in p.lines if str(ln.get_gid()).endswith("thaw")]
    assert len(marked) == 1


@pytest.mark.slow
def test_figures_across_arms_are_drawn_once_and_others_by_group(tmp_path: Path) -> None:
    done = render(
        [phenomena.figures()[n] for n in ("thaw_times", "thaw_curves", "weight_growth")],
        ARMS,
        tmp_path,
    )
    names = [figure.name for figure in done]
    assert names[:2] == ["thaw_times", "thaw_curves"]
    assert len(names) == 6
    assert all(name.startswith("weight_growth_") for name in names[2:])
    assert all(figure.png is not None for figure in done)
    assert "2–3 seeds" in done[0].caption or "3 seeds" in done[0].caption


@pytest.mark.parametrize("name", ["weight_growth", "thaw_times", "thaw_curves"])
def test_runs_without_normalisation_are_refused(name: str) -> None:
    frames = frozen_frames(seeds=1, values={"model.normalization": "none"})
    with pytest.raises(UserError, match="batch normalisation"):
        phenomena.figures()[name](frames)


def test_points_have_the_colour_of_their_family_and_a_marker_for_each_arm() -> None:
    plain = frozen_frames(decays=(0.002, 0.005), seeds=1)
    figure = draw("thaw_times", join(plain, frozen_frames(seeds=1, family="residual")))
    lines = [ln for p in figure.axes for ln in p.lines if " weight decay " in str(ln.get_gid())]
    for family in ("plain", "residual"):
        own = [line for line in lines if line.get_gid().startswith(family)]
        assert {line.get_color() for line in own} == {FAMILIES[family].colour}
    # plain-44, weight decay 0.002, censored, from weight growth
    looks = {tuple(ln.get_gid().split(", ")[:2]): (ln.get_color(), ln.get_marker()) for ln in lines}
    assert len(looks) == len(set(looks.values())) == 3


def test_what_follows_from_the_depth_tells_no_arms_apart() -> None:
    deeper = frozen_frames(seeds=2, depth=56, values={"schedule.warmup_iterations": 100})
    figure = draw("thaw_curves", join(frozen_frames(seeds=2), deeper))
    assert "warmup" not in words(figure)
    # One weight decay: colour is left to tell the family.
    drawn = [ln for p in figure.axes for ln in p.lines if str(ln.get_gid()).startswith("plain-")]
    assert {line.get_color() for line in drawn} == {FAMILIES["plain"].colour}
