"""Signal and gradient of networks at initialisation, measured without any training.

`pieces` cuts a grid of arms into parts that take seconds each; `measure_piece` measures one of
them. What is measured, and how, is said in `resnet_study.phenomena.initialization.arms`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_study.phenomena.initialization.arms import (
    ARMS,
    COLUMNS,
    SEEDS,
    InitializationArm,
    Piece,
    pieces,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ARMS", "COLUMNS", "SEEDS", "InitializationArm", "Piece", "measure_piece", "pieces"]


def measure_piece(piece: Piece) -> pd.DataFrame:
    """Measure one piece; jax is loaded here, so `runtime.prepare` comes before.

    Returns:
        One row per value, columns `COLUMNS`.
    """
    from resnet_study.phenomena.initialization import measuring as measure

    return measure.measure_piece(piece)
