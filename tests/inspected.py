"""Networks to look at that look trained: no array is as it was initialised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from resnet_study.data import Dataset, load_dataset
from resnet_study.inspection.inspected import Inspected
from resnet_study.records import RunWriter
from resnet_study.spec import RunSpec, from_flat
from resnet_study.training import checkpoints
from resnet_study.training.devices import Devices
from resnet_study.training.programs import keys_of, shape_of
from resnet_study.training.step import TrainState, initial_state

CPU = Devices("xla", (jax.devices()[0],))


def spec_of(**model: Any) -> RunSpec:
    """A small run on synthetic images, 8 layers of 4 filters unless told otherwise."""
    values = {"depth": 8, "width": 4, **model}
    named = {f"model.{name}": value for name, value in values.items()}
    return from_flat({**named, "data.name": "synthetic", "schedule.iterations": 7, "seed": 3})


def data_of(spec: RunSpec) -> Dataset:
    return load_dataset(spec.data, spec.seed)


def disturbed(tree: Any, seed: int = 0) -> Any:
    """Every array times random factors from 0.7 to 1.05, and shifted: variances stay positive."""
    random = np.random.default_rng(seed)

    def disturb(leaf: Any) -> Any:
        factors, shifts = (random.uniform(low, 1.5 * low, np.shape(leaf)) for low in (0.7, 0.02))
        return jax.numpy.asarray(np.asarray(leaf) * factors + shifts, np.float32)

    return jax.tree.map(disturb, tree)


def state_of(spec: RunSpec) -> TrainState:
    """A state after the last iteration."""
    state = initial_state(spec, shape_of(data_of(spec)), keys_of(spec.seed).initialization)
    return state._replace(
        step=jax.numpy.int32(int(spec.schedule.iterations)),
        parameters=disturbed(state.parameters),
        statistics=disturbed(state.statistics, 1),
    )


def network_of(spec: RunSpec) -> Inspected:
    state = state_of(spec)
    step = int(state.step)
    return Inspected(spec, spec.model, state.parameters, state.statistics, step, "memory", None)


def run_of(spec: RunSpec, results: Path, state: TrainState | None = None) -> Path:
    """A run folder with one checkpoint, made without training."""
    writer = RunWriter(results / "runs" / spec.run_id, spec, {})
    writer.finish({"status": "finished"})
    state = state_of(spec) if state is None else state
    checkpoints.save(writer.folder / "checkpoints", state, checkpoints.Progress([], [], 0.0))
    return writer.folder
