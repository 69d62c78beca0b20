"""The project's training loop as a worker process: a long run, some seconds of it at a time.

Each turn resumes the run from its checkpoint, trains for a while and stops it, as Ctrl-C and
the same command again would. What is reported is the speed between what the loop tells of its
progress, once a step is compiled; reading and writing of checkpoints is no part of it.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from resnet_study import runtime

runtime.prepare()

import numpy as np  # noqa: E402
from workers import peak_memory, serve  # noqa: E402

from resnet_study.data import Dataset, Split, load_dataset  # noqa: E402
from resnet_study.spec import RunSpec, from_flat  # noqa: E402
from resnet_study.training.loop import train  # noqa: E402
from resnet_study.training.options import (  # noqa: E402
    Execution,
    Host,
    Options,
    Standing,
    StopFlag,
)

RANDOM_IMAGES = 5000


class Run:
    """A run that is trained turn by turn.

    Args:
        values: of its spec, by dotted names.
        folder: its run folder.
        kernels: auto, xla or native.
    """

    def __init__(self, values: dict[str, Any], folder: str, kernels: str) -> None:
        self.spec: RunSpec = from_flat(values)
        self.dataset = dataset_of(self.spec)
        self.folder = Path(folder)
        self.execution = Execution(kernels=kernels)  # type: ignore[arg-type]

    def turn(self, seconds: float) -> float:
        """Images per second over at least so many seconds after the first steps.

        The loop tells of its progress in strides of up to seconds, so short turns scatter.
        """
        stop, speed = StopFlag(), math.nan
        first: tuple[int, float] | None = None

        def watch(standing: Standing) -> None:
            nonlocal first, speed
            now = time.monotonic()
            if first is None:
                first = (standing.step, now) if math.isfinite(standing.images_per_second) else None
            elif standing.step > first[0] and not stop.requested:
                images = (standing.step - first[0]) * self.spec.data.batch_size
                speed, stop.requested = images / (now - first[1]), now >= first[1] + seconds

        options = Options(checkpoint_seconds=1e9, execution=self.execution)
        host = Host(stop=stop, on_progress=watch)
        summary = train(self.spec, self.dataset, self.folder, options, host)
        if summary["status"] != "stopped":
            raise RuntimeError(f"the run is {summary['status']} after {summary['iterations']}")
        return speed


def dataset_of(spec: RunSpec) -> Dataset:
    """The digits, or random images in the shape of CIFAR-10."""
    if spec.data.name == "digits":
        return load_dataset(spec.data, spec.seed)
    rng = np.random.default_rng(0)

    def split(examples: int) -> Split:
        images = rng.integers(0, 256, (examples, 32, 32, 3), np.uint8)
        return Split(images, rng.integers(0, 10, examples, np.int32))

    train_split, test = split(RANDOM_IMAGES), split(128)
    mean = np.full((32, 32, 3), 0.5, np.float32)
    return Dataset("cifar10", train_split, split(128), test, mean, 10, "random images")


current: Run


def build(values: dict[str, Any], folder: str, kernels: str) -> None:
    global current
    current = Run(values, folder, kernels)


def turn(seconds: float) -> float:
    return current.turn(seconds)


def memory() -> int:
    return peak_memory()


if __name__ == "__main__":
    serve({f.__name__: f for f in (build, turn, memory)})
