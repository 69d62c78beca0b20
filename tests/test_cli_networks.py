"""The commands evaluate, features and measure as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_study.records import read_run
from tests.called import call
from tests.inspected import run_of, spec_of

ROOT = Path(__file__).resolve().parent.parent


def process(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", "-m", "resnet_study", *map(str, words)]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=600)


def succeeded(*words: object) -> str:
    done = process(*words)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained for a moment."""
    results = tmp_path_factory.mktemp("trained")
    words = ("--model.depth=8", "--data.name=synthetic", "--schedule.iterations=12")
    assert process("train", *words, f"--results={results}").returncode == 0
    (folder,) = (results / "runs").iterdir()
    return folder


@pytest.mark.slow
def test_the_error_is_the_recorded_one(trained: Path, tmp_path: Path) -> None:
    csv, file = tmp_path / "answers.csv", tmp_path / "network.safetensors"
    run = read_run(trained)
    for split in ("test", "val", "train_clean"):
        writes = (f"--probabilities={csv}", f"--export={file}") if split == "test" else ()
        output = succeeded("evaluate", trained, "--json", f"--split={split}", *writes)
        found = json.loads(output)
        assert found["error"] == run.summary[f"{split}_error_last"] == found["recorded_error"]
        assert found["step"] == 12
        rows = run.metrics[(run.metrics["split"] == split) & (run.metrics["step"] == 12)]
        assert found["loss"] == pytest.approx(rows["loss"].iloc[0], rel=1e-5)
    table = pd.read_csv(csv)
    answers = table[list("0123456789")].to_numpy().argmax(axis=1)
    assert 100 * np.sum(answers != table["label"]) / len(table) == run.summary["test_error_last"]
    # The same from the exported file, which needs no run folder.
    output = succeeded("evaluate", f"--weights={file}", "--json")
    again = json.loads(output)
    assert again["error"] == run.summary["test_error_last"]
    assert (again["run_id"], again["step"]) == (run.spec.run_id, 12)


def test_the_table_names_what_was_recorded(trained: Path) -> None:
    output = succeeded("evaluate", trained)
    recorded = read_run(trained).summary["test_error_last"]
    assert f"error {recorded:.4g} % (recorded: {recorded:.4g} %)" in output
    assert "step 12), test, 128 images" in output


@pytest.mark.slow
def test_features_are_drawn_of_any_network(trained: Path, tmp_path: Path) -> None:
    for step in (0, 12):
        words = (f"--step={step}", "--images=0,7", f"--output={tmp_path}")
        output = succeeded("features", trained, *words)
        for suffix in ("png", "svg"):
            file = tmp_path / f"features_residual-8_step{step}.{suffix}"
            assert str(file) in output
            assert file.stat().st_size > 5000


@pytest.mark.slow
def test_a_network_is_measured(trained: Path, tmp_path: Path) -> None:
    csv = tmp_path / "deeper" / "measured.csv"
    words = ("--lesion-images=20", "--samples=1", f"--csv={csv}", f"--output={tmp_path}")
    output = succeeded("measure", trained, *words)
    table = pd.read_csv(csv)
    assert table["step"].unique().tolist() == [12]
    for quantity in ("path_gradient_norm", "block_deletion_error", "response_std"):
        assert quantity in output
        assert (table["quantity"] == quantity).any()
    assert "95 % of the gradient" in output
    assert (tmp_path / "lesions_residual-8_step12.png").is_file()


def test_mistakes_are_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(spec_of(), tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    for words, message in (
        (("evaluate",), "name a run folder, or a file of weights with --weights"),
        (("evaluate", run, "--split=train"), "valid are train_clean, val, test"),
        (("evaluate", run, "--step=3"), "there are 0 (as initialised), 7"),
        (("evaluate", tmp_path / "no"), "no such folder"),
        (("evaluate", run, f"--weights={tmp_path / 'bad.safetensors'}"), "cannot be read as safe"),
        (("evaluate", run, f"--export={tmp_path / 'x.npz'}"), "ends in .safetensors"),
        (("features", run, "--images=0,128"), "--images=128: positions in the test split are 0 to"),
        (("features", run, "--images=one"), "--images=one: write whole numbers, such as 0,7,12"),
        (("features", run, "--channels=0"), "--channels=0: at least 1 is needed"),
        (("measure", run, "--samples=0"), "--samples=0: at least 1 is needed"),
        (("measure", run, "--lesion-images=-1"), "--lesion_images=-1: at least 0"),
    ):
        assert call(*words) == 2
        captured = capsys.readouterr()
        assert message in captured.err, words
        assert len(captured.err.splitlines()) == 1


SHARED = ROOT.parent / "shared" / "data" / "cifar10-png.tar.gz"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="no real CIFAR-10 beside the checkout")
@pytest.mark.parametrize("network", ["plain-20", "residual-20", "plain-56", "residual-56"])
def test_the_committed_weights_have_their_recorded_errors(network: str) -> None:
    folder = ROOT / "results" / "reference" / "cifar10"
    (run,) = (folder / "runs").glob(f"{network}_*")
    weights = folder / "weights" / f"{run.name}.safetensors"
    output = succeeded("evaluate", run, f"--weights={weights}", f"--cifar10={SHARED}", "--json")
    found = json.loads(output)
    assert found["images"] == 10_000
    # The records are in TF32; in float32 two networks have two wrong images of 10,000 more.
    assert found["error"] == pytest.approx(read_run(run).summary["test_error_last"], abs=0.021)
