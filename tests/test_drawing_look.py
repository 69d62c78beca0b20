"""Figures as their user wants them: style, width, palette, formats; and the numbers they show."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from resnet_study import phenomena
from resnet_study.drawing import style
from resnet_study.drawing.data import COLUMNS, Networks, data_of
from resnet_study.drawing.look import NARROWEST, STYLES, WIDTH, Look, current, look_of, looking
from resnet_study.drawing.render import FORMATS, MORE_FORMATS, formats_of, render
from resnet_study.errors import UserError
from resnet_study.records import read_frames
from resnet_study.studies.find import home, load_study
from tests.planted import planted_frames, planted_rates
from tests.planted_initialization import planted_initialization

FRAMES = planted_frames((8, 20, 56), 2, 60)
FIGURES = phenomena.figures()
OF_RUNS = ("error_against_depth", "training_curves", "signal_and_turn", "update_heatmap")


def draw(name: str, look: Look = STYLES["paper"]) -> Figure:
    with looking(look):
        return FIGURES[name](FRAMES)


LOOKS = {**STYLES, "narrow": look_of(width=NARROWEST)}
REFERENCE = home() / "results/reference"


@pytest.mark.slow
@pytest.mark.parametrize("study", sorted(folder.name for folder in REFERENCE.iterdir()))
@pytest.mark.parametrize("look", LOOKS)
def test_no_letters_run_into_others_or_out_of_the_figure(study: str, look: str) -> None:
    frames = read_frames([REFERENCE / study])
    for one in load_study(study).figures:
        with looking(LOOKS[look]):
            boxes = boxes_of_letters(one(frames))
        for (text, box), (other, beside) in itertools.combinations(boxes, 2):
            over = Bbox.intersection(box.padded(-1), beside.padded(-1))
            assert not over, (one.name, text, other)


def test_letters_that_would_run_into_others_are_broken() -> None:
    with looking(LOOKS["narrow"]), style.drawing():
        figure, axes = style.new_figure(1, 2, 2.0)
        style.label(axes, "images in the mini-batch (log scale)", "error")
        boxes = boxes_of_letters(style.finish(figure, [], ["n = 1."]))
    assert sum("\n" in text for text, _ in boxes) == 2


def boxes_of_letters(figure: Figure) -> list[tuple[str, Bbox]]:
    """Of all that is written, within the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    ticks = [tick for axis in axes for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())]
    hidden = {tick.label1 for tick in ticks} | {tick.label2 for tick in ticks}
    for axis in axes:
        hidden -= {tick.label1 for tick in axis._update_ticks() if axis.axes.axison}
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    boxes = [
        (t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts if t not in hidden
    ]
    for text, box in boxes:
        assert figure.bbox.padded(1).contains(*box.min), text
        assert figure.bbox.padded(1).contains(*box.max), text
    return boxes


def letters(figure: Figure) -> list[float]:
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    return [float(text.get_fontsize()) for text in texts]


@pytest.mark.parametrize("name", OF_RUNS)
@pytest.mark.parametrize("chosen", ["slides", "poster"])
def test_letters_grow_with_the_style(name: str, chosen: str) -> None:
    look = STYLES[chosen]
    paper, larger = draw(name), draw(name, look)
    assert larger.get_figwidth() == look.width
    assert min(letters(larger)) == pytest.approx(look.text * min(letters(paper)))
    titles = [text for one in (paper, larger) for text in one.texts if text.get_gid() == "title"]
    # It is the largest; one that would not fit the figure is smaller.
    assert 0.9 < titles[1].get_fontsize() / (look.text * titles[0].get_fontsize()) < 1.0001
    for title in titles:
        title.set_text("")
    assert max(letters(larger)) == pytest.approx(look.text * max(letters(paper)))
    # Heights follow the width but for what letters take.
    shape = paper.get_figheight() / paper.get_figwidth()
    assert larger.get_figheight() / larger.get_figwidth() == pytest.approx(shape, rel=0.15)


@pytest.mark.parametrize("name", [*OF_RUNS, "gradient_profile", "response_std"])
def test_lines_and_marks_grow_with_the_letters(name: str) -> None:
    def sizes(figure: Figure) -> np.ndarray:
        lines = [line for panel in figure.axes for line in panel.lines]
        lines += [one for box in figure.legends for one in box.get_lines()]
        return np.array([(line.get_linewidth(), line.get_markersize()) for line in lines])

    paper, poster = draw(name), draw(name, STYLES["poster"])
    np.testing.assert_allclose(sizes(poster), STYLES["poster"].text * sizes(paper))


def test_a_width_leaves_the_letters_alone() -> None:
    wide = draw("training_curves", look_of(width=9.0))
    assert wide.get_figwidth() == 9.0
    assert sorted(set(letters(wide))) == sorted(set(letters(draw("training_curves"))))


@pytest.mark.parametrize("name", [*OF_RUNS, "gradient_profile", "gradient_ratio"])
def test_a_column_has_letters_of_six_points_and_the_whole_title(name: str) -> None:
    figure = draw(name, look_of(width=NARROWEST))
    # Those of panels and titles shrink to fit.
    ticks = [text for panel in figure.axes for text in panel.get_xticklabels()]
    assert min(text.get_fontsize() for text in ticks) >= 5.9
    renderer = FigureCanvasAgg(figure).get_renderer()
    (title,) = [text for text in figure.texts if text.get_gid() == "title"]
    assert title.get_window_extent(renderer).x1 <= figure.bbox.x1


@pytest.mark.parametrize("chosen", STYLES)
def test_a_legend_lies_within_the_figure(chosen: str) -> None:
    with looking(STYLES[chosen]), style.drawing():
        for length in (2, 5, 9, 14, 18, 22, 26, 30, 35, 40, 50, 70, 100):
            drawn, _ = style.new_figure(1, 1, 2.0)
            label = ("MHMM, momentum, warm-up of 400 iterations, weights" * 2)[:length]
            keys = [style.key(label, color="black") for _ in range(8)]
            style.finish(drawn, keys, ["said"])
            box = drawn.legends[0].get_window_extent(FigureCanvasAgg(drawn).get_renderer())
            assert box.x1 <= drawn.bbox.x1
            assert len(drawn.legends) == 1


def test_a_palette_changes_depths_and_no_family() -> None:
    look = look_of(palette="magma")
    with looking(look):
        assert style.sequential((8, 20)) != style.sequential((8, 20, 56))
        colours = style.sequential((8, 20, 56))
    assert colours != style.sequential((8, 20, 56))
    one, other = draw("error_against_depth"), draw("error_against_depth", look)
    for a, b in zip(one.axes[0].lines, other.axes[0].lines, strict=True):
        assert a.get_color() == b.get_color()


def test_a_style_of_matplotlib_or_of_a_file_holds_while_it_is_asked_for(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    file = tmp_path / "mine.mplstyle"
    file.write_text("axes.facecolor: 00ff00\nfont.size: 21\n")
    for chosen, colour in ((str(file), "#00ff00"), ("ggplot", "#E5E5E5")):
        panel = draw("training_curves", look_of(chosen)).axes[0]
        assert matplotlib.colors.same_color(panel.get_facecolor(), colour)
    assert current() == STYLES["paper"]
    assert dict(matplotlib.rcParams) == before
    assert draw("training_curves").axes[0].get_facecolor() == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"style": "slide"}, "--style=slide: no style and no file; did you mean slides?"),
        ({"width": 0.1}, "--width=0.1: inches, from 3.2 to 60"),
        ({"width": float("nan")}, "--width=nan: inches"),
        ({"palette": "virdis"}, "--palette=virdis: no colour map of matplotlib; did you mean vir"),
        ({"palette": "x7"}, "--palette=x7: .* such as viridis, cividis or magma"),
    ],
)
def test_a_look_that_is_none_is_refused(wanted: dict[str, float | str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        look_of(**wanted)  # type: ignore[arg-type]


def test_a_picture_is_no_style(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(UserError, match="not a style file of matplotlib"):
        look_of(str(picture))


def test_every_format_is_written_alike_twice(tmp_path: Path) -> None:
    formats = [*FORMATS, *MORE_FORMATS]
    one, other = (
        render([FIGURES["training_curves"]], FRAMES, tmp_path / name, formats=formats)[0].files
        for name in "ab"
    )
    assert list(one) == formats
    for form in formats:
        assert one[form].read_bytes() == other[form].read_bytes()
    assert one["pdf"].read_bytes().startswith(b"%PDF")


def test_formats_are_told_apart_and_refused() -> None:
    assert formats_of("pdf, png,pdf") == ["pdf", "png"]
    for text in ("jpg", "", ",", "png,svgz"):
        with pytest.raises(UserError, match=f"--format={text}: "):
            formats_of(text)


@pytest.mark.parametrize("name", FIGURES)
def test_every_line_that_is_drawn_is_in_the_numbers(name: str) -> None:
    of_runs = FIGURES[name] not in load_study("signal_propagation").figures
    if name.endswith("_beside_paper"):
        figure = FIGURES[name](planted_frames((20,), 2, 60, values={"data.name": "cifar10"}))
    elif name == "rate_and_depth":
        figure = FIGURES[name](planted_rates())
    elif name == "information":
        probes = ("copy_correlation", "class_contrast", "gradient_agreement")
        norms = FRAMES.layers["weight_norm"]
        layers = FRAMES.layers.assign(**dict.fromkeys(probes, 0.01 * norms))
        figure = FIGURES[name](FRAMES._replace(layers=layers))
    else:
        figure = FIGURES[name](FRAMES if of_runs else planted_initialization())
    table = data_of(figure)
    assert list(table.columns) == list(COLUMNS)
    named = {line.get_gid() for panel in figure.axes for line in panel.lines} - {None}
    single = [m for p in figure.axes for m in p.collections if isinstance(m, Networks)]
    told = named.union(*(networks.names for networks in single))
    assert set(table.loc[table["mark"] == "line", "series"]) - {""} == told
    if not named:
        return  # no layer of the planted networks froze
    assert len(table) > 10
    shown = table[table["mark"].isin(["line", "point", "cell"])]
    assert shown[["x", "y"]].notna().any(axis=1).all()
    assert (table["y_axis"] != "").any()


def test_single_networks_are_told_apart_in_the_numbers() -> None:
    table = data_of(draw("training_curves")).set_index("series")
    rows = FRAMES.metrics.query("family == 'plain' and depth == 56 and split == 'test'")
    for seed, own in rows.groupby("seed"):
        shown = table.loc[f"plain-56-test seed {seed}"]
        np.testing.assert_allclose(shown["x"].astype(float), own["step"])
        np.testing.assert_allclose(shown["y"].astype(float), own["error"])


def test_small_print_has_no_line_of_a_word_or_two() -> None:
    text = "Medians over n = 5 seeds, every seed thin or faint. Warmed up: plain-110, residual-110."
    for characters in range(20, 90):
        lines = style._even(text, characters)
        assert " ".join(lines) == text
        assert max(map(len, lines)) <= characters
        if len(lines) == 2:
            assert min(map(len, lines)) > max(map(len, lines)) / 2


def test_the_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    files = render([FIGURES["error_against_depth"]], FRAMES, tmp_path, formats=["csv"])[0].files
    assert list(files) == ["csv"]
    table = pd.read_csv(files["csv"])
    plain = table[(table["series"] == "plain-train") & (table["mark"] == "line")]
    runs = FRAMES.runs[FRAMES.runs["family"] == "plain"]
    expected = runs.groupby("depth")["train_error_last"].median()
    training = plain[plain["panel"].str.contains("raining")].groupby("x")["y"].first()
    np.testing.assert_allclose(training.loc[list(expected.index)], expected, rtol=1e-6)


def test_the_width_of_a_paper_is_that_of_a_column() -> None:
    assert STYLES["paper"] == Look(width=WIDTH)


@pytest.mark.parametrize("settings", ["figure.facecolor: black", "axes.facecolor: '#101020'"])
def test_a_dark_style_is_refused(settings: str, tmp_path: Path) -> None:
    file = tmp_path / "dark.mplstyle"
    file.write_text(settings.replace("'#", "").replace("'", "") + "\n")
    with pytest.raises(UserError, match="take a style with a light background"):
        look_of(str(file))
    with pytest.raises(UserError, match="dark_background"):
        look_of("dark_background")
    file.write_text("figure.facecolor: none\naxes.facecolor: none\n")
    assert look_of(str(file)).settings["figure.facecolor"] == "none"


def test_the_background_of_a_style_is_that_of_the_picture(tmp_path: Path) -> None:
    with looking(look_of("Solarize_Light2")):
        (done,) = render([FIGURES["error_against_depth"]], FRAMES, tmp_path, True, ["png"])
    assert done.png is not None
    with Image.open(done.png) as picture:
        corner = picture.convert("RGB").getpixel((0, 0))
    assert corner == (253, 246, 227)
