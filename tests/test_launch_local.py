"""Real processes share, lose, interrupt and continue a sweep; every step is recorded once."""

import contextlib
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from resnet_study import lease, progress
from resnet_study.launch import display, local, worker
from resnet_study.launch.local import run_local
from resnet_study.launch.resources import Pool
from resnet_study.launch.worker import Assignment, run_one
from resnet_study.records import read_run, read_summary
from resnet_study.spec import RunSpec, from_flat, to_json
from resnet_study.tracking.tracker import Tracker
from resnet_study.training import loop
from resnet_study.training.options import Execution, Options, Standing, StopFlag

COMMAND = [sys.executable, "-m", "resnet_study", "sweep"]
TIMEOUT = 240

TINY: dict[str, Any] = {
    "model.depth": 8,
    "data.name": "synthetic",
    "data.batch_size": 16,
    "schedule.iterations": 12,
    "probes.log_every": 4,
    "probes.evaluate_every": 12,
    "probes.layers_every": 6,
}
"""One network for every test, so that it is compiled once."""

LONG = {"schedule.iterations": 1000, "probes.evaluate_every": 1000, "probes.layers_every": 250}
"""Some seconds, so that there is something to interrupt."""


def tiny(**changes: Any) -> RunSpec:
    return from_flat({**TINY, **{name.replace("__", "."): v for name, v in changes.items()}})


def write_sweep(folder: Path, seeds: int, **changes: Any) -> tuple[Path, list[RunSpec]]:
    """A sweep file over seeds, and its runs."""
    values = {**TINY, **changes}
    parameters = {name: {"value": value} for name, value in values.items()}
    content = {
        "command": ["${env}", "python", "-m", "resnet_study", "train", "${args}"],
        "method": "grid",
        "parameters": {"seed": {"values": list(range(seeds))}, **parameters},
    }
    path = folder / "sweep.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return path, [from_flat({**values, "seed": seed}) for seed in range(seeds)]


def sweep(file: Path, results: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """`resnet-study sweep` to its end."""
    return subprocess.run(
        [*COMMAND, str(file), f"--results={results}", *more],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


@contextlib.contextmanager
def started(*command: str) -> "Iterator[subprocess.Popen[str]]":
    """A process, with a process group of its own, that does not outlive the test."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], Any], process: "subprocess.Popen[str]") -> Any:
    """The first true value of the condition; fails if the process ends before."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if value := condition():
            return value
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("waited too long")


def check_complete(folder: Path, attempts: int = 1) -> None:
    """The run is finished and holds every step once, after this many attempts."""
    run = read_run(folder)
    total = int(run.spec.schedule.iterations)
    assert run.summary["status"] == "finished"
    assert not run.metrics.duplicated(["step", "split"]).any()
    assert not run.layers.duplicated(["step", "layer"]).any()
    train = run.metrics[run.metrics.split == "train"]
    every = int(run.spec.probes.log_every)
    assert train.step.tolist() == list(range(every, total + 1, every))
    assert set(run.metrics[run.metrics.split == "test"].step) == {0, total}
    assert set(run.layers.groupby("step").size()) == {8}
    assert {0, 1, 2, 3, 5, 8, total} <= set(run.layers.step)
    assert len(run.environment["previous"]) == attempts - 1
    assert not (folder / lease.FILE_NAME).exists()
    assert not (folder / "error.txt").exists()


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints; one that is being written has a longer name."""
    names = [path.name for path in (folder / "checkpoints").glob("*")]
    return [int(name) for name in names if name.isdigit()]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_two_workers_do_every_run_and_then_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [tiny(seed=seed) for seed in range(3)]
    outcome = run_local(specs, tmp_path, pool=Pool(workers=2), command="the command")
    assert outcome.failures == {}
    assert not outcome.interrupted
    assert set(outcome.summaries) == {spec.run_id for spec in specs}
    for spec in specs:
        check_complete(tmp_path / spec.run_id)
        assert outcome.summaries[spec.run_id] == read_summary(tmp_path / spec.run_id)
        assert read_run(tmp_path / spec.run_id).environment["command"] == "the command"
    before = contents(tmp_path)

    def none(*_: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(local, "_Workers", none)
    again = run_local(specs, tmp_path, pool=Pool(workers=2), command="again")
    assert again.summaries == outcome.summaries
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_a_failing_run_is_reported_and_the_others_finish(tmp_path: Path) -> None:
    file, specs = write_sweep(tmp_path, 3)
    results = tmp_path / "results"
    bad, *good = specs
    # The folder of the first run holds the beginning of another one.
    folder = results / "runs" / bad.run_id
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(to_json(tiny(seed=99)))
    done = sweep(file, results, "--workers=2")
    assert done.returncode == 1
    assert "2 of 3 runs are done" in done.stdout
    failed = [line for line in done.stderr.splitlines() if line.startswith("FAILED " + bad.run_id)]
    assert len(failed) == 1
    assert "spec.json: holds another run" in failed[0]
    assert "Traceback" not in done.stderr
    for spec in good:
        check_complete(results / "runs" / spec.run_id)
    for path in folder.iterdir():
        path.unlink()
    done = sweep(file, results, "--workers=2")
    assert done.returncode == 0, done.stderr
    for spec in specs:
        check_complete(results / "runs" / spec.run_id)


DRIVER = """
import json, sys
from pathlib import Path
from resnet_study.launch.resources import Pool
from resnet_study.launch.local import run_local
from resnet_study.training.options import Options
from resnet_study.spec import (from_flat)
specs = [from_flat(values) for values in json.loads(sys.argv[2])]
outcome = run_local(
    specs, Path(sys.argv[1]), Options(checkpoint_seconds=0.3), Pool(workers=2), command="driver"
)
assert "jax" not in sys.modules  # its import would hold up signals for seconds
print(json.dumps([sorted(outcome.summaries), outcome.lost, outcome.interrupted]))
"""


@pytest.mark.slow
def test_a_killed_worker_is_reported_and_its_run_continues(tmp_path: Path) -> None:
    long, short = tiny(**{**LONG, "schedule.iterations": 400}, seed=0), tiny(seed=1)
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    command.append(json.dumps([long.flat(), short.flat()]))
    folder = tmp_path / long.run_id
    with started(*command) as process:
        wait_until(lambda: checkpoint_steps(folder), process)
        pid = json.loads((folder / lease.FILE_NAME).read_text())["process"][0]
        assert pid != process.pid
        os.kill(pid, signal.SIGKILL)
        output, errors = process.communicate(timeout=TIMEOUT)
    done, lost, interrupted = json.loads(output)
    assert done == [short.run_id]
    assert set(lost) == {long.run_id}
    assert "SIGKILL" in lost[long.run_id]
    assert "TO DO residual-8 seed 0 iterations=400 " in errors
    assert not interrupted
    assert "Traceback" not in errors
    check_complete(tmp_path / short.run_id)
    # What was written before the kill is readable after it.
    killed = read_run(folder)
    assert killed.summary["status"] != "finished"
    assert len(killed.metrics) > 0
    checkpoint = max(checkpoint_steps(folder))
    with started(*command) as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    assert json.loads(output) == [sorted([long.run_id, short.run_id]), {}, False]
    check_complete(folder, attempts=2)
    # It went on from the checkpoint: the rows before are those of the first attempt.
    rows = killed.metrics[killed.metrics.step <= checkpoint]
    kept = read_run(folder).metrics.head(len(rows))
    assert len(rows) > 0
    assert rows.reset_index(drop=True).equals(kept)


@pytest.mark.slow
def test_when_the_parent_is_killed_every_worker_writes_a_checkpoint(tmp_path: Path) -> None:
    specs = [tiny(**LONG, seed=seed) for seed in range(2)]
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    command.append(json.dumps([spec.flat() for spec in specs]))
    folders = [tmp_path / spec.run_id for spec in specs]

    def told(folder: Path) -> tuple[str | None, int]:
        summary = read_summary(folder)
        return summary.get("status"), summary.get("step") or 0

    with started(*command) as process:
        # On a busy machine one may end before the other begins.
        wait_until(lambda: any(told(f)[0] == "running" and told(f)[1] for f in folders), process)
        process.kill()
        process.wait()
    end = time.monotonic() + TIMEOUT
    while any(lease.is_held(folder) for folder in folders):
        assert time.monotonic() < end
        time.sleep(0.05)
    stopped = [folder for folder in folders if told(folder)[0] == "stopped"]
    assert stopped
    assert {told(folder)[0] for folder in folders} <= {"stopped", "finished", None}
    for folder in stopped:
        assert told(folder)[1] == max(checkpoint_steps(folder))
        assert not (folder / "error.txt").exists()
    with started(*command) as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    assert json.loads(output) == [sorted(spec.run_id for spec in specs), {}, False]
    for folder in stopped:
        check_complete(folder, attempts=2)


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


@pytest.mark.slow
def test_an_interrupted_sweep_continues(tmp_path: Path) -> None:
    file, specs = write_sweep(tmp_path, 2, **LONG)
    results = tmp_path / "results"
    first, second = (results / "runs" / spec.run_id for spec in specs)
    with started(*COMMAND, str(file), f"--results={results}", "--workers=1") as process:
        wait_until(lambda: read_summary(first).get("step"), process)
        # Like Ctrl-C in a terminal, which reaches the workers as well.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    stopped = read_summary(first)
    assert stopped["status"] == "stopped"
    assert 0 < stopped["step"] < LONG["schedule.iterations"]
    assert max(checkpoint_steps(first)) == stopped["step"]
    assert not (first / lease.FILE_NAME).exists()
    assert not second.exists()
    done = sweep(file, results, "--workers=2")
    assert done.returncode == 0, done.stderr
    check_complete(first, attempts=2)
    check_complete(second)


@pytest.mark.slow
def test_two_sweeps_on_one_folder_share_the_work(tmp_path: Path) -> None:
    file, specs = write_sweep(tmp_path, 4, **{**LONG, "schedule.iterations": 400})
    results = tmp_path / "results"
    # Two spellings of one flag tell in environment.json which of them made a run.
    flags = (["--workers=1"], ["--workers", "1"])
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(started(*COMMAND, str(file), f"--results={results}", *flag))
            for flag in flags
        ]
        ends = [process.communicate(timeout=TIMEOUT) for process in processes]
    for process, (output, errors) in zip(processes, ends, strict=True):
        assert process.returncode == 0, errors
        assert "4 of 4 runs are done" in output
    makers = set()
    for spec in specs:
        check_complete(results / "runs" / spec.run_id, attempts=1)
        environment = read_run(results / "runs" / spec.run_id).environment
        makers.add("--workers=1" in environment["command"])
    assert makers == {True, False}


def test_a_worker_killed_while_idle_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = local._Workers.start
    started: list[int] = []

    def first_one_dies(pool: Any, index: int) -> Any:
        worker = start(pool, index)
        if not started:
            worker.process.kill()
            worker.process.join()
        started.append(index)
        return worker

    monkeypatch.setattr(local._Workers, "start", first_one_dies)
    outcome = run_local([tiny()], tmp_path, pool=Pool(workers=1))
    assert outcome.failures == {}
    assert started == [0, 0]
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
    assert message.content.startswith("ZeroDivisionError: first line (traceback in ")
    assert "\n" not in message.content
    assert "second line" in (tmp_path / spec.run_id / "error.txt").read_text()
    # On a disk that takes no file, the reason is still told.
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    monkeypatch.setattr(loop.lease, "acquire", lambda _: contextlib.nullcontext())
    message = run_one(spec, Assignment(tmp_path, Options(), "c"), StopFlag(), Tracker())
    assert message.kind == "failed"
    assert message.content == "ZeroDivisionError: first line"


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


class Terminal(io.StringIO):
    """Collects what is written to a terminal."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, module: Any, terminal: bool) -> io.StringIO:
    """What a module's displays write, to a terminal or to a log."""
    file = Terminal() if terminal else io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(
        module, "Console", lambda **_: Console(file=file, width=120, force_terminal=terminal)
    )
    return file


def text(file: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "log"])
def test_the_display_tells_what_is_done_and_what_failed(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    file = shown(monkeypatch, display, terminal)
    specs = [tiny(seed=seed) for seed in range(4)]
    costs = {spec.run_id: local.cost(spec) for spec in specs}
    summary = {"status": "finished", "train_error_last": 1.5, "wall_seconds": 65.2}
    with display.Display(specs, costs, {specs[0].run_id}) as bars:
        for spec in specs[1:]:
            bars.started(spec)
        for error in (math.nan, 12.5):
            bars.progress(specs[1], vars(Standing(6, 12, error, math.nan)))
            bars.progress_bars.refresh()
        bars.finished(specs[1], summary)
        bars.waiting(specs[2])
        bars.finished(specs[2], {**summary, "status": "diverged", "train_error_last": None})
        bars.lost(specs[0], "by SIGKILL")
        bars.failed(specs[3], "[why] it failed")
    output = text(file)
    lines = [line.rstrip() for line in output.splitlines()]
    assert "1 of 4 runs are done already." in output
    assert any(re.search(r"2/4 +residual-8 seed 1 .*1\.50 %.*1:05 min", x) for x in lines)
    assert any(re.search(r"3/4 +residual-8 seed 2 .*\[diverged\]", x) for x in lines)
    # Square brackets of a reason are no markup.
    assert "FAILED residual-8 seed 3: [why] it failed" in output
    assert "TO DO residual-8 seed 0: by SIGKILL" in output
    assert ("training error 12.5 %" in output) == terminal
    assert ("3 running" in output) == terminal


def test_progress_names_what_a_sweep_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    file = shown(monkeypatch, display, False)
    specs = [
        tiny(seed=seed, **{"optimizer.learning_rate": rate})
        for rate in (0.1, 0.01)
        for seed in (0, 1)
    ]
    with display.Display(specs, dict.fromkeys((s.run_id for s in specs), 1.0), set()) as bars:
        for spec in specs:
            bars.finished(spec, {"status": "finished"})
    lines = text(file).splitlines()
    assert "residual-8 seed 1 learning_rate=0.01 " in lines[-1]
    assert len({line.split("training")[0][7:] for line in lines}) == 4


def test_progress_names_nothing_that_follows_from_the_network() -> None:
    def warmed(depth: int, seed: int) -> RunSpec:
        own = {"model.depth": depth, "schedule.warmup_iterations": depth - 8}
        return tiny(seed=seed, **own)

    several = [warmed(depth, seed) for depth in (8, 14) for seed in (0, 1)]
    names = display.names_of(several)
    assert names[several[-1].run_id] == "residual-14 seed 1"
    # One run each, as of a random search: then a value may be what is looked for.
    single = display.names_of(several[1:3])
    assert single[several[2].run_id] == "residual-14 seed 0 warmup_iterations=6"


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "log"])
def test_a_display_whose_terminal_is_gone_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    shown(monkeypatch, display, terminal).close()
    spec = tiny()
    with display.Display([spec], {spec.run_id: 1.0}, set()) as bars:
        bars.started(spec)
        bars.progress(spec, vars(Standing(6, 12, 12.5, math.nan)))
        bars.lost(spec, "gone")
        bars.failed(spec, "why")
        bars.finished(spec, {"status": "finished"})
    assert bars.done == 1


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "log"])
def test_the_bars_of_single_tasks(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    file = shown(monkeypatch, progress, terminal)
    with progress.run_progress() as report:
        report(Standing(1, 12, math.nan, math.nan))
        report(Standing(6, 12, 12.5, 2000.4))
        time.sleep(0.3)
    for unit in ("B", "images"):
        with progress.count_progress("loading", unit) as count:
            # A server may not say how much there is.
            for done, total in ((0, 0), (500, 1000), (1000, 1000)):
                count(done, total)
                time.sleep(0.15)
    output = text(file)
    if terminal:
        for words in ("6/12", "training error 12.5 %, 2000 images/s", "1000/1000", "1.0/1.0 kB"):
            assert words in output
    else:
        assert output.strip() == ""
