"""A worker runs one spec: it stops, waits or fails without harm, and says so in one line."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_study import lease
from resnet_study.launch import local, worker
from resnet_study.launch.worker import Assignment, run_one
from resnet_study.records import read_run, read_summary
from resnet_study.spec import RunSpec
from resnet_study.studies.find import load_study
from resnet_study.tracking.tracker import Tracker
from resnet_study.training import loop
from resnet_study.training.options import Execution, Options, Standing, StopFlag
from tests.launched import check_complete, checkpoint_steps, tiny

OWN = """
import functools
from resnet_study.probes import Probe
from resnet_study.studies.study import Study

FACTOR = 2.0

def scaled(observed, factor):
    return factor * FACTOR * observed

class Scaled:
    def __call__(self, observed):
        return scaled(observed, 1.0)
    def __len__(self):
        return 0

PROBES = (
    Probe("a", "", function=functools.partial(scaled, factor=1.0)),
    Probe("b", "", of_passes=lambda passes: scaled(passes, 1.0)),
    Probe("c", "", of_response=Scaled()),
    Probe("d", "", function=lambda observed: scaled(observed, 1.0)),
)
STUDY = Study("own", "Own", "?", probes=PROBES)
"""


def test_probes_of_a_file_go_to_another_process_whatever_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    content = worker.packed(load_study(str(tmp_path / "mine.py")).probes)
    (tmp_path / "mine.py").unlink()
    code = (
        "import sys\n"
        "from resnet_study.launch.worker import unpack\n"
        "from resnet_study.probes import chosen\n"
        "unpack(sys.stdin.buffer.read())\n"
        "for p in chosen('a,b,c,d')[-4:]:\n"
        "    given = (p.function, p.of_response, p.of_passes)\n"
        "    assert next(f for f in given if f is not None)(3.0) == 6.0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_a_worker_without_a_parent_stops_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no signal tells of the parent's end, the pipe does."""
    monkeypatch.setattr(loop, "STATUS_SECONDS", 0.0)
    monkeypatch.setattr(worker, "_die_with_parent", lambda: None)
    monkeypatch.setattr(worker.runtime, "prepare", lambda: None)
    spec = tiny(schedule__iterations=2000, probes__evaluate_every=2000)

    class Pipe:
        """Its other end goes when the run is taken."""

        def poll(self, seconds: float) -> bool:
            return True

        def recv(self) -> RunSpec:
            return spec

        def send(self, message: object) -> None:
            raise BrokenPipeError

    worker.work(Pipe(), Assignment(tmp_path, Options(), "c"))  # type: ignore[arg-type]
    stopped = read_summary(tmp_path / spec.run_id)
    assert stopped["status"] == "stopped"
    assert 0 < stopped["step"] == max(checkpoint_steps(tmp_path / spec.run_id)) < 2000


def test_what_fails_in_showing_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STATUS_SECONDS", 0.0)
    shown = []

    def fail(report: Standing) -> None:
        shown.append(report.step)
        raise ValueError("I/O operation on closed file")

    message = run_one(tiny(), Assignment(tmp_path, Options(), "c"), StopFlag(), Tracker(), fail)
    assert message.kind == "done"
    assert shown
    check_complete(tmp_path / tiny().run_id)


def test_a_run_taken_in_the_last_moment_is_held_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sweeps may look at a free lease at the same time; the slower one waits."""
    spec = tiny()
    held = lease.acquire(tmp_path / spec.run_id)
    assert held is not None
    look, looks = lease.is_held, list[Path]()

    def free_at_first(folder: Path) -> bool:
        looks.append(folder)
        return len(looks) > 1 and look(folder)

    monkeypatch.setattr(lease, "is_held", free_at_first)
    message = run_one(spec, Assignment(tmp_path, Options(), "c"), StopFlag(), Tracker())
    assert (message.kind, message.run_id) == ("held", spec.run_id)
    assert len(looks) == 2
    assert [path.name for path in (tmp_path / spec.run_id).iterdir()] == [lease.FILE_NAME]
    held.release()


def test_a_crash_becomes_one_line_and_a_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    spec = tiny()
    monkeypatch.setattr(loop, "_Loop", crash)
    message = run_one(spec, Assignment(tmp_path, Options(), "c"), StopFlag(), Tracker())
    assert message.kind == "failed"
    told = r"ZeroDivisionError: first line \(test_launch_worker.py, line \d+\)"
    assert re.fullmatch(told + r" \(traceback in .*\)", message.content)
    assert "second line" in (tmp_path / spec.run_id / "error.txt").read_text()
    # On a disk that takes no file, the reason is still told.
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    monkeypatch.setattr(loop.lease, "acquire", lambda _: contextlib.nullcontext())
    message = run_one(spec, Assignment(tmp_path, Options(), "c"), StopFlag(), Tracker())
    assert message.kind == "failed"
    assert re.fullmatch(told, message.content)


def test_a_worker_is_told_the_kernels_and_devices(tmp_path: Path) -> None:
    options = Assignment(tmp_path, Options(execution=Execution("xla")), "c")
    assert run_one(tiny(), options, StopFlag(), Tracker()).kind == "done"
    recorded = read_run(tmp_path / tiny().run_id).environment["execution"]
    assert (recorded["kernels"], recorded["devices"]) == ("xla", 1)
    too_many = Assignment(tmp_path, Options(execution=Execution(devices=1024)), "c")
    message = run_one(tiny(seed=1), too_many, StopFlag(), Tracker())
    assert message.kind == "failed"
    assert "--devices=1024" in message.content


def test_longer_runs_come_first() -> None:
    specs = [tiny(seed=1), tiny(schedule__iterations=24), tiny(model__depth=56), tiny()]
    costs = [local.cost(spec) for spec in specs]
    assert costs[0] == costs[3] < costs[1] < costs[2]
