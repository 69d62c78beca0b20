"""What a user asks of the machine for one run: kernels, devices, processes. Imports no jax.

None of it is part of the spec, since it changes the numbers of a run by rounding only. A run
that was begun one way is continued that way or not at all (`resnet_study.training.devices`).
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from resnet_study import runtime
from resnet_study.datasets import DATASETS
from resnet_study.errors import UserError
from resnet_study.kernels import Choice
from resnet_study.spec import RunSpec

COORDINATOR = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""Environment variables that tell a process its place where nothing else does."""

COMPILED = "/jax/core/compile/backend_compile_duration"
"""What jax reports when a program is compiled or read from the cache, before it runs."""

WAIT_FROM = 2**24
"""Values in the widest feature maps of a batch, over all layers; see `save_memory`."""


@dataclass(frozen=True)
class Execution:
    """The request; can be sent to another process.

    Attributes:
        kernels: what computes the convolutions.
        devices: over which each batch is split; None: one, or all of a distributed run.
        distributed: whether this process is one of several that train one run.

    Raises:
        UserError: if the number of devices is below 1.
    """

    kernels: Choice = "auto"
    devices: int | None = None
    distributed: bool = False

    def __post_init__(self) -> None:
        if self.devices is not None and self.devices < 1:
            raise UserError(f"--devices={self.devices}: at least 1 is needed")


def save_memory(spec: RunSpec) -> None:
    """Make this process hold less memory on a CPU. Changes no number.

    What a compilation leaves free goes back to the system: it is in pieces too small for the
    temporaries of a step. And one set of these is kept, not three, where a network is large: by
    default XLA:CPU takes the temporaries of a step when it is dispatched, while those of the
    step before are in use, and glibc finds them a third place after that. If a step ends before
    the next one is dispatched, one place serves all. On 32x32 images that costs up to 2 % of the
    time, on 8x8 ones 2-7 % (``benchmarks/memory.py``).

    Counts for the whole process; the second part only if nothing was computed in it yet.

    Args:
        spec: of the first run.
    """
    import jax

    _return_pages_after_compilations()
    shape, width = DATASETS[spec.data.name], spec.model.width
    pixels = spec.data.batch_size * shape.height * shape.width
    small = pixels * width * spec.model.depth < WAIT_FROM
    jax.config.update("jax_cpu_enable_async_dispatch", small)


@functools.cache
def _return_pages_after_compilations() -> None:
    import jax

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILED:
            runtime.return_pages()

    jax.monitoring.register_event_duration_secs_listener(listen)


def join_processes() -> None:
    """Make this process one of several, through `jax.distributed.initialize`.

    SLURM, Open MPI, Kubernetes and TPU pods are recognised by jax. Elsewhere `COORDINATOR`
    names the address and port of process 0, the number of processes, and this one's number
    from 0. Call before anything computes.

    Raises:
        UserError: if the processes cannot find each other.
    """
    import jax

    if runtime.uses_cpu():
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address, count, index = (os.environ.get(name) for name in COORDINATOR)
    try:
        if count is not None and index is not None:
            jax.distributed.initialize(address, int(count), int(index))
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"--distributed: {reason}; start one process per node or device with srun, or set "
            f"{', '.join(COORDINATOR)}"
        ) from None
