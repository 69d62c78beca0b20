"""Figures hold the numbers of the records, whatever is missing from them."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from resnet_study import phenomena, reference
from resnet_study.drawing.comparison import comparison_figure
from resnet_study.drawing.data import Networks, data_of
from resnet_study.drawing.panels import labelled_groups, medians
from resnet_study.drawing.render import FORMATS, MORE_FORMATS, render, save
from resnet_study.drawing.style import FAMILIES, KINDS, sequential
from resnet_study.errors import UserError
from resnet_study.judging.compare import Question, compare, differences, label_of
from resnet_study.judging.words import two_digits
from resnet_study.phenomena.information import probes as information
from resnet_study.phenomena.responses.figures import PAPER_LIMIT
from resnet_study.records import Frames
from resnet_study.studies.find import load_study
from tests.planted import join, planted_frames, planted_rates


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


@pytest.mark.slow
def test_files_have_the_same_bytes_whatever_the_settings(tmp_path: Path) -> None:
    small = informed(planted_frames((8, 20), 3, 12))
    first = render([FIGURES[n] for n in RUN_FIGURES], small, tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "none", "axes.grid": True}):
        second = render([FIGURES[n] for n in RUN_FIGURES], small, tmp_path / "b")
    for a, b in zip(first, second, strict=True):
        assert a.png is not None
        assert a.svg is not None
        assert b.png is not None
        assert b.svg is not None
        assert a.png.read_bytes() == b.png.read_bytes()
        assert a.svg.read_bytes() == b.svg.read_bytes()
        assert "<text" not in a.svg.read_text()  # letters are paths: no font is needed
        assert "<dc:date>" not in a.svg.read_text()
        with Image.open(a.png) as image:
            assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        assert "n = 3 seeds" in a.caption
    assert matplotlib.pyplot.get_fignums() == []


@pytest.mark.parametrize("form", [*FORMATS, *MORE_FORMATS])
def test_a_picture_is_replaced_whole_or_not_at_all(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    chosen, frames = [FIGURES["signal_and_turn"]], planted_frames((8,), 1, 6)
    file = render(chosen, frames, tmp_path, True, [form])[0].files[form]
    file.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"No space.*{file}"):
        render(chosen, frames, tmp_path, True, [form])
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_one_figure_that_cannot_be_drawn_does_not_stop_the_others(tmp_path: Path) -> None:
    frames = planted_frames((8,), 1, 60, layers=False)
    bad, good = render(
        [FIGURES[n] for n in ("gradient_ratio", "training_curves")], frames, tmp_path
    )
    assert bad.png is None
    assert "layers_every" in bad.problem
    assert good.png is not None
    assert good.problem == ""
    with pytest.raises(UserError, match="layers_every"):
        render([FIGURES["gradient_ratio"]], frames, tmp_path, strict=True)


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("signal_and_turn", "56"),
        ("gradient_heatmap", "56"),
        ("update_heatmap", "56"),
        ("gradient_profile", "20, 56, 110"),
        ("gradient_ratio", "20, 56, 110"),
        ("error_against_depth", "8, 20, 32, 56, 110"),
    ],
)
def test_a_caption_names_the_runs_of_its_figure(name: str, depths: str, tmp_path: Path) -> None:
    """Not those of the whole study; what they warmed up is said of these alone."""
    frames = planted_frames((8, 20, 32, 56, 110), 2, 60)
    error = np.where(frames.runs["depth"] == 110, 80.0, 0.0)
    frames = frames._replace(runs=frames.runs.assign(**{"schedule.warmup_error": error}))
    (rendered,) = render([FIGURES[name]], frames, tmp_path, strict=True, formats=("svg",))
    each = "(n = 2 seeds each)"
    assert f"Runs on digits: plain {depths} {each}; residual {depths} {each}." in rendered.caption
    assert ("Warmed up: plain-110, residual-110." in rendered.caption) == ("110" in depths)


def test_the_axis_of_ratios_is_that_of_the_networks_up_to_56_layers() -> None:
    """A plain network of 110 layers that vanishes does not flatten them; it is said to go on."""
    shallow = draw("gradient_ratio", planted_frames((20, 56), 2, 60))
    deep = draw("gradient_ratio", planted_frames((20, 56, 110), 2, 60))
    assert panels(deep)[0].get_ylim() == panels(shallow)[0].get_ylim()
    assert "Partly beyond the axis: plain-110." in words(deep)
    assert "beyond the axis" not in words(shallow)
    alone = draw("gradient_ratio", planted_frames((110,), 2, 60))
    assert "beyond the axis" not in words(alone)


def test_unknown_figure_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean gradient_profile"):
        phenomena.chosen("figure", FIGURES, ["gradient_profiles"])


def test_different_learning_rates_are_never_averaged(tmp_path: Path) -> None:
    slow = planted_frames((8,), 1, 60, values={"optimizer.learning_rate": 0.01})
    done = render(
        [FIGURES["error_against_depth"]], join(planted_frames((8,), 2, 60), slow), tmp_path
    )
    assert [d.name for d in done] == [
        "error_against_depth_learning_rate=0.1",
        "error_against_depth_learning_rate=0.01",
    ]
    assert ["n = 2 seeds" in d.caption for d in done] == [True, False]


def test_runs_without_a_summary_are_unfinished(tmp_path: Path) -> None:
    frames = changed(FRAMES, runs=FRAMES.runs.drop(columns="status"))
    errors, curves = render(
        [FIGURES[n] for n in ("error_against_depth", "training_curves")], frames, tmp_path
    )
    assert "no run has come to its end" in errors.problem
    assert "18 unknown" in curves.caption


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


def test_comparison_has_a_panel_per_quantity_and_says_what_bars_are() -> None:
    asked = (Question("error"), Question("signal_ratio"))
    frames = planted_frames((8, 20, 56), 5, 60)
    tables = {label_of(one): differences(frames, one, "family") for one in asked}
    figure = comparison_figure(tables, "depth")
    labels = [panel.get_ylabel() for panel in panels(figure)]
    assert labels == ["test error (%), residual - plain", "signal ratio, residual - plain"]
    assert "exact intervals of the median (93.8 %)" in words(figure)


def test_comparison_of_nothing_is_a_user_error() -> None:
    table = compare(FRAMES, Question("error"))
    with pytest.raises(UserError, match="no column layer"):
        comparison_figure({"error": table}, "layer")
    with pytest.raises(UserError, match="no finite median"):
        comparison_figure({"error": table.assign(median=np.nan)}, "depth")


def test_medians_of_two_are_geometric_on_a_logarithmic_axis() -> None:
    rows = pd.DataFrame({"x": [1, 1, 2, 2, 2], "y": [1.0, 100.0, 3.0, 1.0, 2.0]})
    np.testing.assert_allclose(medians(rows, ["x"], "y", geometric=True)["y"], [10, 2])
    np.testing.assert_allclose(medians(rows, ["x"], "y")["y"], [50.5, 2])


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


def test_figures_and_report_import_no_jax() -> None:
    program = (
        "import sys, resnet_study.drawing.render, resnet_study.report; "
        "print([m for m in ('jax', 'flax', 'optax', 'orbax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]")


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


def test_captions_explain_what_stands_beside_only_where_it_does(tmp_path: Path) -> None:
    values = {"data.name": "cifar10"}
    for name, word in (("error_against_depth", "diamonds"), ("training_curves", "Hollow")):
        for frames in (FRAMES, planted_frames((20,), 2, 60, values=values, layers=False)):
            (drawn,) = render([FIGURES[name]], frames, tmp_path, formats=["csv"])
            cifar10 = (frames.runs["data.name"] == "cifar10").all()
            assert (word in drawn.caption) == cifar10


def test_the_title_of_responses_tells_the_largest_of_each_family() -> None:
    layers = FRAMES.layers.assign(response_std=1.0)
    layers.loc[layers.family.eq("plain") & layers.layer.eq(5), "response_std"] = 20.0
    said = words(draw("response_std", changed(FRAMES, layers=layers)))
    assert said.startswith("Largest response at depth 56: plain 20, residual 1")
    one = draw("response_std", of_family(changed(FRAMES, layers=layers), "plain"))
    assert words(one).startswith("Layer responses after training")
