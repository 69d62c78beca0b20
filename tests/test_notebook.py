"""The notebook runs from top to bottom."""

from __future__ import annotations

import os
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from resnet_study.records import read_frames

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "notebook.py"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Jupyter runs it, cell by cell in a kernel."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", paths)
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    notebook = jupytext.read(NOTEBOOK)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "residual - plain" in printed
    assert "exploratory: " in printed
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
