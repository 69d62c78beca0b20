"""Signal and gradient of networks at initialisation, measured without any training.

`seeded_arms` cuts a grid into parts that take seconds each; `measure_arm` measures one of them.
What is measured, and how, is said in `resnet_study.phenomena.initialization.arms`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_study.phenomena.initialization.arms import (
    ARMS,
    COLUMNS,
    SEEDS,
    InitializationArm,
    SeededArm,
    seeded_arms,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ARMS",
    "COLUMNS",
    "SEEDS",
    "InitializationArm",
    "SeededArm",
    "measure_arm",
    "seeded_arms",
]


def measure_arm(seeded: SeededArm) -> pd.DataFrame:
    """Measure one arm; jax is loaded here, so `runtime.prepare` comes before.

    Returns:
        One row per value, columns `COLUMNS`.
    """
    from resnet_study.phenomena.initialization import measuring as measure

    return measure.measure_arm(seeded)
