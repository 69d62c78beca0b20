"""How far the gradient of a network resembles itself from one image to the next.

Balduzzi et al. 2017 (arXiv 1702.08591) take the gradient of a scalar output at points along a
line and ask how its autocorrelation falls with their distance: slowly, like that of a random
walk, in shallow and residual networks, at once, like that of white noise, in deep plain ones.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from resnet_study.phenomena.initialization.arms import GRID, LAGS
from resnet_study.phenomena.initialization.chain import Chain, backpropagate, propagate


def line_autocorrelation(
    chain: Chain, start: Array, end: Array, points: int = GRID, lags: int = LAGS
) -> np.ndarray:
    """Autocorrelation of the gradient of the first logit along the way between two images.

    The points are one mini-batch, whose statistics a normalisation uses, and the gradient at a
    point is that of the sum over all of them, as backpropagation in training has it.

    Args:
        chain: the network.
        start, end: images (H, W, channels), mean subtracted.
        points: on the way, both ends included.
        lags: largest lag.
    """
    way = jnp.linspace(0.0, 1.0, points, dtype=start.dtype)[:, None, None, None]
    images = (1 - way) * start[None] + way * end[None]
    gradient = backpropagate(chain, propagate(chain, images), None).images
    return autocorrelation(np.asarray(gradient, np.float64).reshape(points, -1), lags)


def autocorrelation(gradients: np.ndarray, lags: int) -> np.ndarray:
    """Of a sequence of N vectors g_i: R(k)/R(0), R(k) = mean of ⟨g_i, g_(i+k)⟩ over i ≤ N - k.

    No mean is subtracted: over random weights, which theory averages over, that of the gradient
    is 0. The N - k terms there are for lag k are averaged, so that a constant sequence has 1
    at every lag, and noise has 0 in expectation.

    Args:
        gradients: (N, dimensions).
        lags: largest lag, below N.

    Returns:
        (lags + 1,); NaN where all gradients are 0.
    """
    number = len(gradients)
    largest = np.abs(gradients).max()
    # Of the gradient only the direction and the relative size count.
    scaled = gradients / largest if largest > 0 else np.full_like(gradients, np.nan)
    products = [
        np.vdot(scaled[: number - lag], scaled[lag:]) / (number - lag) for lag in range(lags + 1)
    ]
    return np.array(products) / products[0]
