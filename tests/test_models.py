"""Networks against counts from the paper, NumPy in float64 and exact properties."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import Array

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.models import Network, layers_of, parameter_count, weights_of
from resnet_study.models.initialization import initializer
from resnet_study.models.layers import Convolution, convolve
from resnet_study.models.normalization import BatchNorm, batch_normalize
from resnet_study.models.shortcuts import Shortcut
from resnet_study.tensors import per_channel
from tests.drawn import normal

CIFAR, DIGITS = DATASETS["cifar10"], DATASETS["digits"]
PARAMETERS = {
    8: 75_290,
    14: 172_506,
    20: 269_722,
    32: 464_154,
    44: 658_586,
    56: 853_018,
    110: 1_727_962,
    1202: 19_421_274,
}


def parameters_of(spec: ModelSpec, shape=CIFAR) -> dict:
    abstract = nnx.eval_shape(lambda: Network(spec, shape, jax.random.key(0)))
    return nnx.to_pure_dict(nnx.state(abstract, nnx.Param))


def network(**model) -> tuple[Network, Array]:
    images = normal(1, (4, 8, 8, 3))
    shape = DATASETS["synthetic"]
    return Network(ModelSpec(**model), shape, jax.random.key(0)), images


@pytest.mark.parametrize("depth", sorted(PARAMETERS))
@pytest.mark.parametrize("residual", [False, True])
def test_parameters_and_depth_are_those_of_the_paper(depth: int, residual: bool) -> None:
    parameters = parameters_of(ModelSpec(depth=depth, residual=residual))
    assert parameter_count(parameters) == PARAMETERS[depth]
    weights = weights_of(parameters)
    assert len(weights) == len(layers_of(ModelSpec(depth=depth))) == depth
    # 2n layers on each of three map sizes, and the stem with the first.
    n = (depth - 2) // 6
    outputs = [weight.shape[-1] for weight in weights]
    assert outputs == [16] * (2 * n + 1) + [32] * 2 * n + [64] * 2 * n + [10]


def test_projection_shortcuts_add_their_own_parameters() -> None:
    count = {s: parameter_count(parameters_of(ModelSpec(shortcut=s))) for s in ("A", "B", "C")}
    # Two projections with normalisation where the width doubles; C adds seven more.
    two = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    seven = 3 * (16 * 16 + 2 * 16) + 2 * (32 * 32 + 2 * 32) + 2 * (64 * 64 + 2 * 64)
    assert count["B"] == count["A"] + two
    assert count["C"] == count["B"] + seven


def test_plain_and_residual_networks_start_from_equal_weights() -> None:
    shape, key = DATASETS["synthetic"], jax.random.key(0)
    plain, residual = (
        weights_of(
            nnx.to_pure_dict(
                nnx.state(Network(ModelSpec(depth=8, residual=r), shape, key), nnx.Param)
            )
        )
        for r in (False, True)
    )
    for a, b in zip(plain, residual, strict=True):
        np.testing.assert_array_equal(a, b)
    # All drawn apart from each other.
    assert len({np.asarray(weight).tobytes() for weight in plain}) == 8


def test_channels_and_size_follow_the_data() -> None:
    weights = weights_of(parameters_of(ModelSpec(depth=8, width=4), DIGITS))
    assert weights[0].shape == (3, 3, 1, 4)
    assert weights[-1].shape == (16, 10)


def test_layers_are_named_in_forward_order() -> None:
    layers = layers_of(ModelSpec(depth=14))
    names = [layer.name for layer in layers]
    assert names[0] == "stem"
    assert names[-1] == "head"
    assert names[1:5] == [f"stage1.block{b}.conv{c}" for b in (1, 2) for c in (1, 2)]
    assert [layer.stage for layer in layers] == [0, *[1] * 4, *[2] * 4, *[3] * 4, 4]


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_equals_its_definition(stride: int) -> None:
    layer = Convolution(
        2,
        3,
        kernel=3,
        stride=stride,
        bias=True,
        initializer=initializer(ModelSpec()),
        key=jax.random.key(3),
    )
    layer.bias[...] = jnp.arange(3.0)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = np.asarray(layer.kernel[...], float)
    size = 6 // stride
    expected = np.zeros((2, size, size, 3))
    for i in range(size):
        for j in range(size):
            patch = padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            expected[:, i, j] = np.einsum("nhwc,hwco->no", patch, kernel) + np.arange(3.0)
    np.testing.assert_allclose(layer(jnp.asarray(x, jnp.float32)), expected, rtol=2e-5, atol=2e-5)


def batch_norm_reference(z: Array, scale: Array, bias: Array) -> Array:
    mean = z.mean((0, 1, 2))
    variance = ((z - mean) ** 2).mean((0, 1, 2))
    return (z - mean) / (variance + 1e-5) ** 0.5 * scale + bias


def test_batch_norm_equals_numpy_in_float64_and_its_gradient_finite_differences() -> None:
    rng = np.random.default_rng(0)
    z = 3 + 2 * rng.normal(size=(3, 2, 2, 4))
    scale, bias, weights = rng.normal(size=4), rng.normal(size=4), rng.normal(size=z.shape)
    single = [jnp.asarray(v, jnp.float32) for v in (z, scale, bias)]
    response = batch_normalize(*single)[0]
    np.testing.assert_allclose(response, batch_norm_reference(z, scale, bias), atol=1e-5)

    gradients = jax.grad(lambda *v: (batch_normalize(*v)[0] * weights).sum(), argnums=(0, 1, 2))(
        *single
    )
    for index, gradient in enumerate(gradients):
        arguments = [z, scale, bias]
        numeric = np.zeros_like(arguments[index])
        for place in np.ndindex(numeric.shape):
            change = np.zeros_like(numeric)
            change[place] = 1e-5
            up, down = (
                (
                    batch_norm_reference(
                        *[v + s * change if k == index else v for k, v in enumerate(arguments)]
                    )
                    * weights
                ).sum()
                for s in (1, -1)
            )
            numeric[place] = (up - down) / 2e-5
        np.testing.assert_allclose(gradient, numeric, rtol=2e-3, atol=2e-4)


def test_batch_norm_keeps_running_statistics_and_uses_them_in_evaluation() -> None:
    norm = BatchNorm(2)
    z = 5 + 3 * normal(0, (64, 4, 4, 2))
    for _ in range(200):
        norm(z, train=True)
    np.testing.assert_allclose(norm.mean[...], z.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(norm.variance[...], z.var((0, 1, 2), ddof=1), rtol=1e-4)
    np.testing.assert_allclose(norm(z, train=False)[0], norm(z, train=True)[0], atol=1e-2)
    # One image alone: evaluation must not depend on the others of its batch.
    np.testing.assert_allclose(norm(z, train=False)[0][:1], norm(z[:1], train=False)[0], atol=1e-6)


def test_moments_of_a_response_follow_from_the_statistics_of_the_batch() -> None:
    norm = BatchNorm(3)
    norm.scale[...] = jnp.array([1.0, -2.0, 0.5])
    norm.bias[...] = jnp.array([0.0, 3.0, -1.0])
    # The second channel hardly varies, so that ε counts.
    sizes = per_channel(jnp.array([1.0, 0.003, 10.0]))
    z = sizes * normal(0, (32, 4, 4, 3))
    for images in (0, 8):
        norm.images = images
        response, moments = norm(z, train=True)
        expected = np.asarray(response, float)
        np.testing.assert_allclose(moments, [expected.mean(), expected.std()], rtol=1e-4)


def test_identity_shortcut_keeps_every_value_that_it_samples() -> None:
    shortcut = Shortcut(ModelSpec(), 4, 8, 2, jax.random.key(0))
    x = normal(0, (2, 6, 6, 4))
    y = shortcut(x, train=True)
    assert y.shape == (2, 3, 3, 8)
    np.testing.assert_array_equal(y[..., 2:6], x[:, ::2, ::2])
    assert not y[..., :2].any()
    assert not y[..., 6:].any()


def gradient_to_stem(residual: bool) -> tuple[float, float]:
    """Gradient norm of the stem's kernel before and after a later layer is set to zero."""
    model, images = network(depth=14, residual=residual)
    norms = []
    for _ in range(2):
        gradients = nnx.grad(lambda m: jnp.square(m(images, train=True)[0]).sum())(model)
        norms.append(float(jnp.linalg.norm(gradients.stem.conv.kernel[...])))
        model.blocks[3].layer2.conv.kernel[...] = jnp.zeros_like(
            model.blocks[3].layer2.conv.kernel[...]
        )
    return norms[0], norms[1]


def test_a_dead_layer_stops_the_gradient_of_a_plain_network_only() -> None:
    before, after = gradient_to_stem(residual=False)
    assert before > 0
    assert after == 0
    before, after = gradient_to_stem(residual=True)
    assert before > 0
    assert after > 0


def test_loss_does_not_depend_on_the_scale_of_a_normalised_convolution() -> None:
    model, images = network(depth=8)
    kernel = model.blocks[0].layer1.conv.kernel

    def loss(m: Network) -> Array:
        return jnp.square(m(images, train=True)[0]).sum()

    first, gradient = nnx.value_and_grad(loss)(model)
    small = gradient.blocks[0].layer1.conv.kernel[...]
    # Euler: a function of the direction alone has no gradient along the weights.
    along = jnp.vdot(kernel[...], small) / (jnp.linalg.norm(kernel[...]) * jnp.linalg.norm(small))
    assert abs(along) < 1e-4
    kernel[...] = 4 * kernel[...]
    second, gradient = nnx.value_and_grad(loss)(model)
    np.testing.assert_allclose(first, second, rtol=1e-4)
    np.testing.assert_allclose(
        gradient.blocks[0].layer1.conv.kernel[...], small / 4, rtol=2e-2, atol=1e-5
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_every_formulation_of_the_convolution_is_the_same_function(size: int, stride: int) -> None:
    x = normal(0, (3, size, size, 4))
    kernel = normal(1, (3, 3, 4, 5))

    def reference(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (stride,) * 2, ((1, 1),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    expected, pull_back = jax.vjp(reference, x, kernel)
    found, found_pull_back = jax.vjp(lambda x, kernel: convolve(x, kernel, stride), x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    direction = normal(2, expected.shape)
    for a, b in zip(found_pull_back(direction), pull_back(direction), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
