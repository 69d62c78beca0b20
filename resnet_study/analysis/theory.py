"""What theory says about the gradient norm of a plain network at initialisation.

Every factor is the growth of ‖∂L/∂z_l‖ per layer *toward the input*: above 1 the gradient
explodes, below 1 it vanishes. All of them are for wide layers of equal width; the stage
transitions of a real network, which change map size and channel count, are not in them.
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


def growth_toward_input(normalization: str, initialization: str) -> float:
    """Factor per layer for a plain network with these settings of `ModelSpec`.

    Args:
        normalization: ``batch`` or ``none``.
        initialization: ``he`` or ``lecun``; without effect under batch normalisation.
    """
    if normalization == "batch":
        return BN_RELU_GROWTH
    return {"he": HE_RELU_FACTOR, "lecun": LECUN_RELU_FACTOR}[initialization]


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
