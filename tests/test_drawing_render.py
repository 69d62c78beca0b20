"""Files of figures and their captions."""

import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from resnet_study import phenomena
from resnet_study.drawing.render import (
    FORMATS,
    MORE_FORMATS,
    FigureDefinition,
    _slug,
    figure,
    render,
)
from resnet_study.drawing.style import new_figure
from resnet_study.errors import UserError
from resnet_study.records import Frames
from tests.pictured import FIGURES, FRAMES, RUN_FIGURES, changed, informed
from tests.planted import join, planted_frames


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


def test_figures_and_report_import_no_jax() -> None:
    program = (
        "import sys, resnet_study.drawing.render, resnet_study.report; "
        "print([m for m in ('jax', 'flax', 'optax', 'orbax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]")


def test_captions_explain_what_stands_beside_only_where_it_does(tmp_path: Path) -> None:
    values = {"data.name": "cifar10"}
    for name, word in (("error_against_depth", "diamonds"), ("training_curves", "Hollow")):
        for frames in (FRAMES, planted_frames((20,), 2, 60, values=values, layers=False)):
            (drawn,) = render([FIGURES[name]], frames, tmp_path, formats=["csv"])
            cifar10 = (frames.runs["data.name"] == "cifar10").all()
            assert (word in drawn.caption) == cifar10


def _exits(_: Frames) -> Figure:
    raise SystemExit(3)


def _unwritable(_: Frames) -> Figure:
    drawing, axes = new_figure(1, 1, 2.0)
    axes[0, 0].set_title("$\\wrong{$")
    return drawing


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (lambda _: None, "gives NoneType"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (lambda _: Path("no such file").read_text(), "FileNotFoundError"),
        (_exits, "SystemExit"),
        (_unwritable, "ValueError"),
    ],
    ids=["nothing", "raises", "unreadable", "exits", "unwritable"],
)
def test_a_wrong_figure_is_told_and_leaves_no_older_one(
    draw: Any, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = [tmp_path / f"wrong.{form}" for form in FORMATS]
    for file in older:
        file.write_text("of an earlier version")
    wrong = FigureDefinition("wrong", "Wrong", "Caption.", draw)
    (done,) = render([wrong], FRAMES, tmp_path)
    assert told in done.problem
    assert capsys.readouterr().err == f"figure wrong: not drawn: {done.problem}\n"
    assert not any(file.exists() for file in older)
    with pytest.raises(UserError, match="wrong: "):
        render([wrong], FRAMES, tmp_path, strict=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shown": lambda frames: frames.runs},
        {"shown": lambda frames: 1 / 0},
        {"moving": lambda frames: Path("no such file").read_text()},
        {"moving": lambda frames: 1 / 0},
    ],
    ids=["shows no records", "fails to choose", "film without its file", "film fails"],
)
def test_a_figure_whose_parts_fail_is_told_and_the_others_are_drawn(
    wrong: dict[str, Any], tmp_path: Path
) -> None:
    first = FIGURES["error_against_depth"]
    both = [replace(first, name="wrong", **wrong), first]
    done = render(both, FRAMES, tmp_path, formats=["gif"])
    assert [bool(each.problem) for each in done] == [False, True][::-1]
    assert not (tmp_path / "wrong.gif").exists()


@pytest.mark.parametrize("part", ["title", "caption", "beside"])
def test_words_of_a_figure_are_text(part: str) -> None:
    with pytest.raises(UserError, match=f"figure error_against_depth: {part}"):
        replace(FIGURES["error_against_depth"], **{part: 3})


def test_a_function_without_a_name_is_no_figure() -> None:
    with pytest.raises(UserError, match="needs a name"):
        figure("Title", "Caption.")(functools.partial(_exits))


@pytest.mark.parametrize("name", ["<lambda>", "", "of/another", "..", ".hidden", "two words"])
def test_a_name_that_files_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="needs a name"):
        replace(FIGURES["error_against_depth"], name=name)


def test_a_figure_may_be_named_after_a_network(tmp_path: Path) -> None:
    named = replace(FIGURES["error_against_depth"], name="error_residual-8_step12")
    (done,) = render([named], FRAMES, tmp_path, strict=True)
    assert done.png == tmp_path / "error_residual-8_step12.png"
    assert done.png.is_file()


def test_files_of_runs_that_differ_in_much_have_names_that_a_disk_takes(tmp_path: Path) -> None:
    """Twelve arms in one folder: told by what is not at its default, and never too long."""
    many = {
        "model.width": (16, 3),
        "model.block_order": ("original", "full-preactivation"),
        "model.initialization": ("he", "lecun"),
        "optimizer.nesterov": (False, True),
        "optimizer.weight_decay": (0.0001, 0.0),
        "data.batch_size": (128, 64),
    }
    plain = planted_frames((8,), 1, 60, families=("residual",), layers=False)
    frames = join(
        plain,
        *(
            planted_frames((8,), 1, 60, families=("residual",), layers=False, values={name: other})
            for name, (_, other) in many.items()
        ),
    )
    definition = FIGURES["error_against_depth"]
    names = {figure.name for figure in render([definition], frames, tmp_path, True, ["png"])}
    assert len(names) == 7
    assert "error_against_depth_defaults" in names
    assert "error_against_depth_nesterov=True" in names
    assert all(figure.stat().st_size > 1000 for figure in tmp_path.iterdir())
    assert len(_slug("a=b, " * 100)) < 140
    assert _slug("a=b, " * 100) != _slug("a=b, " * 101)
