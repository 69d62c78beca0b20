"""The two sides of a comparison: how their processes start, warm up and take a turn."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from workers import Worker

HERE = Path(__file__).resolve().parent
CHANNELS = {8: 1, 32: 3}
"""Channels of the images by their size: digits and CIFAR-10."""

FAMILIES = ("plain", "residual")

Variant = dict[str, Any]
"""Of PyTorch: channels_last, optimizer, compile, and environment of the process."""


def add_networks(
    parser: argparse.ArgumentParser,
    depths: Sequence[int],
    sizes: Sequence[int],
    families: Sequence[str] = FAMILIES,
) -> None:
    """Options for what is measured, with these defaults; see `networks`."""
    add = parser.add_argument
    shown = " ".join(map(str, depths))
    add("--depths", type=int, nargs="+", default=list(depths), help=f"6n+2 ({shown})")
    add("--sizes", type=int, nargs="+", default=list(sizes), choices=CHANNELS, help="of images")
    add("--families", nargs="+", default=list(families), choices=FAMILIES)
    add("--batch", type=int, default=128, help="images per step (128)")


def networks(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Name, network and image size, for every network that the options ask for."""
    for size, depth, family in itertools.product(options.sizes, options.depths, options.families):
        network = {"depth": depth, "residual": family == "residual", "channels": CHANNELS[size]}
        yield f"{family}-{depth}, {size}×{size}", network, size


def torch_worker(
    options: argparse.Namespace, environment: dict[str, str | None] | None = None
) -> Worker:
    """A process with PyTorch; one thread compiles, so that no pool of compilers lives on."""
    command = [options.torch_python, str(HERE / "torch_worker.py")]
    return Worker("PyTorch", command, {"TORCHINDUCTOR_COMPILE_THREADS": "1", **(environment or {})})


def jax_worker(name: str, options: argparse.Namespace) -> Worker:
    """A process with this project."""
    # Several processes share the GPU; by itself jax takes most of its memory at once.
    environment: dict[str, str | None] = (
        {"JAX_PLATFORMS": "cpu"}
        if options.device == "cpu"
        else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    )
    return Worker(name, [sys.executable, str(HERE / "jax_worker.py")], environment)


def inner(variant: Variant) -> Variant:
    """What a worker is told; the environment is given to its process."""
    return {key: value for key, value in variant.items() if key != "environment"}


def start_torch(
    worker: Worker,
    network: dict[str, Any],
    batch: str,
    variant: Variant,
    options: argparse.Namespace,
    limit: float | None = None,
) -> None:
    """Build the network and take a step, which compiles it if that is the variant."""
    worker.call(
        "build",
        network=network,
        batch=batch,
        variant=inner(variant),
        device=options.device,
        precision=options.precision,
    )
    worker.call("run", steps=1, limit=limit if variant["compile"] else None)


def turns(worker: Worker, options: argparse.Namespace, seconds: float) -> Callable[[], float]:
    """A function that takes one turn of about so many seconds and returns images per second."""
    for _ in range(2):
        worker.call("run", steps=1)
    steps = max(1, round(seconds / worker.call("run", steps=1)))
    worker.call("run", steps=steps)
    return lambda: float(options.batch * steps / worker.call("run", steps=steps))
