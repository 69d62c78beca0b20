"""Checkpoints for exact resumption, through Orbax; the older ones are removed."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from resnet_study.errors import UserError
from resnet_study.training.step import TrainState

logging.getLogger("absl").setLevel(logging.ERROR)


class Progress(NamedTuple):
    """What a resumed loop needs beside the state, so that it continues exactly."""

    losses: list[float]
    """Losses of the iterations since the last row of training metrics."""
    errors: list[float]
    """Their errors in percent."""
    seconds: float
    """Wall time spent training so far."""


def save(folder: Path, state: TrainState, progress: Progress) -> None:
    """Write the checkpoint of ``state.step`` and remove the others.

    A kill at any moment leaves at least one complete checkpoint: Orbax writes beside the
    final name and renames.

    Args:
        folder: the run's ``checkpoints``.
        state: as it is between two steps.
        progress: of the loop.
    """
    leaves = jax.device_get(_named(state))
    step = int(jax.device_get(state.step))
    target = folder.resolve() / str(step)
    if target.exists():
        shutil.rmtree(target)
    leaves["loop"] = np.frombuffer(json.dumps(progress).encode(), np.uint8)
    with _checkpointer() as checkpointer:
        checkpointer.save(target, leaves)
    for other in folder.iterdir():
        if other.name != str(step):
            shutil.rmtree(other, ignore_errors=True)


def steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(child.name) for child in folder.iterdir() if child.name.isdigit())


def latest_step(folder: Path) -> int | None:
    """Step of the newest complete checkpoint, or None."""
    return max(steps(folder), default=None)


def restore(folder: Path, step: int, like: TrainState) -> tuple[TrainState, Progress]:
    """Read a checkpoint into the structure of `like`.

    Raises:
        UserError: if the checkpoint is damaged or belongs to another network.
    """
    path = folder.resolve() / str(step)
    mend = "remove that folder to start this run afresh"
    try:
        with _checkpointer() as checkpointer:
            leaves: dict[str, Any] = checkpointer.restore(path)
        progress = Progress(*json.loads(bytes(np.asarray(leaves.pop("loop")))))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"checkpoints/{step}: cannot be read ({reason}); {mend}") from None
    expected = _named(like)
    if {k: np.shape(v) for k, v in leaves.items()} != {k: v.shape for k, v in expected.items()}:
        raise UserError(f"checkpoints/{step}: is of another network; {mend}")
    tree = jax.tree.structure(like)
    # Device arrays, so that the jitted step sees what it saw before and may donate them.
    return jax.tree.unflatten(tree, [jax.numpy.asarray(leaves[k]) for k in expected]), progress


def _checkpointer() -> Any:
    """Of process 0 alone: the others of a distributed run neither read nor write."""
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="process0"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _named(state: TrainState) -> dict[str, Any]:
    """Leaves under their paths, in the order of the pytree."""
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in flat}
