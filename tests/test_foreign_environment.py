"""What a person has set for other programs breaks nothing and changes nothing here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pandas as pd
import pytest

from resnet_study import cli, environment
from resnet_study.drawing import style
from resnet_study.errors import UserError
from resnet_study.launch.local import run_local
from tests.recorded import finished_run
from tests.test_records_integrity import SPEC

ROOT = Path(__file__).resolve().parent.parent
TRAIN = [
    "train",
    "--data.name=synthetic",
    "--data.batch_size=4",
    "--model.depth=8",
    "--schedule.iterations=4",
    "--probes.evaluate_every=2",
]


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "resnet_study", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert "Traceback" not in ended.stderr
    return ended


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_platform_that_is_not_there_is_one_line(tmp_path: Path, platform: str) -> None:
    for words in (["doctor"], TRAIN):
        ended = run(tmp_path, *words, JAX_PLATFORMS=platform)
        assert ended.returncode == 2
        assert f"JAX_PLATFORMS={platform}: jax has no device" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_workers_are_not_started_for_a_platform_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no run is marked as failed."""
    monkeypatch.setenv("JAX_PLATFORMS", "nonsense")
    with pytest.raises(UserError, match="JAX_PLATFORMS=nonsense: jax has no device"):
        run_local([SPEC], tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    for usual in ("", "cpu"):
        monkeypatch.setenv("JAX_PLATFORMS", usual)
        environment.check_platforms()


def test_jax_settings_of_other_programs_change_no_number(tmp_path: Path) -> None:
    """NaN records what is undefined, and the precision is the spec's."""
    theirs = {"JAX_DEBUG_NANS": "1", "JAX_ENABLE_X64": "maybe", "JAX_DEBUG_INFS": "true"}
    for name, variables in (("own", {}), ("theirs", theirs)):
        ended = run(tmp_path, *TRAIN, f"--results={name}", **variables)
        assert ended.returncode == 0, ended.stderr
    for table in ("metrics.parquet", "layers.parquet"):
        own, other = (next((tmp_path / n / "runs").glob(f"*/{table}")) for n in ("own", "theirs"))
        pd.testing.assert_frame_equal(pd.read_parquet(own), pd.read_parquet(other))


def test_figures_are_the_same_bytes_under_any_settings(tmp_path: Path) -> None:
    finished_run(tmp_path / "study" / "runs", SPEC)
    (tmp_path / "matplotlibrc").write_text(
        "text.usetex: True\nfont.family: nonsense\nfigure.dpi: 7\naxes.labelsize: 40\n"
        "savefig.bbox: tight\naxes.grid: True\nlines.linestyle: :\n"
    )
    notebook = {"MPLBACKEND": "module://there.is.none"}
    theirs = {**notebook, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "HOME": "/proc"}
    words = ["figures", "study", "--only=training_curves"]
    for name, variables in (("own", {}), ("theirs", theirs)):
        ended = run(tmp_path, *words, f"--output={name}", **variables)
        assert ended.returncode == 0, ended.stderr
    own, other = ((tmp_path / name / "training_curves.png") for name in ("own", "theirs"))
    assert own.read_bytes() == other.read_bytes()


def test_settings_of_a_notebook_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matplotlib.rcParams, "axes.titlesize", 33.0)
    with style.drawing():
        assert matplotlib.rcParams["axes.titlesize"] != 33.0
        assert matplotlib.rcParams["text.usetex"] is False
    assert matplotlib.rcParams["axes.titlesize"] == 33.0


@pytest.mark.parametrize("columns", ["1", "39"])
def test_no_terminal_is_too_narrow(tmp_path: Path, columns: str) -> None:
    finished_run(tmp_path / "runs", SPEC)
    for words in (["--help"], ["compare", "error", str(tmp_path)]):
        ended = run(tmp_path, *words, COLUMNS=columns)
        assert ended.returncode == 0, ended.stderr
        assert max(map(len, ended.stdout.splitlines())) >= 38


def test_a_tilde_is_the_home_folder_in_every_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in ``--flag=~/x``, which shells leave as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    finished_run(tmp_path / "study" / "runs", SPEC)
    (tmp_path / "mine.py").write_text("STUDY = None\n")
    (tmp_path / "one.yaml").write_text("method: grid\nparameters: {seed: {value: 1}}\n")
    for line, written in (
        ("status ~/study", None),
        ("compare error ~/study --csv=~/c.csv", "c.csv"),
        ("publish ~/study ~/copy", "copy/README.md"),
        ("claims ~/study", None),
        ("sweep ~/one.yaml --results=~/r --dry_run", None),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(line.split())
        assert ended.value.code == 0, capsys.readouterr().err
        assert written is None or (tmp_path / written).exists()
    with pytest.raises(SystemExit):
        cli.main(["reproduce", "~/mine.py"])
    assert "mine.py: holds no study" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_refused_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by every run, which it would mark as failed."""
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="runs: cannot be written to"):
        run_local([SPEC], tmp_path / "runs")
