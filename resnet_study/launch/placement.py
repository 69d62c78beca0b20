"""Where each worker process computes: a core, or one or several accelerators, of its own.

Workers share an accelerator only if there are more of them than accelerators, as when several
small runs are to fill one GPU. They then divide its memory between them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resnet_study import runtime

_NVIDIA, _TPU = "CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_DEVICES"

SHARED_MEMORY = 0.9
"""Fraction of a GPU's memory that the workers on it may take together."""


@dataclass(frozen=True)
class Placement:
    """What a worker does before it imports jax.

    Attributes:
        core: index of the core to stay on; None leaves the process free.
        environment: variables to set.
        defaults: variables to set where the user has not.
    """

    core: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)

    def apply(self) -> None:
        """Bind this process."""
        os.environ.update(self.environment)
        for name, value in self.defaults.items():
            os.environ.setdefault(name, value)
        if self.core is not None:
            runtime.pin_to_core(self.core)


def default_workers(devices: int = 1) -> int:
    """One per core on a CPU, else as many as the accelerators serve without sharing.

    Args:
        devices: of each run.
    """
    if runtime.uses_cpu():
        return max(1, runtime.available_cores() // devices)
    return max(1, len(_accelerators()[1]) // devices)


def placements(workers: int, devices: int = 1) -> list[Placement]:
    """A placement for each of `workers` processes; they share only if there are too few.

    Args:
        workers: processes.
        devices: of each run. Several on a CPU are virtual, and no process is bound then.
    """
    if workers == 1:
        return [Placement()]
    if runtime.uses_cpu():
        return [Placement(core=index if devices == 1 else None) for index in range(workers)]
    variable, found = _accelerators()
    groups = [found[at : at + devices] for at in range(0, len(found) - devices + 1, devices)]
    if not groups:
        return [Placement()] * workers
    return [
        Placement(
            environment={
                variable: ",".join(groups[index % len(groups)]),
                **(_ALONE if variable == _TPU and devices == 1 else {}),
            },
            defaults=_memory(-(-workers // len(groups))) if variable == _NVIDIA else {},
        )
        for index in range(workers)
    ]


# libtpu else waits for the other chips of the machine.
_ALONE = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}


def _memory(sharers: int) -> dict[str, str]:
    """How much of a GPU's memory each of several workers takes.

    jax takes three quarters at its start, which two cannot do. Each may grow to its share, so
    that none takes what another needs; a run that needs more ends with a message that says so.
    """
    if sharers == 1:
        return {}
    return {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{int(100 * SHARED_MEMORY / sharers) / 100:.2f}",
    }


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
