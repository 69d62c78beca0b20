"""What the report tells: verdicts, errors, runs, figures and environment."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from resnet_study import phenomena
from resnet_study.drawing.render import render
from resnet_study.names import lasting
from resnet_study.report import content, wording
from tests.planted import join, planted_frames
from tests.reported import FINDING, FRAMES, STUDY, Page, content_of, report, with_environment


@pytest.mark.parametrize("verdict", content.VERDICTS)
def test_verdicts_are_words_and_counted(verdict: str, tmp_path: Path) -> None:
    finding = replace(FINDING, verdict=verdict, needed="more seeds")  # type: ignore[arg-type]
    markdown, html = report(tmp_path, findings=[finding, finding, FINDING])
    page = Page(html)
    count = 3 if verdict == "reproduced" else 2
    assert re.search(rf"{count}\s+{verdict}", page.text)
    assert f"{count} {verdict}" in markdown
    is_open = verdict in ("not reproduced", "undecided")
    assert ("What this does not show" in page.text) == (is_open or "no readable" in page.text)
    assert page.text.count("Needed: more seeds") == 2  # one for each of both


def test_effect_is_given_with_unit_interval_and_level() -> None:
    text = wording.effect_text(FINDING)
    assert text == "−4.312 percentage points, 95 % interval −5 to −3.5"
    assert wording.effect_text(replace(FINDING, interval=None)).endswith("points, no interval")
    assert wording.effect_text(replace(FINDING, effect=None, interval=None)) == "no estimate"


def test_error_table_is_median_and_range_of_each_depth_and_family() -> None:
    table = content.error_table("", FRAMES)
    assert table.columns == (
        "plain, training",
        "plain, test",
        "residual, training",
        "residual, test",
    )
    for depth, cells in table.rows:
        runs = FRAMES.runs[FRAMES.runs.depth == depth]
        for cell, (family, split) in zip(
            cells, [(f, s) for f in ("plain", "residual") for s in ("train", "test")], strict=True
        ):
            values = runs.loc[runs.family == family, f"{split}_error_last"]
            low, median, high = (f"{value:.2f}" for value in sorted(values))
            assert cell.text == f"{median} ({low} to {high}; 3)"
            assert cell.published == ""


def test_error_table_has_published_values_and_no_spread_for_one_seed() -> None:
    frames = planted_frames((56, 110), 1, 60, layers=False, values={"data.name": "cifar10"})
    rows = dict(content.error_table("", frames).rows)
    assert [cell.published for cell in rows[56]] == ["5.67", "13.27", "0.10", "6.97"]
    assert [cell.published for cell in rows[110]] == ["", ">60", "0.06", "6.61"]
    assert all(re.fullmatch(r"\d+\.\d\d \(1\)", cell.text) for cell in rows[56])


def test_runs_that_did_not_finish_are_told_apart(tmp_path: Path) -> None:
    runs = FRAMES.runs.copy()
    runs["reason"], runs["diverged_at"], runs["step"] = pd.NA, float("nan"), float("nan")
    first, second, third = runs.index[:3]
    runs.loc[first, ["status", "reason"]] = ["failed", "ValueError: boom"]
    runs.loc[second, "status"], runs.loc[second, "diverged_at"] = "diverged", 30
    runs.loc[third, "status"] = None
    markdown, html = report(tmp_path, FRAMES._replace(runs=runs))
    for text in (markdown, Page(html).text):
        assert "3 of 12 runs did not finish" in text
        assert "failed (ValueError: boom)" in text
        assert "diverged (at iteration 30)" in text
        assert "plain-8, seed 2: unknown" in text


def test_figures_that_were_not_drawn_are_given_with_the_reason(tmp_path: Path) -> None:
    figures = render(
        phenomena.chosen("figure", phenomena.figures(), ["gradient_ratio", "training_curves"]),
        FRAMES,
        tmp_path,
    )
    markdown, html = report(tmp_path, figures=figures)
    problem = "no run recorded activation_gradient_norm"
    assert problem in Page(html).text
    assert content_of(markdown, problem)
    assert Page(html).tags.count("img") == 1


def test_environment_is_grouped_and_dirty_trees_are_said(tmp_path: Path) -> None:
    clean = {"packages": {"jax": "1.0"}, "git": {"revision": "abc", "dirty": False}}
    dirty = {"packages": {"jax": "1.1"}, "git": {"revision": "abc", "dirty": True}}
    frames = with_environment(tmp_path, clean, dirty, dirty)
    collected = content.collect(STUDY, frames, [], [], Path("nowhere"))
    entries = dict(collected.environment)
    assert entries["jax"] == ("1.0 (1 run)", "1.1 (2 runs)")
    assert entries["git revision"] == ("abc",)
    assert entries["uncommitted changes"] == ("no (1 run)", "yes (2 runs)")
    assert len(collected.warnings) == 1
    assert "2 of 3 runs were made with uncommitted changes" in collected.warnings[0]
    markdown, html = report(tmp_path, frames)
    assert content_of(markdown, collected.warnings[0])
    assert collected.warnings[0] in Page(html).text


def test_missing_or_broken_environment_is_said_not_raised(tmp_path: Path) -> None:
    frames = with_environment(tmp_path, {"command": "x"}, {"command": "x"})
    Path(frames.runs.folder.iloc[0], "environment.json").write_text("{ no json")
    collected = content.collect(STUDY, frames, [], [], Path("nowhere"))
    assert collected.warnings == ("1 of 2 runs have no readable environment.json.",)
    assert dict(collected.environment)["command"] == ("x (1 run)",)


def test_how_to_reproduce_is_there(tmp_path: Path) -> None:
    markdown, html = report(tmp_path)
    assert "resnet-study reproduce quick" in Page(html).text
    assert "`resnet-study reproduce quick`" in markdown
    assert "sweeps/quick.yaml" in Page(html).text


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    results = []
    for name in ("a", "b"):
        figures = render(
            phenomena.chosen("figure", phenomena.figures(), ["error_against_depth"]),
            FRAMES,
            tmp_path / name / "figures",
        )
        results.append(report(tmp_path / name, findings=[FINDING], figures=figures))
    assert results[0] == results[1]


def test_a_run_read_twice_counts_once() -> None:
    twice = content.collect(STUDY, join(FRAMES, FRAMES), [], [], Path("nowhere"))
    assert len(twice.runs.rows) == 12
    assert (
        twice.error_tables == content.collect(STUDY, FRAMES, [], [], Path("nowhere")).error_tables
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (44.2, "44 s"), (720, "12 min"), (12_000, "3 h 20 min"), (7_190, "2 h 00 min")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert lasting(seconds) == text
