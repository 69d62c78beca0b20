"""Commands killed before each change that they make: what they replace is old or new, whole."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from resnet_study.files import DRAFT_SECONDS
from tests.campaign.killer import die_at
from tests.campaign.outcome import Trial, command, defect_of, run_forked

DRAWN = ("report quick STUDY", "explore STUDY", "figures STUDY --only=signal_and_turn --format=gif")


def killed_publishing(study: Path, most: int) -> Iterator[Trial]:
    """Kill `publish` at its first change, the second, … and publish again.

    Yields:
        Where it was killed, how the second ended, and what is wrong with it or its copy.
    """
    copy = study.parent / "copy"
    yield from _killed(["publish", str(study), str(copy)], copy, most)


def killed_drawing(study: Path, most: int) -> Iterator[Trial]:
    """Kill what draws at so many of its changes, as far apart as there are more, and draw again.

    Yields:
        As `killed_publishing`.
    """
    for name in ("resnet_study.drawing.render", "resnet_study.report.explorer.page", "altair"):
        importlib.import_module(name)
    for number, words in enumerate(DRAWN):
        copy = study.parent / "drawn"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(study, copy)
        share = most // len(DRAWN) + (number < most % len(DRAWN))
        if share:
            yield from _killed(words.replace("STUDY", str(copy)).split(), copy, share)


def _killed(words: Sequence[str], target: Path, most: int) -> Iterator[Trial]:
    first = command(words)
    whole = _files(target)
    if first.code or not whole:
        raise RuntimeError(f"{words[0]} ends with {first}")
    done = target.with_name("done")
    shutil.rmtree(done, ignore_errors=True)
    shutil.copytree(target, done)
    total = int(run_forked(lambda: _count(words, target)).out.splitlines()[-1])
    for number in sorted({1 + index * total // most for index in range(most)}):
        shutil.rmtree(target)
        shutil.copytree(done, target)
        died = run_forked(lambda n=number: _die(words, target, n))  # type: ignore[misc]
        defect = None if died.code == -signal.SIGKILL else f"no kill: {died}"
        left = command(["claims", str(target)])
        defect = defect or defect_of(left, [target.name]) or _cut(target, whole)
        for draft in target.rglob(".*"):
            # As if the command were given again later: it leaves those of others alone.
            os.utime(draft, times=(draft.stat().st_mtime - DRAFT_SECONDS,) * 2)
        again = command(words)
        defect = defect or defect_of(again)
        if defect is None and (again.code or _files(target) != whole):
            changed = sorted(set(_files(target).items()) ^ set(whole.items()))
            defect = f"{again.err or 'other files'} {[name for name, _ in changed][:4]}"
        yield Trial(f"{words[0]}, before change {number} of {total}", again.refused, defect)


def _count(words: Sequence[str], target: Path) -> None:
    from resnet_study import cli

    made = die_at(str(target), 0)
    try:
        cli.main(list(words))
    finally:
        print(f"\n{made()}")


def _die(words: Sequence[str], target: Path, number: int) -> None:
    from resnet_study import cli

    die_at(str(target), number)
    cli.main(list(words))


def _cut(target: Path, whole: dict[str, bytes]) -> str | None:
    """A file that a reader finds in part."""
    for name, content in _files(target).items():
        if name in whole and content != whole[name] and not Path(name).name.startswith("."):
            return f"{name} is another while the command is dead"
    return None


def _files(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}
