"""The notebook runs from top to bottom, as a script and cell by cell alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_study.records import read_frames

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "notebook.py"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.run(
        [sys.executable, str(NOTEBOOK)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert process.returncode == 0, process.stderr
    assert "residual - plain" in process.stdout
    assert "exploratory: " in process.stdout
    runs = read_frames([tmp_path / "notebook" / "mine"]).runs
    assert runs["status"].tolist() == ["finished"] * 2
    assert (tmp_path / "notebook" / "figures" / "weights.png").stat().st_size > 10_000


def test_it_is_cut_into_cells() -> None:
    text = NOTEBOOK.read_text()
    assert text.startswith("# %% [markdown]\n")
    cells = text.split("\n# %%")
    assert len(cells) > 10
    for cell in cells[1:]:
        kind, _, body = cell.partition("\n")
        assert kind in ("", " [markdown]")
        if kind:
            assert all(line.startswith("#") for line in body.strip().splitlines())
        else:
            compile(body, "a cell", "exec")
