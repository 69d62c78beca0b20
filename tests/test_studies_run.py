"""A study goes from its sweeps to its report, and trains nothing twice."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from resnet_study import phenomena
from resnet_study.errors import UserError
from resnet_study.judging.judge import Finding, read_findings
from resnet_study.launch import local
from resnet_study.launch.local import Outcome
from resnet_study.launch.resources import Pool
from resnet_study.phenomena.initialization.recording import record_initialization
from resnet_study.records import find_runs, read_run
from resnet_study.spec import RunSpec, from_flat, to_json
from resnet_study.studies import find
from resnet_study.studies import run as reproduce
from resnet_study.studies.study import Study
from tests.planted_initialization import few_arms
from tests.recorded import finished_run

SWEEP = """
command: ["${env}", python, -m, resnet_study, train, "${args}"]
method: grid
parameters:
  model.depth: {value: 8}
  model.residual: {values: [false, true]}
  data.name: {value: synthetic}
  data.batch_size: {value: 16}
  schedule.iterations: {value: 12}
  probes.log_every: {value: 4}
  probes.evaluate_every: {value: 6}
  probes.layers_every: {value: 6}
"""

COMMAND = ["${env}", "python", "-m", "resnet_study", "train", "${args}"]

STUDY = Study(
    name="tiny",
    title="A tiny study",
    question="Does it run? (He et al. 2015)",
    sweeps=("tiny.yaml", "again.yaml"),
    figures=tuple(
        phenomena.figures()[name]
        for name in ("error_against_depth", "training_curves", "gradient_profile")
    ),
    claims=tuple(
        phenomena.claims()[name]
        for name in ("deeper_plain_higher_training_error", "residual_no_degradation")
    ),
    cost="two runs",
)


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sweeps of the tiny study; the second one repeats the runs of the first."""
    folder = tmp_path / "sweeps"
    folder.mkdir()
    for name in STUDY.sweeps:
        (folder / name).write_text(SWEEP)
    monkeypatch.setattr(find, "home", lambda: tmp_path)
    return folder


def tiny(residual: bool) -> RunSpec:
    return from_flat(
        {
            "model.depth": 8,
            "model.residual": residual,
            "data.name": "synthetic",
            "data.batch_size": 16,
            "schedule.iterations": 12,
            "probes.log_every": 4,
            "probes.evaluate_every": 6,
            "probes.layers_every": 6,
        }
    )


@pytest.mark.usefixtures("sweeps")
def test_the_runs_of_a_study_are_those_of_its_sweeps_each_once() -> None:
    assert find.specs_of(STUDY) == [tiny(False), tiny(True)]


@pytest.mark.slow
@pytest.mark.usefixtures("sweeps")
def test_a_study_is_reproduced_and_then_only_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results" / "tiny"
    assert reproduce.run_study(STUDY, folder, "the command", pool=Pool(workers=2)) == 0
    output = capsys.readouterr().out
    assert STUDY.title in output
    for run in find_runs([folder]):
        assert read_run(run).summary["status"] == "finished"
        assert read_run(run).environment["command"] == "the command"
    assert {run.name for run in find_runs([folder])} == {
        tiny(residual).run_id for residual in (False, True)
    }
    for name in (figure.name for figure in STUDY.figures):
        for suffix in ("png", "svg"):
            assert (folder / "figures" / f"{name}.{suffix}").stat().st_size > 1000
    findings, report = ((folder / name).read_text() for name in ("findings.md", "report.html"))
    for claim in STUDY.claims:
        assert claim.statement in findings
        assert "undecided" in findings
    assert STUDY.title in findings
    assert STUDY.title in report
    for name in ("report.html", "findings.md", "figures"):
        assert str(folder / name) in output
    assert "undecided" in output

    runs = [p for p in (folder / "runs").rglob("*") if p.is_file()]
    times = {path: path.stat().st_mtime_ns for path in runs}

    def none(*_: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(local, "_Workers", none)
    (folder / "report.html").unlink()
    assert reproduce.run_study(STUDY, folder, "again", pool=Pool(workers=2)) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (folder / "report.html").read_text() == report
    assert (folder / "findings.md").read_text() == findings


def planned(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the runs end like this, without training."""
    monkeypatch.setattr(reproduce, "run_local", lambda *_, **__: outcome)


@pytest.mark.usefixtures("sweeps")
def test_an_interrupted_study_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(Outcome(summaries={tiny(True).run_id: {}}, interrupted=True), monkeypatch)
    assert reproduce.run_study(STUDY, tmp_path / "tiny", "c") == 130
    assert "Interrupted: 1 of 2 runs are done" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()


@pytest.mark.usefixtures("sweeps")
def test_a_failed_run_is_named_and_the_rest_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tiny"
    finished_run(folder / "runs", tiny(True), test_error_last=5.0)
    failed = folder / "runs" / tiny(False).run_id
    failed.mkdir(parents=True)
    (failed / "spec.json").write_text(to_json(tiny(False)))
    (failed / "summary.json").write_text(json.dumps({"status": "failed", "reason": "why"}))
    planned(Outcome(failures={tiny(False).run_id: "the reason"}), monkeypatch)
    assert reproduce.run_study(STUDY, folder, "c") == 1
    errors = capsys.readouterr().err
    assert errors == f"FAILED {tiny(False).run_id}: the reason\n"
    assert (folder / "report.html").exists()


@pytest.mark.usefixtures("sweeps")
@pytest.mark.parametrize("kind", ["failures", "lost"])
def test_where_every_run_failed_nothing_is_judged(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = Outcome(**{kind: {tiny(which).run_id: "the reason" for which in (False, True)}})
    planned(outcome, monkeypatch)
    assert reproduce.run_study(STUDY, tmp_path / "tiny", "c") == 1
    assert capsys.readouterr().err.count("the reason") == 2
    assert not (tmp_path / "tiny").exists()


@pytest.mark.usefixtures("sweeps")
def test_without_any_record_there_is_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run of the study tiny is recorded"):
        reproduce.write_study(STUDY, tmp_path / "tiny", [tmp_path / "tiny" / "runs" / "x"])


FINDING = Finding(
    claim="a",
    statement="Says [bold] and [/nothing].",
    source="",
    quote="",
    verdict="indicated",
    effect=-1.2345,
    unit="points",
    interval=(-2.0, 0.5),
    confidence=0.95,
    n="1 seed",
    detail="",
    needed="",
)


def test_findings_are_printed_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    undecided = replace(FINDING, verdict="undecided", effect=None, interval=None)
    reproduce.print_findings([FINDING, undecided])
    text = capsys.readouterr().out
    assert text.count("Says [bold] and [/nothing].") == 2
    for word in ("~ indicated", "? undecided", "-1.23 points", "-2 to 0.5 (95.0 %)", "1 seed"):
        assert word in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_findings_are_as_wide_as_columns_says(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    found = read_findings(find.home() / "results" / "reference" / "quick" / "findings.json")
    reproduce.print_findings(list(found.values()))
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "exploratory" in "\n".join(lines)
    assert width == 60 or "turn_vanished_after_100_steps" in "\n".join(lines)
    series = [line for line in lines if line.startswith("Exploratory: turn_vanished_…, median in")]
    assert len(series) == 1


def test_claims_of_which_nothing_is_known_are_named_as_undecided(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Alone, beside others and in a series: no claim is left out in silence."""
    unknown = replace(FINDING, claim="nothing_known", effect=None, interval=None, unit="")
    unknown = replace(unknown, verdict="exploratory: undecided", n="none")
    second = replace(unknown, claim="nor_of_this")
    series = [
        replace(unknown, claim=f"signal_healthy_{when}", series="signal_healthy", common="Healthy.")
        for when in ("after_1_step", "at_end")
    ]
    known = replace(series[0], effect=1.25, n="1 of 1 seed", verdict="exploratory: indicated")
    for shown, words in (
        ([unknown, second], "2 claims stay undecided"),
        ([FINDING, unknown, second], "2 other claims stay undecided"),
        ([unknown, *series], "3 claims stay undecided"),
        # A primary one stands in the table of these, not here again.
        ([unknown, replace(series[0], verdict="undecided"), series[1]], "2 other claims stay"),
        ([unknown, known, series[1]], "1 other claim stays undecided"),
    ):
        reproduce.print_findings(shown)
        text = " ".join(capsys.readouterr().out.split())
        assert words in text
        assert "nothing_known" in text
    assert "~ indicated" in text
    assert "? undecided" in text


@pytest.mark.parametrize("name", find.studies())
def test_every_study_of_the_project_is_sound(name: str) -> None:
    study = find.load_study(name)
    assert study.name == name
    assert study.sweeps or study.initialization
    specs = find.specs_of(study)
    assert len({spec.run_id for spec in specs}) == len(specs)
    assert bool(specs) == bool(study.sweeps)
    for text in (study.title, study.question, study.cost):
        assert text.strip()


def test_studies_are_found_by_name() -> None:
    assert {"quick", "smoke"} <= set(find.studies())
    assert find.load_study("quick").name == "quick"
    for name in ("quik", "__init__", "../setup", ""):
        with pytest.raises(UserError, match=r"no such study; .*quick"):
            find.load_study(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("x = 1", "holds no study"),
        ("STUDY = 5", "holds no study"),
        ("STUDY = (", "cannot be loaded .SyntaxError"),
        ("import nothing_of_that_name", "cannot be loaded .ModuleNotFoundError"),
        (
            "from resnet_study.studies.study import Study\n"
            "from resnet_study.probes import Probe\n"
            "p = Probe('weight_norm', 'mine', function=len)\n"
            "STUDY = Study('x', 'x', 'x', probes=(p,))",
            "probe weight_norm: records have that",
        ),
        ("from resnet_study.probes import Probe\nProbe('a b', 'mine', function=len)", "'a b'"),
        ("from resnet_study.probes import Probe\nProbe('a', 'mine')", "one of function"),
        (
            "from resnet_study.probes import Probe\nProbe(3, 'mine', function=len)",
            "probe 3: a name",
        ),
        (
            "from resnet_study.probes import Probe\nProbe('a', '', function=len, of_response=3)",
            "probe a: 3 is no function",
        ),
        ("import sys\nsys.exit('no data here')", r"mine.py: .*SystemExit: no data here .*line 2"),
    ],
)
def test_a_file_that_holds_no_study_is_refused_in_a_line(
    content: str | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        find.load_study(str(file))
    assert "\n" not in str(refused.value)


def test_a_study_without_runs_has_figures_claims_and_a_report(
    tmp_path: Path,
) -> None:
    study = find.load_study("signal_propagation")
    record_initialization(tmp_path / "initialization", "a command", few_arms(), (0, 1))
    findings = reproduce.write_study(study, tmp_path, [])
    assert [finding.claim for finding in findings] == [claim.name for claim in study.claims]
    # Too shallow for most claims, and two seeds decide none.
    words = {finding.verdict.rpartition(": ")[2] for finding in findings}
    assert words == {"indicated", "undecided"}
    text = (tmp_path / "findings.md").read_text()
    assert "## Runs" not in text
    assert "a command" in text
    assert "at initialisation" in (tmp_path / "report.html").read_text()


def test_options_in_the_command_of_one_sweep_are_refused(sweeps: Path, tmp_path: Path) -> None:
    command = [*COMMAND[:-1], "--kernels=xla", COMMAND[-1]]
    parameters = {"model.depth": {"value": 8}}
    sweep = {"command": command, "method": "grid", "parameters": parameters}
    study = replace(STUDY, sweeps=("tiny.yaml", sweep))
    assert len(find.specs_of(study)) == 3
    with pytest.raises(UserError, match="--kernels is an option of one sweep"):
        find.checked_specs(study)
