"""What recording costs.

    python benchmarks/probes.py

Two questions, each with processes that take turns (A B A B):

- *step*: the compiled training step with all per-layer statistics against the one without, the
  same batch again and again. Runs too short to be worth a second program pay this in every step.
- *run*: the training loop as it is, drawing batches and writing records, in a run of the
  default length (64,000 iterations): layers recorded at the default cadence (every 2 % and at
  0, 1, 2, 3, 5, 8, ...) and layers recorded at every step, each against none recorded. A turn
  resumes the run, trains for some seconds and stops it.

Targets: at most 3 % at the default cadence, at most 10 % at every step.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import tempfile
from pathlib import Path
from typing import Any

from equality import batch_of, save
from machine import about, heading, table_row, write_results
from sides import HERE, add_networks, jax_worker, networks, turns
from timing import Estimate, interleaved, ratio
from workers import Worker, WorkerError

CADENCES = {"none": 0, "default": "2%", "every step": 1}
TARGETS = {"default": 0.03, "every step": 0.10, "step": 0.10}


def step_cost(network: dict[str, Any], size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of the step with and without statistics, by round."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        batch = f"{folder}/batch.npz"
        save(batch, batch_of(size, network["channels"], options.batch))
        functions = {}
        for name, probes in (("step", True), ("none", False)):
            worker = stack.enter_context(jax_worker(name, options))
            worker.call(
                "build", network=network, batch=batch, kernels=options.kernels, probes=probes
            )
            functions[name] = turns(worker, options, options.turn)
        return {"images_per_second": interleaved(functions, options.rounds)}


def run_cost(network: dict[str, Any], size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of the training loop at each cadence, by round."""
    values = {
        "data.name": "digits" if size == 8 else "cifar10",
        "data.batch_size": options.batch,
        "model.depth": network["depth"],
        "model.residual": network["residual"],
    }
    environment: dict[str, str | None] = {"JAX_PLATFORMS": "cpu"} if options.device == "cpu" else {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        functions = {}
        for name, cadence in CADENCES.items():
            command = [sys.executable, str(HERE / "loop_worker.py")]
            worker = stack.enter_context(Worker(name, command, environment))
            worker.call(
                "build",
                values={**values, "probes.layers_every": cadence},
                folder=f"{folder}/{name}",
                kernels=options.kernels,
            )
            # Compiles, and takes the steps that are recorded more densely.
            worker.call("turn", seconds=options.turn)
            functions[name] = functools.partial(worker.call, "turn", seconds=options.turn)
        return {"images_per_second": interleaved(functions, options.rounds)}


def judged(name: str, time: Estimate) -> str:
    """The time of one step against none recorded, and whether it meets its target."""
    if not time.conclusive:
        return str(time)
    met = "met" if time.median <= 1 + TARGETS[name] else "missed"
    return f"{time}, target {1 + TARGETS[name]:.2f} {met}"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", default=["step", "run"], choices=["step", "run"], help="questions")
    add_networks(parser, (20, 56, 110), (8, 32))
    add("--kernels", default="auto", choices=["auto", "xla", "native"])
    add("--rounds", type=int, default=7, help="turns of each variant (7)")
    add("--turn", type=float, default=3, help="seconds of a turn (3)")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--json", type=Path, help="write all numbers to this file")
    add("--markdown", action="store_true", help="print the rows of README.md's table at the end")
    return parser.parse_args(words)


def main() -> int:
    options, facts = arguments(), about()
    heading(facts)
    print("time of a step against a step that records nothing, medians (spread)")
    results, rows = [], []
    for name, network, size in networks(options):
        for part in options.parts:
            try:
                found = (step_cost if part == "step" else run_cost)(network, size, options)
            except WorkerError as error:
                print(f"probes.py: {error}", file=sys.stderr)
                return 1
            speeds = found["images_per_second"]
            # Times are the inverse of speeds.
            times = {key: [1 / v for v in values] for key, values in speeds.items()}
            ratios = {key: ratio(times, key, "none") for key in speeds if key != "none"}
            for key, time in ratios.items():
                what = "program with statistics" if key == "step" else f"run, {key}"
                print(f"{name:22} {what:24} {judged(key, time)}", flush=True)
                rows.append(table_row(name, what, time))
            found |= {"network": {**network, "size": size}, "part": part}
            found["time_ratios"] = {key: time.as_json() for key, time in ratios.items()}
            results.append(found)
            write_results(options.json, facts, results)
    if options.markdown:
        print(table_row("network", "recorded", "time ratio (spread)"))
        print("\n".join([table_row("---", "---", "---"), *rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
