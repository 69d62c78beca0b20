"""What was given to SLURM is known from numbered folders, whatever lies beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_study.errors import UserError
from resnet_study.launch import queue


def test_submissions_are_numbered_and_the_last_counts(tmp_path: Path) -> None:
    logs = tmp_path / "slurm"
    assert queue.given(logs) == []
    assert queue.begin(logs, ["a", "b"]) == logs / "1"
    assert queue.begin(logs, ["b", "c"]) == logs / "2"
    for name in ("10", "3"):
        (logs / name).mkdir()
    assert queue.begin(logs, ["d"]) == logs / "11"
    assert queue.given(logs) == ["a", "b", "c", "d"]


def test_folders_of_other_names_are_no_submissions(tmp_path: Path) -> None:
    logs = tmp_path / "slurm"
    for name in ("²", "01", "-1", "1.5", "12_3", "x"):
        (logs / name).mkdir(parents=True)
    (logs / "7").touch()
    assert queue.given(logs) == []
    assert queue.begin(logs, ["a"]) == logs / "1"


@pytest.mark.parametrize("content", ['{"runs": 5}', '{"runs": [5]}', '{"runs": "a"}', "[]", "{"])
def test_a_list_of_runs_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (queue.begin(tmp_path, ["a"]) / "runs.json").write_text(content)
    with pytest.raises(UserError, match=r"1/runs\.json: "):
        queue.given(tmp_path)


def test_without_submissions_slurm_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queue.tasks(tmp_path / "slurm", ["a"]) == {}
    queue.begin(tmp_path / "slurm", ["a"])
    assert queue.tasks(tmp_path / "slurm", ["b"]) == {}
    with pytest.raises(UserError, match="no squeue here"):
        queue.tasks(tmp_path / "slurm", ["a"])
