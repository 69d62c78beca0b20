"""What a network takes at least, so that what no machine can hold is refused before it is tried.

An allocation that is too large ends the process, or the machine, without a word. The bounds are
low: a run that they refuse could not have made one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax

from resnet_study import runtime
from resnet_study.datasets import DATASETS, DatasetShape
from resnet_study.errors import UserError
from resnet_study.spec import RunSpec

_FIELDS = ("model.width", "model.depth", "data.batch_size", "data.crop_padding")


class Need(NamedTuple):
    """Bytes that a run takes at least.

    Attributes:
        weights: parameters and their gradients.
        maps: the input of every convolution, which its gradient needs.
        padded: a mini-batch with the margin that crops are taken from.
    """

    weights: int
    maps: int
    padded: int


class _BlockSize(NamedTuple):
    """Weights and input channels of a block, for a width of 1; the first of a stage has fewer."""

    weights: int
    channels: int
    first_weights: int
    first_channels: int


_BLOCKS = {
    "basic": _BlockSize(2 * 9, 2, first_weights=13, first_channels=2),
    "bottleneck": _BlockSize(4 + 9 + 4, 4 + 1 + 1, first_weights=1 + 9 + 4, first_channels=3),
}


def need_of(spec: RunSpec, shape: DatasetShape) -> Need:
    """The bound in closed form, for any depth and width."""
    model, data = spec.model, spec.data
    size = 8 if model.precision == "float64" else 4
    blocks, width = model.blocks_per_stage, model.width
    later = max(blocks - 1, 0)
    pixels = shape.height * shape.width
    values = parameters = 0
    kind = _BLOCKS[model.block]
    for stage in range(3):
        filters = width << stage
        parameters += (kind.first_weights + later * kind.weights) * filters**2
        values += (kind.first_channels + later * kind.channels) * filters * (pixels >> 2 * stage)
    padded = 0
    if data.augmentation != "none":
        margin = 2 * data.crop_padding
        padded = (shape.height + margin) * (shape.width + margin) * shape.channels
    return Need(
        weights=2 * size * parameters,
        maps=size * data.batch_size * values,
        padded=size * data.batch_size * padded,
    )


def check(spec: RunSpec, members: Sequence[jax.Device], training: bool = True) -> None:
    """Refuse a run that needs more memory than its devices have.

    Args:
        spec: of the run.
        members: the devices that share its batches.
        training: whether a step is to be made; else the weights alone are needed.

    Raises:
        UserError: naming the field that is most above its default.
    """
    need = need_of(spec, DATASETS[spec.data.name])
    if not training:
        need = Need(need.weights // 2, 0, 0)
    there = _memory_of(members)
    # Weights are on every device, the batch is divided between them.
    taken = need.weights * len(members) + need.maps + need.padded
    if there is None or taken <= there:
        return
    own, defaults = spec.flat(), RunSpec().flat()
    field = max(_FIELDS, key=lambda name: own[name] // defaults[name])
    value = own[field]
    shown = str(value) if value < 10**12 else "more than 10^12"
    parts = zip(("weights", "feature maps", "padded images"), need, strict=True)
    named = ", ".join(f"{what} {gigabytes(size)}" for what, size in parts if size)
    raise UserError(
        f"{field}={shown}: takes at least {gigabytes(taken)} ({named}), and there are "
        f"{gigabytes(there)}; choose a smaller one"
    )


def gigabytes(size: int) -> str:
    """In units of 10^9 bytes; a number of any length in few digits."""
    return f"{size / 1e9:,.3g} GB" if size < 10**15 else "over 1,000,000 GB"


def _memory_of(members: Sequence[jax.Device]) -> int | None:
    """Bytes of all devices together; None where they do not tell."""
    if members[0].platform == "cpu":
        return runtime.memory() * jax.process_count()
    limits = [(member.memory_stats() or {}).get("bytes_limit") for member in members]
    return None if None in limits else sum(limit or 0 for limit in limits)
