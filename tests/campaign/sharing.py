"""A disk that fills up, and several invocations of one command: what is left is as if alone."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.kills import contents, difference, run, start, train_words
from tests.campaign.outcome import Ended, Trial, defect_of

ROOMY = "64m"


def can_mount() -> bool:
    """Whether this process may make a disk of its own."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def full_disks(work: Path, count: int, seed: int) -> Iterator[Trial]:
    """Train on a disk that is too small, then make it larger and give the command again.

    Raises:
        RuntimeError: without the right to mount one.
    """
    if not can_mount():
        raise RuntimeError("only root can make small disks")
    work.mkdir()
    whole = _alone(work / "alone")
    disk = work / "disk"
    disk.mkdir()
    for index in range(count):
        size = random.Random(f"{seed} {index}").randrange(4 << 10, 1 << 20)
        _mount(disk, "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
        try:
            words = train_words(disk / "results")
            code, err = run(["resnet_study", *words])
            # Python names the file and the system's reason; jax may warn of its own cache.
            defect = defect_of(Ended(code, "", err), [str(disk)])
            _mount(disk, "mount", "-o", f"remount,size={ROOMY}")
            again, said = run(["resnet_study", *words])
            if defect is None and again:
                defect = f"then ends with {again}: {said[-300:]}"
            defect = defect or difference(whole, contents(disk / "results"))
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)
        yield Trial(f"{index}: a disk of {size:,} bytes", code == 2, defect)


def rivals(work: Path, count: int, seed: int) -> Iterator[Trial]:
    """Give one command two or three times at once, a moment apart."""
    work.mkdir()
    whole = _alone(work / "alone")
    for index in range(count):
        rng = random.Random(f"{seed} {index}")
        results = work / "results"
        waits = [0.0, *(rng.choice([0.0, rng.uniform(0, 4)]) for _ in range(rng.randint(1, 2)))]
        begun = []
        for wait in waits:
            time.sleep(wait)
            begun.append(start(train_words(results)))
        ends = []
        for process in begun:
            _, err = process.communicate()
            ends.append(Ended(process.returncode, "", err))
        defects = [defect_of(ended, ["another process"]) for ended in ends]
        defect = next((found for found in defects if found), None)
        if not any(ended.code == 0 for ended in ends):
            defect = defect or "none of them trained the run"
        defect = defect or difference(whole, contents(results))
        shutil.rmtree(results)
        yield Trial(f"{index}: {len(waits)} at once, after {waits} s", False, defect)


def _alone(results: Path) -> dict[str, object]:
    code, err = run(["resnet_study", *train_words(results)])
    if code:
        raise RuntimeError(f"undisturbed, training ends with {code}: {err}")
    return contents(results)


def _mount(at: Path, *words: str) -> None:
    subprocess.run([*words, str(at)], check=True)
