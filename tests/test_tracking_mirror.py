"""What the mirror shows: each iteration once, scalars, pictures, config."""

from __future__ import annotations

import io
import math
import os
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_study.tracking import mirror as wandb_mirror
from resnet_study.tracking.scalars import layer_scalars


class Shown:
    """A wandb run that keeps what it is shown."""

    resumed, offline, sweep_id = True, False, "s1"

    def __init__(self, step: int) -> None:
        self.starting_step = self.step = step
        self.summary, self.rows, self.ended = {}, [], []  # type: ignore[var-annotated]
        self.config = types.SimpleNamespace(keys=list, update=lambda *_, **__: None)

    def define_metric(self, *names: str, **more: str) -> None: ...

    def log(self, row: dict[str, Any], step: int) -> None:
        assert step >= self.step
        self.step = step + 1
        self.rows.append(row)

    def mark_preempting(self) -> None:
        self.ended.append("preempting")

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)


def mirror(monkeypatch: pytest.MonkeyPatch, folder: Path, shown: Shown) -> Any:
    """A mirror in this process, started on a run."""
    settings = {"Table": lambda columns, data: data, "Image": lambda picture: picture}
    module = types.SimpleNamespace(init=lambda **_: shown, Settings=dict, **settings)
    monkeypatch.setitem(sys.modules, "wandb", module)
    made = wandb_mirror._Mirror()
    record = {"project": "p", "id": "i", "mode": "online", "sweep": "s1"}
    where = {"directory": str(folder), "folder": str(folder), "recorded": None, "artifact": False}
    monkeypatch.setattr(sys, "argv", sys.argv)
    made.start(record, {"name": "r"}, {}, "resnet-study train", **where)
    return made


def test_a_resumed_run_shows_no_iteration_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at iteration 8, it goes on from a checkpoint at 4."""
    shown = Shown(step=9)
    made = mirror(monkeypatch, tmp_path, shown)
    for step in (6, 8, 10, 12):
        made.metrics(step, 0.0, "train", {"error": 1.0})
    # What belongs to iteration 12 and is not there yet comes with it when the run goes on.
    made.finish({"status": "stopped", "step": 12})
    assert [row["iteration"] for row in shown.rows] == [10]
    # The sweep gives a stopped run to another agent.
    assert shown.ended == ["preempting", 130]


def test_a_mirror_waits_for_the_one_of_an_earlier_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / f"resnet-study-{os.getuid()}-left.lock").touch()
    first = mirror(monkeypatch, tmp_path / "w", Shown(step=0))
    monkeypatch.setattr(wandb_mirror, "ORPHAN_SECONDS", 0.3)
    began = time.monotonic()
    second = mirror(monkeypatch, tmp_path / "w", Shown(step=0))
    assert time.monotonic() - began >= 0.3
    for one in (second, first):
        one.end(0)
    monkeypatch.setattr(wandb_mirror, "ORPHAN_SECONDS", 1000)
    began = time.monotonic()
    mirror(monkeypatch, tmp_path / "w", Shown(step=0)).end(0)
    assert time.monotonic() - began < 500
    # No lock stays, and none ever lay in the folder of the records.
    assert not [*(tmp_path / "t").iterdir(), *(tmp_path / "w").iterdir()]


def test_pictures_take_a_hundredth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown(step=0)
    made = mirror(monkeypatch, tmp_path, shown)
    clock = [0.0]

    def draw(step: int, norms: list[float]) -> str:
        clock[0] += 0.1
        return "picture"

    monkeypatch.setattr(wandb_mirror.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(wandb_mirror, "gradient_picture", draw)
    made.began = 0.0
    for step in range(1000):
        clock[0] += 1
        made.metrics(step, 0.0, "test", {"error": 1.0})
        made.probes(step, [], {"activation_gradient_norm": []})
    made.finish({"status": "finished"})
    pictures = [row["iteration"] for row in shown.rows if "gradient_profile" in row]
    assert 95 <= len(pictures) <= 101
    assert pictures[-1] == 999
    assert sum("layers" in row for row in shown.rows) == 1000


@pytest.mark.parametrize("norms", [[1e-30, 1.0, 1e30], [math.nan, 0.0, None], [2.0] * 110])
def test_the_picture_is_drawn_from_any_norms(norms: list[float]) -> None:
    picture = wandb_mirror.gradient_picture(3, norms)
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    assert picture.size == (560, 300)
    assert np.unique(np.asarray(picture.convert("L"))).size > 10


def test_scalars_are_of_the_convolutions_behind_the_stem_and_finite() -> None:
    probes = {
        "activation_gradient_norm": [9.0, 8.0, None, 2.0, 4.0, 9.0],
        "weight_gradient_norm": [1.0, 2.0, 3.0, 4.0, 0.0, 9.0],
        "weight_norm": [1.0, 3.0, 3.0, 3.0, 3.0, 9.0],
        "response_std": [math.nan] * 6,
    }
    assert layer_scalars(probes, [1.0, 2.0, 0.0, 3.0, 1.0, 1.0]) == {
        "raw/first": 8.0,
        "raw/median": 4.0,
        "raw/last": 4.0,
        "raw/ratio": 2.0,
        "signal/first": 6.0,
        "signal/median": 7.5,
        "signal/last": 0.0,
        "weight_growth/first": 1.5,
        "weight_growth/median": 1.5,
        "weight_growth/last": 3.0,
    }
    assert layer_scalars({}, None) == {}


def test_a_field_that_a_sweep_gives_in_its_group_is_not_added_beside_it() -> None:
    config = {"model.depth": 8, "seed": 0, "run_id": "r", "environment": {"git": {}}}
    given = {"model": {"depth": 8}, "seed": 0, "environment": {"git": {"dirty": True}}}
    own = wandb_mirror.own_config(config, given)
    assert own == {"seed": 0, "run_id": "r", "environment": {"git": {}}}
    assert wandb_mirror.own_config(config, {}) == config
