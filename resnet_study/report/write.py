"""Write a report: `findings.md`, short and for reading anywhere, `findings.json` and `report.html`.

The page is one file: style and images are inside, and nothing is loaded. The page itself runs no
script; the explorer does, in a frame of its own that cannot reach the page. So a script that fails
harms nothing but itself. All text that comes from records, studies or findings is escaped in both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from resnet_study.drawing.render import RenderedFigure
from resnet_study.files import write_atomically
from resnet_study.judging.judge import Finding, findings_json
from resnet_study.records import Frames
from resnet_study.report import content, wording
from resnet_study.studies.study import Study

TEMPLATES = Path(__file__).parent

Filters = dict[str, Callable[..., Any]]

_ARXIV = re.compile(r"arXiv[: ](\d{4}\.\d{4,5})")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def write_report(
    study: Study,
    frames: Frames,
    findings: list[Finding],
    figures: list[RenderedFigure],
    folder: Path,
) -> tuple[Path, Path]:
    """Write ``findings.md``, ``findings.json`` and ``report.html``.

    Args:
        study: what was asked.
        frames: the records that findings and figures were made from.
        findings: as judged by `judging.judge.judge`, in the order of the report.
        figures: as written by `drawing.render.render`, drawn or not.
        folder: made if missing.

    Returns:
        The paths of the text and of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    collected = content.collect(study, frames, findings, figures, folder)
    pages = folder / "findings.md", folder / "report.html"
    write_atomically(pages[0], render_markdown(collected, folder))
    write_atomically(pages[1], render_html(collected))
    write_atomically(folder / "findings.json", findings_json(findings))
    return pages


def render_html(collected: content.Content) -> str:
    """The self-contained page."""
    css = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    filters: Filters = {
        "cite": cite,
        "data_uri": content.data_uri,
        "alt": wording.alt_text,
        "level": wording.level_text,
        "cell": wording.cell_text,
        "common": wording.common_text,
        "unit": wording.unit_text,
        "attribute": attribute,
    }
    return _render("page.html.j2", collected, filters, escaped=True, css=Markup(css))


def render_markdown(collected: content.Content, folder: Path) -> str:
    """The short text; figures are linked relative to `folder`."""

    def link(figure: RenderedFigure) -> str:
        assert figure.png is not None
        path = os.path.relpath(figure.png, folder).replace(os.sep, "/")
        return f"<{path}>" if re.search(r"[\s()]", path) else path

    filters: Filters = {"md": markdown, "code": code, "link": link}
    text = _render("findings.md.j2", collected, filters, escaped=False)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def cite(text: str) -> Markup:
    """Escaped text in which arXiv numbers are links."""
    link = r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>'
    return Markup(_ARXIV.sub(link, str(escape(text))))


def attribute(page: str) -> Markup:
    """A page as the value of an attribute in double quotes, where only these two need escaping.

    Escaping everything would make of the explorer a file that is a quarter larger.
    """
    return Markup(page.replace("&", "&amp;").replace('"', "&quot;"))


def markdown(text: str) -> str:
    """Text on one line with everything escaped that Markdown or HTML would interpret."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def code(text: str) -> str:
    """A code span, fenced by more backticks than the text has in a row."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", line)), default=0))
    space = " " if "`" in line else ""
    return f"{fence}{space}{line}{space}{fence}"


def _render(
    template: str,
    collected: content.Content,
    filters: Filters,
    escaped: bool,
    **more: Any,
) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escaped,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "effect": wording.effect_text,
        "answer": wording.answer_text,
        "question": wording.question_text,
        "has_published": _has_published,
        **filters,
    }
    values = {field.name: getattr(collected, field.name) for field in fields(collected)}
    return environment.get_template(template).render(
        **values, meanings=content.VERDICT_MEANING, **more
    )


def _has_published(tables: Sequence[content.ErrorTable]) -> bool:
    return any(cell.published for table in tables for _, row in table.rows for cell in row)
