"""The path of the reference results on CIFAR-10, with real processes and a shortened schedule.

A study of the same kind as `experiments.cifar10` is cut into pieces that are joined by nothing but
the archive, thinned, and reported from the thinned records.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from resnet_study.cli import main
from resnet_study.records import find_runs, read_run, read_summary
from resnet_study.studies.find import load_study, specs_of

SHORT = """
from resnet_study.phenomena.convergence.claims import RESIDUAL_CONVERGES_FASTER
from resnet_study.phenomena.degradation import figures as degradation
from resnet_study.phenomena.gradients import claims, figures
from resnet_study.studies.study import Study
STUDY = Study(
    name="short", title="A short study", question="Does the path hold?",
    sweeps=("short.yaml",), order="seed",
    figures=(degradation.error_against_depth, degradation.training_curves, figures.gradient_ratio),
    claims=(RESIDUAL_CONVERGES_FASTER, claims.GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN),
)
"""

ITERATIONS = 2400
"""So many that the piece that gets as far as `COMPARED` does not get to the end as well."""

COMPARED = 32
"""An iteration with an evaluation, at which runs that were cut are compared."""

SWEEP = {
    "command": ["${env}", "python", "-m", "resnet_study", "train", "${args}"],
    "method": "grid",
    "parameters": {
        "seed": {"value": 0},
        "model.depth": {"value": 8},
        "model.residual": {"values": [False, True]},
        "data.name": {"value": "synthetic"},
        "data.batch_size": {"value": 16},
        "schedule.iterations": {"value": ITERATIONS},
    },
}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one's own, outside of the project, with its sweep beside it."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "short.py").write_text(SHORT)
    (folder / "short.yaml").write_text(json.dumps(SWEEP))  # JSON is YAML
    return folder / "short.py"


def command(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "resnet_study", *map(str, words)]
    # One core, so that every process of the test computes the same bits.
    core = min(os.sched_getaffinity(0))
    return subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def check_same_bits(one: Path, other: Path) -> None:
    folders = find_runs([one])
    assert [f.name for f in folders] == [f.name for f in find_runs([other])]
    for folder in folders:
        a, b = read_run(folder), read_run(other / "runs" / folder.name)
        pd.testing.assert_frame_equal(a.metrics, b.metrics, check_exact=True)
        pd.testing.assert_frame_equal(a.layers, b.layers, check_exact=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_pieces_on_bare_machines_give_the_bits_of_one_long_run(short: Path, tmp_path: Path) -> None:
    whole = command("reproduce", short, f"--results={tmp_path / 'whole'}", "--workers=2")
    assert whole.returncode == 0, whole.stderr
    state, said, pieces, cut = tmp_path / "state.tar", "continues", 0, False
    minutes, step = 0.2, -1
    while "continues" in said:
        pieces += 1
        assert pieces < 20
        results = tmp_path / f"machine{pieces}"
        began = time.monotonic()
        piece = command(
            *("slice", short, f"--minutes={minutes}", "--workers=2"),
            *(f"--results={results}", f"--state={state}"),
        )
        took = time.monotonic() - began
        assert piece.returncode == 0, piece.stderr
        said = piece.stdout
        # It ends: how much later depends on the machine (a chunk, a checkpoint, the archive).
        assert took < 60 * minutes + 300, piece.stderr
        before, step = step, least_step(results)
        if step <= max(before, 0):
            minutes *= 1.5  # on a busy core starting alone takes most of a short piece
        if not cut and "continues" in said and step >= COMPARED and not some_finished(results):
            cut = True
            check_unfinished(short, results / "short", tmp_path)
            minutes = 4.0  # what is left may as well be done in one
    assert cut, "no piece was cut where it could be looked at"
    assert pieces > 1, "the first piece did everything: nothing was joined"
    assert "2 of 2 runs are done" in said
    check_same_bits(results / "short", tmp_path / "whole" / "short")
    attempts = [len(read_run(f).environment["previous"]) for f in find_runs([results])]
    assert max(attempts) >= 1
    # What is done needs no checkpoint to go on.
    assert state.stat().st_size < 2e6


def least_step(results: Path) -> int:
    """How far the slowest run has come, by its rows; -1 before its first."""
    steps = [read_run(folder).metrics["step"].max() for folder in find_runs([results])]
    return min((int(step) for step in steps if step >= 0), default=-1)


def some_finished(results: Path) -> bool:
    return any(read_summary(f)["status"] == "finished" for f in find_runs([results]))


def check_unfinished(short: Path, study: Path, tmp_path: Path) -> None:
    """What a cut study leaves is labelled, reported, and used for no claim about the end."""
    ids = [folder.name for folder in find_runs([study])]
    unfinished = [n for n in ids if read_summary(study / "runs" / n)["status"] == "stopped"]
    assert len(unfinished) == 2, "two workers share the core, so both runs are cut"
    thinned = tmp_path / "thinned"
    done = command("publish", study, thinned)
    assert done.returncode == 0, done.stderr
    readme = (thinned / "README.md").read_text()
    for name in unfinished:
        assert re.search(rf"`{name}`: [\d,]+ of {ITERATIONS:,} iterations", readme)
    assert not list(thinned.rglob("checkpoints"))
    done = command("report", short, thinned)
    assert done.returncode == 0, done.stderr
    findings = (thinned / "findings.md").read_text()
    assert "2 of 2 runs did not finish" in findings
    judged = json.loads((thinned / "findings.json").read_text())
    assert {finding["claim"]: finding["verdict"] for finding in judged} == {
        # About runs that ended: there are none.
        "residual_converges_faster": "exploratory: undecided",
        "gradients_explode_at_initialization_plain_bn": "exploratory: indicated",
    }
    for name in ("gradient_ratio", "training_curves"):
        assert (thinned / "figures" / f"{name}.png").exists()
    for words in (("claims", thinned), ("figures", thinned), ("compare", "error", thinned)):
        at = (f"--at_step={COMPARED}",) if words[0] == "compare" else ()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), *at])
        assert ended.value.code == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_reproduce_stops_in_time_and_reports_what_there_is(short: Path, tmp_path: Path) -> None:
    """Also where the time is over before anything was recorded."""
    results = f"--results={tmp_path}"
    done = command("reproduce", short, results, "--workers=1", "--minutes=0.001")
    assert done.returncode == 0, done.stderr
    assert "Time is up: 0 of 2 runs are done; the same command continues." in done.stdout


def test_the_night_begins_with_the_runs_that_decide() -> None:
    specs = specs_of(load_study("cifar10_night"))
    assert [(s.seed, s.model.depth, s.family) for s in specs[:12]] == [
        (seed, depth, family)
        for seed in (0, 1, 2)
        for depth in (20, 56)
        for family in ("plain", "residual")
    ]
    assert {spec.schedule.iterations for spec in specs} == {4000}


def test_the_study_has_the_order_that_was_asked_for() -> None:
    specs = specs_of(load_study("cifar10"))
    seeds = [spec.seed for spec in specs]
    assert seeds == sorted(seeds)
    first = [spec for spec in specs if spec.seed == 0]
    networks = [(s.family, s.model.depth) for s in first if s.model.normalization == "batch"]
    assert networks == [(f, d) for d in (20, 56, 110, 44, 32) for f in ("plain", "residual")]
    arms = [s.model for s in first[len(networks) :]]
    assert {(m.residual, m.depth, m.initialization) for m in arms} == {
        (r, d, i) for r in (False, True) for d in (20, 56) for i in ("lecun", "he")
    }
    assert {m.normalization for m in arms} == {"none"}
    for spec in specs:
        assert spec.schedule.iterations == 64_000
        assert (spec.schedule.warmup_error > 0) == (spec.model.depth == 110)
        assert (spec.probes.layers_every, spec.data.name) == (1280, "cifar10")
        assert (spec.model.precision, spec.probes.evaluate_every) == ("tf32", 2000)
