"""The documentation says what is there: links, commands, tables, numbers, the example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from docs import tables
from resnet_study import probes
from resnet_study.cli import SUBCOMMANDS

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / name / "README.md" for name in ("benchmarks", "results")),
    *DOCS,
]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The fragments of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def example() -> str:
    """The one block of Python in docs/extending.md."""
    text = (ROOT / "docs" / "extending.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_and_image_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if fragment:
            assert fragment in anchors(file), target


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in DOCS if f"(docs/{page.name}" not in text] == []


def test_an_image_is_described_by_a_sentence() -> None:
    for page in PAGES:
        for words in re.findall(r"!\[([^\]]*)\]", page.read_text()):
            assert words.endswith("."), f"{page.name}: {words}"
            assert len(words.split()) >= 8, f"{page.name}: {words}"


def test_the_probe_table_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "records.md").read_text()
    assert f"\n\n{probes.table()}\n\n" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_a_subcommand(page: Path) -> None:
    named = re.findall(r"resnet-study ([a-z]\w*)", code_of(page))
    assert set(named) <= set(SUBCOMMANDS)


def code_of(page: Path) -> str:
    """What a page sets as code: indented or fenced blocks, and spans in backquotes."""
    text = page.read_text()
    fenced = re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    .*$", text, re.MULTILINE)
    return "\n".join([*fenced, *indented, *re.findall(r"`[^`]+`", prose(page))])


def test_the_readme_names_every_subcommand() -> None:
    named = re.findall(r"resnet-study ([a-z]\w*)", code_of(ROOT / "README.md"))
    assert set(named) == set(SUBCOMMANDS)


def test_the_tables_of_measured_numbers_are_those_of_the_records() -> None:
    pages = {page: page.read_text() for page in PAGES if "<!-- end -->" in page.read_text()}
    assert set(pages) == set(tables.PAGES)
    named = [match[1] for text in pages.values() for match in tables.BLOCK.finditer(text)]
    assert set(named) == set(tables.TABLES)
    ends = re.findall(r"^<!-- end -->$", "\n".join(pages.values()), re.MULTILINE)
    assert len(named) == len(ends)
    for page, text in pages.items():
        assert tables.filled(text) == text, f"{page.name}: python docs/tables.py writes it anew"


def test_the_tables_name_networks_with_an_ended_run_in_every_study(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "| residual-56 |" in tables.errors_beside_paper("cifar10_night", "cifar10")
    frames, whole = map(tables._frames, ("cifar10_night", "cifar10"))
    deep = frames.runs["family"].eq("residual") & frames.runs["depth"].eq(56)
    status = frames.runs["status"].mask(deep, "stopped")
    going = frames._replace(runs=frames.runs.assign(status=status))
    monkeypatch.setattr(tables, "_frames", {"cifar10_night": going, "cifar10": whole}.get)
    table = tables.errors_beside_paper("cifar10_night", "cifar10")
    assert "| residual-20 |" in table
    assert "| residual-56 |" not in table


def test_the_citation_has_what_its_schema_asks_for_and_this_version() -> None:
    from resnet_study import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    assert citation["license"] == "MIT"


def test_the_example_is_short() -> None:
    assert len(example().splitlines()) <= 80


def command(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "resnet_study", *map(str, words)]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        line, capture_output=True, text=True, cwd=cwd, timeout=600, env=environment
    )


VERDICT = r"│ first_layers_balanced +│[^\n]*\n│ \S (reproduced|indicated|undecided) "
"""As the table of findings begins."""


@pytest.mark.slow
def test_the_example_runs_outside_the_clone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(example())
    process = command("reproduce", "./mine.py", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert re.search(VERDICT, process.stdout)
    results = tmp_path / "results" / "signs"
    files = list(results.glob("runs/*/layers.parquet"))
    assert len(files) == 4
    for file in files:
        layers = pd.read_parquet(file)
        assert layers["positive_share"].between(0, 1).all()
        assert (layers["largest_response"] > 0).all()
    assert (results / "figures" / "positive_shares.png").stat().st_size > 10_000

    where = ("--against=layer", "--where", "family=plain")
    process = command("compare", "positive_share", "results/signs", *where, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    rows = [line for line in process.stdout.splitlines() if line.startswith("│")]
    assert sum("plain" in row for row in rows) == 7  # the classifier is no convolution
    process = command("report", "./mine.py", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert re.search(VERDICT, process.stdout)
    assert (results / "report.html").stat().st_size > 10_000
    findings = (results / "findings.md").read_text()
    assert re.search(r"^\| \*\*[a-z ]+\*\* \| first\\_layers\\_balanced", findings, re.MULTILINE)

    process = command("sweep", "./mine.py", "--dry_run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    process = command("slice", "./mine.py", "--minutes=9", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    with tarfile.open(results.with_suffix(".tar")) as archive:
        names = [name for name in archive.getnames() if name.endswith("layers.parquet")]
        assert len(names) == 4
