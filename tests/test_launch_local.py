"""Real processes share, lose, interrupt and continue a sweep; every step is recorded once."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resnet_study import lease
from resnet_study.launch import local
from resnet_study.launch.local import run_local
from resnet_study.launch.resources import Pool
from resnet_study.records import read_run, read_summary
from resnet_study.spec import RunSpec, from_flat, to_json
from tests.launched import TINY, check_complete, checkpoint_steps, tiny

COMMAND = [sys.executable, "-m", "resnet_study", "sweep"]
TIMEOUT = 240

LONG = {"schedule.iterations": 1000, "probes.evaluate_every": 1000, "probes.layers_every": 250}
"""Some seconds, so that there is something to interrupt."""


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
