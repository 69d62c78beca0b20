"""Full disks, closed pipes and interrupts: one line or none, the right exit code, nothing left."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resnet_study import __main__ as entry
from resnet_study import files, lease
from resnet_study.errors import UserError
from resnet_study.records import RunWriter
from resnet_study.training import checkpoints
from tests.recorded import finished_run
from tests.test_records_integrity import SPEC
from tests.test_training_checkpoints import PROGRESS, state_at

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "resnet_study"]
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("words", ["status STUDY", "--help", "compare error STUDY --json"])
def test_a_pipe_whose_reader_has_gone_is_no_error(tmp_path: Path, words: str) -> None:
    finished_run(tmp_path / "runs", SPEC)
    reading, writing = os.pipe()
    os.close(reading)
    command = [*COMMAND, *words.replace("STUDY", str(tmp_path)).split()]
    ended = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_a_full_disk_behind_the_output_is_one_line(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", SPEC)
    command = [*COMMAND, "status", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
        deaf = subprocess.run(command, cwd=ROOT, stdout=full, stderr=full, check=False)
    assert ended.returncode == deaf.returncode == 2
    assert ended.stderr.startswith("resnet-study status: No space left on device")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(("module", "words"), [("tyro", ["status"]), ("yaml", ["sweep", "x.yaml"])])
def test_an_interrupt_within_an_import_ends_at_once(
    tmp_path: Path, module: str, words: list[str]
) -> None:
    """Even if the module catches whatever it can."""
    (tmp_path / f"{module}.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    input()\n"
        "except BaseException: pass\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ended = subprocess.run(
        [*COMMAND, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_an_interrupt_elsewhere_can_be_caught() -> None:
    before = signal.signal(signal.SIGINT, entry._interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spec.json").write_text("before")

    def full(_: int) -> None:
        raise FULL

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as raised:
        files.write_atomically(tmp_path / "spec.json", "after")
    assert raised.value.filename == str(tmp_path / "spec.json")
    assert os.listdir(tmp_path) == ["spec.json"]
    assert (tmp_path / "spec.json").read_text() == "before"


def test_a_lease_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: str) -> None:
        path.touch()
        raise FULL

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space") as raised:
        lease.acquire(tmp_path)
    assert raised.value.filename == str(tmp_path / lease.FILE_NAME)
    assert os.listdir(tmp_path) == []


def test_a_checkpoint_that_cannot_be_written_keeps_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        checkpoints.save(tmp_path, state_at(step), PROGRESS)

    def full(self: object, path: Path, _: object) -> None:
        (path.with_name(f"{path.name}.orbax-checkpoint-tmp") / "d").mkdir(parents=True)
        raise ValueError('RESOURCE_EXHAUSTED: writing "k": No space left on device [source ...]\n')

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.ocp.Checkpointer, "save", full)
        with pytest.raises(UserError) as raised:
            checkpoints.save(tmp_path, state_at(3), PROGRESS)
    assert str(raised.value).startswith(
        f"{tmp_path.resolve()}/3: cannot be written (No space left on device); "
    )
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_what_orbax_fails_at_is_said_once(tmp_path: Path) -> None:
    """By a process that may write no large file, and then reads a checkpoint that was cut."""
    checkpoints.save(tmp_path, state_at(1), PROGRESS)
    for file in (tmp_path / "1").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[:-40])
    program = f"""
import gc, resource
from pathlib import Path
from resnet_study import runtime
runtime.prepare()
from resnet_study.errors import UserError
from resnet_study.training import checkpoints
from tests.test_training_checkpoints import PROGRESS, state_at
folder = Path({str(tmp_path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for action in (
    lambda: checkpoints.save(folder, state_at(2), PROGRESS),
    lambda: checkpoints.restore(folder, 1, state_at(0)),
):
    try:
        action()
    except UserError as error:
        print(error)
    gc.collect()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""
    written, read = ended.stdout.splitlines()
    assert written.startswith(f"{tmp_path.resolve()}/2: cannot be written (File too large); ")
    assert read.startswith("checkpoints/1: cannot be read (")
    assert checkpoints.steps(tmp_path) == [1]


def test_what_kills_left_is_cleared_and_an_old_error_too(tmp_path: Path) -> None:
    names = (".spec.json.x1", ".summary.json.x2", ".metrics.parquet.x3", ".lease.json.x4")
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / ".lease.json.live").touch()
    (tmp_path / "error.txt").write_text("Traceback")
    writer = RunWriter(tmp_path, SPEC, {})
    writer.log_layers(0, [("head", 4, 0)], {"weight_norm": np.ones(1)})
    writer.finish({"status": "stopped"})
    assert (tmp_path / "error.txt").exists()
    writer.finish({"status": "finished"})
    assert {name for name in os.listdir(tmp_path) if name[0] == "."} == {".lease.json.live"}
    assert not (tmp_path / "error.txt").exists()
