"""A network to look at: from a checkpoint of a run, from a file of weights, or as initialised."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import jax
import numpy as np
from flax import nnx

from resnet_study import records
from resnet_study.architecture import ModelSpec
from resnet_study.data import Dataset, Split
from resnet_study.data.batches import evaluation_batches
from resnet_study.datasets import DATASETS, DatasetShape
from resnet_study.environment import devices_here
from resnet_study.errors import UserError
from resnet_study.inspection import weights
from resnet_study.models import Network
from resnet_study.records import Run
from resnet_study.spec import RunSpec
from resnet_study.tensors import arithmetic
from resnet_study.training import checkpoints, devices, memory
from resnet_study.training.devices import Devices
from resnet_study.training.options import Execution
from resnet_study.training.programs import CPU_EVALUATION_BATCH, EVALUATION_BATCH, keys_of
from resnet_study.training.step import TrainState, graph_of, initial_state, make_logits

_P = ParamSpec("_P")
_R = TypeVar("_R")

SPLITS = {"train_clean": "train", "val": "val", "test": "test"}
"""Names of splits in the records, and in the data."""


class Inspected(NamedTuple):
    """A network with all that is known of it.

    Attributes:
        spec: of its run.
        model: of the spec, but for a precision that the device has not.
        parameters, statistics: pure dictionaries.
        step: updates taken; None where a file does not tell.
        source: where it was read, in words.
        run: the run folder, read, if one was given.
    """

    spec: RunSpec
    model: ModelSpec
    parameters: dict[str, Any]
    statistics: dict[str, Any]
    step: int | None
    source: str
    run: Run | None

    @property
    def name(self) -> str:
        """Such as residual-56."""
        return self.spec.model.name

    @property
    def shape(self) -> DatasetShape:
        """Of the data it is made for."""
        return DATASETS[self.spec.data.name]

    def module(self) -> Network:
        """It as a Flax module, whose arrays are its own."""
        graph = graph_of(self.model, self.shape)
        return nnx.merge(graph, self.parameters, self.statistics)


def in_its_arithmetic(
    function: Callable[Concatenate[Inspected, _P], _R],
) -> Callable[Concatenate[Inspected, _P], _R]:
    """A function of a network and more, computed in the network's precision."""

    @functools.wraps(function)
    def computed(network: Inspected, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with arithmetic(network.model.precision):
            return function(network, *args, **kwargs)

    return computed


def load(run: Path | None, file: Path | None = None, step: int | None = None) -> Inspected:
    """Read a network.

    Args:
        run: its run folder; may be left out where the file tells the spec.
        file: weights, see `resnet_study.inspection.weights`; None reads a checkpoint of the run.
        step: of the checkpoint; 0 is the network as initialised; None the newest.

    Raises:
        UserError: if there is no such network, it cannot be read, belongs to another run, or holds
            numbers that are not finite.
    """
    if run is None and file is None:
        raise UserError("name a run folder, or a file of weights with --weights")
    if file is not None and step is not None:
        raise UserError(f"--step={step}: is of a run's checkpoints; leave it or --weights out")
    folder = None if run is None else _run(run)
    if file is None:
        assert folder is not None
        with arithmetic(folder.spec.model.precision):
            network = _checkpoint(folder, step)
    else:
        network = _from_file(folder, file)
    for name, leaf in weights.named(weights.joined(network.parameters, network.statistics)):
        if not np.isfinite(leaf).all():
            raise UserError(
                f"{network.source}: {name} has numbers that are not finite, as of a run that "
                "diverged; take weights of an earlier step"
            )
    return network


def export(network: Inspected, path: Path) -> None:
    """Write it as a file of weights that `load` reads.

    Raises:
        UserError: if the file does not end in .safetensors.
    """
    tree = jax.device_get(weights.joined(network.parameters, network.statistics))
    weights.write(path, tree, network.spec, network.step)


def _run(folder: Path) -> Run:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a run folder, results/<study>/runs/<run>")
    return records.read_run(folder)


def _initial(spec: RunSpec) -> TrainState:
    shape = DATASETS[spec.data.name]
    memory.check(spec, devices_here()[:1], training=False)
    return initial_state(spec, shape, keys_of(spec.seed).initialization)


def _checkpoint(run: Run, step: int | None) -> Inspected:
    folder = run.folder / "checkpoints"
    found = checkpoints.steps(folder)
    state = _initial(run.spec)
    if step is None:
        newest = checkpoints.restore_newest(folder, like=state)
        if newest is None:
            raise UserError(
                f"{run.folder}: has no checkpoint; give --step=0 for the network as initialised, "
                "or --weights=FILE.safetensors"
            )
        state = newest[0]
    elif step in found:
        state = checkpoints.restore(folder, step, like=state)[0]
    elif step != 0:
        there = ", ".join(map(str, ["0 (as initialised)", *found]))
        raise UserError(f"--step={step}: {run.folder} has no such checkpoint; there are {there}")
    chosen = int(state.step)
    source = f"{run.folder}, step {chosen}"
    spec = run.spec
    return Inspected(spec, spec.model, state.parameters, state.statistics, chosen, source, run)


def _from_file(run: Run | None, path: Path) -> Inspected:
    file = weights.read(path)
    beside = path.parent.parent / "runs" / path.stem  # as published results lie
    if run is None and file.spec is None and (beside / "spec.json").is_file():
        run = records.read_run(beside)
    if run is not None and file.run_id not in (None, run.spec.run_id):
        raise UserError(f"{path}: is of the run {file.run_id}, not of {run.spec.run_id}")
    spec = file.spec if run is None else run.spec
    if spec is None:
        raise UserError(
            f"{path}: does not tell its spec; name the run folder that it is of as well"
        )
    with arithmetic(spec.model.precision):
        state = _initial(spec)
        like = weights.joined(state.parameters, state.statistics)
        weights.check_tensors(path, file.tensors, like, spec.model.name)
        parameters, statistics = (
            jax.tree.map(jax.numpy.asarray, weights.filled(tree, file.tensors))
            for tree in (state.parameters, state.statistics)
        )
    return Inspected(spec, spec.model, parameters, statistics, file.iteration, str(path), run)


def on_devices(network: Inspected, execution: Execution) -> tuple[Inspected, Devices, str]:
    """The network as it can be computed here, by what computed its run where that is possible.

    Returns:
        The network, the devices, and a sentence on what differs from the run; empty if nothing.

    Raises:
        UserError: if devices or kernels that the user asked for are not there.
    """
    devices.save_memory(network.spec)
    begun = devices.begun_with(network.run.environment) if network.run else None
    if begun and execution == Execution():
        try:
            return network, devices.choose(execution, network.spec, begun), ""
        except UserError:
            # What trained it is not here; all that changes is rounding.
            pass
    try:
        where = devices.choose(execution, network.spec)
        now = where.record()
        note = f"computed by {devices.in_words(now)}"
        note = f"{note}; the run by {devices.in_words(begun)}" if begun and begun != now else ""
        return network, where, note
    except UserError:
        if network.spec.model.precision != "tf32":
            raise
    model = replace(network.model, precision="float32")
    where = devices.choose(execution, replace(network.spec, model=model))
    note = "convolutions in float32: this device has no TF32, in which the run was computed"
    return network._replace(model=model), where, note


def images_of(dataset: Dataset, split: str) -> Split:
    """The images of a split, named as in the records: train_clean, val, test.

    Raises:
        UserError: if there is no such split or it has no images.
    """
    if split not in SPLITS:
        raise UserError(f"--split={split}: valid are {', '.join(SPLITS)}")
    images: Split = getattr(dataset, SPLITS[split])
    if not len(images):
        raise UserError(f"--split={split}: has no images; the run held none out")
    return images


def batches(examples: int, where: Devices) -> Iterator[tuple[np.ndarray, int]]:
    """Positions of the images of each batch, all of one size, and how many of them count."""
    size = CPU_EVALUATION_BATCH if where.platform == "cpu" else EVALUATION_BATCH
    size = -(-size // len(where.members)) * len(where.members)
    for positions, mask in evaluation_batches(examples, size):
        yield positions, int(mask.sum())


@in_its_arithmetic
def logits_of(network: Inspected, where: Devices, images: np.ndarray, mean: np.ndarray) -> Any:
    """What the network answers, computed as in the evaluations of its run.

    Of images, (N, H, W, C), uint8; the mean, (H, W, C), is that of the run's training images.

    Returns:
        Logits, (N, classes).
    """
    program = jax.jit(make_logits(network.model, network.shape, kernels=where.kernels))
    parameters, statistics, pixel_mean = where.replicate(
        (network.parameters, network.statistics, mean)
    )
    parts = []
    for positions, count in batches(len(images), where):
        part = program(parameters, statistics, where.split(images[positions]), pixel_mean)
        # One at a time, as in the evaluations of training.
        parts.append(np.asarray(jax.device_get(part))[:count])
    return np.concatenate(parts)
