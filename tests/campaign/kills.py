"""Commands that are killed and given again: what they leave in the end is as if nothing had been.

Half of the kills strike before a chosen change of a file, so that every gap between two changes has
its turn; the others come at a random time, as any signal, to a parent, a worker, or all.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tests.campaign.outcome import Trial

ROOT = Path(__file__).resolve().parents[2]
PYTHON = [sys.executable, "-m"]
RUN = [
    "--data.name=synthetic",
    "--data.batch_size=4",
    "--model.depth=8",
    "--schedule.iterations=60",
    "--probes.log_every=5",
    "--probes.evaluate_every=20",
    "--probes.layers_every=10",
]
SWEEP = """
command: ["${env}", python, -m, resnet_study, train, "${args}"]
method: grid
parameters:
  data.name: {value: synthetic}
  data.batch_size: {value: 4}
  model.depth: {value: 8}
  model.residual: {values: [true, false]}
  schedule.iterations: {value: 60}
  probes.log_every: {value: 5}
  probes.evaluate_every: {value: 20}
  probes.layers_every: {value: 10}
"""
OFTEN = ["--checkpoint_seconds=0"]
SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGABRT", "SIGSEGV")
PATIENCE = 600.0
"""Seconds until a command that was killed or started again counts as hanging."""


def train_words(results: Path) -> list[str]:
    return ["train", *RUN, f"--results={results}", *OFTEN]


def sweep_words(results: Path) -> list[str]:
    file = results.parent / "killed.yaml"
    file.write_text(SWEEP)
    return ["sweep", str(file), f"--results={results}", "--workers=2", *OFTEN]


def kill_trials(work: Path, kills: int, seed: int, sweeps: float = 0.2) -> Iterator[Trial]:
    """Kill training until so many kills have struck; each trial is compared with an undisturbed.

    Args:
        work: an empty folder.
        kills: how many must strike.
        seed: of where and when.
        sweeps: share of the trials that are sweeps with two workers; the others train one run.
    """
    work.mkdir()
    whole: dict[str, dict[str, Any]] = {}
    struck, index = 0, 0
    changes = spent = 0
    while struck < kills:
        rng = random.Random(f"{seed} {index}")
        kind = "sweep" if rng.random() < sweeps else "train"
        results = work / "results"
        words = (sweep_words if kind == "sweep" else train_words)(results)
        if kind not in whole:
            began = time.monotonic()
            code, err = run(["tests.campaign.killer", str(results), "0", *words])
            if code:
                raise RuntimeError(f"undisturbed, {kind} ends with {code}: {err}")
            spent = max(spent, int(time.monotonic() - began) + 1)
            if kind == "train":
                changes = int((work / "results.changes").read_text())
            whole[kind] = contents(results)
            shutil.rmtree(results)
        trial = Trial(f"{index}: {kind}", count=0)
        for _ in range(min(rng.randint(1, 4), kills - struck)):
            if kind == "train" and rng.random() < 0.5:
                at = rng.randint(1, changes)
                trial.what += f", change {at}"
                code, err = run(["tests.campaign.killer", str(results), str(at), *words])
                hit = code == -signal.SIGKILL
            else:
                name, whom, delay = _when(rng, kind, spent)
                trial.what += f", {name} to {whom} after {delay:.2f} s"
                code, err, hit = _struck(words, name, whom, delay)
            trial.count += hit
            trial.defect = trial.defect or _defect(code, err, hit)
        struck += trial.count  # one that came too late is tried again
        code, err = run(["resnet_study", *words])
        trial.defect = trial.defect or (f"then ends with {code}: {err[-300:]}" if code else None)
        trial.defect = trial.defect or difference(whole[kind], contents(results))
        shutil.rmtree(results, ignore_errors=True)
        index += 1
        yield trial


def _when(rng: random.Random, kind: str, spent: float) -> tuple[str, str, float]:
    whom = rng.choice(["parent", "worker", "all"]) if kind == "sweep" else "parent"
    return rng.choice(SIGNALS), whom, rng.uniform(0, 1.1 * spent)


def start(words: Sequence[str], module: str = "resnet_study") -> subprocess.Popen[str]:
    """A command as a process that leads a session of its own."""
    return subprocess.Popen(
        [*PYTHON, module, *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def run(words: Sequence[str]) -> tuple[int, str]:
    """Exit code and what was said on standard error, of a module and its words."""
    process = start(words[1:], words[0])
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err


def _struck(words: Sequence[str], name: str, whom: str, delay: float) -> tuple[int, str, bool]:
    """Exit code, what was said, and whether the signal met a process that lived."""
    process = start(words)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    hit = process.poll() is None
    number = signal.Signals[name]
    with contextlib.suppress(ProcessLookupError):
        if whom == "all":
            os.killpg(process.pid, number)
        elif whom == "worker" and (workers := session(process.pid)[1:]):
            os.kill(workers[-1], number)
        elif hit:
            process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    # Workers outlive a parent that was killed for as long as a checkpoint takes.
    end = time.monotonic() + PATIENCE
    while session(process.pid):
        if time.monotonic() > end:
            os.killpg(process.pid, signal.SIGKILL)
            return process.returncode, "workers never ended\nTraceback", hit
        time.sleep(0.05)
    return process.returncode, err, hit


def session(leader: int) -> list[int]:
    """Processes of a session that live, in the order of their starts."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] not in "ZX":
                    found.append(int(entry.name))
    return sorted(found)


def _defect(code: int, err: str, hit: bool) -> str | None:
    """Of an end at a kill: any exit code will do, a traceback will not."""
    if "Traceback" in err:
        return f"traceback, exit code {code}: {err[-600:]}"
    if not hit and code != 0:
        return f"exit code {code} without a kill: {err[-300:]}"
    return None


def contents(results: Path) -> dict[str, Any]:
    """What a study holds when it is done, without times and names of its processes."""
    held: dict[str, Any] = {}
    for folder in sorted((results / "runs").iterdir()):
        for table in ("metrics.parquet", "layers.parquet"):
            rows = pd.read_parquet(folder / table)
            held[f"{folder.name}/{table}"] = rows.drop(columns="time", errors="ignore")
        held[f"{folder.name}/spec.json"] = (folder / "spec.json").read_bytes()
        held[f"{folder.name}/files"] = sorted(path.name for path in folder.iterdir())
    held["files"] = sorted(path.name for path in results.iterdir())
    return held


def difference(whole: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first thing in which a study differs from the undisturbed one."""
    if list(whole) != list(now):
        return f"holds {sorted(set(whole) ^ set(now))} in one alone"
    for name, value in whole.items():
        same = value.equals(now[name]) if isinstance(value, pd.DataFrame) else value == now[name]
        if not same:
            return f"{name} differs: {now[name] if isinstance(value, list) else ''}"
    return None
