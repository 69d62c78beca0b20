"""`publish` killed before each change that it makes: the copy is the old or the new one, whole."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.killer import die_at
from tests.campaign.outcome import Trial, command, defect_of, run_forked


def killed_publishing(study: Path, most: int) -> Iterator[Trial]:
    """Kill at the first change, the second, … and publish again.

    Yields:
        Where it was killed, how the second ended, and what is wrong with it or its copy.
    """
    target = study.parent / "copy"
    words = ["publish", str(study), str(target)]
    first = command(words)
    whole = _files(target)
    if first.code or not whole:
        raise RuntimeError(f"publishing ends with {first}")
    for number in range(1, most + 1):
        shutil.rmtree(target)
        command(words)
        died = run_forked(lambda n=number: _publish_and_die(words, target, n))  # type: ignore[misc]
        if died.code != -signal.SIGKILL:
            return
        left = command(["claims", str(target)])
        again = command(words)
        defect = defect_of(left, [target.name]) or defect_of(again)
        if defect is None and (again.code or _files(target) != whole):
            changed = sorted(set(_files(target).items()) ^ set(whole.items()))
            defect = f"{again.err or 'other files'} {[name for name, _ in changed][:4]}"
        yield Trial(f"before change {number}", again.refused, defect)


def _publish_and_die(words: list[str], target: Path, number: int) -> None:
    from resnet_study import cli

    die_at(str(target), number)
    cli.main(words)


def _files(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}
