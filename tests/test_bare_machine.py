"""A machine that grants little: few open files, no shared memory, results that are read-only."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.campaign.sharing import can_mount

ROOT = Path(__file__).resolve().parent.parent
QUICK = ROOT / "results" / "reference" / "quick"
SMALL = ["--model.depth=8", "--data.name=synthetic", "--data.batch_size=4"]
TRAIN = ["train", *SMALL, "--schedule.iterations=6"]
SWEEP = """
command: ["${env}", python, -m, resnet_study, train, "--results=results/small", "${args}"]
method: grid
parameters:
  seed: {values: [0, 1]}
  model.depth: {value: 8}
  data.name: {value: synthetic}
  data.batch_size: {value: 4}
  schedule.iterations: {value: 6}
"""

needs_mounts = pytest.mark.skipif(not can_mount(), reason="only root can mount")


def run(
    folder: Path, *words: object, before: Callable[[], None] | None = None, shell: str = ""
) -> subprocess.CompletedProcess[str]:
    """A command, in a namespace of mounts of its own after some words of a shell."""
    line = [sys.executable, "-m", "resnet_study", *map(str, words)]
    if shell:
        line = ["unshare", "--mount", "sh", "-ec", f'{shell}; exec "$@"', "sh", *line]
    return subprocess.run(
        line,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
        preexec_fn=before,
    )


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SWEEP)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [TRAIN, ["sweep", "small.yaml", "--workers=2"], ["claims", QUICK]], ids=str
)
def test_sixty_four_open_files_are_enough(folder: Path, words: list[object]) -> None:
    ended = run(folder, *words, before=few_files)
    assert ended.returncode == 0, ended.stderr


@needs_mounts
@pytest.mark.slow
@pytest.mark.parametrize("words", [TRAIN, ["sweep", "small.yaml", "--workers=2"]], ids=str)
def test_shared_memory_is_not_needed(folder: Path, words: list[object]) -> None:
    ended = run(folder, *words, shell="mount -t tmpfs -o ro none /dev/shm")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk with four runs of the quick study, on which nothing can be written."""
    disk = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=True)
    try:
        for source in sorted((QUICK / "runs").glob("*-20_digits_seed[56]_*")):
            shutil.copytree(source, disk / "quick" / "runs" / source.name)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@needs_mounts
@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status", "{disk}/quick"], 0),
        (["claims", "{disk}/quick"], 0),
        (["compare", "error", "{disk}/quick"], 0),
        (["figures", "{disk}/quick", "--only=error_against_depth", "--output=out"], 0),
        (["publish", "{disk}/quick", "out"], 0),
        (["figures", "{disk}/quick", "--only=error_against_depth"], 2),
        (["report", "quick", "{disk}/quick"], 2),
        (["explore", "{disk}/quick"], 2),
        ([*TRAIN, "--results={disk}/new"], 2),
        (["sweep", "small.yaml", "--results={disk}/new"], 2),
        (["publish", "{disk}/quick", "{disk}/copy"], 2),
    ],
    ids=str,
)
def test_results_that_cannot_be_written_are_read_or_refused_in_one_line(
    folder: Path, read_only: Path, words: list[str], code: int
) -> None:
    ended = run(folder, *(word.format(disk=read_only) for word in words))
    assert ended.returncode == code, ended.stderr
    if code:
        (line,) = ended.stderr.splitlines()
        assert str(read_only) in line
        assert "Read-only file system" in line
