"""Initial weights: variances, orthogonality, and what Fixup does to them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.models import Network, initialization, weights_of
from resnet_study.models.initialization import initializer, scaled
from tests.drawn import normal


def weights(**model) -> list[jax.Array]:
    made = Network(ModelSpec(**{"depth": 20, **model}), DATASETS["synthetic"], jax.random.key(0))
    return weights_of(nnx.to_pure_dict(nnx.state(made, nnx.Param)))


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("he", lambda fan_in, fan_out: 2 / fan_in),
        ("lecun", lambda fan_in, fan_out: 1 / fan_in),
        ("glorot", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("uniform", lambda fan_in, fan_out: 1 / (3 * fan_in)),
    ],
)
def test_variances_are_those_of_the_papers(name: str, variance) -> None:
    for weight in weights(initialization=name)[1:]:
        pixels = weight.size // (weight.shape[-1] * weight.shape[-2])
        fan_in, fan_out = pixels * weight.shape[-2], pixels * weight.shape[-1]
        # The variance of n normal values scatters by sqrt(2 / n) of itself, of uniform ones less.
        ratio = float(weight.var()) / variance(fan_in, fan_out)
        assert abs(ratio - 1) < 5 * (2 / weight.size) ** 0.5
        if name == "uniform":
            assert jnp.abs(weight).max() <= fan_in**-0.5


@pytest.mark.parametrize("name", ["he", "uniform"])
@pytest.mark.parametrize(
    "shape", [(7,), (64, 10), (3, 3, 16, 16), (4095,), (4096,), (3, 3, 64, 64), (3, 3, 64, 66)]
)
def test_layers_that_share_a_program_get_the_numbers_of_their_own(name: str, shape) -> None:
    draw = initializer(ModelSpec(initialization=name))
    shape = shape if len(shape) > 1 else (*shape, 1)
    alone = jax.jit(draw, static_argnums=(1, 2))  # within a program each shape is drawn as it is
    for seed in range(3):
        key = jax.random.key(seed)
        found = draw(key, shape, jnp.float32)
        np.testing.assert_allclose(found, alone(key, shape, jnp.float32), rtol=1e-6, atol=1e-6)


def test_weights_of_a_network_are_drawn_by_few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cold start compiles them, and took longest where every shape had its own."""
    shapes, compiled = set(), initialization._quickly_compiled

    def watched(distribution):
        def draw(key, shape, dtype):
            shapes.add(shape)
            return compiled(distribution)(key, shape, dtype)

        return draw

    monkeypatch.setattr(initialization, "_quickly_compiled", watched)
    weights()
    assert shapes == {(length,) for length in initialization.LENGTHS}


@pytest.mark.parametrize(("activation", "gain"), [("tanh", 1.0), ("linear", 1.0), ("relu", 2.0)])
def test_orthogonal_kernels_have_equal_singular_values(activation: str, gain: float) -> None:
    for weight in weights(initialization="orthogonal", activation=activation):
        matrix = np.asarray(weight, np.float64).reshape(-1, weight.shape[-1])
        values = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(values, gain**0.5, rtol=1e-5)


def test_a_delta_orthogonal_convolution_keeps_every_norm() -> None:
    """Xiao et al. 2018, section 3: the convolution is an isometry, padding or not."""
    draw = initializer(ModelSpec(initialization="delta-orthogonal", activation="tanh"))
    kernel = draw(jax.random.key(0), (3, 3, 8, 16), jnp.float32)
    assert np.flatnonzero(np.abs(kernel).sum(axis=(2, 3))).tolist() == [4]
    x = normal(1, (2, 5, 5, 8))
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    norms = [jnp.linalg.norm(v, axis=-1) for v in (x, y)]
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-5)


def test_a_scaled_draw_is_the_same_draw() -> None:
    draw, shape = initializer(ModelSpec()), (3, 3, 4, 5)
    whole = draw(jax.random.key(0), shape, jnp.float32)
    half = scaled(draw, 0.5)(jax.random.key(0), shape, jnp.float32)
    np.testing.assert_array_equal(half, 0.5 * whole)


def test_fixup_scales_branches_and_zeroes_their_ends() -> None:
    """Zhang et al. 2019: first layers of a branch times L^(-1/2), last ones and classifier 0."""
    he = weights(depth=20, normalization="none")
    fixup = weights(depth=20, normalization="none", branch_scaling="fixup")
    np.testing.assert_array_equal(fixup[0], he[0])
    for first, last in zip(range(1, 19, 2), range(2, 19, 2), strict=True):
        np.testing.assert_allclose(fixup[first], he[first] * 9**-0.5, rtol=1e-6)
        assert not fixup[last].any()
    assert not fixup[-1].any()
