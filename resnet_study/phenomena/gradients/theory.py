"""What theory says about gradients at initialisation.

A *factor* is the growth of ‖∂L/∂z_l‖ per layer *toward the input* of a plain network: above 1
the gradient explodes, below 1 it vanishes. Everything here is for wide layers; factors are for
layers of equal width on maps of equal size, and leave out the stage transitions of a real network;
zero padding is in `padding_factor` and `padded_bn_growth`.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from resnet_study.architecture import ModelSpec

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


LEAST_IMAGES = 16
"""Fewest images whose statistics were measured to be as good as those of many: the growth is the
same within 1 % (`initial_factor_bn_plain_images` of the study `signal_propagation`)."""


class Growth(NamedTuple):
    """A factor per layer toward the input, and the theory that it is from."""

    factor: float
    name: str


def growth_of(model: ModelSpec, images: int) -> Growth | None:
    """What theory predicts for a network; None where there is no theory.

    That is for plain networks of basic blocks with ReLU and batch normalisation over `LEAST_IMAGES`
    images or more, or with neither normalisation nor a saturating nonlinearity, if the weights of
    a window are independent; under batch normalisation orthogonal ones are as good, but none that
    leave all of the window but its centre empty. How the last map is pooled changes where the
    gradient begins, and not how it grows.

    Args:
        model: the network.
        images: of its mini-batches.
    """
    if model.residual or model.block != "basic":
        return None
    independent = model.initialization in GAINS
    if model.normalization == "batch" and model.activation == "relu":
        enough = (model.batch_norm_images or images) >= LEAST_IMAGES
        covered = enough and (independent or model.initialization == "orthogonal")
        name = "mean-field theory √(π/(π−1)), wide layers"
    else:
        free = model.normalization == "none" and model.activation in ("relu", "linear")
        covered = free and independent
        name = "√(n·Var w·E[φ′²]), wide layers without borders"
    if not covered:
        return None
    settings = (model.normalization, model.initialization, model.activation)
    return Growth(growth_toward_input(*settings), name)


def growth_toward_input(normalization: str, initialization: str, activation: str = "relu") -> float:
    """Factor per layer for a plain network with these settings of `ModelSpec`.

    Without normalisation √(n · Var w · E[φ′²]) with n inputs per unit: Glorot & Bengio 2010 (in
    the linear regime, φ′ = 1) and He et al. 2015, arXiv 1502.01852, section 2.2 (ReLU).

    Args:
        normalization: ``batch`` (then the activation is ReLU) or ``none``.
        initialization: a key of `GAINS`; under batch normalisation any of `growth_of`.
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

    This is without normalisation; with batch normalisation see `padded_bn_growth`.
    """
    return (1 + 2 * math.cos(math.pi / (side + 1))) / 3


class OutputMoments(NamedTuple):
    """Of the output of a convolution whose weights have variance 1/fan_in.

    Attributes:
        variance: over images and pixels, mean over channels.
        mean_square: squared mean over images and pixels, mean over channels.
    """

    variance: float
    mean_square: float


@functools.cache
def padded_bn_moments(side: int, images: float = math.inf) -> OutputMoments:
    """Behind many 3x3 layers with zero padding, batch normalisation and ReLU, infinitely wide.

    The mean field of Yang et al. 2019, arXiv 1902.08129, carried over to convolutions by this
    project. Over infinitely many channels a response is Gaussian, and its covariance between two
    pixels, of one image or of two, follows from that of the layer before: through ReLU (Cho & Saul
    2009), the 3x3 window of independent weights with zeros around the map, and batch
    normalisation, which subtracts the mean over images and pixels and divides by the root of the
    mean variance. Returned is the fixed point; without padding it is (1 − 1/π)/2 and 1/(2π).

    Args:
        side, images: of the map in pixels, and of the mini-batch.
    """
    pixels, same = side * side, 1 / images
    # Covariances (pixels, pixels) between two images, and within one.
    between, within = np.zeros((pixels, pixels)), np.eye(pixels)
    variance, mean_square, change = math.inf, 0.0, math.inf
    while change > 1e-9:
        means = (1 - same) * between.mean(axis=1) + same * within.mean(axis=1)
        mean_square = float(means.mean())
        shared = means[:, None] + means[None, :] - mean_square
        between, within = between - shared, within - shared
        before, variance = variance, float(np.trace(within) / pixels)
        change = abs(variance / before - 1)
        sizes = np.diag(within) / variance
        between, within = (
            _window_mean(_rectified(own / variance, sizes), side) for own in (between, within)
        )
    return OutputMoments(variance, mean_square)


def padded_bn_growth(side: int, images: float = math.inf) -> float:
    """`BN_RELU_GROWTH` with zero padding around maps of side x side pixels, for 3x3 layers.

    The squared norm grows by E[φ′²] λ/s per layer toward the input: λ, the square of
    `padding_factor`, is what padding leaves, and s the variance of `padded_bn_moments`, by which
    batch normalisation divides. Padding lowers s too. The two would cancel if it divided by the
    second moment; but it first subtracts a squared mean, which padding lowers more. Left out is
    what batch normalisation takes out of the gradient, 2 of a channel's images x pixels directions.
    """
    variance = padded_bn_moments(side, images).variance
    return math.sqrt(PASSED["relu"] / variance) * padding_factor(side)


def _rectified(covariance: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """E[ReLU(u) ReLU(v)] of centred Gaussians: Cho & Saul 2009, NIPS, the kernel of order 1."""
    scale = np.sqrt(np.outer(variances, variances))
    cosine = np.clip(covariance / scale, -1, 1)
    angle = np.arccos(cosine)
    return np.asarray(scale * (np.sin(angle) + (math.pi - angle) * cosine) / (2 * math.pi))


def _window_mean(covariance: np.ndarray, side: int) -> np.ndarray:
    """Of two pixels: the mean over the windows around them, moved together, zeros outside."""
    padded = np.pad(covariance.reshape((side,) * 4), 1)
    ranges = [slice(start, start + side) for start in range(3)]
    moved = [padded[rows, columns, rows, columns] for rows in ranges for columns in ranges]
    return np.asarray(np.sum(moved, axis=0) / 9).reshape(covariance.shape)


def theory_line(depth: int, growth: float) -> tuple[np.ndarray, np.ndarray]:
    """The 3x3 layers 1 to depth - 1, and the gradient norm of each relative to the last of them."""
    layers = np.arange(1, depth)
    return layers, growth ** (depth - 1.0 - layers)


def first_last_ratio(depth: int, growth: float) -> float:
    """Norm at the first 3x3 layer over that at the last one, growth^(depth − 2)."""
    return float(growth ** (depth - 2))
