"""Files are replaced whole or not at all, and JSON is strict."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from resnet_study import files
from resnet_study.errors import UserError


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    files.write_atomically(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_goes_with_the_next_write(tmp_path: Path) -> None:
    old, young = tmp_path / ".a[1].json.old", tmp_path / ".a[1].json.young"
    other = tmp_path / ".a1.json.old"
    for draft in (old, young, other):
        draft.write_text("")
    for draft in (old, other):
        os.utime(draft, times=(0, 0))
    files.write_atomically(tmp_path / "a[1].json", "")
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def test_files_are_shared_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    files.write_atomically(tmp_path / "a", "")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_is_strict(tmp_path: Path) -> None:
    content = {
        "a": math.nan,
        "b": [math.inf, {"c": -math.inf}],
        "d": (1, 0.5),
        "e": np.float64("nan"),
    }
    files.write_json(tmp_path / "a.json", content)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert read == {"a": None, "b": [None, {"c": None}], "d": [1, 0.5], "e": None}


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff\xfe", b""])
def test_what_is_no_json_object_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json") as error:
        files.read_json(path)
    assert "\n" not in str(error.value)


def test_no_file_is_an_empty_object(tmp_path: Path) -> None:
    assert files.read_json(tmp_path / "none.json") == {}
