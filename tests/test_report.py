"""The report says everything, escapes everything and loads nothing."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from resnet_study import phenomena
from resnet_study.drawing.render import RenderedFigure, render
from resnet_study.judging.claim import in_series
from resnet_study.judging.judge import Finding, judge
from resnet_study.names import lasting
from resnet_study.records import Frames
from resnet_study.report import content, wording, write_report
from resnet_study.report.explorer import explorer_page
from resnet_study.studies.find import load_study, studies
from resnet_study.studies.study import Study
from tests.planted import join, planted_frames

STUDY = Study(
    name="quick",
    title="Why do deep plain networks fail?",
    question="Do they? (He et al. 2015, arXiv 1512.03385)",
    sweeps=("quick.yaml",),
    figures=tuple(phenomena.figures()[n] for n in ("error_against_depth", "gradient_ratio")),
    claims=tuple(phenomena.claims().values()),
    cost="a minute",
)

HOSTILE = "<script>alert(1)</script> \"q\" 's' a|b `c` *d* [e](javascript:f) {{ 7*7 }} &amp; \n# g"

FINDING = Finding(
    claim="some_claim",
    statement="The statement.",
    source="Somebody 2020, arXiv 2001.00001",
    quote="Quoted wording.",
    verdict="reproduced",
    effect=-4.3125,
    unit="percentage points",
    interval=(-5.0, -3.5),
    confidence=0.95,
    n="3 seeds per arm",
    detail="The detail.",
    needed="",
)

FRAMES = planted_frames((8, 20), 3, 60, layers=False)


class Page(HTMLParser):
    """Elements, what they would load, links, ids and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.alts: list[str] = []
        self.ids: list[str] = []
        self.frames: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "iframe":
            self.frames.append(dict(attrs))
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "action", "formaction"):
                self.loads.append(value or "")
            elif name == "href":
                (self.links if tag == "a" else self.loads).append(value or "")
            elif name.startswith("on"):
                self.handlers.append(name)
            elif name == "alt":
                self.alts.append(value or "")
            elif name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def report(
    folder: Path,
    frames: Frames = FRAMES,
    findings: list[Finding] | None = None,
    figures: list[RenderedFigure] | None = None,
    study: Study = STUDY,
) -> tuple[str, str]:
    """Text of findings.md and report.html."""
    paths = write_report(study, frames, findings or [], figures or [], folder)
    assert paths == (folder / "findings.md", folder / "report.html")
    return paths[0].read_text(), paths[1].read_text()


def tokens(markdown: str) -> list[Token]:
    """All tokens, inline ones too."""
    blocks = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [token for block in blocks for token in (block, *(block.children or []))]


def with_environment(folder: Path, *environments: dict[str, object]) -> Frames:
    """Frames whose runs have these environments, one each."""
    frames = planted_frames((8,), len(environments), 60, families=("plain",), layers=False)
    for run, environment in zip(frames.runs.index, environments, strict=True):
        (folder / run).mkdir(parents=True)
        (folder / run / "environment.json").write_text(json.dumps(environment))
    runs = frames.runs.assign(folder=[str(folder / run) for run in frames.runs.index])
    return frames._replace(runs=runs)


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


def content_of(markdown: str, text: str) -> bool:
    """Whether the rendered Markdown holds the text."""
    rendered = "".join(t.content for t in tokens(markdown) if t.type in ("text", "text_special"))
    return " ".join(text.split()) in rendered


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
