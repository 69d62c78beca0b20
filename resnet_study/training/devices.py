"""The devices of one run: what they are, what lies on them, and how processes agree.

A batch is split over the devices of a `jax.sharding.Mesh`, everything else is on each of
them. The program is written for the whole batch and XLA divides it, so batch normalisation is
over the batch, or over its groups, wherever their borders fall; sums are taken in another
order, which changes the numbers by rounding.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from resnet_study import runtime
from resnet_study.datasets import DATASETS
from resnet_study.environment import devices_here
from resnet_study.errors import UserError
from resnet_study.kernels import Choice, Kernels, resolve
from resnet_study.spec import RunSpec
from resnet_study.training import memory
from resnet_study.training.options import Execution

Announcement = Literal["train", "done", "refused"]
_ANNOUNCEMENTS: tuple[Announcement, ...] = ("train", "done", "refused")

TF32_CAPABILITY = 8.0
"""Compute capability of the first NVIDIA GPUs that multiply in TF32 (Ampere)."""


COORDINATOR = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""Environment variables that tell a process its place where nothing else does."""

COMPILED = "/jax/core/compile/backend_compile_duration"
"""What jax reports when a program is compiled or read from the cache, before it runs."""

WAIT_FROM = 2**24
"""Values in the widest feature maps of a batch, over all layers; see `save_memory`."""


@dataclass(frozen=True)
class Devices:
    """What computes a run.

    Attributes:
        kernels: XLA's own or the native ones.
        members: the devices, of all processes.
    """

    kernels: Kernels
    members: tuple[jax.Device, ...]

    @property
    def platform(self) -> str:
        """cpu, gpu, tpu."""
        return self.members[0].platform

    @functools.cached_property
    def mesh(self) -> Mesh | None:
        """None for one device, which then needs no word about where arrays lie."""
        return Mesh(np.array(self.members), ("batch",)) if len(self.members) > 1 else None

    def sharding(self, *axes: str | None) -> NamedSharding | None:
        """Of an array whose axes are split as named; without any it is on every device."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec(*axes))

    @jax.transfer_guard_host_to_device("allow")  # this is how a transfer is asked for
    def replicate(self, tree: Any) -> Any:
        """Arrays or numbers, the same in every process, on every device."""
        sharding = self.sharding()
        if sharding is None:
            return jax.device_put(tree)

        def place(leaf: Any) -> jax.Array:
            if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
                leaf.dtype, jax.dtypes.prng_key
            ):
                return jax.jit(jax.random.wrap_key_data)(place(jax.random.key_data(leaf)))
            value = np.asarray(leaf)
            return jax.make_array_from_callback(value.shape, sharding, lambda at: value[at])

        return jax.tree.map(place, tree)

    @jax.transfer_guard_host_to_device("allow")
    def split(self, array: np.ndarray) -> jax.Array:
        """An array that every process has, divided over the devices along its first axis."""
        sharding = self.sharding("batch")
        if sharding is None:
            return jax.device_put(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda at: array[at])

    def record(self) -> dict[str, Any]:
        """What ``environment.json`` holds, and a resumed run must have again."""
        return {
            "kernels": self.kernels,
            "devices": len(self.members),
            "processes": jax.process_count(),
            "platform": self.platform,
        }


def choose(execution: Execution, spec: RunSpec, begun: Mapping[str, Any] | None = None) -> Devices:
    """The devices and kernels of a run.

    Args:
        execution: what the user asks for.
        spec: of the run.
        begun: `Devices.record` of the run's earlier attempts, if there are any.

    Raises:
        UserError: if something is not there, does not go together, differs from `begun`, or has
            less memory than the run takes.
    """
    members = _members(execution, spec)
    platform = members[0].platform
    memory.check(spec, members)
    _check_precision(spec, members[0])
    if begun and execution.kernels == "auto":
        kernels: Kernels = begun["kernels"]
        if kernels == "native" and platform == "cpu":
            try:
                resolve(kernels)
            except UserError as error:
                raise UserError(f"this run was begun with native kernels; {error}") from None
    else:
        kernels = _kernels(execution.kernels, spec, len(members), platform)
    devices = Devices(kernels, members)
    if begun and (now := devices.record()) != begun:
        raise UserError(
            f"this run was begun with {in_words(begun)}, and would not continue exactly "
            f"with {in_words(now)}; ask for the former, or remove its folder to train it again"
        )
    return devices


def begun_with(environment: Mapping[str, Any]) -> dict[str, Any]:
    """`Devices.record` out of ``environment.json``; of versions that wrote none, too."""
    platform = environment.get("device", {}).get("platform", "cpu")
    earlier = {"kernels": "xla", "devices": 1, "processes": 1, "platform": platform}
    return {**earlier, **environment.get("execution", {})}


def in_words(record: Mapping[str, Any]) -> str:
    """A `Devices.record`: ``1 cpu device and native kernels``."""
    count, processes = record["devices"], record["processes"]
    words = f"{count} {record['platform']} device{'s'[: count > 1]}"
    if processes > 1:
        words += f" of {processes} processes"
    return f"{words} and {record['kernels']} kernels"


def _members(execution: Execution, spec: RunSpec) -> tuple[jax.Device, ...]:
    available = devices_here()
    everything = jax.process_count() > 1
    count = execution.devices or (len(available) if everything else 1)
    where = f"--devices={count}"
    if everything and count != len(available):
        raise UserError(
            f"{where}: a distributed run uses the {len(available)} devices of all its processes; "
            "leave the flag out"
        )
    if count > len(available):
        hint = ""
        if available[0].platform == "cpu":
            hint = f"; XLA_FLAGS=--xla_force_host_platform_device_count={count} makes virtual ones"
        raise UserError(
            f"{where}: there {'is' if len(available) == 1 else 'are'} {len(available)} "
            f"{available[0].platform} here{hint}"
        )
    batch = spec.data.batch_size
    if batch % count:
        raise UserError(f"{where}: does not divide data.batch_size={batch}")
    return tuple(available[:count])


def _check_precision(spec: RunSpec, device: jax.Device) -> None:
    if spec.model.precision == "float64" and device.platform == "tpu":
        raise UserError(
            f"model.precision=float64: {device.device_kind} has none; take a CPU or a GPU, or "
            "float32"
        )
    if spec.model.precision != "tf32":
        return
    capability = str(getattr(device, "compute_capability", ""))
    has_it = device.platform == "gpu" and capability.replace(".", "").isdigit()
    if not (has_it and float(capability) >= TF32_CAPABILITY):
        raise UserError(
            f"model.precision=tf32: {device.device_kind} has none; it takes an NVIDIA GPU of "
            f"compute capability {TF32_CAPABILITY} or more; valid here are float32, bfloat16 and "
            "float64"
        )


def _kernels(choice: Choice, spec: RunSpec, devices: int, platform: str) -> Kernels:
    precision = spec.model.precision
    obstacle = next(
        (
            reason
            for applies, reason in (
                (platform != "cpu", f"they are for CPUs, and this is a {platform}"),
                (devices > 1, f"they work on one device, not on {devices}"),
                (precision != "float32", f"they compute in float32, not in {precision}"),
            )
            if applies
        ),
        None,
    )
    if obstacle is None or choice == "xla":
        return resolve(choice)
    if choice == "native":
        raise UserError(f"--kernels=native: {obstacle}; use --kernels=xla")
    return "xla"


def is_main() -> bool:
    """Whether this process writes the records: process 0, or the only one."""
    devices_here()
    return jax.process_index() == 0


def announce(what: Announcement = "train") -> Announcement:
    """What process 0 says, in every process; the others' argument does not count."""
    if jax.process_count() == 1:
        return what
    said = multihost_utils.broadcast_one_to_all(np.int32(_ANNOUNCEMENTS.index(what)))
    return _ANNOUNCEMENTS[int(said)]


def from_main(tree: Any) -> Any:
    """Arrays of process 0, as NumPy arrays in every process; all have the same shapes."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def most(*values: float) -> tuple[float, ...]:
    """The largest of each value over the processes; waits for them all if there are several."""
    if jax.process_count() == 1:
        return values
    with jax.transfer_guard("allow"):
        gathered = multihost_utils.process_allgather(np.array(values, np.float32))
    return tuple(float(value) for value in np.max(gathered, axis=0))


def save_memory(spec: RunSpec) -> None:
    """Make this process hold less memory on a CPU. Changes no number.

    What a compilation leaves free goes back to the system: it is in pieces too small for the
    temporaries of a step. And one set of these is kept, not three, where a network is large: by
    default XLA:CPU takes the temporaries of a step when it is dispatched, while those of the
    step before are in use, and glibc finds them a third place after that. If a step ends before
    the next one is dispatched, one place serves all. On 32x32 images that costs up to 2 % of the
    time, on 8x8 ones 9-18 % (``benchmarks/memory.py``).

    Counts for the whole process; the second part only if nothing was computed in it yet.

    Args:
        spec: of the first run.
    """
    _return_pages_after_compilations()
    shape, width = DATASETS[spec.data.name], spec.model.expansion * spec.model.width
    pixels = spec.data.batch_size * shape.height * shape.width
    small = pixels * width * spec.model.depth < WAIT_FROM
    jax.config.update("jax_cpu_enable_async_dispatch", small)


@functools.cache
def _return_pages_after_compilations() -> None:
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
