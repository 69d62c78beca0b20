"""Checkpoints that were damaged: passed over for the one before, or refused in one line."""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.damage import flipped
from tests.campaign.outcome import Ended, Trial, defect_of, run_forked

KEPT = (1, 2)


def damaged_checkpoints(work: Path, count: int, seed: int) -> Iterator[Trial]:
    """Damage a file of the newest checkpoint, or of all, and restore.

    Yields:
        What was done, how restoring ended, and what is wrong, as another state than was saved.
    """
    whole = work / "checkpoints"
    saved = run_forked(lambda: _save(whole))
    if saved.code:
        raise RuntimeError(saved.err)
    for index in range(count):
        rng = random.Random(f"{seed} {index}")
        copy = work / "damaged"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        both = rng.random() < 0.2
        what = [_damage(rng, copy / str(step)) for step in (KEPT if both else KEPT[-1:])]
        ended = run_forked(functools.partial(_restore, copy))
        # The checkpoint that was passed over is named in a line of its own.
        lines = ended.err.splitlines()
        told = Ended(ended.code, ended.out, "\n".join(lines[-1:]))
        defect = "traceback" if "Traceback" in ended.err else defect_of(told)
        if len(lines) > len(KEPT):
            defect = f"{len(lines)} lines"
        yield Trial(f"{index}: {', '.join(what)}", ended.refused, defect)


def _save(folder: Path) -> None:
    from resnet_study import runtime

    runtime.prepare()
    from resnet_study.training import checkpoints
    from tests.test_training_checkpoints import PROGRESS, state_at

    folder.mkdir(parents=True)
    for step in KEPT:
        checkpoints.save(folder, state_at(step), PROGRESS)


def _restore(folder: Path) -> None:
    import sys

    from resnet_study import runtime

    runtime.prepare()
    import jax
    import numpy as np

    from resnet_study.errors import UserError
    from resnet_study.training import checkpoints
    from tests.test_training_checkpoints import PROGRESS, state_at

    try:
        found = checkpoints.restore_newest(folder, state_at(0))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if found is None:
        return
    state, progress = found
    expected = state_at(int(state.step))
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), state, expected)
    if progress != PROGRESS or not all(jax.tree.leaves(same)) or int(state.step) not in KEPT:
        print("Traceback: restored another state than was saved", file=sys.stderr)
        sys.exit(1)


def _damage(rng: random.Random, checkpoint: Path) -> str:
    file = rng.choice(sorted(path for path in checkpoint.rglob("*") if path.is_file()))
    content = file.read_bytes()
    kind = rng.choice(["flip", "flip", "cut", "noise", "remove", "empty"])
    match kind:
        case "flip":
            file.write_bytes(flipped(rng, content) if content else b"")
        case "cut":
            file.write_bytes(content[: rng.randrange(len(content) or 1)])
        case "noise":
            file.write_bytes(rng.randbytes(len(content)))
        case "empty":
            file.write_bytes(b"")
        case _:
            file.unlink()
    return f"{kind} {file.relative_to(checkpoint)}"
