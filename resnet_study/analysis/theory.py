"""What theory says about signals and gradients at initialisation.

A *factor* is the growth of ‖∂L/∂z_l‖ per layer *toward the input* of a plain network: above 1
the gradient explodes, below 1 it vanishes. Everything here is for wide layers; factors are for
layers of equal width on maps of equal size, and leave out zero padding (`padding_factor`) and the
stage transitions of a real network.
"""

from __future__ import annotations

import math

import numpy as np

BN_RELU_GROWTH = math.sqrt(math.pi / (math.pi - 1))
"""Batch normalisation and ReLU, infinite width, batch size to infinity: the squared norm
grows by π/(π−1) per layer. BN undoes any scale of the weights, so the initialisation does
not matter. Yang et al. 2019, arXiv 1902.08129."""

LECUN_RELU_FACTOR = 1 / math.sqrt(2)
"""ReLU without normalisation, weight variance 1/fan_in: the ReLU passes half of the squared
gradient and the weights do not make up for it. He et al. 2015, arXiv 1502.01852, section 2.2
with variance 1/n in place of 2/n."""

HE_RELU_FACTOR = 1.0
"""ReLU without normalisation, weight variance 2/fan_in, chosen so that the squared gradient
keeps its mean. He et al. 2015, arXiv 1502.01852, section 2.2."""

GAINS = {"he": 2.0, "lecun": 1.0, "glorot": 1.0, "uniform": 1 / 3}
"""Weight variance times the number of inputs; for Glorot's where inputs and outputs are equally
many. Uniform within ±1/√fan_in is the default that Glorot & Bengio 2010 found too small."""

PASSED = {"relu": 1 / 2, "linear": 1.0, "sigmoid": 1 / 16}
"""E[φ′(z)²], the part of the squared gradient that a nonlinearity passes: of ReLU for z symmetric
about 0; of the sigmoid at most, its slope being 1/4 at 0 and smaller elsewhere."""


def growth_toward_input(normalization: str, initialization: str, activation: str = "relu") -> float:
    """Factor per layer for a plain network with these settings of `ModelSpec`.

    Without normalisation √(n · Var w · E[φ′²]) with n inputs per unit: Glorot & Bengio 2010 (in
    the linear regime, φ′ = 1) and He et al. 2015, arXiv 1502.01852, section 2.2 (ReLU).

    Args:
        normalization: ``batch`` (then the activation is ReLU) or ``none``.
        initialization: a key of `GAINS`; without effect under batch normalisation.
        activation: a key of `PASSED`; for the sigmoid the factor is an upper bound.
    """
    if normalization == "batch":
        return BN_RELU_GROWTH
    return math.sqrt(GAINS[initialization] * PASSED[activation])


def padding_factor(side: int) -> float:
    """Factor per 3x3 layer with which zero padding multiplies a norm, on maps of side x side.

    The n of a unit at the border is smaller: it has 6 of 9 neighbours, 4 in a corner. Many layers
    pass the squared norm of the pixels on by the mean over the 3x3 window, with zeros around the
    map, whose largest eigenvalue is ((1 + 2 cos(π/(side + 1)))/3)²; the norm takes its root.

    This is without normalisation. Batch normalisation divides by a standard deviation that
    padding lowers alike, which cancels it (exactly where all pixels are corners).
    """
    return (1 + 2 * math.cos(math.pi / (side + 1))) / 3


def neighbour_share(side: int) -> float:
    """Mean share of the 3x3 window around a pixel that lies on a map of side x side pixels."""
    return ((3 * side - 2) / (3 * side)) ** 2


def theory_line(depth: int, growth: float) -> tuple[np.ndarray, np.ndarray]:
    """Gradient norm relative to that of the last 3x3 layer.

    Args:
        depth: weighted layers of the network.
        growth: factor per layer toward the input.

    Returns:
        The 3x3 layers 1 to depth - 1, and the relative norm of each; 1 at the last of them.
    """
    layers = np.arange(1, depth)
    return layers, growth ** (depth - 1.0 - layers)


def first_last_ratio(depth: int, growth: float) -> float:
    """Norm at the first 3x3 layer over that at the last one, growth^(depth − 2)."""
    return float(growth ** (depth - 2))


BRANCH_MEAN_SQUARE, BRANCH_VARIANCE = 1 / math.pi, 1 - 1 / math.pi
"""What a fully pre-activated branch with batch normalisation and He initialisation adds to the
squared mean and to the variance of a channel over images and pixels: its last convolution takes
ReLU(y) with y standard normal, of mean 1/√(2π) and second moment 1/2, with weights of variance
2/fan_in."""


def preactivation_variance(
    blocks: int, branches: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> np.ndarray:
    """Channel variance at the outputs of fully pre-activated blocks with batch normalisation.

    Every branch adds its variance to what the shortcut carries, which starts as the rectified
    stem at 1/2; option A appends as many zero channels as there are, which halves the mean over
    channels. Within the first stage Var(branch)/Var(skip) of block l is 1/(l − 1/2), which is the
    1/l of De & Smith 2020, arXiv 2002.10444, for another start. The squared channel mean obeys
    the same law.

    Args:
        blocks: per stage, n.
        branches: variance of a branch in each stage; `neighbour_share` of its maps with padding.

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
