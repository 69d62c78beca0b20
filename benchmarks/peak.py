"""What share of the processor's own float32 peak a training step makes use of."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from resnet_study import runtime
from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.kernels.build import BuildError, compiler
from resnet_study.launch.estimate import multiplications


def peak_gflops() -> float | None:
    """1e9 float32 operations per second of all cores, out of registers; None without a compiler.

    Measured anew at each call, since the clock of a processor changes with its load.
    """
    program = _program()
    if program is None:
        return None
    words = [program, str(runtime.available_cores())]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


@functools.cache
def _program() -> str | None:
    folder = tempfile.TemporaryDirectory()
    _kept.append(folder)
    program = Path(folder.name, "peak")
    source = str(Path(__file__).with_name("peak.cpp"))
    flags = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-pthread")
    try:
        command = [*compiler().split(), *flags, source, "-o", str(program)]
        subprocess.run(command, capture_output=True, check=True)
    except (BuildError, subprocess.CalledProcessError):
        return None
    return str(program)


_kept: list[tempfile.TemporaryDirectory[str]] = []
"""Folders that last as long as the process."""


def step_gflops(network: dict[str, Any]) -> float:
    """1e9 operations of a step for one image, if every product of a convolution were taken.

    Forward once and backward twice; so an algorithm that spares products can exceed the peak.
    """
    spec = ModelSpec(depth=network["depth"], residual=network["residual"])
    shape = DATASETS["digits" if network["channels"] == 1 else "cifar10"]
    return 3 * 2 * multiplications(spec, shape) / 1e9
