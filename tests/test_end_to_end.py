"""The README's main promise with the real thing: the command as a process, a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from resnet_study import phenomena
from resnet_study.judging.judge import read_findings
from resnet_study.records import read_frames
from resnet_study.studies.find import load_study, specs_of
from tests.browser import BROWSER, browser

SMOKE = load_study("smoke")
ROOT = Path(__file__).resolve().parent.parent


def command(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "resnet_study", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, timeout=600)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke study, run once."""
    results = tmp_path_factory.mktemp("results")
    process = command("reproduce", "smoke", f"--results={results}")
    assert process.returncode == 0, process.stderr
    assert "report.html" in process.stdout
    return results / "smoke"


def test_reproduce_leaves_runs_figures_findings_and_report(study: Path) -> None:
    assert len(list((study / "runs").iterdir())) == 4
    for name in (figure.name for figure in SMOKE.figures):
        for ending in ("png", "svg"):
            assert (study / "figures" / f"{name}.{ending}").stat().st_size > 10_000
    assert "## Verdicts" in (study / "findings.md").read_text()


def test_reproduce_again_trains_nothing(study: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in study.rglob("metrics.parquet")}
    process = command("reproduce", "smoke", f"--results={study.parent}")
    assert process.returncode == 0, process.stderr
    assert {f: f.stat().st_mtime_ns for f in study.rglob("metrics.parquet")} == before


def test_claims_as_json_and_as_table(study: Path) -> None:
    process = command("claims", study, "--json")
    assert process.returncode == 0, process.stderr
    findings = json.loads(process.stdout)
    assert [finding["claim"] for finding in findings] == list(phenomena.claims())
    # One seed per arm never decides.
    words = {finding["verdict"].removeprefix("exploratory: ") for finding in findings}
    assert words <= {"indicated", "undecided"}
    process = command("claims", study)
    assert process.returncode == 0, process.stderr
    assert "undecided" in process.stdout


def test_compare_as_table_and_plot(study: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plots" / "response.png"
    where = ("--against=layer", "--where", "depth=8", f"--plot={plot}")
    process = command("compare", "response_std", study, *where)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("plain") == process.stdout.count("residual") == 7
    assert plot.stat().st_size > 10_000


def test_figures_by_name(study: Path, tmp_path: Path) -> None:
    process = command("figures", study, "--only", "gradient_profile", f"--output={tmp_path}")
    assert process.returncode == 0, process.stderr
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "gradient_profile.csv",
        "gradient_profile.png",
        "gradient_profile.svg",
    ]


def test_a_run_folder_is_read_with_pandas_alone(study: Path) -> None:
    folder = next(iter((study / "runs").iterdir()))
    layers = pd.read_parquet(folder / "layers.parquet")
    assert {"step", "layer", "activation_gradient_norm"} <= set(layers.columns)
    assert {"step", "split", "error"} <= set(pd.read_parquet(folder / "metrics.parquet").columns)


def test_doctor_says_what_is_in_use() -> None:
    process = command("doctor")
    assert process.returncode == 0, process.stderr
    for word in ("device", "kernels", "jax", "allocator", "compilation cache", "CIFAR-10"):
        assert word in process.stdout


def test_data_reports_what_it_found() -> None:
    process = command("data", "digits")
    assert process.returncode == 0, process.stderr
    assert "1293 training, 144 validation and 360 test images of 8x8x1" in process.stdout


def test_the_committed_results_still_give_the_verdicts_that_the_readme_quotes() -> None:
    """From the records alone, as a reader can check."""
    frames = read_frames([ROOT / "results" / "reference" / "quick"])
    study = load_study("quick")
    assert set(frames.runs.index) == {spec.run_id for spec in specs_of(study)}
    page = (ROOT / "docs" / "results.md").read_text()
    table = page.partition("<!-- verdicts quick -->")[2].partition("<!-- end -->")[0]
    quoted = re.findall(r"^\| `\w+` \| \*\*([a-z: ]+)\*\* \|", table, re.MULTILINE)
    assert [finding.verdict for finding in study.judge(frames)] == quoted


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_report_in_a_browser(study: Path, tmp_path: Path) -> None:
    """The page shows its verdicts, every figure and the explorer, and loads nothing."""
    alone = tmp_path / "alone" / "report.html"
    alone.parent.mkdir()
    shutil.copy(study / "report.html", alone)
    with browser(tmp_path) as page:
        page.size(1200, 900)
        page.open(alone)
        widths = page.run("[...document.images].map(i => i.naturalWidth)")
        assert len(widths) == len(SMOKE.figures)
        assert min(widths) > 100
        assert "undecided" in page.run("document.body.textContent")
        page.run("document.querySelector('iframe').scrollIntoView({behavior: 'instant'}); 0")
        with page.frame():
            page.wait("document.body?.dataset.drawn >= 1")
        assert len(page.picture()) > 50_000
        assert page.complaints() == []
        assert page.requests() == []


@pytest.mark.slow
def test_the_report_of_committed_records_comes_from_them_alone(tmp_path: Path) -> None:
    """As README says of the night on CIFAR-10: no data, no training."""
    committed = ROOT / "results" / "reference" / "cifar10_night"
    shutil.copytree(committed / "runs", tmp_path / "night" / "runs")
    process = command("report", "cifar10_night", tmp_path / "night")
    assert process.returncode == 0, process.stderr
    made = tmp_path / "night"
    assert (made / "table6.md").read_text() == (committed / "table6.md").read_text()
    found, known = (read_findings(folder / "findings.json") for folder in (made, committed))
    assert {name: f.verdict for name, f in found.items()} == {
        name: f.verdict for name, f in known.items()
    }
    drawn, there = (
        {f.name for f in (folder / "figures").glob("*.png")} for folder in (made, committed)
    )
    assert drawn == there
    assert (tmp_path / "night" / "report.html").stat().st_size > 100_000
