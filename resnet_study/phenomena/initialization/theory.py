"""What theory says about blocks and paths at initialisation, for wide layers.

Gradients by layer: `resnet_study.phenomena.gradients.theory`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from resnet_study.phenomena.gradients.theory import padded_bn_moments, padding_factor

BRANCH_MEAN_SQUARE, BRANCH_VARIANCE = 1 / math.pi, 1 - 1 / math.pi
"""What a fully pre-activated branch with batch normalisation and He initialisation adds to the
squared mean and to the variance of a channel over images and pixels: its last convolution takes
ReLU(y) with y standard normal, of mean 1/√(2π) and second moment 1/2, with weights of variance
2/fan_in."""


def padded_branch(side: int) -> tuple[float, float]:
    """Variance and squared mean of such a branch with zero padding, on maps of side x side pixels.

    In units of `BRANCH_VARIANCE` and `BRANCH_MEAN_SQUARE`; of blocks whose input is made of many
    branches like it.
    """
    variance, mean_square = padded_bn_moments(side)
    return 2 * variance / BRANCH_VARIANCE, 2 * mean_square / BRANCH_MEAN_SQUARE


def preactivation_variance(blocks: int, branches: Sequence[float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Channel variance at the outputs of fully pre-activated blocks with batch normalisation.

    Every branch adds its variance to what the shortcut carries, which starts as the rectified
    stem at 1/2; option A appends as many zero channels as there are, which halves the mean over
    channels. Within the first stage Var(branch)/Var(skip) of block l is 1/(l − 1/2), which is the
    1/l of De & Smith 2020, arXiv 2002.10444, for another start. The squared channel mean obeys
    the same law.

    Args:
        blocks: per stage, n.
        branches: variance, or squared mean, of a branch in each stage (`padded_branch`).

    Returns:
        Shape (3n + 1,), after the stem and after every block, in units of `BRANCH_VARIANCE`
        (`BRANCH_MEAN_SQUARE` for the squared mean).
    """
    values = [0.5]
    for block in range(1, 3 * blocks + 1):
        values.append(carried(values[-1], block, blocks) + branches[(block - 1) // blocks])
    return np.array(values)


def unnormalized_second_moment(
    blocks: int, sides: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Second moment at the block outputs of a pre-activated network without normalisation.

    Under He initialisation a branch has the second moment of its input, if half of that is in
    positive values (the rectified stem gives the first blocks more), so that every block doubles
    it; padding takes `padding_factor`² of it at both layers of the branch. Where option A halves
    the mean over channels, the shortcut carries half.

    Args:
        blocks: per stage, n.
        sides: of the maps of each stage; None leaves padding out.

    Returns:
        Shape (3n + 1,), relative to that after the stem.
    """
    values = [1.0]
    for block in range(1, 3 * blocks + 1):
        kept = 1.0 if sides is None else padding_factor(sides[(block - 1) // blocks]) ** 4
        values.append(carried(values[-1], block, blocks) + kept * values[-1])
    return np.array(values)


def carried(value: float, block: int, blocks: int) -> float:
    """What shortcut A carries of a mean over channels: half where a new stage begins."""
    return value / 2 if block in (blocks + 1, 2 * blocks + 1) else value


def plain_gradient_correlation(layers: np.ndarray) -> np.ndarray:
    """Of the gradients at two inputs, 1/2^L: Balduzzi et al. 2017, arXiv 1702.08591."""
    return np.asarray(0.5 ** np.asarray(layers, dtype=float))


def residual_gradient_correlation(layers: np.ndarray, beta: float = 1.0) -> np.ndarray:
    """The same with shortcuts and batch normalisation, 1/(β√L) (ibid.)."""
    return np.asarray(1 / (beta * np.sqrt(np.asarray(layers, dtype=float))))


def path_shares(blocks: int) -> np.ndarray:
    """Share of the 2^B paths through B residual blocks that take k branches, shape (B + 1,).

    Binomial: Veit et al. 2016, arXiv 1605.06431.
    """
    return np.array([math.comb(blocks, k) / 2**blocks for k in range(blocks + 1)])
