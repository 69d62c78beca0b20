"""Weights in a file: safetensors, each array under its path in the network, joined by dots.

``blocks.0.layer1.conv.kernel`` is (side, side, inputs, outputs), ``head.kernel`` (inputs, classes);
running statistics lie beside the parameters they belong to, ``...norm.mean`` and
``...norm.variance``. The metadata have ``run_id`` and ``iteration``, and ``spec`` as in
``spec.json``, without which a run folder is needed to read the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnet_study.errors import UserError
from resnet_study.files import write_atomically
from resnet_study.records.integrity import is_step
from resnet_study.spec import RunSpec, from_json, to_json


class WeightsFile(NamedTuple):
    """A file, read.

    Attributes:
        tensors: float32 or float64, by name.
        spec: of the run; None if the file does not tell.
        run_id: likewise.
        iteration: updates taken; None if the file does not tell.
    """

    tensors: dict[str, np.ndarray]
    spec: RunSpec | None
    run_id: str | None
    iteration: int | None


def read(path: Path) -> WeightsFile:
    """Read a file of weights.

    Raises:
        UserError: if it is missing, no safetensors file, holds other numbers than float32 and
            float64, or its metadata cannot be understood.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(
            f"{path}: no such file; give one made with `resnet-study evaluate --export`"
        )
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            # Other types are refused before they are read: numpy does not have them all.
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            for name, kind in types.items():
                if kind not in ("F32", "F64"):
                    raise UserError(f"{path}: {name} is {kind}; convert it to F32 (float32)")
            tensors = {name: file.get_tensor(name) for name in types}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as safetensors ({error}); restore or export it again"
        ) from None
    text, iteration = metadata.get("spec"), metadata.get("iteration")
    if iteration is not None and not (is_step(iteration) and len(iteration) < 16):
        raise UserError(f"{path}: iteration={iteration} in its metadata is no count; export again")
    spec = None if text is None else from_json(text, f"{path}: spec in its metadata")
    run_id = metadata.get("run_id") or (spec.run_id if spec else None)
    return WeightsFile(tensors, spec, run_id, None if iteration is None else int(iteration))


def write(path: Path, network: Mapping[str, Any], spec: RunSpec, iteration: int | None) -> None:
    """Write parameters and running statistics (`joined`) with the spec of their run, atomically.

    The path ends in .safetensors; its folder is made if missing.

    Raises:
        UserError: for another ending.
    """
    from safetensors.numpy import save

    if path.suffix != ".safetensors":
        raise UserError(f"--export={path}: the file ends in .safetensors")
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in named(network)}
    metadata = {"run_id": spec.run_id, "spec": to_json(spec)}
    if iteration is not None:
        metadata["iteration"] = str(iteration)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(tensors, metadata))


def joined(*trees: Mapping[Any, Any]) -> dict[Any, Any]:
    """Nested dictionaries laid over each other; no leaf is in two of them."""
    result: dict[Any, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            deeper = isinstance(value, Mapping)
            result[key] = joined(result.get(key, {}), value) if deeper else value
    return result


def named(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested dictionary under their paths, joined by dots."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from named(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def filled(like: Mapping[Any, Any], tensors: Mapping[str, np.ndarray], prefix: str = "") -> Any:
    """The structure of `like` with arrays from a file; names and shapes were checked before."""
    return {
        key: filled(value, tensors, f"{prefix}{key}.")
        if isinstance(value, Mapping)
        else np.asarray(tensors[f"{prefix}{key}"])
        for key, value in like.items()
    }


def check_tensors(
    where: object, tensors: Mapping[str, np.ndarray], like: Mapping[Any, Any], network: str
) -> None:
    """Refuse a file whose arrays are not those of a network (`joined`).

    Raises:
        UserError: naming the first array that is missing, is of another shape or type, or too many.
    """
    mend = f"these are not the weights of {network}; name the run that they are of"
    expected = {name: (np.shape(leaf), leaf.dtype) for name, leaf in named(like)}
    for name, (shape, kind) in expected.items():
        if name not in tensors:
            raise UserError(f"{where}: has no {name}; {mend}")
        if tensors[name].shape != shape:
            found = tensors[name].shape
            raise UserError(f"{where}: {name} has the shape {found}, not {shape}; {mend}")
        if tensors[name].dtype != kind:
            raise UserError(f"{where}: {name} is {tensors[name].dtype}, not {kind}; convert it")
    if more := sorted(set(tensors) - set(expected)):
        raise UserError(f"{where}: has {more[0]}, which the network has not; {mend}")
