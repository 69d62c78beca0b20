"""Images per second of a full training step: this project against PyTorch.

    python benchmarks/train_step.py                     # PyTorch from the `bench` extra
    python benchmarks/train_step.py --torch-python PATH # or from another interpreter

Forward, backward, batch normalisation with running statistics, SGD with momentum and weight
decay, batch 128. Both sides have a process of their own and take turns (A B A B), several steps at
a time; the one that waits sleeps. Before anything is timed, both must compute the same loss,
gradients and updates from the same weights (`equality.py`); the command ends with exit code 1
where they do not.

This project runs as it trains: jitted step, donated state, with all per-layer statistics
("probes") and, beside it, without. PyTorch records nothing. It runs in the fastest of its
variants, which a short measurement before decides for each network: memory format, SGD in its
foreach or fused form, torch.compile, and OpenMP threads that spin or sleep. It is given float
images ready made, where this project normalises bytes in each step; neither side augments.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from equality import (
    MEANINGLESS,
    NOISE_FACTOR,
    TRIALS,
    batch_of,
    conditioned,
    differences,
    errors_over_trials,
    exceptions,
    noise_of,
    save,
)
from machine import about, busy_seconds, heading, write_results
from peak import peak_gflops, step_gflops
from printing import markdown, show
from sides import (
    Variant,
    add_networks,
    inner,
    jax_worker,
    networks,
    start_torch,
    torch_worker,
    turns,
)
from timing import interleaved, ratio
from variants import choose_variant, describe_variant, plain_variant
from workers import Worker, WorkerError

from resnet_study import runtime

EXACT_IMAGES = 32
"""Batch of the comparison in float64, which need not be the one that is timed."""


Trials = list[dict[str, np.ndarray]]
"""What two steps compute from each of the weights of a comparison; see `equality`."""


class Case:
    """One network, its files, and what was found about it.

    Args:
        network: depth, residual and channels.
        size: side of the images in pixels.
        folder: for weights, batches and what the comparison writes.
        options: of the command line.

    Attributes:
        exact: what this project computes in float64 for the small batch, by trial.
        reference: what PyTorch computes in float64, by trial.
        noise: errors that rounding alone makes, by kind.
    """

    def __init__(
        self, network: dict[str, Any], size: int, folder: Path, options: argparse.Namespace
    ) -> None:
        self.network, self.size, self.folder, self.options = network, size, folder, options
        family = "residual" if network["residual"] else "plain"
        self.name = f"{family}-{network['depth']} {size}×{size}"
        self.batch = self.write("batch", batch_of(size, network["channels"], options.batch))
        images = min(EXACT_IMAGES, options.batch)
        small = batch_of(size, network["channels"], images, two_valued=True)
        self.small_batch = self.write("small", small)
        self.exact: Trials = []
        self.reference: Trials = []
        self.noise: dict[str, float] = {}

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.npz")

    def write(self, name: str, arrays: dict[str, np.ndarray]) -> str:
        save(self.path(name), arrays)
        return self.path(name)

    def checked(self, worker: Worker) -> Trials:
        """What the two steps from each of the conditioned weights compute in a worker."""
        found = []
        for trial in range(TRIALS):
            worker.call("load", weights=self.path(f"conditioned{trial}"))
            worker.call("check", output=self.path("checked"))
            found.append(dict(np.load(self.path("checked"))))
        return found

    def references(self) -> None:
        """Compare in float64; keep PyTorch's result for the timed batch and its noise.

        Raises:
            Unequal: if this project and PyTorch do not train the same network.
        """
        with jax_worker("ours in float64", self.options) as ours:
            ours.call(
                "build",
                network=self.network,
                batch=self.small_batch,
                kernels="xla",
                probes=True,
                precision="float64",
            )
            ours.call("initial", output=self.path("initial"))
            initial = np.load(self.path("initial"))
            for trial in range(TRIALS):
                save(self.path(f"conditioned{trial}"), conditioned(initial, seed=trial))
            self.exact = self.checked(ours)
        results = []
        with torch_worker(self.options) as theirs:
            for batch, double in (
                (self.small_batch, True),
                (self.batch, True),
                (self.batch, False),
            ):
                theirs.call(
                    "build",
                    network=self.network,
                    batch=batch,
                    variant=inner(plain_variant(False, "foreach")),
                    device=self.options.device,
                    precision=self.options.precision,
                    double=double,
                )
                results.append(self.checked(theirs))
        self.compare("ours in float64", self.exact, results[0], exact=True)
        self.reference = results[1]
        self.noise = noise_of(results[2], results[1])
        if NOISE_FACTOR * self.noise["gradient"] > MEANINGLESS:
            print(
                f"  rounding to {self.options.precision} alone moves gradients by "
                f"{100 * self.noise['gradient']:.0f} %: what is timed is compared in loss and "
                "running statistics, its gradients hardly"
            )

    def compare(self, name: str, found: Trials, reference: Trials, exact: bool) -> None:
        """Print the errors that count and refuse to go on where they are too large."""
        wrong = differences(found, reference, exact=exact, noise=self.noise)
        if wrong:
            raise Unequal(f"{self.name}: {name} and PyTorch in float64: {'; '.join(wrong)}")
        errors = ", ".join(
            f"{kind} {error:.0e}"
            for kind, (error, _) in errors_over_trials(found, reference, exact=exact).items()
        )
        print(f"  same as PyTorch in float64: {name} ({errors})", flush=True)
        for line in [] if exact else exceptions(found, reference, self.noise):
            print(f"    from one of {TRIALS} weights, though, {line}", flush=True)


class Unequal(Exception):
    """The two sides do not compute the same."""


def measure(case: Case, kernels: list[str]) -> dict[str, Any]:
    """Compare and time one network; prints as it goes.

    Returns:
        Images per second of each round, ratios, memory, PyTorch's variant.
    """
    options = case.options
    print(case.name, flush=True)
    with_torch, with_ours = options.only != "ours", options.only != "torch"
    comparing = with_torch and with_ours
    if comparing:
        case.references()
    variant: Variant | None = None
    notes: list[str] = []
    if with_torch and options.check:
        variant = plain_variant(True, "fused")
    elif with_torch:
        variant, notes = choose_variant(case.network, case.batch, options)
        for note in notes:
            print(f"  PyTorch, {note}")
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        if variant is not None:
            workers["torch"] = stack.enter_context(torch_worker(options, variant["environment"]))
            start_torch(workers["torch"], case.network, case.batch, variant, options)
        for kind, probes in itertools.product(kernels if with_ours else [], (True, False)):
            name = f"{kind}, {'with' if probes else 'without'} probes"
            workers[name] = worker = stack.enter_context(jax_worker(name, options))
            worker.call(
                "build",
                network=case.network,
                batch=case.batch,
                kernels=kind,
                probes=probes,
                precision=options.precision,
            )
        for name, worker in workers.items():
            if comparing:
                case.compare(name, case.checked(worker), case.reference, exact=False)
                worker.call("load", weights=case.path("initial"))
        if options.check:
            return {"network": {**case.network, "size": case.size}, "equal": True}
        rounds, disturbance = take_turns(workers, options)
        memory = {name: worker.call("memory") for name, worker in workers.items()}
    result = {
        "network": {**case.network, "size": case.size, "batch": options.batch},
        "precision": options.precision,
        "variant": describe_variant(variant) if variant else None,
        "tried": notes,
        "images_per_second": rounds,
        "peak_bytes": memory,
        "peak_gflops": peak_gflops() if options.device == "cpu" else None,
        "image_gflops": step_gflops(case.network),
        "disturbance": disturbance,
        "ratios": {
            name: ratio(rounds, name, "torch").as_json()
            for name in rounds
            if name != "torch" and with_torch
        },
    }
    show(result, rounds)
    return result


def take_turns(
    workers: dict[str, Worker], options: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Images per second of each worker and round, and what disturbed them.

    Returns:
        The speeds; and as shares of the cores' time what waiting workers took, at most in a
        turn (``waiting``), and what everything else on the machine took over all (``others``).
    """
    functions = {name: turns(worker, options, options.turn) for name, worker in workers.items()}
    waiting = [0.0]

    def watched(name: str) -> Iterator[float]:
        asleep = [worker for other, worker in workers.items() if other != name]
        while True:
            before = sum(worker.cpu_seconds() for worker in asleep)
            speed = functions[name]()
            took = sum(worker.cpu_seconds() for worker in asleep) - before
            waiting.append(took / options.turn)
            yield speed

    watching = {name: watched(name) for name in workers}

    def others() -> float:
        return busy_seconds() - sum(worker.cpu_seconds() for worker in workers.values())

    before, began = others(), time.perf_counter()
    rounds = interleaved(
        {name: functools.partial(next, watching[name]) for name in workers}, options.rounds
    )
    elapsed = (time.perf_counter() - began) * runtime.available_cores()
    return rounds, {"waiting": max(waiting), "others": (others() - before) / elapsed}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_networks(parser, (20, 56, 110), (32, 8))
    add(
        "--kernels",
        action="append",
        choices=["auto", "xla", "native"],
        help="of this project; may be given several times (auto)",
    )
    add("--rounds", type=int, default=7, help="turns of each side (7)")
    add("--turn", type=float, default=1.5, help="seconds of a turn (1.5)")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="of both sides (cpu)")
    add(
        "--precision",
        choices=["float32", "tf32"],
        default="float32",
        help="of convolutions, on both sides; tf32 needs --device=cuda (float32)",
    )
    add("--torch-python", default=sys.executable, help="interpreter that has PyTorch")
    add("--torch-malloc", action="store_true", help="allow PyTorch this project's malloc settings")
    add("--compile-limit", type=float, default=300, help="seconds for torch.compile; 0: leave out")
    add("--check", action="store_true", help="compare both sides, time nothing")
    add("--only", choices=["ours", "torch"], help="time one side alone, unchecked")
    add("--json", type=Path, help="write all numbers to this file")
    add("--markdown", action="store_true", help="print the rows of README.md's table at the end")
    options = parser.parse_args(words)
    if options.precision == "tf32" and options.device == "cpu":
        parser.error("--precision=tf32 needs --device=cuda")
    return options


def torch_is_missing(options: argparse.Namespace) -> bool:
    """Say how to install PyTorch where the interpreter has none."""
    if options.only == "ours":
        return False
    code = f"import torch, sys; sys.exit({options.device == 'cuda'} > torch.cuda.is_available())"
    try:
        found = subprocess.run([options.torch_python, "-c", code], capture_output=True).returncode
    except OSError:
        found = 127
    if found:
        what = "no PyTorch with CUDA" if options.device == "cuda" else "no PyTorch"
        print(
            f"train_step.py: {options.torch_python} has {what}; pip install -e '.[bench]', or name "
            "an interpreter that has it with --torch-python",
            file=sys.stderr,
        )
    return found != 0


def main() -> int:
    options = arguments()
    if torch_is_missing(options):
        return 2
    facts, kernels, versions = about(), ["xla"], {}
    if options.only != "torch":
        with jax_worker("ours", options) as worker:
            chosen = options.kernels or ["auto"]
            kernels = list(dict.fromkeys(worker.call("resolve", kernels=name) for name in chosen))
            facts["ours"] = worker.call("describe")
    if options.only != "ours":
        with torch_worker(options) as worker:
            facts["torch"] = worker.call("describe")
            versions = {"torch": facts["torch"]["torch"]}
    heading(facts, **versions)
    results = []
    for _, network, size in networks(options):
        with tempfile.TemporaryDirectory() as folder:
            try:
                results.append(measure(Case(network, size, Path(folder), options), kernels))
            except (Unequal, WorkerError) as error:
                print(f"train_step.py: {error}", file=sys.stderr)
                return 1
        write_results(options.json, facts, results)
    if options.markdown:
        markdown(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
