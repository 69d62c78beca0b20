"""The project's own training program on its device as a worker process: chunks, data and all.

What a run does between two of its rows: draw the batch, augment, normalise, step. The data are
random images in the shape of CIFAR-10 and as many, so that shuffling costs what it costs.
"""

from __future__ import annotations

import collections
import tempfile
import time
from pathlib import Path
from typing import Any

from resnet_study import runtime

runtime.prepare()

import jax  # noqa: E402
import numpy as np  # noqa: E402
from workers import peak_memory, serve  # noqa: E402

from resnet_study.data import Dataset, Split  # noqa: E402
from resnet_study.datasets import DATASETS  # noqa: E402
from resnet_study.environment import describe as describe_environment  # noqa: E402
from resnet_study.spec import from_flat  # noqa: E402
from resnet_study.training import devices  # noqa: E402
from resnet_study.training.chunks import CAPACITY, Chunk  # noqa: E402
from resnet_study.training.devices import save_memory  # noqa: E402
from resnet_study.training.options import Execution  # noqa: E402
from resnet_study.training.programs import keys_of, program_of, shape_of  # noqa: E402
from resnet_study.training.step import initial_state  # noqa: E402

TOP_KERNELS = 12


def random_images(name: str) -> Dataset:
    """Random images and labels in the shape and number of a data set."""
    shape, rng = DATASETS[name], np.random.default_rng(0)
    size = (shape.height, shape.width, shape.channels)

    def split(examples: int) -> Split:
        images = rng.integers(0, 256, (examples, *size), np.uint8)
        return Split(images, rng.integers(0, shape.classes, examples, np.int32))

    held_out = shape.train_examples // 10
    splits = (shape.train_examples - held_out, held_out, shape.test_examples)
    mean = np.full(size, 0.5, np.float32)
    return Dataset(name, *map(split, splits), mean, shape.classes, "random images")  # type: ignore[arg-type]


class Run:
    """A run as the training loop drives it, without its records.

    Args:
        values: of its spec, by dotted names.
        probes: whether every iteration records its layers.
    """

    def __init__(self, values: dict[str, Any], probes: bool) -> None:
        self.spec = from_flat(values)
        save_memory(self.spec)
        dataset = random_images(self.spec.data.name)
        chosen = devices.choose(Execution(), self.spec)
        self.program = program_of(self.spec, dataset, chosen)
        key = keys_of(self.spec.seed).initialization
        self.state = chosen.replicate(initial_state(self.spec, shape_of(dataset), key))
        self.probes, self.taken = probes, 0

    def run(self, steps: int) -> float:
        """Seconds that so many iterations take, the numbers fetched as in training."""
        jax.block_until_ready(self.state)
        began = time.perf_counter()
        before = None
        stop = self.taken + steps
        while self.taken < stop:
            chunk = Chunk(self.taken, min(self.taken + CAPACITY, stop), self.probes)
            self.state, metrics = self.program.train(self.state, chunk)
            if before is not None:
                before()
            before, self.taken = metrics, chunk.stop
        if before is not None:
            before()
        return time.perf_counter() - began

    def evaluate(self) -> float:
        """Seconds that an evaluation of all splits takes, 60,000 images of CIFAR-10."""
        jax.block_until_ready(self.state)
        began = time.perf_counter()
        for result in [self.program.evaluate(self.state, s) for s in ("train", "val", "test")]:  # type: ignore[arg-type]
            result()
        return time.perf_counter() - began

    def profile(self, steps: int) -> dict[str, Any]:
        """Where the device spends its time: kernels by name, and the share of time in any.

        Returns:
            ``busy``, share of the wall time in kernels; ``kernels``, calls a step, microseconds
            a call and share of the time in kernels, of the longest.
        """
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                seconds = self.run(steps)
            file = next(Path(folder).rglob("*.xplane.pb"))
            trace = jax.profiler.ProfileData.from_file(str(file))
            counts: collections.Counter[str] = collections.Counter()
            nanoseconds: collections.Counter[str] = collections.Counter()
            for plane in trace.planes:
                if not plane.name.startswith("/device:GPU"):
                    continue
                for line in plane.lines:
                    if not line.name.startswith("Stream"):
                        continue
                    for event in line.events:
                        counts[event.name] += 1
                        nanoseconds[event.name] += int(event.duration_ns)
        total = sum(nanoseconds.values())
        return {
            "steps": steps,
            "busy": total / 1e9 / seconds,
            "kernels_per_step": sum(counts.values()) / steps,
            "kernels": [
                {
                    "name": name[:100],
                    "per_step": counts[name] / steps,
                    "microseconds": took / counts[name] / 1e3,
                    "share": took / total,
                }
                for name, took in nanoseconds.most_common(TOP_KERNELS)
            ],
        }


current: Run


def build(values: dict[str, Any], probes: bool = False) -> float:
    """Make the run and take an iteration; seconds until it is compiled."""
    global current
    began = time.perf_counter()
    current = Run(values, probes)
    current.run(1)
    return time.perf_counter() - began


def run(steps: int) -> float:
    return current.run(steps)


def evaluate() -> float:
    return current.evaluate()


def profile(steps: int) -> dict[str, Any]:
    return current.profile(steps)


def memory() -> int:
    """Peak bytes, on the accelerator if there is one."""
    if runtime.uses_cpu():
        return peak_memory()
    return int((jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0))


def describe() -> dict[str, Any]:
    return describe_environment("benchmarks/program_worker.py", "random images")


if __name__ == "__main__":
    serve({f.__name__: f for f in (build, run, evaluate, profile, memory, describe)})
