"""Time and memory of reading many runs, against reading the same bytes with pyarrow alone.

    python benchmarks/records.py 100 1000 10000

Makes copies of the committed runs of the quick study, each with a seed of its own and under the run
id that follows from it. Then, in turns and each in a process of its own: *pyarrow* reads every
table, and forgets it; *frames* reads the folder and every row and column of it, which hardly any
command does; *error* and *signal* read what ``compare`` does for a metric and for a quantity of two
columns. Seconds are those of processors, user and system.

``--commands`` then times ``status`` and ``compare``, and to 1,000 runs ``claims`` and each figure
of the study, as a user starts them, imports included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from commands import processor_seconds
from machine import about, heading, table_row, write_results
from timing import ratio

from resnet_study.records import find_runs, read_frames, read_spec, read_summary
from resnet_study.records.integrity import sizes
from resnet_study.spec import to_json

QUICK = Path(__file__).resolve().parent.parent / "results" / "reference" / "quick"

FEW = 1000
"""Runs up to which claims and figures are timed."""

SEEDS = 100
"""From one copy of a run to the next."""

Seconds = dict[str, float]


def make_runs(folder: Path, count: int) -> None:
    """Copies of the quick study's runs, with the runs of several studies as one study has them."""
    originals = find_runs([QUICK])
    for number in range(count):
        original = originals[number % len(originals)]
        spec = read_spec(original / "spec.json")
        spec = replace(spec, seed=spec.seed + SEEDS * (number // len(originals)))
        run = folder / "runs" / spec.run_id
        run.mkdir(parents=True)
        for name in ("metrics.parquet", "layers.parquet", "environment.json"):
            shutil.copyfile(original / name, run / name)
        (run / "spec.json").write_text(to_json(spec))
        # As a run writes it that is trained today.
        summary = {**read_summary(original), "bytes": sizes(run)}
        (run / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


@contextmanager
def counted(seconds: Seconds, name: str) -> Iterator[None]:
    """Add the processor time of a block."""
    began = time.process_time()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.process_time() - began


def with_pyarrow(folder: Path) -> Seconds:
    """Every table, one after the other."""
    from pyarrow import BufferReader, parquet

    seconds: Seconds = {}
    files = [
        run / name for run in find_runs([folder]) for name in ("metrics.parquet", "layers.parquet")
    ]
    with counted(seconds, "pyarrow"):
        for file in files:
            parquet.read_table(BufferReader(file.read_bytes()), use_threads=False)
    return seconds


def everything(folder: Path) -> Seconds:
    """All rows and columns as frames."""
    seconds: Seconds = {}
    with counted(seconds, "runs"):
        frames = read_frames([folder])
    with counted(seconds, "metrics"):
        rows = len(frames.metrics)
    with counted(seconds, "layers"):
        rows += len(frames.layers)
    assert rows
    return seconds


def of_error(folder: Path) -> Seconds:
    """What a comparison of errors reads."""
    seconds: Seconds = {}
    with counted(seconds, "error"):
        read_frames([folder]).metrics  # noqa: B018
    return seconds


def of_signal(folder: Path) -> Seconds:
    """What a comparison of signals reads."""
    seconds: Seconds = {}
    with counted(seconds, "signal"):
        read_frames([folder]).layers_with("weight_norm", "weight_gradient_norm")
    return seconds


VARIANTS: Mapping[str, Callable[[Path], Seconds]] = {
    "pyarrow": with_pyarrow,
    "frames": everything,
    "error": of_error,
    "signal": of_signal,
}


def measured(variant: str, folder: Path) -> tuple[Seconds, float]:
    """Seconds by part, and the peak memory of this process in 10⁶ bytes."""
    # Imports are no part of it.
    read_frames([QUICK]).layers.groupby("run_id", observed=True).size()
    seconds = VARIANTS[variant](folder)
    return seconds, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def apart(variant: str, folder: Path) -> tuple[Seconds, float]:
    """`measured` in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, variant, folder).result()


def command_seconds(folder: Path, few: bool) -> Iterator[tuple[str, float]]:
    """Processor time of commands on the runs; of few runs of claims and the study's figures too."""
    commands = ["status RUNS", "compare error RUNS", "compare signal RUNS"]
    if few:
        from resnet_study.studies.find import load_study

        figures = load_study("quick").figures
        commands += ["claims RUNS", *(f"figures RUNS --only {figure.name}" for figure in figures)]
    for command in commands:
        words = (str(folder) if word == "RUNS" else word for word in command.split())
        yield command, processor_seconds(tuple(words))


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("counts", type=int, nargs="*", default=[100, 1000, 10_000], help="numbers of runs")
    add("--rounds", type=int, default=5, help="turns (5)")
    add("--commands", action="store_true", help="time commands too")
    add("--folder", type=Path, help="where the runs are made (a temporary folder)")
    add("--json", type=Path, help="write all numbers to this file")
    return parser.parse_args(words)


def report(count: int, folder: Path, rounds: int) -> dict[str, object]:
    """Measure in turns, and print the rows of the table."""
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    parts: dict[str, Seconds] = {}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for name in VARIANTS:
            parts[name], peak = apart(name, folder)
            seconds[name].append(sum(parts[name].values()))
            memory[name] = max(peak, memory.get(name, 0.0))
    for name in VARIANTS:
        least = min(seconds[name])
        told = ", ".join(f"{part} {value:.2f}" for part, value in parts[name].items())
        print(
            table_row(
                f"{count:,}",
                name,
                f"{least:.2f}",
                f"{1000 * least / count:.2f}",
                f"{memory[name]:,.0f}",
                ratio(seconds, name, "pyarrow"),
                told if len(parts[name]) > 1 else "",
            ),
            flush=True,
        )
    return {"runs": count, "seconds": seconds, "memory": memory, "parts": parts}


def main() -> int:
    options, facts = arguments(), about()
    heading(facts)
    results = []
    print(table_row("runs", "what", "s", "ms per run", "peak MB", "over pyarrow", "parts, s"))
    print(table_row(*["---"] * 7))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for count in options.counts:
            folder = Path(name) / f"{count}"
            make_runs(folder, count)
            results.append(report(count, folder, options.rounds))
            if options.commands:
                print()
                for command, seconds in command_seconds(folder, few=count <= FEW):
                    print(f"{count:,} runs, {command}: {seconds:.2f} s", flush=True)
            shutil.rmtree(folder)
    write_results(options.json, facts, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
