"""A report of planted records, and what is on its page."""

import json
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from resnet_study import phenomena
from resnet_study.drawing.render import RenderedFigure
from resnet_study.judging.judge import Finding
from resnet_study.records import Frames
from resnet_study.report import write_report
from resnet_study.studies.study import Study
from tests.planted import planted_frames

STUDY = Study(
    name="quick",
    title="Why do deep plain networks fail?",
    question="Do they? (He et al. 2015, arXiv 1512.03385)",
    sweeps=("quick.yaml",),
    figures=tuple(phenomena.figures()[n] for n in ("error_against_depth", "gradient_ratio")),
    claims=tuple(phenomena.claims().values()),
    cost="a minute",
)

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


def content_of(markdown: str, text: str) -> bool:
    """Whether the rendered Markdown holds the text."""
    rendered = "".join(t.content for t in tokens(markdown) if t.type in ("text", "text_special"))
    return " ".join(text.split()) in rendered
