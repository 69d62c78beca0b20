"""The report says everything, escapes everything and loads nothing."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resnet_study import phenomena
from resnet_study.drawing.render import RenderedFigure, render
from resnet_study.judging.claim import in_series
from resnet_study.judging.judge import judge
from resnet_study.report import wording
from resnet_study.report.explorer import explorer_page
from resnet_study.studies.find import load_study, studies
from tests.planted import join, planted_frames
from tests.reported import (
    FINDING,
    FRAMES,
    STUDY,
    Page,
    content_of,
    report,
    tokens,
    with_environment,
)

HOSTILE = "<script>alert(1)</script> \"q\" 's' a|b `c` *d* [e](javascript:f) {{ 7*7 }} &amp; \n# g"


def test_every_finding_and_figure_of_a_whole_study_is_there(tmp_path: Path) -> None:
    frames = planted_frames((8, 20, 56), 2, 60)
    findings = judge(list(phenomena.claims().values()), frames)
    figures = render(
        phenomena.chosen("figure", phenomena.figures(), ["error_against_depth", "gradient_ratio"]),
        frames,
        tmp_path / "figures",
    )
    markdown, html = report(tmp_path, frames, findings, figures)
    page = Page(html)
    for block in in_series(findings):
        said = wording.common_text(block) if len(block) > 1 else wording.question_text(block[0])
        assert page.text.count(said) == 1
    for finding in findings:
        assert f"claim-{finding.claim}" in page.ids
        for text in (finding.detail, finding.n, finding.unit):
            assert text in page.text
        for text in (finding.common or finding.statement, finding.detail, finding.n, finding.unit):
            assert content_of(markdown, text)
        assert not finding.quote or finding.quote in page.text
    for figure in figures:
        assert figure.caption in page.text
        assert f"](figures/{figure.name}.png)" in markdown
        assert (tmp_path / "figures" / f"{figure.name}.png").exists()
    assert len(page.alts) == page.tags.count("img") == len(figures)
    assert all(len(alt) > 20 for alt in page.alts)


def test_a_series_is_one_table_with_the_primary_claim_in_its_place(tmp_path: Path) -> None:
    """Its statement stands once; each claim has its verdict, and none is told twice."""
    series = {"series": "signal_healthy", "common": "The signal of 56 layers is healthy."}
    times = ("after_1_step", "after_10_steps", "at_end")
    members = [
        replace(FINDING, claim=f"signal_healthy_{time}", verdict=f"exploratory: {word}", **series)
        for time, word in zip(times, ("supported", "undecided", "contradicted"), strict=True)
    ]
    members[1] = replace(members[1], verdict="indicated")
    other = replace(FINDING, claim="other", verdict="exploratory: undecided")
    _, html = report(tmp_path, findings=[other, *members])
    page = Page(html)
    assert sorted(i for i in page.ids if i.startswith("claim-")) == sorted(
        f"claim-{finding.claim}" for finding in [other, *members]
    )
    assert page.text.count(series["common"]) == 1
    table = html[html.index('<table class="series">') :].partition("</table>")[0]
    assert re.findall(r'<th scope="col">([^<]*)', table) == [
        "after 1 step",
        "after 10 steps",
        "at end",
    ]
    assert re.findall(r"</svg>([^<]*)", table) == ["supported", "indicated", "contradicted"]
    assert re.findall(r'href="#([^"]*)', table) == ["claim-signal_healthy_after_10_steps"]


def test_the_committed_finding_stands_beside_and_not_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = replace(FINDING, effect=-3.25, interval=None, verdict="indicated")
    folder = tmp_path / "results" / "reference" / STUDY.name
    monkeypatch.setattr("resnet_study.studies.find.home", lambda: tmp_path)
    markdown, html = report(folder, findings=[committed])
    assert "reference" not in (markdown + Page(html).text).lower()
    markdown, html = report(tmp_path / "mine", findings=[FINDING, replace(FINDING, claim="new")])
    words = "ommitted reference: −3.25 percentage points, no interval, indicated"
    assert markdown.count(words) == 1
    assert Page(html).text.count(words) == 1


def test_page_loads_nothing_and_links_only_inside_and_to_citations(tmp_path: Path) -> None:
    figures = render(
        phenomena.chosen("figure", phenomena.figures(), ["error_against_depth"]), FRAMES, tmp_path
    )
    _, html = report(tmp_path, findings=[FINDING], figures=figures)
    page = Page(html)
    assert page.loads
    assert all(load.startswith("data:image/") for load in page.loads)
    assert page.handlers == []
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(page.tags)
    assert not re.search(r"@import|url\(", html)
    assert "No explorer: quick: no layer was recorded" in page.text
    outside = [link for link in page.links if not link.startswith("#")]
    assert set(outside) == {
        "https://arxiv.org/abs/1512.03385",
        "https://arxiv.org/abs/2001.00001",
    }
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)


def test_the_explorer_runs_its_script_in_a_frame_of_its_own(tmp_path: Path) -> None:
    frames = planted_frames((8,), 1, 60)
    _, html = report(tmp_path, frames, [FINDING])
    page = Page(html)
    assert not {"script", "form"} & set(page.tags)
    (frame,) = page.frames
    assert frame["sandbox"] == "allow-scripts"
    assert frame["title"]
    # What the reader of the attribute gets is the page itself.
    assert frame["srcdoc"] == explorer_page("quick", frames)
    inside = Page(str(frame["srcdoc"]))
    assert inside.loads == []
    assert inside.handlers == []
    assert "needs scripts" in inside.text


def test_an_answer_is_told_in_plain_words_of_the_network_that_was_judged() -> None:
    statement = "In a plain network of 56 layers (without it: the deepest from 44) it is so."
    finding = replace(FINDING, statement=statement, numbers={"depth": np.int64(56)})
    assert wording.question_text(finding) == "In a plain network of 56 layers it is so."
    assert wording.question_text(replace(finding, numbers={"depth": 44})) == statement
    told = replace(finding, answer="Plain-56 ends 74 points above plain-20.", n="4 of 5 seeds")
    assert wording.answer_text(told) == (
        f"{told.answer} (Medians; the claim holds in 4 of 5 seeds.)"
    )
    one = replace(told, n="1 of 1 seed")
    assert wording.answer_text(one) == f"{told.answer} (the claim holds in 1 of 1 seed.)"
    assert wording.answer_text(replace(told, effect=None)) == "There is no estimate."


@pytest.mark.parametrize("study", studies())
def test_every_primary_claim_has_an_answer_in_plain_words(study: str) -> None:
    for claim in load_study(study).primary:
        assert claim.answer, claim.name


def test_the_level_of_an_interval_is_explained_where_it_stands(tmp_path: Path) -> None:
    _, html = report(tmp_path, findings=[replace(FINDING, confidence=0.984375)])
    assert "98.44 % interval" in Page(html).text
    assert "hold the true median with a probability of 98.44 % or more" in Page(html).text
    assert wording.level_text(replace(FINDING, interval=None)) == ""


def test_the_answer_comes_first_then_a_picture_and_the_rest_is_folded(tmp_path: Path) -> None:
    frames = planted_frames((8,), 1, 60)
    figures = render(
        phenomena.chosen("figure", phenomena.figures(), ["gradient_ratio", "error_against_depth"]),
        frames,
        tmp_path,
    )
    other = replace(FINDING, claim="other", statement="Another.", verdict="exploratory: supported")
    _, html = report(tmp_path, frames, [other, FINDING], figures)
    order = [
        html.index(text)
        for text in (
            "The median effect is −4.312 percentage points; the claim holds in ",
            f'id="figure-{figures[0].name}"',
            "<iframe",
            f'id="figure-{figures[1].name}"',
            'id="claim-other"',
            "Last error in percent",
        )
    ]
    assert order == sorted(order)
    assert Page(html).text.count("Another.") == 1
    assert re.search(r'<details class="claim answer" id="claim-some_claim">', html)
    assert Page(html).text.count(FINDING.statement) == 1
    for alt in Page(html).alts:
        assert re.fullmatch(r"The figure “.+” shows .+\.", alt)


def test_without_a_primary_claim_the_report_says_so(tmp_path: Path) -> None:
    _, html = report(tmp_path, findings=[replace(FINDING, verdict="exploratory: undecided")])
    assert "named no claim before it ran" in Page(html).text


def test_hostile_text_is_shown_as_it_is(tmp_path: Path) -> None:
    fields = ("statement", "source", "quote", "unit", "n", "detail", "needed")
    finding = replace(FINDING, **dict.fromkeys(fields, HOSTILE), verdict="undecided")
    study = replace(STUDY, title=HOSTILE, question=HOSTILE, cost=HOSTILE)
    frames = with_environment(tmp_path / "runs", {"command": HOSTILE, "data": HOSTILE})
    runs = frames.runs.assign(status="failed", reason=HOSTILE)
    figures = [RenderedFigure("x", HOSTILE, HOSTILE, {}, HOSTILE)]
    markdown, html = report(tmp_path, frames._replace(runs=runs), [finding], figures, study)
    page = Page(html)
    assert not {"script", "iframe"} & set(page.tags)
    assert not any("javascript" in link for link in page.links)
    # Title twice, question, statement three times, quote, ...: at the least.
    assert page.text.count(HOSTILE) >= 15
    types = [token.type for token in tokens(markdown)]
    assert not {"html_block", "html_inline", "link_open"} & set(types)
    assert content_of(markdown, HOSTILE)
    codes = [token.content for token in tokens(markdown) if token.type == "code_inline"]
    assert " ".join(HOSTILE.split()) in codes


def test_markdown_tables_are_whole(tmp_path: Path) -> None:
    pipes = replace(FINDING, statement="a | b", n="c | d")
    slow = planted_frames((8,), 1, 60, layers=False, values={"optimizer.learning_rate": 0.01})
    markdown, _ = report(tmp_path, join(FRAMES, slow), [pipes, FINDING])
    kinds = [token.type for token in tokens(markdown)]
    assert kinds.count("table_open") == 4  # verdicts, two groups of errors, runs
    rows: list[int] = []
    widths: list[set[int]] = []
    for kind in kinds:
        if kind == "table_open":
            widths.append(set())
        elif kind == "tr_open":
            rows.append(0)
        elif kind in ("td_open", "th_open"):
            rows[-1] += 1
        elif kind == "tr_close":
            widths[-1].add(rows[-1])
    assert widths == [{4}, {5}, {5}, {9}]
    assert "|" not in "".join(t.content for t in tokens(markdown) if t.type == "text").replace(
        "a | b", ""
    ).replace("c | d", "")
