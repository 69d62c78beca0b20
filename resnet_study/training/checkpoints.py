"""Checkpoints for exact resumption, through Orbax; all but the newest are removed.

Each holds a checksum of its leaves: what is restored is what was saved, or the one before it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from errno import EACCES, EDQUOT, EFBIG, EIO, ENOSPC, EROFS
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from resnet_study import files
from resnet_study.errors import UserError
from resnet_study.records.integrity import is_step
from resnet_study.records.integrity import saved_steps as steps
from resnet_study.training.step import TrainState

# What Orbax and TensorStore fail at is said once, by who asked them: not in the log, by tasks that
# nobody waits for, or by callbacks into an event loop that has ended.
for name in ("absl", "asyncio"):
    logging.getLogger(name).setLevel(logging.CRITICAL)


def _without_late_callbacks(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def filtered(raised: Any) -> None:
        if str(raised.exc_value) != "Event loop is closed":
            hook(raised)

    return filtered


sys.unraisablehook = _without_late_callbacks(sys.unraisablehook)


KEPT = 2
"""Of the newest, should the last one be damaged."""

CHECKSUM = "checksum"

_LEFT = re.compile(r"^removed-\d+$|^\d+\.orbax-checkpoint-tmp")
"""What a kill leaves while a checkpoint is removed or written. Anything else is the user's."""


class Progress(NamedTuple):
    """What a resumed loop needs beside the state, so that it continues exactly."""

    losses: list[float]
    """Losses of the iterations since the last row of training metrics."""
    errors: list[float]
    """Their errors in percent."""
    seconds: float
    """Wall time spent training so far."""


def save(folder: Path, state: TrainState, progress: Progress) -> None:
    """Write the checkpoint of ``state.step`` and then remove all but the `KEPT` newest.

    A kill at any moment leaves every whole checkpoint whole or gone, never the last one: Orbax
    writes beside the final name and renames, and what is removed loses its name first.

    Args:
        folder: the run's ``checkpoints``.
        state: as it is between two steps.
        progress: of the loop.

    Raises:
        UserError: if it cannot be written, such as on a full disk; those before it stay.
    """
    leaves = jax.device_get(_named(state))
    step = int(jax.device_get(state.step))
    target = folder.resolve() / str(step)
    if target.exists():
        if _is_whole(target):
            return
        _remove(target)
    leaves["loop"] = np.frombuffer(json.dumps(progress).encode(), np.uint8)
    leaves[CHECKSUM] = _checksum(leaves)
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(target, leaves)
    except Exception as error:
        for left in folder.glob("*.orbax-checkpoint-tmp*"):
            files.remove(left)
        raise UserError(
            f"{target}: cannot be written ({_reason(error)}); mend that and give the same command "
            "again, which goes on from the checkpoint before"
        ) from None
    kept = {str(step) for step in steps(folder)[-KEPT:]}
    for other in list(folder.iterdir()):
        if other.name not in kept and (is_step(other.name) or _LEFT.search(other.name)):
            _remove(other)


def restore_newest(
    folder: Path, like: TrainState, records: Callable[[int], str | None] = lambda step: None
) -> tuple[TrainState, Progress] | None:
    """Read the newest checkpoint that is as it was saved; None if there is no checkpoint.

    Those that are damaged or have no records are named on standard error, and passed over.

    Args:
        folder: the run's ``checkpoints``.
        like: has the structure of the state.
        records: what the run's records lack for going on from a step, as in
            `resnet_study.records.integrity.problem_at`.

    Raises:
        UserError: if all are damaged, of another network, or without records.
    """
    problems = []
    for step in reversed(steps(folder)):
        if lacking := records(step):
            problems.append(lacking)
            continue
        try:
            found = restore(folder, step, like)
        except UserError as error:
            problems.append(f"{folder.parent}: {error}")
            continue
        for problem in problems:
            print(f"{problem}; going on from checkpoints/{step}", file=sys.stderr)
        return found
    if problems:
        raise UserError(problems[0])
    return None


def restore(folder: Path, step: int, like: TrainState) -> tuple[TrainState, Progress]:
    """Read a checkpoint into the structure of `like`.

    Raises:
        UserError: if the checkpoint is damaged or belongs to another network.
    """
    mend = f"remove it to go on from an earlier one, or {folder.parent} to train the run again"
    try:
        leaves = _read(folder.resolve() / str(step))
        progress = Progress(*json.loads(bytes(leaves.pop("loop"))))
    except Exception as error:
        reason = _reason(error)
        raise UserError(f"checkpoints/{step}: cannot be read ({reason}); {mend}") from None
    expected = _named(like)
    if {k: v.shape for k, v in leaves.items()} != {k: v.shape for k, v in expected.items()}:
        raise UserError(f"checkpoints/{step}: is of another network; {mend}")
    tree = jax.tree.structure(like)
    # Device arrays, so that the jitted step sees what it saw before and may donate them.
    return jax.tree.unflatten(tree, [jax.numpy.asarray(leaves[k]) for k in expected]), progress


def _read(path: Path) -> dict[str, np.ndarray]:
    """The leaves of a checkpoint.

    Raises:
        ValueError: if they are not those that were saved; earlier versions saved no checksum.
    """
    with _checkpointer() as checkpointer:
        restored: dict[str, Any] = checkpointer.restore(path)
    leaves = {name: np.asarray(leaf) for name, leaf in restored.items()}
    saved = leaves.pop(CHECKSUM, None)
    if saved is not None and not np.array_equal(saved, _checksum(leaves)):
        raise ValueError("its numbers are not those that were saved")
    return leaves


def _is_whole(path: Path) -> bool:
    try:
        return bool(_read(path))
    except Exception:
        return False


def _remove(path: Path) -> None:
    """Under another name first, so that a half-removed checkpoint is none."""
    if is_step(path.name):
        gone = path.with_name(f"removed-{path.name}")
        files.remove(gone)  # left by a kill
        path = path.rename(gone)
    files.remove(path)


def _reason(error: Exception) -> str:
    """In few words: what the system said, where TensorStore wraps it in its own."""
    text = str(error).strip()
    known = (os.strerror(number) for number in (ENOSPC, EDQUOT, EFBIG, EROFS, EACCES, EIO))
    said = next((words for words in known if words in text), None)
    return said or (text.splitlines() or [type(error).__name__])[0]


def _checksum(leaves: Mapping[str, Any]) -> np.ndarray:
    """SHA-256 of names, types, shapes and bytes, (32,)."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        leaf = np.ascontiguousarray(leaves[name])
        digest.update(f"{name} {leaf.dtype} {np.shape(leaves[name])}\n".encode())
        digest.update(leaf.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


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
