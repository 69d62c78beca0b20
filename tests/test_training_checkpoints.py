"""Checkpoints: what is restored is what was saved, and the last whole one is never lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study.datasets import DATASETS
from resnet_study.errors import UserError
from resnet_study.spec import from_flat
from resnet_study.training import checkpoints
from resnet_study.training.checkpoints import KEPT, Progress
from resnet_study.training.programs import keys_of
from resnet_study.training.step import TrainState, initial_state

PROGRESS = Progress([2.5, 2.25], [87.5, 75.0], 12.5)


def state_at(step: int, seed: int = 0) -> TrainState:
    spec = from_flat({"model.depth": 8, "data.name": "synthetic", "seed": seed})
    state = initial_state(spec, DATASETS["synthetic"], keys_of(seed).initialization)
    return state._replace(step=jnp.int32(step))


def assert_same(one: TrainState, other: TrainState) -> None:
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_array_equal(a, b)


def flip_a_bit(folder: Path, seed: int) -> Path:
    """In one byte of one of the files of a checkpoint, anywhere."""
    rng = np.random.default_rng(seed)
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.stat().st_size)
    file = files[rng.integers(len(files))]
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)
    return file


def test_the_newest_is_restored_to_the_bit_and_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        checkpoints.save(tmp_path, state_at(step, seed=step), PROGRESS)
    assert checkpoints.steps(tmp_path) == [2, 30]
    assert len(checkpoints.steps(tmp_path)) == KEPT
    found = checkpoints.restore_newest(tmp_path, like=state_at(0))
    assert found is not None
    assert_same(found[0], state_at(30, seed=30))
    assert found[1] == PROGRESS
    assert checkpoints.restore_newest(tmp_path / "none", like=state_at(0)) is None


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_anywhere_is_never_restored_as_another_state(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (10, 20):
        checkpoints.save(tmp_path, state_at(step, seed=step), PROGRESS)
    file = flip_a_bit(tmp_path / "20", seed)
    found = checkpoints.restore_newest(tmp_path, like=state_at(0))
    assert found is not None
    step = int(found[0].step)
    assert_same(found[0], state_at(step, seed=step))
    said = capsys.readouterr().err
    # Some bytes, such as those of a time stamp, are none of the state.
    assert ("going on from checkpoints/10" in said) == (step == 10), (file, said)


def test_a_damaged_leaf_is_refused_by_name_and_the_one_before_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(tmp_path, state_at(10), PROGRESS)
    # As if the numbers had changed behind an intact format.
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_checksum", lambda leaves: np.zeros(32, np.uint8))
        checkpoints.save(tmp_path, state_at(20), PROGRESS)
    with pytest.raises(UserError, match=r"checkpoints/20: .*not those that were saved.*; remove"):
        checkpoints.restore(tmp_path, 20, like=state_at(0))
    found = checkpoints.restore_newest(tmp_path, like=state_at(0))
    assert found is not None
    assert int(found[0].step) == 10
    assert len(capsys.readouterr().err.splitlines()) == 1
    shutil.rmtree(tmp_path / "10")
    with pytest.raises(UserError, match="checkpoints/20"):
        checkpoints.restore_newest(tmp_path, like=state_at(0))
    # Reaching it again replaces it.
    checkpoints.save(tmp_path, state_at(20, seed=1), PROGRESS)
    assert_same(checkpoints.restore(tmp_path, 20, like=state_at(0))[0], state_at(20, seed=1))


def test_a_whole_checkpoint_of_the_same_step_is_left_alone(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, state_at(10), PROGRESS)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*") if f.is_file()}
    checkpoints.save(tmp_path, state_at(10), PROGRESS)
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*") if f.is_file()} == before


def test_a_removal_that_was_cut_short_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        checkpoints.save(tmp_path, state_at(step), PROGRESS)

    class Killed(BaseException):
        pass

    def half(path: Path, ignore_errors: bool = False) -> None:
        if path.is_dir():
            next(f for f in path.rglob("*") if f.is_file()).unlink()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.files.shutil, "rmtree", half)
        with pytest.raises(Killed):
            checkpoints.save(tmp_path, state_at(3), PROGRESS)
    assert checkpoints.steps(tmp_path) == [2, 3]
    for step in (2, 3):
        checkpoints.restore(tmp_path, step, like=state_at(0))
    # The next one clears what was left.
    checkpoints.save(tmp_path, state_at(4), PROGRESS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_checkpoints_of_earlier_versions_have_no_checksum_and_are_read(tmp_path: Path) -> None:
    leaves = jax.device_get(checkpoints._named(state_at(10)))
    leaves["loop"] = np.frombuffer(json.dumps(PROGRESS).encode(), np.uint8)
    with checkpoints._checkpointer() as checkpointer:
        checkpointer.save((tmp_path / "10").resolve(), leaves)
    found = checkpoints.restore_newest(tmp_path, like=state_at(0))
    assert found is not None
    assert_same(found[0], state_at(10))
    assert found[1] == PROGRESS


def test_a_checkpoint_whose_records_were_lost_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (10, 20):
        checkpoints.save(tmp_path, state_at(step), PROGRESS)
    lost = {20: "metrics.parquet: ends at iteration 12"}
    found = checkpoints.restore_newest(tmp_path, state_at(0), lost.get)
    assert found is not None
    assert int(found[0].step) == 10
    said = capsys.readouterr().err
    assert said == "metrics.parquet: ends at iteration 12; going on from checkpoints/10\n"
    with pytest.raises(UserError, match="ends at iteration 12"):
        checkpoints.restore_newest(tmp_path, state_at(0), {**lost, 10: "none"}.get)
