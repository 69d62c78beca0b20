"""Each normalisation by its defining property, and batch normalisation in groups of images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study.architecture import ModelSpec
from resnet_study.models.normalization import BatchNorm, GroupNorm, normalization
from tests.drawn import normal

KEY = jax.random.key(0)


def images(count: int = 8, channels: int = 16) -> jax.Array:
    return 3.0 + 2.0 * normal(0, (count, 4, 4, channels))


@pytest.mark.parametrize(
    ("norm", "axes", "shape"),
    [
        (BatchNorm(16), (0, 1, 2), (8, 4, 4, 16)),
        (BatchNorm(16, images=4), (1, 2, 3), (2, 4, 4, 4, 16)),
        (GroupNorm(16, 8), (1, 2, 4), (8, 4, 4, 8, 2)),
        (GroupNorm(16, 1), (1, 2, 4), (8, 4, 4, 1, 16)),
    ],
    ids=["batch", "batch of 4", "group", "layer"],
)
def test_what_is_normalised_has_mean_0_and_variance_1(norm, axes, shape) -> None:
    z = images()
    response, _ = norm(z, train=True)
    parts = np.asarray(response, float).reshape(shape)
    np.testing.assert_allclose(parts.mean(axes), 0, atol=1e-6)
    np.testing.assert_allclose(parts.var(axes), 1, rtol=1e-3)
    # Neither does it depend on the scale of what comes in.
    np.testing.assert_allclose(norm(7 * z, train=True)[0], response, atol=1e-3)


def test_layer_and_group_normalisation_see_one_image_at_a_time() -> None:
    z = images()
    for groups in (1, 8):
        norm = GroupNorm(16, groups)
        together, _ = norm(z, train=True)
        alone, _ = norm(z[:1], train=False)
        np.testing.assert_allclose(together[:1], alone, rtol=1e-5)


def test_batch_normalisation_in_groups_is_that_of_each_device() -> None:
    """Two groups of 4 images equal two networks with 4 images each, gradients included."""
    z = images()
    target = normal(1, z.shape)

    def loss(z: jax.Array, target: jax.Array, count: int) -> jax.Array:
        return jnp.sum(target * BatchNorm(16, count)(z, train=True)[0])

    value, gradient = jax.value_and_grad(loss)(z, target, 4)
    parts = [
        jax.value_and_grad(loss)(z[half], target[half], 0) for half in (slice(0, 4), slice(4, 8))
    ]
    np.testing.assert_allclose(value, sum(v for v, _ in parts), rtol=1e-4)
    np.testing.assert_allclose(gradient, jnp.concatenate([g for _, g in parts]), atol=1e-5)


@pytest.mark.parametrize("count", [0, 4])
def test_running_statistics_are_the_mean_over_the_groups(count: int) -> None:
    z = images()
    norm = BatchNorm(16, count)
    for _ in range(200):
        norm(z, train=True)
    groups = np.asarray(z, float).reshape(-1, count or 8, 4, 4, 16)
    np.testing.assert_allclose(norm.mean[...], groups.mean((0, 1, 2, 3)), rtol=1e-4)
    expected = groups.var((1, 2, 3), ddof=1).mean(0)
    np.testing.assert_allclose(norm.variance[...], expected, rtol=1e-4)


def test_the_spec_chooses() -> None:
    assert normalization(ModelSpec(normalization="none"), 16) is None
    chosen = {name: normalization(ModelSpec(normalization=name), 16) for name in ("layer", "group")}
    assert [chosen["layer"].groups, chosen["group"].groups] == [1, 8]
    assert normalization(ModelSpec(batch_norm_images=64), 16).images == 64
