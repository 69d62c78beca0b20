"""Figures hold the numbers of the records."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from resnet_study import reference
from resnet_study.drawing.data import data_of
from resnet_study.drawing.panels import labelled_groups, medians
from resnet_study.drawing.style import FAMILIES
from resnet_study.errors import UserError
from resnet_study.judging.selections import select
from resnet_study.judging.words import two_digits
from resnet_study.phenomena.responses.figures import PAPER_LIMIT
from resnet_study.records import Frames
from tests.pictured import FIGURES, FRAMES, changed, draw, line, of_family, panels, words
from tests.planted import join, planted_frames, planted_rates


@pytest.mark.parametrize("family", ["plain", "residual"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_error_against_depth_holds_the_medians(family: str, split: str) -> None:
    x, y = line(draw("error_against_depth"), f"{family}-{split}")
    runs = FRAMES.runs[FRAMES.runs.family == family]
    expected = runs.groupby("depth")[f"{split}_error_last"].median()
    np.testing.assert_allclose(x, expected.index)
    np.testing.assert_allclose(y, expected)


def test_error_against_depth_shows_every_seed() -> None:
    panel = panels(draw("error_against_depth"))[1]
    shown = [v for ln in panel.lines if ln.get_alpha() for v in ln.get_ydata()]
    np.testing.assert_allclose(sorted(shown), sorted(FRAMES.runs.test_error_last))


def test_diverged_run_is_in_the_median_and_marked() -> None:
    runs = FRAMES.runs.copy()
    run = runs.index[(runs.family == "plain") & (runs.depth == 56)][0]
    runs.loc[run, "status"] = "diverged"
    metrics = FRAMES.metrics.copy()
    metrics.loc[metrics.run_id == run, "error"] = np.nan
    figure = draw("error_against_depth", changed(FRAMES, runs=runs, metrics=metrics))
    others = FRAMES.runs[(FRAMES.runs.family == "plain") & (FRAMES.runs.depth == 56)]
    expected = [90.0, *others.test_error_last.drop(run)]  # without any error it is guessing
    assert line(figure, "plain-test")[1][-1] == pytest.approx(np.median(expected))
    crosses = [ln for ln in panels(figure)[1].lines if ln.get_marker() == "x"]
    assert [list(c.get_ydata()) for c in crosses if len(c.get_ydata())] == [[90.0]]
    assert "1 diverged (plain-56)" in words(figure)


@pytest.mark.parametrize("split", ["train", "test"])
def test_training_curves_hold_the_median_of_each_step(split: str) -> None:
    x, y = line(draw("training_curves"), f"residual-20-{split}")
    table = FRAMES.metrics
    rows = table[(table.family == "residual") & (table.depth == 20) & (table.split == split)]
    expected = rows.groupby("step").error.median()
    np.testing.assert_array_equal(x, expected.index)
    np.testing.assert_allclose(y, expected)


def test_published_numbers_are_laid_over_cifar10_only() -> None:
    values = {"data.name": "cifar10"}
    cifar = planted_frames((20, 56, 110), 2, 60, values=values, layers=False)
    figure = draw("error_against_depth", cifar)
    assert "He et al. 2015" in words(figure)
    assert "Table 6" in words(figure)
    diamonds = [ln for ln in panels(figure)[1].lines if ln.get_marker() == "D"]
    residual = next(d for d in diamonds if d.get_color() == FAMILIES["residual"].colour)
    table = reference.table6().set_index("depth")
    expected = [table.test_error_percent[20], table.test_error_percent[56], 6.61]
    np.testing.assert_allclose(residual.get_ydata(), expected)
    assert "He et al." not in words(draw("error_against_depth"))


def test_profile_is_the_median_relative_to_the_last_convolution() -> None:
    x, y = line(draw("gradient_profile"), "plain-20-step0")
    layers = FRAMES.layers
    rows = layers[(layers.family == "plain") & (layers.depth == 20) & (layers.step == 0)]
    norms = rows.pivot(index="layer", columns="seed", values="activation_gradient_norm")
    relative = norms.loc[:19] / norms.loc[19]
    np.testing.assert_array_equal(x, range(1, 20))
    np.testing.assert_allclose(y, np.exp(np.log(relative).median(axis=1)))
    assert y[-1] == pytest.approx(1)


def test_theory_line_grows_by_the_bn_relu_factor_in_plain_panels_only() -> None:
    figure = draw("gradient_profile")
    titles = {}
    for panel in panels(figure):
        theory = [ln for ln in panel.lines if ln.get_gid() == "theory"]
        titles[panel.get_title(loc="left")[4:]] = len(theory)
        for ln in theory:
            slope = np.diff(np.log(np.asarray(ln.get_ydata(), float)))
            np.testing.assert_allclose(slope, -0.5 * math.log(math.pi / (math.pi - 1)))
            assert ln.get_ydata()[-1] == 1
    assert titles == {
        **{f"plain-{d}": 1 for d in (8, 20, 56)},
        **{f"residual-{d}": 0 for d in (8, 20, 56)},
    }
    assert "1.211" in words(figure)


def test_theory_line_without_normalisation_is_that_of_the_initialisation() -> None:
    values = {"model.normalization": "none", "model.initialization": "lecun"}
    figure = draw("gradient_profile", planted_frames((20,), 1, 60, values=values))
    theory = line(figure, "theory")[1]
    np.testing.assert_allclose(np.diff(np.log(theory)), 0.5 * math.log(2))


THREE = {
    "raw": lambda rows: rows.activation_gradient_norm,
    "signal": lambda rows: rows.weight_norm * rows.weight_gradient_norm,
    "turn": lambda rows: rows.angular_step,
}


def without_turn(frames: Frames) -> Frames:
    """Records as older versions made them: without the angle by which a layer turns."""
    return changed(frames, layers=frames.layers.drop(columns="angular_step"))


@pytest.mark.parametrize("quantity", THREE)
def test_three_gradients_are_layer_2_over_the_last_at_every_recorded_step(quantity: str) -> None:
    x, y = line(draw("gradient_ratio", FRAMES), f"plain-56-{quantity}")
    layers = FRAMES.layers[(FRAMES.layers.family == "plain") & (FRAMES.layers.depth == 56)]
    layers = layers.assign(value=THREE[quantity](layers))
    norms = layers.pivot(index=["step", "seed"], columns="layer", values="value")
    ratios = (norms[2] / norms[55]).groupby("step").median()
    np.testing.assert_allclose(x, ratios.index, atol=1e-9)
    np.testing.assert_allclose(y, ratios)
    assert "not recorded" not in labels(draw("gradient_ratio", FRAMES))


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts]


@pytest.mark.parametrize("quantity", ["signal", "turn"])
def test_signal_and_turn_are_relative_to_the_last_layer_and_told_in_the_title(
    quantity: str,
) -> None:
    figure = draw("signal_and_turn")
    layers = FRAMES.layers[(FRAMES.layers.family == "plain") & (FRAMES.layers.depth == 56)]
    at = layers[layers.step == 60].assign(value=THREE[quantity])
    norms = at.pivot(index="layer", columns="seed", values="value")
    expected = (norms / norms.loc[55]).loc[2:55].median(axis=1)
    x, y = line(draw("signal_and_turn"), f"plain-{quantity}-step60")
    np.testing.assert_array_equal(x, expected.index)
    np.testing.assert_allclose(y, expected)
    assert f"{quantity} ×{two_digits(expected[2])}" in words(figure)


def test_what_underflowed_is_told_of_its_own_network() -> None:
    """Layer 2 of the plain network has no gradient that float32 holds, which is the finding."""
    layers = FRAMES.layers
    early = (layers["family"] == "plain") & (layers["layer"] <= 3)
    lost = {
        name: layers[name].mask(early, 0.0) for name in ("weight_gradient_norm", "angular_step")
    }
    frames = FRAMES._replace(layers=layers.assign(activation_gradient_norm=0.0, **lost))
    only = select(frames, frames.runs.index[frames.runs["family"] == "plain"])
    for shown in (frames, only):
        title = words(FIGURES["signal_and_turn"](shown))
        assert "Layer 2 of plain-56" in title
        assert "Layer 2 of residual" not in title
        assert "below what float32 holds" in title


def test_records_without_the_angle_say_so_and_show_the_other_two() -> None:
    figure = draw("gradient_ratio", without_turn(FRAMES))
    assert labels(figure) == ["not recorded"]
    assert [len(panel.lines) > 1 for panel in panels(figure)] == [True, True, False]


def test_responses_are_those_of_the_convolutions_and_sorted_within_each_run() -> None:
    rng = np.random.default_rng(0)
    layers = FRAMES.layers.assign(response_std=rng.uniform(1, 2, len(FRAMES.layers)))
    figure = draw("response_std", changed(FRAMES, layers=layers))
    last = layers[(layers.step == 60) & (layers.family == "residual") & (layers.depth == 20)]
    table = last[last.layer < 20].pivot(index="layer", columns="seed", values="response_std")
    np.testing.assert_allclose(line(figure, "residual-20-layer")[1], table.median(axis=1))
    ranked = np.median(np.sort(table.to_numpy(), axis=0)[::-1], axis=1)
    np.testing.assert_allclose(line(figure, "residual-20-rank")[1], ranked)


@pytest.mark.parametrize("recorded", [True, False])
def test_heatmaps_share_one_scale_and_hold_every_layer_and_step(recorded: bool) -> None:
    frames = FRAMES if recorded else without_turn(FRAMES)
    figure = draw("update_heatmap", frames)
    meshes = [panel.collections[0] for panel in panels(figure)]
    assert [m.get_gid() for m in meshes] == ["plain-56", "residual-56"]
    assert meshes[0].get_clim() == meshes[1].get_clim()
    layers = frames.layers[(frames.layers.family == "plain") & (frames.layers.depth == 56)]
    values = layers.angular_step if recorded else layers.update_norm / layers.weight_norm
    logs = layers.assign(value=np.log10(values))
    expected = logs[logs.layer < 56].pivot_table(
        index="layer", columns="step", values="value", aggfunc="median"
    )
    shown = np.ma.getdata(meshes[0].get_array()).reshape(expected.shape)
    np.testing.assert_allclose(shown, expected)
    assert ("Relative update" in words(figure)) == (not recorded)


def test_a_warm_up_of_some_depths_parts_no_figure_and_is_said() -> None:
    cold = planted_frames((20, 56), 2, 60)
    warm = planted_frames((110,), 1, 60, values={"schedule.warmup_error": 80.0})
    (label, together), *others = labelled_groups(join(cold, warm))
    assert (label, others) == ("", [])
    figure = draw("error_against_depth", together)
    assert "Warmed up: plain-110, residual-110." in words(figure)
    # Two warm-ups of one depth stay apart.
    both = join(cold, planted_frames((56,), 1, 60, values={"schedule.warmup_error": 80.0}))
    groups = labelled_groups(both)
    assert [label for label, _ in groups] == ["warmup_error=0", "warmup_error=80"]
    slow = planted_frames((20,), 1, 60, values={"optimizer.learning_rate": 0.01})
    groups = labelled_groups(join(cold, warm, slow))
    assert [label for label, _ in groups] == ["learning_rate=0.1", "learning_rate=0.01"]
    assert "Warmed up" not in words(draw("error_against_depth", cold))
    # Of depth 56 alone.
    assert "Warmed up" not in words(draw("gradient_heatmap", together))


def test_curves_stand_beside_the_paper_s_of_networks_on_cifar10_alone() -> None:
    with pytest.raises(UserError, match="no curves of the paper"):
        draw("curves_beside_paper")
    frames = planted_frames((20, 56), 2, 60, values={"data.name": "cifar10"})
    figure = draw("curves_beside_paper", frames)
    assert len(panels(figure)) == 4
    x, y = line(figure, "paper-plain-56-test")
    paper = reference.fig6()
    paper = paper[(paper["network"] == "plain-56") & (paper["split"] == "test")]
    paper = paper.groupby("iteration")["error_percent"].median()
    np.testing.assert_array_equal(x, paper.index)
    np.testing.assert_array_equal(y, paper)
    x, y = line(figure, "runs-residual-20-train")
    rows = frames.metrics[frames.metrics["split"] == "train"]
    rows = rows[(rows["family"] == "residual") & (rows["depth"] == 20)]
    np.testing.assert_allclose(y, rows.groupby("step")["error"].median().loc[list(x)])
    assert "n = 2 seeds" in words(figure)
    one = draw("curves_beside_paper", of_family(frames, "plain"))
    assert [panel.get_title(loc="left")[4:9] for panel in panels(one)] == ["plain", "plain"]


def test_responses_stand_beside_the_paper_s() -> None:
    with pytest.raises(UserError, match="no responses of the paper"):
        draw("responses_beside_paper")
    frames = planted_frames((20, 56), 2, 60, values={"data.name": "cifar10"})
    large = frames.layers["run_id"].str.startswith("plain-56") & (frames.layers["layer"] == 3)
    layers = frames.layers.assign(
        response_std=frames.layers["response_std"].mask(large, 10 * PAPER_LIMIT)
    )
    figure = draw("responses_beside_paper", changed(frames, layers=layers))
    paper = reference.fig7()
    published = paper[paper["network"] == "ResNet-110"]["response_std"].to_numpy()
    np.testing.assert_array_equal(line(figure, "paper-residual-110-layer")[1], published)
    ranked = line(figure, "paper-residual-110-rank")[1]
    np.testing.assert_array_equal(ranked, np.sort(published)[::-1])
    assert paper["response_std"].max() < PAPER_LIMIT
    own = layers[(layers["family"] == "residual") & (layers["depth"] == 20)]
    own = own[(own["step"] == own["step"].max()) & (own["layer"] < 20)]
    expected = own.groupby("layer")["response_std"].median()
    np.testing.assert_allclose(line(figure, "runs-residual-20-layer")[1], expected)
    assert {panel.get_ylim() for panel in panels(figure)} == {(0.0, PAPER_LIMIT)}
    assert "Partly beyond the axis: plain-56." in words(figure)


def test_the_axis_of_ratios_is_that_of_the_networks_up_to_56_layers() -> None:
    """A plain network of 110 layers that vanishes does not flatten them; it is said to go on."""
    shallow = draw("gradient_ratio", planted_frames((20, 56), 2, 60))
    deep = draw("gradient_ratio", planted_frames((20, 56, 110), 2, 60))
    assert panels(deep)[0].get_ylim() == panels(shallow)[0].get_ylim()
    assert "Partly beyond the axis: plain-110." in words(deep)
    assert "beyond the axis" not in words(shallow)
    alone = draw("gradient_ratio", planted_frames((110,), 2, 60))
    assert "beyond the axis" not in words(alone)


def test_medians_of_two_are_geometric_on_a_logarithmic_axis() -> None:
    rows = pd.DataFrame({"x": [1, 1, 2, 2, 2], "y": [1.0, 100.0, 3.0, 1.0, 2.0]})
    np.testing.assert_allclose(medians(rows, ["x"], "y", geometric=True)["y"], [10, 2])
    np.testing.assert_allclose(medians(rows, ["x"], "y")["y"], [50.5, 2])


def test_a_cell_of_rate_and_depth_has_every_seed_from_the_lowest_error_on() -> None:
    frames = planted_rates()
    table = data_of(draw("rate_and_depth", frames)).query("mark == 'point'")
    runs = frames.runs
    for (family, depth, rate), own in runs.groupby(["family", "depth", "optimizer.learning_rate"]):
        shown = table[table.series.str.startswith(family) & (table.x == depth) & (table.y == rate)]
        assert list(shown.series.str.split().str[1]) == ["1", "2", "3"]
        np.testing.assert_allclose(shown.value.astype(float), sorted(own.train_error_last))


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (FRAMES, "several learning rates and depths"),
        (join(planted_rates(), planted_rates(**{"data.batch_size": 64})), "batch_size"),
    ],
    ids=["one rate", "two batch sizes"],
)
def test_rate_and_depth_refuses_what_it_would_pool_or_leave_empty(
    frames: Frames, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        draw("rate_and_depth", frames)


def test_the_title_of_responses_tells_the_largest_of_each_family() -> None:
    layers = FRAMES.layers.assign(response_std=1.0)
    layers.loc[layers.family.eq("plain") & layers.layer.eq(5), "response_std"] = 20.0
    said = words(draw("response_std", changed(FRAMES, layers=layers)))
    assert said.startswith("Largest response at depth 56: plain 20, residual 1")
    one = draw("response_std", of_family(changed(FRAMES, layers=layers), "plain"))
    assert words(one).startswith("Layer responses after training")
