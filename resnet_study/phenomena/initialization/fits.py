"""Selections and fits of what is measured at initialisation, one number per network.

A *network* is drawn once per seed and depth; everything measured in it (layers, blocks, lags,
path lengths) is reduced to one number before seeds are compared, as everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from resnet_study.architecture import ModelSpec
from resnet_study.judging.statistics import least_miss, log_slope, slope
from resnet_study.phenomena.initialization.arms import BATCH
from resnet_study.phenomena.initialization.theory import path_shares
from resnet_study.records import Frames


@dataclass(frozen=True)
class NetworkKind:
    """What tells the measured networks apart, beside depth and seed.

    Settings of `ModelSpec`, and the number of images in the mini-batch.
    """

    family: str
    normalization: str = "batch"
    initialization: str = "he"
    activation: str = "relu"
    block_order: str = "original"
    width: int = ModelSpec.width
    images: int = BATCH

    @property
    def setting(self) -> str:
        """In words, without the family: ``no normalisation, LeCun, ReLU``."""
        norm = "BN" if self.normalization == "batch" else f"{self.normalization} normalisation"
        norm = "no normalisation" if self.normalization == "none" else norm
        names = {"he": "He", "lecun": "LeCun", "relu": "ReLU"}
        parts = [norm, *(names.get(x, x) for x in (self.initialization, self.activation))]
        parts += [self.block_order] if self.block_order != "original" else []
        parts += [f"{self.width} filters in the first stage"] if self.width != 16 else []
        return ", ".join([*parts, f"{self.images} images"] if self.images != BATCH else parts)

    def named(self, depth: int) -> dict[str, Any]:
        """What was judged, for `Measurement.numbers`."""
        return {"network": f"{self.family}-{depth}", "depth": depth, "setting": self.setting}

    def needed(self, what: str) -> str:
        """Text of a `Missing`."""
        return f"{self.family} networks at initialisation ({self.setting}): {what}"


BN_PLAIN, BN_RESIDUAL = NetworkKind("plain"), NetworkKind("residual")

PREACTIVATED = NetworkKind("residual", block_order="full-preactivation")

UNNORMALIZED = (
    NetworkKind("residual", "none", block_order="full-preactivation"),
    NetworkKind("residual", "none"),
)
"""Residual networks without normalisation; the first that was measured is judged."""


def rows_of(
    frames: Frames, quantity: str, network: NetworkKind, positive: bool = False
) -> pd.DataFrame:
    """What was measured of one quantity in forward order, each index of a network once.

    With ``positive`` only of networks all of whose values are positive and finite.

    Returns:
        ``depth, seed, index, stage, value``, sorted.
    """
    rows = frames.initialization
    for column, value in {"quantity": quantity, **vars(network)}.items():
        rows = rows[rows[column] == value]
    rows = rows[["depth", "seed", "index", "stage", "value"]]
    rows = rows.astype({"depth": int, "seed": int, "index": int, "stage": int, "value": float})
    keys = ["depth", "seed", "index"]
    rows = rows.drop_duplicates(keys).sort_values(keys, ignore_index=True)
    if not positive:
        return rows
    good = np.isfinite(rows["value"]) & (rows["value"] > 0)
    return rows[good.groupby([rows["depth"], rows["seed"]]).transform("all")]


def per_network(rows: pd.DataFrame, reduce: Callable[[pd.DataFrame], float]) -> pd.DataFrame:
    """One number per network: a table of seeds by depths, NaN where there is none.

    Depths without any number are left out. ``reduce`` takes the rows of one network.
    """
    numbers = {key: reduce(part) for key, part in rows.groupby(["depth", "seed"])}
    table = pd.Series(numbers, dtype=float).replace([np.inf, -np.inf], np.nan)
    if not len(table):
        return pd.DataFrame(dtype=float)
    wide = table.unstack(level=0).sort_index().sort_index(axis=1)
    return wide.dropna(axis=1, how="all")


def values_at(table: pd.DataFrame, depth: int) -> pd.Series:
    """The numbers of one depth, by seed."""
    return table[depth].dropna().astype(float)


def at_depth(rows: pd.DataFrame, depth: int, reduce: Callable[[pd.DataFrame], float]) -> pd.Series:
    """The same of rows, as of `per_network`."""
    return values_at(per_network(rows[rows["depth"] == depth], reduce), depth)


def depths_of(table: pd.DataFrame) -> list[int]:
    """The depths of a table of `per_network`, ascending."""
    return [int(str(depth)) for depth in table.columns]


def rectangle(table: pd.DataFrame) -> pd.DataFrame:
    """Without holes: the seeds that have all depths, or else all of those that most seeds have."""
    whole = table.dropna()
    if len(whole) or not table.size:
        return whole
    counts = table.notna().sum()
    return table.loc[:, counts == counts.max()].dropna()


def blocks_per_stage(part: pd.DataFrame) -> int:
    """Blocks of each of the three stages, of rows by block of one network."""
    return int(part["index"].max()) // 3


def growth(part: pd.DataFrame, within_stages: bool = True) -> float:
    """Factor per layer toward the input by which a norm grows.

    exp(−slope) of the least-squares line of ln(norm) against layer; within stages with an
    intercept for each, which leaves out the jumps between them (the stem is a stage of its own)
    and weighs the stages equally.
    """
    norms = part["value"].to_numpy(float)
    groups = part["stage"].tolist() if within_stages else None
    return math.exp(-log_slope(part["index"].to_numpy(float), norms, groups))


def growth_of_stage(part: pd.DataFrame, stage: int) -> float:
    """The same in one stage alone."""
    return growth(part[part["stage"] == stage])


def first_over_last(part: pd.DataFrame) -> float:
    """Norm at layer 1 over that at the last 3x3 layer; NaN unless both are positive."""
    norms = part.set_index("index")["value"]
    first, last = norms.get(1, math.nan), norms.get(int(part["depth"].iloc[0]) - 1, math.nan)
    return float(first / last) if first > 0 and last > 0 else math.nan


def first_over_last_block(part: pd.DataFrame) -> float:
    """‖∂L/∂x‖ at the input of the first block over that at the output of the last one."""
    norms = part.set_index("index")["value"]
    first, last = norms.get(1, math.nan), norms.get(3 * blocks_per_stage(part) + 1, math.nan)
    return float(first / last) if first > 0 and last > 0 else math.nan


LAWS = ("linear", "power", "exponential")


def misfit(law: str, x: Sequence[float] | np.ndarray, logs: Sequence[float] | np.ndarray) -> float:
    """Root mean square miss in ln(y) of a law with two parameters, fitted to ln(y).

    - linear: y = a + b·x, not falling;
    - power: y = a·x^b;
    - exponential: y = a·exp(b·x).

    On one scale, with equally many parameters and a constant relative spread of y.

    Args:
        law: one of `LAWS`.
        x: ascending, above 0, shape (N,).
        logs: ln(y), shape (N,).
    """
    at, y = np.asarray(x, dtype=float), np.asarray(logs, dtype=float)
    if not np.isfinite(y).all():
        return math.nan
    if law == "linear":
        return _linear_misfit(at, y)
    at = np.log(at) if law == "power" else at
    slope, intercept = np.polyfit(at, y, 1)
    return root_mean_square(y - intercept - slope * at)


def rate(x: Sequence[float] | np.ndarray, logs: Sequence[float] | np.ndarray) -> float:
    """Least-squares slope of ln(y) against x: the b of an exponential; NaN if a ln(y) is none."""
    y = np.asarray(logs, dtype=float)
    usable = np.isfinite(y).all() and len(y) > 1
    return float(np.polyfit(np.asarray(x, dtype=float), y, 1)[0]) if usable else math.nan


def exponent(x: Sequence[float] | np.ndarray, logs: Sequence[float] | np.ndarray) -> float:
    """Least-squares slope of ln(y) against ln(x): the b of a power law; NaN likewise."""
    return rate(np.log(np.asarray(x, dtype=float)), logs)


def within_stage_misfit(part: pd.DataFrame, law: str) -> float:
    """Misfit of a law against the number of the block in its stage, each stage fitted apart.

    Of a positive quantity at block outputs of one network; the index 0 in front of the first block
    is left out.
    """
    n = blocks_per_stage(part)
    logs = np.log(part.set_index("index")["value"])
    inside = np.arange(1, n + 1)
    misses = [misfit(law, inside, logs[stage * n + inside].to_numpy()) for stage in range(3)]
    return root_mean_square(np.array(misses))


def within_stage_slope(part: pd.DataFrame) -> float:
    """Common slope of a quantity against block, with an intercept per stage."""
    stage = (part["index"].to_numpy(int) - 1) // blocks_per_stage(part)
    return slope(part["index"].to_numpy(float), part["value"].to_numpy(float), stage)


def first_stage_exponent(part: pd.DataFrame) -> float:
    """Exponent of the inverse of a quantity as a power of the block's number in the first stage.

    Of Var(skip)/Var(branch) of one network, index b = 1..3n.
    """
    n = blocks_per_stage(part)
    return exponent(np.arange(1, n + 1), -np.log(part["value"].to_numpy(float)[:n]))


def contribution(part: pd.DataFrame) -> np.ndarray:
    """Share of the gradient that paths with k branches carry: C(B, k) · g(k), normalised.

    Of path_gradient_norm of one network, index k = 0..B: shape (B + 1,), sums to 1.
    """
    shares = path_shares(len(part) - 1) * part["value"].to_numpy(float)
    return np.asarray(shares / shares.sum())


def central_interval(shares: np.ndarray, content: float = 0.95) -> tuple[float, float]:
    """Where the cumulated shares, shape (K,), pass (1 − content)/2 and (1 + content)/2.

    The share of index k is spread evenly from k to k + 1, so that the borders move smoothly; the
    indices inside are floor(low) to floor(high).
    """
    cumulated = np.concatenate([[0.0], np.cumsum(shares)])
    edges = np.arange(len(cumulated))
    low, high = np.interp([(1 - content) / 2, (1 + content) / 2], cumulated, edges)
    return float(low), float(high)


def carrying_path_share(part: pd.DataFrame, content: float = 0.95) -> float:
    """Share of all paths whose length lies in the interval that carries most of the gradient."""
    carried = contribution(part)
    cumulated = np.concatenate([[0.0], np.cumsum(path_shares(len(part) - 1))])
    low, high = np.interp(central_interval(carried, content), np.arange(len(cumulated)), cumulated)
    return float(high - low)


def block_log_ratios(part: pd.DataFrame) -> pd.Series:
    """ln(‖∂L/∂x_b‖/‖∂L/∂x_{b+1}‖) of the blocks that keep the shape, by block b.

    Of block_gradient_norm of one network, index b = 1..3n + 1.
    """
    n = blocks_per_stage(part)
    logs = np.log(part.set_index("index")["value"])
    # Stages 2 and 3 begin with another shape; with bottlenecks, of three layers each, all do.
    bottlenecks = int(part["depth"].iloc[0]) - 2 == 9 * n
    changing = (n + 1, 2 * n + 1, *[1] * bottlenecks)
    kept = [b for b in range(1, 3 * n + 1) if b not in changing]
    return pd.Series({b: float(logs[b] - logs[b + 1]) for b in kept}, dtype=float)


def mean_deviation(part: pd.DataFrame) -> float:
    """Mean of |ln ratio| over these blocks: 0 where every block preserves the norm."""
    return float(block_log_ratios(part).abs().mean())


def by_depth(table: pd.DataFrame, reduce: Callable[..., Any] = np.mean) -> dict[int, float]:
    """Mean, or another number, over the seeds at every depth."""
    return {depth: float(reduce(values_at(table, depth))) for depth in depths_of(table)}


def by_seed(table: pd.DataFrame, fit: Callable[[list[int], np.ndarray], float]) -> pd.Series:
    """A fit of ln of the numbers of each seed against depth, such as `exponent`."""
    fitted = [fit(depths_of(table), logs) for logs in np.log(table.to_numpy(float))]
    return pd.Series(fitted, index=table.index)


def root_mean_square(values: pd.Series | np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def _linear_misfit(x: np.ndarray, y: np.ndarray) -> float:
    """Of ln(a + b·x) to y: for every growth u over the range the best level is the mean."""
    t = (x - x[0]) / (x[-1] - x[0])

    def miss(u: float) -> float:
        rest = y - np.log1p(np.expm1(u) * t)
        return root_mean_square(rest - rest.mean())

    return least_miss(miss)[0]
