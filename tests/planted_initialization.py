"""Signals at initialisation with planted effects: closed forms with noise, nothing measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from resnet_study.architecture import ModelSpec
from resnet_study.phenomena.gradients import theory as gradient_theory
from resnet_study.phenomena.initialization import theory
from resnet_study.phenomena.initialization.arms import (
    ARMS,
    BATCHES,
    SIZES_DEPTH,
    WIDTHS,
    InitializationArm,
)
from resnet_study.phenomena.initialization.block_measures import padded_branches
from resnet_study.phenomena.initialization.fits import NetworkKind
from resnet_study.phenomena.initialization.gradient_measures import PADDING, SIDES, padded_growth
from resnet_study.records import INITIALIZATION_COLUMNS, Frames, frames_of

DEPTHS = (8, 20, 32, 44, 56, 110)

ByStage = Sequence[float]


def published_factors(network: NetworkKind) -> ByStage:
    """Per layer toward the input of plain networks, by stage, as theory has them.

    With batch normalisation without borders, but for other widths, which are judged with them.
    """
    if network.width != ModelSpec.width:
        return padded_growth()
    factor = gradient_theory.growth_toward_input(
        network.normalization, network.initialization, network.activation
    )
    return [factor * (p if network.normalization == "none" else 1) for p in PADDING]


@dataclass(frozen=True)
class Truth:
    """What is planted; by default what the literature predicts.

    Attributes:
        factors: per layer toward the input of plain networks, by stage.
        residual_norm: norm at the layer that is so many layers before the last one, with BN.
        unnormalized_norm: the same without normalisation.
        branch_variance: of pre-activated blocks with BN, by stage.
        variance: at block outputs of residual networks without normalisation, 3n + 1 of them.
        correlation: of input gradients, by family, depth and lag.
        path: gradient of a path with k branches.
        block_ratio: ‖∂L/∂x_b‖/‖∂L/∂x_{b+1}‖ of the block with this number in its stage.
    """

    factors: Callable[[NetworkKind], ByStage] = published_factors
    residual_norm: Callable[[np.ndarray], np.ndarray] = lambda behind: behind + 1.0
    unnormalized_norm: Callable[[np.ndarray], np.ndarray] = lambda behind: 1.02**behind
    branch_variance: ByStage = field(default_factory=lambda: padded_branches(0))
    variance: Callable[[int], np.ndarray] = lambda n: theory.unnormalized_second_moment(n, SIDES)
    correlation: Callable[[str, int, np.ndarray], np.ndarray] = lambda family, depth, lag: np.exp(
        -lag * (1e-4 * 1.25**depth if family == "plain" else 1e-3 * depth)
    )
    path: Callable[[np.ndarray], np.ndarray] = lambda k: 0.01 * 0.25**k
    block_ratio: Callable[[np.ndarray], np.ndarray] = lambda number: np.sqrt(1 + 1 / number)


PLAIN = (
    NetworkKind("plain"),
    NetworkKind("plain", "none"),
    NetworkKind("plain", "none", "lecun"),
    NetworkKind("plain", "none", "uniform"),
    NetworkKind("plain", "none", "uniform", "linear"),
    NetworkKind("plain", "none", "uniform", "sigmoid"),
)

RESIDUAL = (
    NetworkKind("residual"),
    NetworkKind("residual", "none"),
    NetworkKind("residual", "none", "lecun"),
    NetworkKind("residual", "none", "uniform"),
    NetworkKind("residual", block_order="full-preactivation"),
    NetworkKind("residual", "none", block_order="full-preactivation"),
)


SIZES = (
    *(NetworkKind("plain", width=width) for width in WIDTHS),
    *(NetworkKind("plain", images=images) for images in BATCHES),
)
"""Planted at one depth, where there are networks as deep."""


def planted_initialization(
    depths: Sequence[int] = DEPTHS,
    seeds: int = 5,
    truth: Truth | None = None,
    *,
    networks: Sequence[NetworkKind] = PLAIN + RESIDUAL + SIZES,
    slope_sd: float = 0.002,
    noise: float = 0.02,
    random: int = 0,
) -> Frames:
    """Frames without runs that hold every quantity of these networks.

    Args:
        depths, seeds, networks: the grid.
        truth: what is planted.
        slope_sd: spread over seeds of ln of what grows per layer, block or branch.
        noise: relative, of every single value.
        random: seed of the noise.
    """
    truth = truth or Truth()
    rng = np.random.default_rng(random)
    parts = []
    for network in networks:
        for depth in depths if network not in SIZES else _sizes_depths(depths):
            for quantity, first, stage, values in _quantities(truth, network, depth):
                size = (seeds, len(values))
                index = np.arange(first, first + len(values))
                tilt = slope_sd * rng.normal(size=(seeds, 1)) * (index - first)
                jitter = np.exp(noise * rng.normal(size=size) - tilt)
                if quantity == "gradient_autocorrelation":
                    # One factor below 1 for all lags: no correlation exceeds that at lag 0.
                    jitter = np.exp(-noise * np.abs(rng.normal(size=(seeds, 1))) * (index > 0))
                rows = {"quantity": quantity, **dataclasses.asdict(network), "depth": depth}
                rows["seed"] = np.repeat(np.arange(seeds), len(values))
                rows |= {"index": np.tile(index, seeds), "stage": np.tile(stage, seeds)}
                parts.append(pd.DataFrame({**rows, "value": (values * jitter).ravel()}))
    signals = pd.concat(parts, ignore_index=True)[list(INITIALIZATION_COLUMNS)]
    return frames_of([])._replace(initialization=signals)


def _sizes_depths(depths: Sequence[int]) -> list[int]:
    return [SIZES_DEPTH] if max(depths) >= SIZES_DEPTH else []


Values = tuple[str, int, np.ndarray, np.ndarray]
"""Quantity, first index, stages, values."""


def _quantities(truth: Truth, network: NetworkKind, depth: int) -> list[Values]:
    n = (depth - 2) // 6
    layers = np.concatenate([[0], np.repeat([1, 2, 3], 2 * n)])
    blocks = np.repeat([1, 2, 3], n)
    if network.family == "plain":
        gradient = _plain_gradient(truth.factors(network), layers)
        made: list[Values] = [("activation_gradient_norm", 1, layers, gradient)]
        if network.normalization == "batch" and network not in SIZES:
            made.append(_correlation(truth, "plain", depth))
        return made
    made = []
    preactivated = network.block_order == "full-preactivation"
    behind = np.arange(depth - 2, -1, -1.0)
    if not preactivated:
        norm = truth.residual_norm if network.normalization == "batch" else truth.unnormalized_norm
        made.append(("activation_gradient_norm", 1, layers, norm(behind)))
    outputs = np.concatenate([[0], blocks])
    if network.normalization == "none":
        if network.initialization == "he":
            made += [
                ("channel_variance", 0, outputs, 0.34 * truth.variance(n)),
                ("channel_mean_square", 0, outputs, 0.16 * truth.variance(n)),
            ]
        return made
    # A rectified random walk keeps 1 - 2/π of its variance.
    branch = np.repeat(truth.branch_variance if preactivated else (0.36, 0.36, 0.36), n)
    added = (branch[0], branch[n], branch[2 * n])
    variance = theory.preactivation_variance(n, added)
    skip = [theory.carried(v, b, n) for b, v in enumerate(variance[:-1], start=1)]
    own = branch if preactivated else np.ones(3 * n)
    scale = theory.BRANCH_VARIANCE if preactivated else 1.0
    made += [
        ("branch_variance", 1, blocks, scale * own),
        ("skip_variance", 1, blocks, scale * np.array(skip)),
        ("channel_variance", 0, outputs, scale * variance),
        ("channel_mean_square", 0, outputs, theory.BRANCH_MEAN_SQUARE * variance),
    ]
    if not preactivated:
        number = np.tile(np.arange(n, 0, -1), 3)
        ratios = truth.block_ratio(number)
        norms = np.concatenate([np.cumprod(ratios[::-1])[::-1], [1.0]])
        made.append(("block_gradient_norm", 1, np.concatenate([blocks, [3]]), norms))
        made.append(_correlation(truth, "residual", depth))
        if depth == 110:
            k = np.arange(3 * n + 1)
            made.append(("path_gradient_norm", 0, np.zeros(len(k), int), truth.path(k)))
    return made


def _plain_gradient(factors: ByStage, layers: np.ndarray) -> np.ndarray:
    """Norm by layer, 0.01 at the last; a jump of 10 % where a stage ends."""
    steps = np.array([factors[max(stage, 1) - 1] for stage in layers[:-1]])
    jump = np.where(np.diff(layers) > 0, 1.1, 1.0)
    return 0.01 * np.concatenate([np.cumprod((steps * jump)[::-1])[::-1], [1.0]])


def _correlation(truth: Truth, family: str, depth: int) -> Values:
    lag = np.arange(65)
    return (
        "gradient_autocorrelation",
        0,
        np.zeros(65, int),
        truth.correlation(family, depth, lag.astype(float)),
    )


def few_arms() -> list[InitializationArm]:
    """Two of the networks at initialisation that the package measures, the shallowest."""
    arms = [arm for arm in ARMS if arm.model.depth == 8]
    chosen = [arm for arm in arms if "activation_gradient_norm" in arm.quantities][:2]
    assert len({arm.model.family for arm in arms}) == 2
    return chosen
