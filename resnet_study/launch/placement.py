"""Where each worker process computes: a core of its own, or an accelerator of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resnet_study import runtime

_NVIDIA, _TPU = "CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Placement:
    """What a worker does before it imports jax.

    Attributes:
        core: index of the core to stay on; None leaves the process free.
        environment: variables to set.
    """

    core: int | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def apply(self) -> None:
        """Bind this process."""
        os.environ.update(self.environment)
        if self.core is not None:
            runtime.pin_to_core(self.core)


def default_workers() -> int:
    """One per core on a CPU, else one per accelerator."""
    return runtime.available_cores() if runtime.uses_cpu() else max(1, len(_accelerators()[1]))


def placements(workers: int) -> list[Placement]:
    """A placement for each of `workers` processes; they share only if there are too few."""
    if workers == 1:
        return [Placement()]
    if runtime.uses_cpu():
        return [Placement(core=index) for index in range(workers)]
    variable, devices = _accelerators()
    if not devices:
        return [Placement()] * workers
    # jax takes three quarters of a GPU's memory at its start, which two cannot do.
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} if workers > len(devices) else {}
    # libtpu else waits for the other chips of the machine.
    alone = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
    return [
        Placement(
            environment={
                variable: devices[index % len(devices)],
                **(alone if variable == _TPU else shared),
            }
        )
        for index in range(workers)
    ]


def _accelerators(
    environment: Mapping[str, str] = os.environ, folder: Path = Path("/dev")
) -> tuple[str, list[str]]:
    """Variable that chooses among the accelerators, and the ones that this process may use.

    Found without starting jax, which would keep them from the workers.
    """
    for variable, pattern in (
        (_NVIDIA, r"nvidia(\d+)"),
        (_TPU, r"accel(\d+)"),
        (_TPU, r"vfio/(\d+)"),
    ):
        nodes = [
            str(node.relative_to(folder)) for node in (*folder.glob("*"), *folder.glob("vfio/*"))
        ]
        found = sorted(int(match[1]) for node in nodes if (match := re.fullmatch(pattern, node)))
        if found:
            chosen = [name for name in environment.get(variable, "").split(",") if name]
            # Chips are numbered from 0 whatever the names of their device nodes.
            return variable, chosen or [str(index) for index in range(len(found))]
    return _NVIDIA, []
