"""What is committed under results/reference regenerates from its own records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from resnet_study.drawing.render import render
from resnet_study.errors import UserError
from resnet_study.files import strict
from resnet_study.judging.judge import read_findings
from resnet_study.records import read_frames
from resnet_study.studies.find import home, judge_records, load_study

REFERENCE = home() / "results" / "reference"
STUDIES = sorted(folder.name for folder in REFERENCE.iterdir())


@pytest.mark.parametrize("name", STUDIES)
def test_committed_findings_are_those_of_the_committed_records(name: str) -> None:
    text = (REFERENCE / name / "findings.md").read_text()
    written = dict(re.findall(r"^###+ (\S+)\n\n\*\*([\w: ]+)\.\*\*", text, re.MULTILINE))
    study = load_study(name)
    findings = study.judge(read_frames([REFERENCE / name]))
    judged = {finding.claim: finding.verdict.capitalize() for finding in findings}
    assert {claim.replace("\\", ""): verdict for claim, verdict in written.items()} == judged
    committed = read_findings(REFERENCE / name / "findings.json")
    assert list(committed) == list(judged)
    for finding in findings:
        own, now = (flat(strict(vars(f))) for f in (committed[finding.claim], finding))
        assert own.keys() == now.keys()
        for name, number in now.items():
            if isinstance(number, float):
                assert own[name] == pytest.approx(number, rel=1e-6), (finding.claim, name)
            elif not name.endswith((".detail", ".needed")):
                assert own[name] == number, (finding.claim, name)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every number of nested ones, by its whole name."""
    if not isinstance(value, dict | list):
        return {name: value}
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return {n: v for key, part in parts for n, v in flat(part, f"{name}.{key}").items()}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "quick" else pytest.mark.slow) for name in STUDIES],
)
def test_committed_figures_are_drawn_from_the_committed_records(name: str, tmp_path: Path) -> None:
    drawn = render(load_study(name).figures, read_frames([REFERENCE / name]), tmp_path)
    committed = {file.name for file in (REFERENCE / name / "figures").glob("*.png")}
    assert {figure.png.name for figure in drawn if figure.png} == committed


@pytest.mark.parametrize("name", ["quick", "signal_propagation"])
def test_a_claim_asked_for_alone_has_the_verdict_of_the_report(name: str) -> None:
    study = load_study(name)
    frames = read_frames([REFERENCE / name])
    first, last = study.primary[0].name, study.claims[-1].name
    alone = judge_records(frames, name, [last, first], 0.95)
    together = {finding.claim: finding for finding in study.judge(frames)}
    assert alone == [together[last], together[first]]
    elsewhere = judge_records(frames, "a folder of another name", [first], 0.95)[0]
    assert elsewhere.verdict.startswith("exploratory: ")


def test_records_of_another_study_are_refused() -> None:
    with pytest.raises(UserError, match="none of these runs is of the study smoke"):
        judge_records(read_frames([REFERENCE / "quick"]), "smoke", None, 0.95)
