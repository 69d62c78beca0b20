"""Theory lines against random networks, differentiated by hand."""

import math

import numpy as np
import pytest

from resnet_study.analysis import theory


def simulated_growth(normalization: str, initialization: str, layers: int) -> float:
    """Growth per layer of ‖∂L/∂z‖ toward the input of a wide random ReLU network."""
    width, batch = 400, 400
    rng = np.random.default_rng(0)
    gain = {"he": 2.0, "lecun": 1.0}[initialization]
    x = rng.normal(size=(batch, width))
    weights, caches = [], []
    for _ in range(layers):
        w = rng.normal(size=(width, width)) * math.sqrt(gain / width)
        z = x @ w
        sd = z.std(axis=0) if normalization == "batch" else np.ones(width)
        y = (z - z.mean(axis=0)) / sd if normalization == "batch" else z
        weights.append(w)
        caches.append((y, sd))
        x = np.maximum(y, 0)
    gradient = rng.normal(size=x.shape)
    norms = []
    for w, (y, sd) in zip(reversed(weights), reversed(caches), strict=True):
        g = gradient * (y > 0)
        if normalization == "batch":
            g = (g - g.mean(axis=0) - y * (g * y).mean(axis=0)) / sd
        norms.append(np.linalg.norm(g))
        gradient = g @ w.T
    # The first layers behind the random gradient, and those next to the random input, have
    # not reached the fixed point.
    norms = norms[3:-3]
    return float((norms[-1] / norms[0]) ** (1 / (len(norms) - 1)))


@pytest.mark.parametrize(
    ("normalization", "initialization"),
    [("batch", "he"), ("batch", "lecun"), ("none", "he"), ("none", "lecun")],
)
def test_growth_agrees_with_a_wide_random_network(normalization: str, initialization: str) -> None:
    measured = simulated_growth(normalization, initialization, layers=20)
    predicted = theory.growth_toward_input(normalization, initialization)
    assert measured == pytest.approx(predicted, rel=0.03)


def test_the_values() -> None:
    assert pytest.approx(1.211, abs=5e-4) == theory.BN_RELU_GROWTH
    assert pytest.approx(0.5) == theory.LECUN_RELU_FACTOR**2


def test_line_is_anchored_at_the_last_3x3_layer() -> None:
    layers, norms = theory.theory_line(20, 1.2)
    assert list(layers) == list(range(1, 20))
    assert norms[-1] == 1
    assert norms[:-1] / norms[1:] == pytest.approx(np.full(18, 1.2))
    assert norms[0] == pytest.approx(theory.first_last_ratio(20, 1.2))
