"""Time from the start of a process to its first finished training step, and its memory.

    python benchmarks/startup.py
    python benchmarks/startup.py --deep --limit 3600    # depth 1202 too

Every start is a process of its own, with a cache of its own (RESNET_STUDY_CACHE): *cold* begins
with an empty one, *warm* is the next start with what the cold one left there. They alternate
(cold, warm, cold, warm) and are each split into imports, building (weights and state; the
draws of each shape are compiled here when cold) and the first step, which compiles its program or
reads it. A start that takes longer than the limit is ended and reported as such.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from equality import batch_of, save
from machine import about, heading, table_row, write_results
from sides import HERE, add_networks, networks
from timing import estimate, ratio
from workers import Worker, WorkerError

DEEP = 1202


def start(
    network: dict[str, Any], batch: str, cache: Path, options: argparse.Namespace, kernels: str
) -> dict[str, float]:
    """Seconds of each part of one start, in all, of a second step, and peak bytes.

    Raises:
        WorkerError: if it fails or takes longer than the limit.
    """
    environment: dict[str, str | None] = {
        "RESNET_STUDY_CACHE": str(cache),
        # A cache that the user has named would be warm already.
        "JAX_COMPILATION_CACHE_DIR": None,
    }
    if options.device == "cpu":
        environment["JAX_PLATFORMS"] = "cpu"
    began = time.perf_counter()
    marks = [began]

    def left() -> float:
        marks.append(time.perf_counter())
        return max(0.1, options.limit - (marks[-1] - began))

    command = [sys.executable, str(HERE / "jax_worker.py")]
    with Worker(f"depth {network['depth']}", command, environment) as worker:
        worker.call("memory", limit=options.limit)
        arguments = {"network": network, "batch": batch, "kernels": kernels}
        worker.call("build", **arguments, probes=not options.bare, limit=left())
        worker.call("run", steps=1, limit=left())
        left()
        second = worker.call("run", steps=1)
        imports, building, first = np.diff(marks)
        return {
            "imports": imports,
            "building": building,
            "first_step": first,
            "total": marks[-1] - began,
            "second_step": second,
            "peak_bytes": worker.call("memory"),
        }


def measure(
    network: dict[str, Any], size: int, kernels: str, rounds: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Cold and warm starts in turn, until the rounds are over or one takes too long."""
    starts: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    problem = None
    with tempfile.TemporaryDirectory() as folder:
        batch = os.path.join(folder, "batch.npz")
        save(batch, batch_of(size, network["channels"], options.batch))
        try:
            for number in range(rounds):
                cache = Path(folder, f"cache{number}")
                for kind in starts:
                    starts[kind].append(start(network, batch, cache, options, kernels))
        except WorkerError as error:
            problem = str(error)
    return {
        "network": {**network, "size": size},
        "kernels": kernels,
        "starts": starts,
        "problem": problem,
    }


def show(result: dict[str, Any], name: str) -> list[str]:
    """Print one network; its rows of the table."""
    rows = []
    for kind, starts in result["starts"].items():
        if not starts:
            continue
        parts = {key: statistics.median(s[key] for s in starts) for key in starts[0]}
        total = estimate([s["total"] for s in starts])
        spread = f"{100 * total.spread:.0f} %" if len(starts) > 1 else "one start"
        text = (
            f"{total.median:.1f} s ({spread}) = imports {parts['imports']:.1f} + building "
            f"{parts['building']:.1f} + first step {parts['first_step']:.1f}"
        )
        peak = f"{parts['peak_bytes'] / 2**20:.0f}"
        step = f"{1000 * parts['second_step']:.0f}"
        print(f"{name:30} {kind}: {text}; a step {step} ms, peak {peak} MiB")
        rows.append(table_row(name, kind, text, step, peak))
    totals = {kind: [s["total"] for s in starts] for kind, starts in result["starts"].items()}
    if result["problem"]:
        print(f"{name:30} {result['problem']}")
        rows.append(table_row(name, "", result["problem"], "", ""))
    elif len(totals["warm"]) > 1:
        print(f"{name:30} warm / cold {ratio(totals, 'warm', 'cold')}")
    sys.stdout.flush()
    return rows


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_networks(parser, (8, 20, 56, 110), (32,), ["residual"])
    add("--deep", action="store_true", help=f"depth {DEEP} too, started once cold and once warm")
    add(
        "--kernels",
        action="append",
        choices=["auto", "xla", "native"],
        help="may be given several times (auto)",
    )
    add("--bare", action="store_true", help="the step without per-layer statistics")
    add("--rounds", type=int, default=5, help="cold and warm starts each (5)")
    add("--limit", type=float, default=1800, help="seconds after which a start is ended (1800)")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--json", type=Path, help="write all numbers to this file")
    add("--markdown", action="store_true", help="print the rows of README.md's table at the end")
    return parser.parse_args(words)


def main() -> int:
    options, facts = arguments(), about()
    heading(facts)
    results, rows = [], []
    options.depths += [DEEP] if options.deep else []
    choices = options.kernels or ["auto"]
    for (name, network, size), kernels in itertools.product(networks(options), choices):
        rounds = 1 if network["depth"] >= DEEP else options.rounds
        results.append(measure(network, size, kernels, rounds, options))
        rows += show(results[-1], f"{name}, {kernels}")
        write_results(options.json, facts, results)
    if options.markdown:
        print(table_row("network", "start", "time (spread)", "ms per step", "peak MiB"))
        print("\n".join([table_row(*["---"] * 5), *rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
