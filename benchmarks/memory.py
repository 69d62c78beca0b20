"""Where the memory of a training process goes, and what it costs to wait for each step.

    python benchmarks/memory.py --depths 20 110 --sizes 8 32

XLA:CPU takes the temporaries of a step when it is dispatched. A process in which every step
ends before the next is dispatched takes turns (A B A B) with one that dispatches ahead; which of
the two training uses, `save_memory` in `resnet_study/training/devices.py` decides from the
spec. Peaks are those of the process so far: after its imports, with the initial weights, after
the first step, whose program it compiles, and at the end. For comparison, the peak of an
interpreter that imports PyTorch (--torch-python).
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from equality import batch_of, save
from machine import about, heading, table_row, write_results
from sides import HERE, add_networks, networks
from timing import interleaved, median_ms, ratio
from workers import Worker

WAYS = {"waits": True, "ahead": False}
PARTS = ("imports", "weights", "first step", "all steps")


def measure(network: dict[str, Any], size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step in turns, and peak bytes after each part, for both ways."""
    peaks: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        batch = str(Path(folder, "batch.npz"))
        save(batch, batch_of(size, network["channels"], options.batch))
        workers = {}
        for way, waits in WAYS.items():
            command = [sys.executable, str(HERE / "jax_worker.py")]
            # An empty cache, so that programs are compiled.
            environment: dict[str, str | None] = {
                "JAX_PLATFORMS": "cpu",
                "RESNET_STUDY_CACHE": str(Path(folder, way)),
                "JAX_COMPILATION_CACHE_DIR": None,
            }
            worker = workers[way] = stack.enter_context(Worker(way, command, environment))
            peaks[way] = [worker.call("memory")]
            arguments = {"network": network, "batch": batch, "kernels": options.kernels}
            worker.call("build", **arguments, probes=True, waits=waits)
            peaks[way].append(worker.call("memory"))
            worker.call("run", steps=1)
            peaks[way].append(worker.call("memory"))
        steps = max(3, round(options.turn / workers["waits"].call("run", steps=3) * 3))
        turns = {
            way: lambda worker=worker: worker.call("run", steps=steps) / steps
            for way, worker in workers.items()
        }
        seconds = interleaved(turns, options.rounds)
        for way, worker in workers.items():
            peaks[way].append(worker.call("memory"))
    return {"network": {**network, "size": size}, "seconds": seconds, "peak_bytes": peaks}


def show(result: dict[str, Any], name: str) -> list[str]:
    """Print one network; its rows of the table."""
    seconds, rows = result["seconds"], []
    slower = ratio(seconds, "waits", "ahead")
    for way, peaks in result["peak_bytes"].items():
        sizes = [f"{peak / 2**20:.0f}" for peak in peaks]
        ms = f"{median_ms(seconds[way]):.1f}"
        text = ", ".join(f"{part} {mib}" for part, mib in zip(PARTS, sizes, strict=True))
        print(f"{name:22} {way}: peak MiB after {text}; a step {ms} ms")
        rows.append(table_row(name, way, *sizes, ms, slower if way == "waits" else ""))
    print(f"{name:22} waits / ahead, time {slower}", flush=True)
    return rows


def torch_peak(python: str) -> float:
    """MiB of an interpreter that has imported PyTorch."""
    words = [python, "-c", "import torch, workers; print(workers.peak_memory())"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=HERE)
    return int(done.stdout) / 2**20


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_networks(parser, (8, 20, 110), (8, 32), ["residual"])
    add("--kernels", default="auto", choices=["auto", "xla", "native"])
    add("--rounds", type=int, default=7, help="turns of each way (7)")
    add("--turn", type=float, default=1.5, help="seconds of a turn (1.5)")
    add("--torch-python", help="interpreter that has PyTorch, to see what importing it takes")
    add("--json", type=Path, help="write all numbers to this file")
    add("--markdown", action="store_true", help="print the rows of README.md's table at the end")
    return parser.parse_args(words)


def main() -> int:
    options, facts = arguments(), about()
    heading(facts)
    if options.torch_python:
        print(f"importing PyTorch: peak {torch_peak(options.torch_python):.0f} MiB\n", flush=True)
    results, rows = [], []
    for name, network, size in networks(options):
        results.append(measure(network, size, options))
        rows += show(results[-1], name)
        write_results(options.json, facts, results)
    if options.markdown:
        print(table_row("network", "way", *PARTS, "ms per step", "time, waits / ahead"))
        print("\n".join([table_row(*["---"] * 8), *rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
