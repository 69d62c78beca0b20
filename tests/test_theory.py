"""Theory lines against random networks, differentiated by hand."""

import itertools
import math
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.judging.statistics import log_slope
from resnet_study.phenomena.gradients import theory as gradient_theory
from resnet_study.phenomena.initialization import theory
from resnet_study.phenomena.initialization.chain import backpropagate, make_chain, propagate
from resnet_study.phenomena.initialization.measuring import first_batch, stages_of
from resnet_study.tensors import arithmetic
from resnet_study.training.programs import keys_of

GAINS = {"he": 2.0, "lecun": 1.0, "uniform": 1 / 3}
ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "linear": (lambda z: z, np.ones_like),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + np.exp(z) + np.exp(-z))),
}


def simulated_growth(
    normalization: str, initialization: str, activation: str = "relu", layers: int = 20
) -> float:
    """Growth per layer of ‖∂L/∂z‖ toward the input of a wide random network."""
    width, batch = 400, 400
    rng = np.random.default_rng(0)
    gain = GAINS[initialization]
    act, slope = ACTIVATIONS[activation]
    x = rng.normal(size=(batch, width))
    weights, caches = [], []
    for _ in range(layers):
        w = rng.normal(size=(width, width)) * math.sqrt(gain / width)
        z = x @ w
        sd = z.std(axis=0) if normalization == "batch" else np.ones(width)
        y = (z - z.mean(axis=0)) / sd if normalization == "batch" else z
        weights.append(w)
        caches.append((y, sd))
        x = act(y)
    gradient = rng.normal(size=x.shape)
    norms = []
    for w, (y, sd) in zip(reversed(weights), reversed(caches), strict=True):
        g = gradient * slope(y)
        if normalization == "batch":
            g = (g - g.mean(axis=0) - y * (g * y).mean(axis=0)) / sd
        norms.append(np.linalg.norm(g))
        gradient = g @ w.T
    # The first layers behind the random gradient, and those next to the random input, have
    # not reached the fixed point.
    norms = norms[3:-3]
    return float((norms[-1] / norms[0]) ** (1 / (len(norms) - 1)))


@pytest.mark.parametrize(
    ("normalization", "initialization", "activation"),
    [
        ("batch", "he", "relu"),
        ("batch", "lecun", "relu"),
        ("none", "he", "relu"),
        ("none", "lecun", "relu"),
        ("none", "uniform", "relu"),
        ("none", "uniform", "linear"),
    ],
)
def test_growth_agrees_with_a_wide_random_network(
    normalization: str, initialization: str, activation: str
) -> None:
    measured = simulated_growth(normalization, initialization, activation)
    predicted = gradient_theory.growth_toward_input(normalization, initialization, activation)
    assert measured == pytest.approx(predicted, rel=0.03)


def test_sigmoid_passes_less_than_its_bound_and_not_much_less() -> None:
    measured = simulated_growth("none", "uniform", "sigmoid")
    bound = gradient_theory.growth_toward_input("none", "uniform", "sigmoid")
    assert 0.95 * bound < measured < bound


def test_the_values() -> None:
    assert pytest.approx(1.211, abs=5e-4) == gradient_theory.BN_RELU_GROWTH
    assert pytest.approx(0.5) == gradient_theory.LECUN_RELU_FACTOR**2
    values = [("relu", 6**-0.5), ("linear", 3**-0.5), ("sigmoid", 48**-0.5)]
    for activation, expected in values:
        factor = gradient_theory.growth_toward_input("none", "uniform", activation)
        assert factor == pytest.approx(expected)


SETTINGS = {
    field: get_args(hint) for field, hint in get_type_hints(ModelSpec).items() if get_args(hint)
}


@pytest.mark.parametrize(
    ("normalization", "initialization", "activation"),
    [*itertools.product(*(SETTINGS[f] for f in ("normalization", "initialization", "activation")))],
)
def test_every_plain_network_has_the_theory_that_is_about_it_or_none(
    normalization: Any, initialization: Any, activation: Any
) -> None:
    model = ModelSpec(
        residual=False,
        normalization=normalization,
        initialization=initialization,
        activation=activation,
    )
    growth = gradient_theory.growth_of(model, 128)
    if growth is None:
        return
    assert normalization in ("batch", "none")
    assert activation in ("relu", "linear")
    assert ("mean-field" in growth.name) == (normalization == "batch")
    settings = (normalization, initialization, activation)
    assert growth.factor == gradient_theory.growth_toward_input(*settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"initialization": "orthogonal"},
        {"initialization": "delta-orthogonal"},
        {"pooling": "max"},
        {"batch_norm_images": 2},
        {"batch_norm_images": gradient_theory.LEAST_IMAGES},
    ],
    ids=str,
)
def test_there_is_a_theory_where_a_network_grows_as_it_has_it(fields: Any) -> None:
    """Growth of a network on digits, within stages, beside the mean field with zero padding."""
    model = ModelSpec(depth=32, residual=False, precision="float64", **fields)
    growths = []
    with arithmetic("float64"):
        for seed in range(3):
            chain = make_chain(model, DATASETS["digits"], keys_of(seed).initialization)
            batch = first_batch(seed)
            signal = propagate(chain, batch.images)
            norms = backpropagate(chain, signal, batch.labels).layers[1:]
            stages = stages_of(model, 2).tolist()
            growths.append(np.exp(-log_slope(np.arange(len(norms)), np.asarray(norms), stages)))
    expected = np.exp(
        np.mean([np.log(gradient_theory.padded_bn_growth(side)) for side in (8, 4, 2)])
    )
    far = abs(np.median(growths) / expected - 1)
    assert (far < 0.01) == (gradient_theory.growth_of(model, 128) is not None), growths


def test_few_images_have_no_theory_whether_they_are_the_batch_or_a_part_of_it() -> None:
    model, few = ModelSpec(residual=False), gradient_theory.LEAST_IMAGES - 1
    assert gradient_theory.growth_of(model, few) is None
    assert gradient_theory.growth_of(replace(model, batch_norm_images=few), 128) is None
    free = replace(model, normalization="none")
    assert gradient_theory.growth_of(free, few) is not None


def test_line_is_anchored_at_the_last_3x3_layer() -> None:
    layers, norms = gradient_theory.theory_line(20, 1.2)
    assert list(layers) == list(range(1, 20))
    assert norms[-1] == 1
    assert norms[:-1] / norms[1:] == pytest.approx(np.full(18, 1.2))
    assert norms[0] == pytest.approx(gradient_theory.first_last_ratio(20, 1.2))


def neighbourhood(side: int) -> np.ndarray:
    """Matrix that averages the pixels of a map over 3x3 windows, zeros around it."""
    near = np.abs(np.subtract.outer(np.arange(side), np.arange(side))) <= 1
    return np.kron(near, near) / 9


@pytest.mark.parametrize("side", [1, 2, 3, 8, 32])
def test_padding_factor_is_the_root_of_the_largest_eigenvalue(side: int) -> None:
    largest = np.linalg.eigvalsh(neighbourhood(side)).max()
    assert gradient_theory.padding_factor(side) == pytest.approx(math.sqrt(largest))


@pytest.mark.parametrize("side", [2, 4])
def test_padding_factor_is_that_of_a_random_convolutional_network(side: int) -> None:
    """ReLU, He initialisation, gradients of 3x3 convolutions as sparse matrices."""
    rng, channels, layers = np.random.default_rng(1), 96, 12
    window = neighbourhood(side) > 0
    rows, columns = np.nonzero(window)
    shift = (rows // side - columns // side + 1) * 3 + rows % side - columns % side + 1
    g = rng.normal(size=(side**2, channels))
    norms = []
    for _ in range(layers):
        kernels = rng.normal(size=(9, channels, channels)) * math.sqrt(2 / (9 * channels))
        back = np.zeros_like(g)
        np.add.at(back, rows, np.einsum("pc,pcd->pd", g[columns], kernels[shift]))
        g = back * (rng.random(back.shape) < 0.5)
        norms.append(np.linalg.norm(g))
    factor = (norms[-1] / norms[3]) ** (1 / (layers - 4))
    assert factor == pytest.approx(gradient_theory.padding_factor(side), rel=0.05)


@pytest.mark.parametrize("side", [2, 4])
def test_padded_growth_is_that_of_a_wide_network_with_batch_normalisation(side: int) -> None:
    """3x3 convolutions with zeros around the map as one matrix each, differentiated by hand."""
    rng, channels, images, layers = np.random.default_rng(1), 160, 48, 12
    window = neighbourhood(side) > 0
    rows, columns = np.nonzero(window)
    shift = (rows // side - columns // side + 1) * 3 + rows % side - columns % side + 1
    pixels, count = side**2, images * side**2
    x = rng.normal(size=(images, pixels, channels))
    kept = []
    for _ in range(layers):
        kernels = rng.normal(size=(9, channels, channels)) / math.sqrt(9 * channels)
        matrix = np.zeros((pixels, pixels, channels, channels))
        matrix[rows, columns] = kernels[shift]
        matrix = matrix.transpose(1, 2, 0, 3).reshape(pixels * channels, -1)
        z = (x.reshape(images, -1) @ matrix).reshape(count, channels)
        deviation = z.std(axis=0)
        y = (z - z.mean(axis=0)) / deviation
        kept.append((matrix, y, deviation))
        x = np.maximum(y, 0)
    variance, mean_square = gradient_theory.padded_bn_moments(side, images)
    assert np.mean(deviation**2) == pytest.approx(variance, rel=0.05)
    assert np.mean(z.mean(axis=0) ** 2) == pytest.approx(mean_square, rel=0.4)
    gradient, norms = rng.normal(size=(count, channels)), []
    for matrix, y, deviation in reversed(kept):
        g = gradient * (y > 0)
        g = (g - g.mean(axis=0) - y * (g * y).mean(axis=0)) / deviation
        norms.append(np.linalg.norm(g))
        gradient = (g.reshape(images, -1) @ matrix.T).reshape(count, channels)
    growth = (norms[-4] / norms[2]) ** (1 / (layers - 6))
    assert growth == pytest.approx(gradient_theory.padded_bn_growth(side, images), rel=0.02)
    assert growth < 0.98 * gradient_theory.BN_RELU_GROWTH


def test_padded_growth_nears_that_without_borders_on_large_maps_alone() -> None:
    factors = [gradient_theory.padded_bn_growth(side) for side in (2, 4, 8, 12)]
    assert factors == sorted(factors)
    assert factors[-1] < gradient_theory.BN_RELU_GROWTH
    # One pixel: the centre of the kernel is a fully connected layer, and nothing is padded away
    # but weights that would multiply zeros.
    alone = gradient_theory.padded_bn_growth(1)
    assert alone == pytest.approx(gradient_theory.BN_RELU_GROWTH)
    variance, mean_square = gradient_theory.padded_bn_moments(1)
    assert 9 * variance == pytest.approx((1 - 1 / math.pi) / 2)
    assert 9 * mean_square == pytest.approx(1 / (2 * math.pi))


def simulated_residual(normalization: str, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances of branch and skip in a wide pre-activated network without transitions."""
    width, batch = 500, 500
    rng = np.random.default_rng(2)

    def normalized(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(axis=0)) / x.std(axis=0) if normalization == "batch" else x

    def layer(x: np.ndarray) -> np.ndarray:
        w = rng.normal(size=(width, width)) * math.sqrt(2 / width)
        return np.maximum(normalized(x), 0) @ w

    x = rng.normal(size=(batch, width))
    x = np.maximum(x, 0) if normalization == "batch" else x
    branches, skips = [], []
    for _ in range(blocks):
        branch = layer(layer(x))
        pair = (branch, x) if normalization == "batch" else (branch**2, x**2)
        measured = [(p.var(axis=0) if normalization == "batch" else p).mean() for p in pair]
        branches.append(measured[0])
        skips.append(measured[1])
        x = x + branch
    return np.array(branches), np.array(skips)


def test_branch_variance_over_skip_variance_falls_as_one_over_the_block() -> None:
    branch, skip = simulated_residual("batch", 8)
    np.testing.assert_allclose(branch, theory.BRANCH_VARIANCE, rtol=0.05)
    np.testing.assert_allclose(skip, theory.BRANCH_VARIANCE * (np.arange(8) + 0.5), rtol=0.05)
    np.testing.assert_allclose(theory.preactivation_variance(8)[:8], np.arange(8) + 0.5)


def test_second_moment_doubles_without_normalisation() -> None:
    branch, skip = simulated_residual("none", 6)
    np.testing.assert_allclose(branch / skip, 1, rtol=0.15)
    assert theory.unnormalized_second_moment(4)[:5] == pytest.approx(2.0 ** np.arange(5))


def test_transitions_halve_what_the_shortcut_carries() -> None:
    variance = theory.preactivation_variance(2, (1.0, 0.5, 0.25))
    assert variance == pytest.approx([0.5, 1.5, 2.5, 1.75, 2.25, 1.375, 1.625])
    assert theory.unnormalized_second_moment(1) == pytest.approx([1, 2, 3, 4.5])
    padded = theory.unnormalized_second_moment(1, (8, 4, 2))
    # All pixels of a 2x2 map are corners: both layers of the branch keep 4 of 9.
    assert padded[3] / padded[2] == pytest.approx(0.5 + (4 / 9) ** 2)


def test_path_shares_are_those_of_all_subsets_of_blocks() -> None:
    lengths = [bin(subset).count("1") for subset in range(2**10)]
    expected = np.bincount(lengths) / 2**10
    np.testing.assert_allclose(theory.path_shares(10), expected)
    # Veit et al. 2016: 5 to 17 of 54 branches are 0.45 % of the paths.
    assert theory.path_shares(54)[5:18].sum() == pytest.approx(0.0045, abs=5e-5)
    assert theory.path_shares(600).sum() == pytest.approx(1)


def test_correlations_fall_exponentially_and_as_the_root() -> None:
    layers = np.array([1, 2, 4])
    assert theory.plain_gradient_correlation(layers) == pytest.approx([1 / 2, 1 / 4, 1 / 16])
    residual = theory.residual_gradient_correlation(layers, beta=0.5)
    assert residual == pytest.approx([2, math.sqrt(2), 1])
