"""One winner per folder, whatever happens to the others; checked with real processes."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_study import lease

PROCESSES = 8
ROUNDS = 300


def holder(folder: Path) -> "subprocess.Popen[str]":
    """Another process that holds the lease until it is told to end."""
    program = (
        "import sys; from pathlib import Path; from resnet_study.lease import acquire;"
        "held = acquire(Path(sys.argv[1])); print(held is not None, flush=True);"
        "sys.stdin.readline(); held.release()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def compete(folders: list[Path]) -> list[int]:
    """How many of eight processes took each folder's lease, when all tried at the same time.

    They are forked, so that they are in step; call it where jax was not started.
    """
    fork = multiprocessing.get_context("fork")
    barrier, answers = fork.Barrier(PROCESSES), fork.SimpleQueue()

    def try_all() -> None:
        held = []
        for folder in folders:
            barrier.wait(60)
            held.append(lease.acquire(folder))
        answers.put([one is not None for one in held])
        # Held leases end with the process: nobody leaves before everybody has tried.
        barrier.wait(60)

    processes = [fork.Process(target=try_all) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    won = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return [sum(tries) for tries in zip(*won, strict=True)]


def race(tmp_path: Path, prepare: Callable[[Path], None] = lambda folder: None) -> list[int]:
    """`compete` over fresh folders, in a process of its own."""
    folders = [tmp_path / str(number) for number in range(ROUNDS)]
    for folder in folders:
        folder.mkdir()
        prepare(folder)
    program = (
        "import sys; from pathlib import Path; from tests.test_lease import compete;"
        "print(compete([Path(folder) for folder in sys.argv[1:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, folders)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    winners: list[int] = json.loads(done.stdout)
    return winners


def foreign(folder: Path, age: float) -> None:
    """Plant the lease of a worker on another machine, last touched `age` seconds ago."""
    path = folder / lease.FILE_NAME
    path.write_text(json.dumps({"token": "x", "machine": "elsewhere", "process": [1, "1"]}))
    os.utime(path, (time.time() - age,) * 2)


def dead(folder: Path) -> None:
    """Plant the lease of a process of this machine that is gone."""
    process = [2**22 + 1, "1"]  # beyond the largest process number
    content = {"token": "x", "machine": lease._machine(), "process": process}
    (folder / lease.FILE_NAME).write_text(json.dumps(content))


def test_a_free_lease_has_one_winner(tmp_path: Path) -> None:
    assert race(tmp_path) == [1] * ROUNDS


@pytest.mark.parametrize(
    "prepare", [dead, lambda folder: foreign(folder, 1000)], ids=["killed", "stale"]
)
def test_a_dead_lease_is_taken_by_one(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    assert race(tmp_path, prepare) == [1] * ROUNDS


def test_a_lease_is_held_until_released(tmp_path: Path) -> None:
    held = lease.acquire(tmp_path / "made" / "here")
    assert held is not None
    folder = tmp_path / "made" / "here"
    assert lease.is_held(folder)
    assert lease.acquire(folder) is None
    held.release()
    held.release()
    assert not lease.is_held(folder)
    assert list(folder.iterdir()) == []
    with lease.acquire(folder) as again:  # type: ignore[union-attr]
        assert lease.is_held(folder)
        assert not again.lost
    assert not lease.is_held(folder)


def test_another_process_is_respected(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert lease.is_held(tmp_path)
        assert lease.acquire(tmp_path) is None
        process.communicate("\n")
    assert not lease.is_held(tmp_path)
    free = lease.acquire(tmp_path)
    assert free is not None
    free.release()


def test_a_killed_holder_frees_the_lease_at_once(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        # Not waited for yet, so the process is a zombie: its number still exists.
        deadline = time.monotonic() + 10
        while lease.is_held(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not lease.is_held(tmp_path)
        held = lease.acquire(tmp_path)
        assert held is not None
        held.release()


def test_a_reused_process_number_is_told_apart(tmp_path: Path) -> None:
    content = {"token": "x", "machine": lease._machine(), "process": [os.getpid(), "1"]}
    (tmp_path / lease.FILE_NAME).write_text(json.dumps(content))
    assert not lease.is_held(tmp_path)
    content["process"] = lease._process()
    (tmp_path / lease.FILE_NAME).write_text(json.dumps(content))
    assert lease.is_held(tmp_path)


def test_another_machine_keeps_its_lease_until_it_is_stale(tmp_path: Path) -> None:
    foreign(tmp_path, lease.STALE_SECONDS - 20)
    assert lease.is_held(tmp_path)
    assert lease.acquire(tmp_path) is None
    foreign(tmp_path, lease.STALE_SECONDS + 20)
    assert not lease.is_held(tmp_path)
    held = lease.acquire(tmp_path)
    assert held is not None
    held.release()


def test_an_unreadable_lease_counts_as_foreign(tmp_path: Path) -> None:
    path = tmp_path / lease.FILE_NAME
    path.write_text("{")
    assert lease.acquire(tmp_path) is None
    os.utime(path, (time.time() - 1000,) * 2)
    held = lease.acquire(tmp_path)
    assert held is not None
    held.release()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
def test_a_living_lease_is_kept_fresh(tmp_path: Path) -> None:
    held = lease.acquire(tmp_path)
    assert held is not None
    path = tmp_path / lease.FILE_NAME
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert abs(path.stat().st_mtime - time.time()) < 10
    assert not held.lost
    held.release()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "removed"])
def test_a_lost_lease_is_noticed_and_left_alone(tmp_path: Path, taken: bool) -> None:
    held = lease.acquire(tmp_path)
    assert held is not None
    path = tmp_path / lease.FILE_NAME
    path.unlink()
    if taken:
        foreign(tmp_path, 0)
    deadline = time.monotonic() + 10
    while not held.lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert held.lost
    held.release()
    assert path.exists() == taken


def test_drafts_that_kills_left_go_with_the_lease(tmp_path: Path) -> None:
    (tmp_path / f".{lease.FILE_NAME}.left").touch()
    held = lease.acquire(tmp_path)
    assert held is not None
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_another_machine_cleared_is_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was taken, and nothing fails: the run is tried again later."""

    def gone(draft: Path, _: str) -> int:
        return 0

    monkeypatch.setattr(Path, "write_text", gone)
    assert lease.acquire(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
