"""Normalisation and augmentation against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resnet_study.data.augment import augment, augmenter, draw, normalize
from resnet_study.spec import DataSpec, RunSpec


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def numpy_crops(
    images: np.ndarray, flips: np.ndarray, offsets: np.ndarray, padding: int, flip: bool
) -> np.ndarray:
    """One image and one pixel at a time: what lies outside the image is zero."""
    out = np.zeros_like(images)
    height, width = images.shape[1:3]
    for b in range(len(images)):
        for y in range(height):
            for x in range(width):
                row, column = y + offsets[b, 0] - padding, x + offsets[b, 1] - padding
                if flip and flips[b]:
                    column = width - 1 - column
                if 0 <= row < height and 0 <= column < width:
                    out[b, y, x] = images[b, row, column]
    return out


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    padding=st.integers(0, 5),
    flip=st.booleans(),
    shape=st.sampled_from([(5, 6, 6, 3), (3, 4, 7, 1), (1, 8, 8, 2)]),
)
def test_augment_equals_numpy(
    seed: int, padding: int, flip: bool, shape: tuple[int, int, int, int]
) -> None:
    key, images = jax.random.key(seed), random_images(*shape)
    flips, offsets = map(np.asarray, draw(key, len(images), padding))
    expected = numpy_crops(images, flips, offsets, padding, flip)
    result = augment(key, jnp.asarray(images), padding=padding, flip=flip)
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(result, expected)


def test_offsets_are_uniform_and_half_of_the_images_are_mirrored() -> None:
    padding, examples = 2, 40_000
    flips, offsets = map(np.asarray, draw(jax.random.key(3), examples, padding))
    sides = 2 * padding + 1
    cells = np.bincount(offsets[:, 0] * sides + offsets[:, 1], minlength=sides**2)
    assert len(cells) == sides**2
    assert stats.chisquare(cells).pvalue > 1e-3
    assert stats.binomtest(int(flips.sum()), examples).pvalue > 1e-3
    # Flips tell nothing about offsets.
    table = np.stack([np.bincount(offsets[flips == f, 1], minlength=sides) for f in (0, 1)])
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_key_alone_decides() -> None:
    images = jnp.asarray(random_images(16, 8, 8, 3))
    first, again, other = (
        np.asarray(augment(jax.random.key(k), images, padding=4, flip=True)) for k in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_same_under_jit_and_scan() -> None:
    images = jnp.asarray(random_images(8, 8, 8, 3))
    keys = jax.random.split(jax.random.key(0), 4)
    plain = np.stack([augment(k, images, padding=4, flip=True) for k in keys])
    jitted = jax.jit(lambda k: augment(k, images, padding=4, flip=True))
    np.testing.assert_array_equal(np.stack([jitted(k) for k in keys]), plain)
    _, scanned = jax.lax.scan(lambda c, k: (c, augment(k, images, padding=4, flip=True)), 0, keys)
    np.testing.assert_array_equal(scanned, plain)


def test_normalize_subtracts_the_mean_and_divides_by_nothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    mean = (images / 255).mean(axis=0).astype(np.float32)
    result = np.asarray(jax.jit(normalize)(images, mean))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, images / 255 - mean, atol=1e-6)
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-6)


def test_augmenter_follows_the_spec() -> None:
    key, images = jax.random.key(5), jnp.asarray(random_images(32, 8, 8, 3))
    kinds = {
        kind: augmenter(DataSpec(augmentation=kind, crop_padding=2))
        for kind in ("none", "crop", "crop-flip")
    }
    np.testing.assert_array_equal(kinds["none"](key, images), images)
    flips, offsets = map(np.asarray, draw(key, 32, 2))
    for kind, flip in (("crop", False), ("crop-flip", True)):
        expected = numpy_crops(np.asarray(images), flips, offsets, 2, flip)
        np.testing.assert_array_equal(jax.jit(kinds[kind])(key, images), expected)


def test_augmenter_takes_resolved_specs_only() -> None:
    with pytest.raises(ValueError, match="auto"):
        augmenter(DataSpec(name="cifar10"))
    images = jnp.asarray(random_images(64, 32, 32, 3))
    apply = augmenter(RunSpec(data=DataSpec(name="cifar10")).data)
    assert (np.asarray(apply(jax.random.key(0), images)) != images).any()
