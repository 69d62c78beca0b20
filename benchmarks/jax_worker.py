"""This project's training step as a worker process: what `training/` runs, timed.

With precision float64 all of it is computed so, for the comparison alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from resnet_study import runtime

runtime.prepare()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from equality import save  # noqa: E402
from workers import peak_memory, serve  # noqa: E402

from resnet_study.datasets import DATASETS, DatasetShape  # noqa: E402
from resnet_study.environment import describe as describe_environment  # noqa: E402
from resnet_study.kernels import Choice  # noqa: E402
from resnet_study.kernels import resolve as resolve_kernels  # noqa: E402
from resnet_study.spec import RunSpec, from_flat  # noqa: E402
from resnet_study.training.devices import save_memory  # noqa: E402
from resnet_study.training.programs import keys_of  # noqa: E402
from resnet_study.training.step import (  # noqa: E402
    Batch,
    StepMetrics,
    TrainState,
    TrainStep,
    initial_state,
    make_train_step,
)

Advance = Callable[[TrainState, Batch, int], tuple[TrainState, StepMetrics]]


def spec_of(
    network: dict[str, Any], batch_size: int, precision: str
) -> tuple[RunSpec, DatasetShape]:
    """The run that trains a network: depth, residual and channels, without augmentation."""
    data = "digits" if network["channels"] == 1 else "cifar10"
    spec = from_flat(
        {
            "data.name": data,
            "data.batch_size": batch_size,
            "data.augmentation": "none",
            "model.depth": network["depth"],
            "model.residual": network["residual"],
            "model.precision": precision,
        }
    )
    return spec, DATASETS[data]


def train_step_of(spec: RunSpec, shape: DatasetShape, kernels: str, probes: bool) -> TrainStep:
    """The project's own step, not yet jitted; native kernels are loaded by their choice."""
    resolved = resolve_kernels(cast(Choice, kernels))
    return make_train_step(spec, shape, probes=probes, kernels=resolved)


def stepper(step: TrainStep) -> Advance:
    """Take so many steps with one batch, in the way that suits the device.

    On a CPU step by step, since XLA:CPU falls off its fast convolution inside a loop; on an
    accelerator as one program per chunk of steps, where dispatch would cost most of the time.
    """
    if jax.default_backend() == "cpu":
        jitted = jax.jit(step, donate_argnums=0)

        def one_by_one(state: TrainState, batch: Batch, steps: int) -> tuple[TrainState, Any]:
            for _ in range(steps):
                state, metrics = jitted(state, batch)
            return state, metrics

        return one_by_one

    def chunk(state: TrainState, batch: Batch, steps: int) -> tuple[TrainState, Any]:
        return jax.lax.scan(lambda state, _: step(state, batch), state, length=steps)

    jitted_chunk = jax.jit(chunk, donate_argnums=0, static_argnums=2)

    def at_once(state: TrainState, batch: Batch, steps: int) -> tuple[TrainState, Any]:
        state, stacked = jitted_chunk(state, batch, steps)
        return state, jax.tree.map(lambda values: values[-1], stacked)

    return at_once


class Training:
    """A network, its state and one batch.

    Args:
        network: depth, residual and channels.
        batch: file with images (uint8, NHWC), labels and pixel mean.
        kernels: auto, xla or native.
        probes: whether all statistics are computed.
        precision: of convolutions, float32 or tf32; or float64, of all.
        waits: whether a step ends before the next is dispatched; None: as training decides.

    Attributes:
        metrics: of the last step.
    """

    metrics: Any = None

    def __init__(
        self,
        network: dict[str, Any],
        batch: str,
        kernels: str,
        probes: bool,
        precision: str,
        waits: bool | None,
    ) -> None:
        # As `arithmetic` does for a run; a worker has one network after the other.
        jax.config.update("jax_enable_x64", precision == "float64")
        content = np.load(batch)
        self.spec, self.shape = spec_of(network, len(content["labels"]), precision)
        save_memory(self.spec)
        if waits is not None:
            jax.config.update("jax_cpu_enable_async_dispatch", not waits)
        self.keys = keys_of(0)
        self.batch = Batch(
            images=jnp.asarray(content["images"]),
            labels=jnp.asarray(content["labels"], jnp.int32),
            pixel_mean=jnp.asarray(content["mean"], float),
            learning_rate=jnp.asarray(self.spec.optimizer.learning_rate, float),
            augmentation_key=self.keys.augmentation,
            dropout_key=self.keys.dropout,
        )
        self.state = self.initial()
        self.advance = stepper(train_step_of(self.spec, self.shape, kernels, probes))

    def initial(self) -> TrainState:
        return initial_state(self.spec, self.shape, self.keys.initialization)

    def load(self, weights: str) -> None:
        """Take these parameters, zero velocity, running mean 0 and variance 1."""
        content = np.load(weights)
        state = self.initial()
        assert set(content) == set(named(state.parameters))
        parameters = jax.tree_util.tree_map_with_path(
            lambda path, _: jnp.asarray(content[dotted(path)], float), state.parameters
        )
        self.state = state._replace(parameters=parameters)

    def run(self, steps: int) -> float:
        """Seconds that so many steps take."""
        jax.block_until_ready(self.state)
        began = time.perf_counter()
        self.state, self.metrics = self.advance(self.state, self.batch, steps)
        jax.block_until_ready((self.state, self.metrics))
        return time.perf_counter() - began

    def check(self, output: str) -> None:
        """Take two steps, the first at rate 0, and write what they computed; see `equality`."""
        found = {f"before.{name}": value for name, value in named(self.state.parameters).items()}
        rates = jnp.zeros((), float), self.batch.learning_rate
        for number, rate in enumerate(rates, 1):
            batch = self.batch._replace(learning_rate=rate)
            self.state, self.metrics = self.advance(self.state, batch, 1)
            found[f"loss{number}"] = np.asarray(self.metrics.loss)
            velocity = optax.tree_utils.tree_get(self.state.optimizer, "trace")
            found |= {f"velocity{number}.{name}": v for name, v in named(velocity).items()}
        found |= {f"after.{name}": v for name, v in named(self.state.parameters).items()}
        found |= {f"running.{name}": v for name, v in named(self.state.statistics).items()}
        save(output, found)


def dotted(path: tuple[Any, ...]) -> str:
    """Name of a leaf, such as blocks.0.layer1.conv.kernel."""
    return ".".join(str(key.key) for key in path)


def named(tree: Any) -> dict[str, np.ndarray]:
    """Copies of the leaves of a pure dictionary by name; the originals may be donated."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {dotted(path): np.array(value) for path, value in leaves}


training: Training


def build(
    network: dict[str, Any],
    batch: str,
    kernels: str,
    probes: bool,
    precision: str = "float32",
    waits: bool | None = None,
) -> None:
    global training
    training = Training(network, batch, kernels, probes, precision, waits)


def initial(output: str) -> None:
    """Write the parameters that the project initialises the network with."""
    save(output, named(training.initial().parameters))


def load(weights: str) -> None:
    training.load(weights)


def check(output: str) -> None:
    training.check(output)


def run(steps: int) -> float:
    return training.run(steps)


def memory() -> int:
    """Peak bytes, on the accelerator if there is one."""
    # Asking jax would start it, too early for `save_memory`.
    if runtime.uses_cpu():
        return peak_memory()
    return int((jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0))


def resolve(kernels: str) -> str:
    """The kernels that a choice means on this machine."""
    return resolve_kernels(cast(Choice, kernels))


def describe() -> dict[str, Any]:
    """Device and settings as a run records them."""
    return describe_environment("benchmarks/jax_worker.py", "random images")


if __name__ == "__main__":
    serve({f.__name__: f for f in (build, initial, load, check, run, memory, resolve, describe)})
