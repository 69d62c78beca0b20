"""The few numbers of all layers at one iteration that are drawn as curves.

Layers are `resnet_study.probes.FIRST` to the last convolution; the classifier is left out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from resnet_study.probes import DERIVED, FIRST, GRADIENTS

Layers = Mapping[str, Sequence[float | None]]
"""Values of a probe for every weighted layer, by its name; None for NaN."""

GROWTH, RESPONSE = "weight_growth", "response_std"

KEYS = tuple(
    f"{name}/{part}"
    for name, parts in (
        *((name, ("first", "median", "last", "ratio")) for name in GRADIENTS),
        *((name, ("first", "median", "last")) for name in (GROWTH, RESPONSE)),
    )
    for part in parts
)
"""Names of the numbers; ``ratio`` is first over last: above 1 it grows toward the input."""

RATIOS = tuple(key for key in KEYS if key.endswith("/ratio"))
"""Those of which wandb's summary has the lowest and the highest too, by name."""


def layer_scalars(probes: Layers, start: Sequence[float | None] | None) -> dict[str, float]:
    """The numbers of `KEYS` that are finite.

    Args:
        probes: of one iteration.
        start: ‖w‖ of every layer at iteration 0, over which its growth is; None if unknown.
    """
    values = {name: _values(probes, quantity) for name, quantity in GRADIENTS.items()}
    values[RESPONSE] = _values(probes, RESPONSE)
    if start is not None:
        norms = zip(_values(probes, "weight_norm"), _values({"": start}, ""), strict=True)
        values[GROWTH] = [_over(now, before) for now, before in norms]
    result: dict[str, float] = {}
    for name, layers in values.items():
        if not layers:
            continue
        finite = [value for value in layers if math.isfinite(value)] or [math.nan]
        result |= {f"{name}/first": layers[0], f"{name}/last": layers[-1]}
        result |= {f"{name}/median": statistics.median(finite)}
        result |= {f"{name}/ratio": _over(layers[0], layers[-1])}
    return {key: result[key] for key in KEYS if math.isfinite(result.get(key, math.nan))}


def _values(probes: Layers, quantity: str) -> list[float]:
    """Of the convolutions from `FIRST` on; empty where there are none or nothing is recorded."""
    if quantity in DERIVED:
        one, other, join = DERIVED[quantity]
        both = zip(_values(probes, one), _values(probes, other), strict=False)
        return [join(*pair) for pair in both]
    values = probes.get(quantity, ())[FIRST - 1 : -1]
    return [math.nan if value is None else float(value) for value in values]


def _over(value: float, other: float) -> float:
    return value / other if other else math.nan
