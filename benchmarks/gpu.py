"""A GPU: this project's training program against PyTorch, sharing, evaluation, a profile.

    python benchmarks/gpu.py                    # everything, about five minutes on 16 cores
    python benchmarks/gpu.py --only sharing     # several runs on the GPU at once

Both sides train the networks of He et al. 2015 at 32x32, batch 128, and take turns (A B A B); the
one that waits sleeps. All programs are compiled at the same time, before anything is timed. This
project runs what its training loop runs: chunks of iterations that draw, augment and normalise
their batches on the device. PyTorch is given one batch, ready made, and neither augments nor
records; it runs eagerly in the faster of its two memory formats, and through torch.compile with
CUDA graphs. That both sides compute the same is what `train_step.py --check --device=cuda` says.

Sharing: several runs of the same network at once, images per second of all together over those of
one. With `nvidia-cuda-mps-control -d` before, the numbers are those under MPS.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from equality import batch_of, save
from machine import about, heading, table_row, write_results
from sides import HERE
from timing import estimate, interleaved, ratio
from workers import Worker, WorkerError

BATCH = 128
SHARED_MEMORY = 0.9


def start_ours(values: dict[str, Any], share: int = 1, probes: bool = False) -> tuple[Worker, Any]:
    """A process with this project, compiled."""
    environment: dict[str, str | None] = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{SHARED_MEMORY / share:.2f}",
    }
    worker = Worker("ours", [sys.executable, str(HERE / "program_worker.py")], environment)
    return worker, worker.call("build", values=values, probes=probes)


def start_torch(
    network: dict[str, Any], batch: str, precision: str, compiled: bool, limit: float, python: str
) -> tuple[Worker, str]:
    """A process with PyTorch, warmed up; and the variant that it runs."""
    worker = Worker("PyTorch", [python, str(HERE / "torch_worker.py")])
    formats = [
        {"channels_last": last, "optimizer": "fused", "compile": ""} for last in (True, False)
    ]
    common = {"network": network, "batch": batch, "device": "cuda", "precision": precision}
    variant = formats[0]
    if compiled:
        variant = {**variant, "compile": "reduce-overhead"}
    else:
        seconds = worker.call("choose", **common, variants=formats, seconds=0.3)
        variant = formats[seconds.index(min(seconds))]
    worker.call("build", **common, variant=variant)
    for _ in range(4):  # CUDA graphs are recorded in the first calls
        worker.call("run", steps=2, limit=limit)
    form = "channels_last" if variant["channels_last"] else "contiguous"
    return worker, f"{form}, {'compiled, CUDA graphs' if compiled else 'eager'}"


def values_of(family: str, depth: int, precision: str) -> dict[str, Any]:
    return {
        "data.name": "cifar10",
        "data.batch_size": BATCH,
        "model.depth": depth,
        "model.residual": family == "residual",
        "model.precision": precision,
    }


def speed(options: argparse.Namespace, stack: contextlib.ExitStack) -> list[dict[str, Any]]:
    """Both sides, every network and precision; prints as it goes."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    batch = str(folder / "batch.npz")
    save(batch, batch_of(32, 3, BATCH))
    cases = list(itertools.product(options.families, options.depths, options.precisions))
    workers: dict[tuple[Any, str], Worker] = {}
    labels: dict[tuple[Any, str], str] = {}

    def begin(case: tuple[str, int, str], side: str) -> None:
        family, depth, precision = case
        try:
            if side.startswith("ours"):
                probes = side == "ours, layers in every iteration"
                worker, seconds = start_ours(values_of(*case), probes=probes)
                label = f"compiled in {seconds:.0f} s"
            else:
                network = {"depth": depth, "residual": family == "residual", "channels": 3}
                worker, label = start_torch(
                    network, batch, precision, side == "PyTorch, compiled",
                    options.compile_limit, options.torch_python,
                )  # fmt: skip
        except WorkerError as error:
            print(f"  {family}-{depth} {precision} {side}: {error}", flush=True)
            return
        stack.callback(worker.close)
        workers[case, side], labels[case, side] = worker, label
        print(f"  {family}-{depth} {precision} {side}: {label}", flush=True)

    sides = ["ours", "ours, layers in every iteration"]
    if options.torch_python != "none":
        sides += ["PyTorch, eager", "PyTorch, compiled"]
    # The deepest first: they compile longest.
    jobs = sorted(itertools.product(cases, sides), key=lambda job: -job[0][1])
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda job: begin(*job), jobs))
    results = []
    for case in cases:
        turns = {}
        for side in sides:
            if (case, side) not in workers:
                continue
            worker = workers[case, side]
            steps = max(1, round(options.turn * 20 / worker.call("run", steps=20)))
            worker.call("run", steps=steps)
            turns[side] = functools.partial(images_per_second, worker, steps)
        rounds = interleaved(turns, options.rounds)
        result: dict[str, Any] = {
            "network": f"{case[0]}-{case[1]}",
            "precision": case[2],
            "images_per_second": rounds,
            "labels": {side: labels[case, side] for side in turns},
            "peak_bytes": {side: workers[case, side].call("memory") for side in turns},
            "ratios": {
                side: ratio(rounds, "ours", side).as_json() for side in turns if side != "ours"
            },
        }
        if "ours" in turns:
            result["evaluation_seconds"] = evaluation(workers[case, "ours"])
            if options.profile:
                result["profile"] = workers[case, "ours"].call("profile", steps=50)
        results.append(result)
        show(result)
    return results


def images_per_second(worker: Worker, steps: int) -> float:
    return float(BATCH * steps / worker.call("run", steps=steps))


def evaluation(worker: Worker) -> float:
    """Seconds of one evaluation of all 60,000 images, compiled before."""
    worker.call("evaluate")
    return float(worker.call("evaluate"))


def show(result: dict[str, Any]) -> None:
    """Print what one network took."""
    rounds = result["images_per_second"]
    for side, values in rounds.items():
        speed = estimate(values).median
        peak = result["peak_bytes"][side] / 2**20
        words = [f"{speed:8.0f} images/s", f"{1000 * BATCH / speed:6.2f} ms", f"{peak:6.0f} MiB"]
        if side != "ours" and "ours" in rounds:
            words.append(f"ours / this {ratio(rounds, 'ours', side)}")
        name = f"{result['network']} {result['precision']}"
        print(f"  {name:22} {side:32} {', '.join(words)}  ({result['labels'][side]})", flush=True)
    if "evaluation_seconds" in result:
        print(f"      evaluation of 60,000 images {result['evaluation_seconds']:.2f} s", flush=True)
    if profile := result.get("profile"):
        print(
            f"      busy {100 * profile['busy']:.0f} %, {profile['kernels_per_step']:.0f} kernels"
        )
        for kernel in profile["kernels"]:
            print(
                f"      {100 * kernel['share']:5.1f} % {kernel['per_step']:6.1f} × "
                f"{kernel['microseconds']:6.1f} µs {kernel['name']}",
                flush=True,
            )


def sharing(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Several runs of one network at once; prints as it goes."""
    results = []
    most = max(options.share)
    for family, depth, precision in itertools.product(
        options.families, options.depths, options.precisions
    ):
        values = values_of(family, depth, precision)
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(most) as pool:
            try:
                # One first: the others find its programs in the cache.
                started = [start_ours(values, most)]
                started += pool.map(lambda _: start_ours(values, most), range(most - 1))  # noqa: B023
            except WorkerError as error:
                print(f"  {family}-{depth} {precision}: {error}", flush=True)
                continue
            workers = [worker for worker, _ in started]
            for worker in workers:
                stack.callback(worker.close)
            steps = round(options.turn * 20 / workers[0].call("run", steps=20)) or 1
            totals = {}
            for count in options.share:
                began = time.perf_counter()
                list(pool.map(lambda w: w.call("run", steps=steps), workers[:count]))  # noqa: B023
                totals[count] = count * steps * BATCH / (time.perf_counter() - began)
        results.append(
            {"network": f"{family}-{depth}", "precision": precision, "images_per_second": totals}
        )
        words = [f"{n}: {v:.0f} (× {v / totals[options.share[0]]:.2f})" for n, v in totals.items()]
        print(f"  {family}-{depth} {precision}, runs: images/s  {', '.join(words)}", flush=True)
    return results


def markdown(results: list[dict[str, Any]]) -> None:
    """Print the rows of the table in README.md."""
    print(table_row("network", "precision", "side", "ms a step", "ours / it (spread)", "peak MiB"))
    print(table_row(*["---"] * 6))
    for result in results:
        rounds = result["images_per_second"]
        for side, values in rounds.items():
            milliseconds = 1000 * BATCH / estimate(values).median
            against = "1" if side == "ours" else ratio(rounds, "ours", side)
            peak = round(result["peak_bytes"][side] / 2**20)
            print(
                table_row(
                    result["network"],
                    result["precision"],
                    side,
                    f"{milliseconds:.2f}",
                    against,
                    peak,
                )
            )


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--depths", type=int, nargs="+", default=[20, 56, 110])
    add("--families", nargs="+", default=["residual"], choices=["plain", "residual"])
    add("--precisions", nargs="+", default=["float32", "tf32"])
    add("--rounds", type=int, default=5, help="turns of each side (5)")
    add("--turn", type=float, default=1.0, help="seconds of a turn (1)")
    add("--share", type=int, nargs="+", default=[1, 2, 4, 6], help="runs at once")
    add("--jobs", type=int, default=16, help="programs compiled at once (16)")
    add("--compile-limit", type=float, default=200, help="seconds for torch.compile (200)")
    add("--torch-python", default=sys.executable, help="interpreter that has PyTorch, or none")
    add("--profile", action="store_true", help="say which kernels take the time")
    add("--only", choices=["speed", "sharing"], help="one part alone")
    add("--json", type=Path, help="write all numbers to this file")
    add("--markdown", action="store_true", help="print the table of README.md at the end")
    return parser.parse_args(words)


def main() -> None:
    options = arguments()
    facts = about()
    heading(facts)
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        if options.only != "sharing":
            found["speed"] = speed(options, stack)
    if options.only != "speed":
        found["sharing"] = sharing(options)
    write_results(options.json, facts, [found])
    if options.markdown:
        markdown(found.get("speed", []))


if __name__ == "__main__":
    main()
