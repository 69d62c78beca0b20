"""Runs per hour of a fixed small sweep on this machine, with 1, 2, ... workers.

    python benchmarks/sweep.py

Each turn is the command `resnet-study sweep` as a user gives it, from its start to its end, on a
fresh results folder with a warm cache of compiled programs; the numbers of workers take turns.
The sweep trains plain and residual networks on digits, with two seeds.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import about, heading, table_row, write_results
from timing import estimate, interleaved, ratio

from resnet_study import runtime

SWEEP = """\
command: ["${{env}}", python, -m, resnet_study, train, "${{args}}"]
method: grid
parameters:
  seed: {{values: [0, 1]}}
  model.depth: {{values: {depths}}}
  model.residual: {{values: [false, true]}}
  data.name: {{value: digits}}
  schedule.iterations: {{value: {iterations}}}
"""


def run_sweep(file: Path, folder: Path, cache: Path, workers: int) -> float:
    """Seconds of the command with so many workers.

    Raises:
        RuntimeError: with the end of its output, if it fails.
    """
    with tempfile.TemporaryDirectory(dir=folder) as results:
        words = ["sweep", str(file), "--results", results, "--workers", str(workers)]
        began = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-m", "resnet_study", *words],
            env={**os.environ, "RESNET_STUDY_CACHE": str(cache), "WANDB_MODE": "disabled"},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError((process.stderr or process.stdout)[-2000:])
    return seconds


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    most = runtime.available_cores()
    add = parser.add_argument
    add(
        "--workers",
        type=int,
        nargs="+",
        default=list(range(1, min(most, 4) + 1)),
        help="numbers to compare; the ratios are to the first (1 to the cores, at most 4)",
    )
    add("--depths", type=int, nargs="+", default=[8, 20], help="6n+2 (8 20)")
    add("--iterations", type=int, default=200, help="of each run (200)")
    add("--rounds", type=int, default=5, help="sweeps of each number of workers (5)")
    add("--json", type=Path, help="write all numbers to this file")
    add("--markdown", action="store_true", help="print the rows of README.md's table at the end")
    return parser.parse_args(words)


def main() -> int:
    options, facts = arguments(), about()
    heading(facts)
    runs = 4 * len(options.depths)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, cache = folder / "sweep.yaml", folder / "cache"
        file.write_text(SWEEP.format(depths=options.depths, iterations=options.iterations))
        try:
            for workers in options.workers:
                # Compiled programs differ with the number of threads.
                run_sweep(file, folder, cache, workers)
            seconds = interleaved(
                {
                    str(workers): functools.partial(run_sweep, file, folder, cache, workers)
                    for workers in options.workers
                },
                options.rounds,
            )
        except RuntimeError as error:
            print(f"sweep.py: the sweep failed: {error}", file=sys.stderr)
            return 1
    print(f"{runs} runs of {options.iterations} iterations, digits, depths {options.depths}")
    hourly = {name: [3600 * runs / s for s in values] for name, values in seconds.items()}
    first = str(options.workers[0])
    for name, values in hourly.items():
        against = "" if name == first else f", ratio to {first}: {ratio(hourly, name, first)}"
        print(f"{name} workers: {estimate(values).median:.0f} runs per hour{against}")
        shown = "1" if name == first else ratio(hourly, name, first)
        rows.append(table_row(name, round(estimate(values).median), shown))
    write_results(options.json, facts, [{"runs": runs, "seconds": seconds}])
    if options.markdown:
        print(table_row("workers", "runs per hour", f"ratio to {first} (spread)"))
        print("\n".join([table_row("---", "---", "---"), *rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
