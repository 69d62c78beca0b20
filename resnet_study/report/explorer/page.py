"""The page: form, specifications, records and the Vega libraries in one file that loads nothing.

The libraries are those that vl-convert brings along, so that the page needs no network, neither
when it is made nor when it is read.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from resnet_study.drawing.style import FAMILIES, ON_DARK
from resnet_study.errors import UserError
from resnet_study.files import write_atomically
from resnet_study.records import Frames, read_frames
from resnet_study.report.explorer import charts, records, reducing

LARGEST = 3_000_000
"""Bytes of a page."""

HERE = Path(__file__).parent

SCRIPTS = ("rows.js", "words.js", "page.js")
"""In one scope, one after the other."""

RECORDS = "@RECORDS@"
"""Where the records go; no name that stands in the page before can be this."""


def write_explorer(folders: Sequence[Path], output: Path) -> records.Records:
    """Write the explorer of one or several folders.

    Args:
        folders: studies or runs; each becomes a group of its own, or several.
        output: the page.

    Returns:
        What is in it.

    Raises:
        UserError: for a folder that is none, or has no layer records.
    """
    if output.suffix != ".html":
        raise UserError(f"--output={output}: the page ends in .html")
    names = records.names_of(folders)
    studies = [(n, read_frames([folder])) for n, folder in zip(names, folders, strict=True)]
    shown, page = _page(studies, title=", ".join(names), embedded=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, page)
    return shown


def explorer_page(name: str, frames: Frames) -> str:
    """The explorer of one study, to be put into its report.

    Raises:
        UserError: if no layer was recorded.
    """
    return _page([(name, frames)], title=name, embedded=True)[1]


def _page(
    studies: Sequence[tuple[str, Frames]], title: str, embedded: bool
) -> tuple[records.Records, str]:
    everything = records.collect(studies)
    shell = _shell(title, embedded)
    shown = reducing.reduced(everything, LARGEST - len(shell.encode()))
    return shown, shell.replace(RECORDS, reducing.to_json(shown))


def _shell(title: str, embedded: bool) -> str:
    """The page without its records."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined
    )
    colours = {
        "light": {family: style.colour for family, style in FAMILIES.items()},
        "dark": ON_DARK,
    }
    specifications = json.dumps(charts.specifications(), ensure_ascii=False, separators=(",", ":"))
    return environment.get_template("page.html.j2").render(
        title=title,
        embedded=embedded,
        colours=colours,
        splits=records.SPLITS,
        theory=records.THEORY,
        opening=json.dumps(records.OPENING),
        records=RECORDS,
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup("\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        specifications=Markup(reducing.safe_in_script(specifications)),
        libraries=Markup(_libraries()),
    )


@functools.cache
def _libraries() -> str:
    """Vega, Vega-Lite and Vega-Embed of the version that Altair writes for, as one script."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    # Inside of a script element this would end it; within strings and regular expressions, where
    # alone it can stand, the escaped slash is the same.
    return script.replace("</script", r"<\/script").replace("<!--", r"<\!--")
