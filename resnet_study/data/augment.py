"""Normalisation, random crops and flips as pure functions that run inside a jitted step."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from resnet_study.spec import DataSpec


def normalize(images: jax.Array, mean: jax.Array) -> jax.Array:
    """Subtract the per-pixel mean (He et al. 2015, section 4.2); nothing is divided by.

    Args:
        images: uint8, shape (..., H, W, C).
        mean: float32, shape (H, W, C), in units of images / 255.

    Returns:
        Of the shape of the images, between -1 and 1.
    """
    images = images.astype(float) / 255
    return images - jax.lax.broadcast_to_rank(mean, images.ndim)


def augment(key: jax.Array, images: jax.Array, *, padding: int, flip: bool) -> jax.Array:
    """Flip, zero-pad and crop each image at random (He et al. 2015, section 4.2).

    With `flip`, an image is mirrored left to right with probability 1/2. It is then padded
    with zeros on each side and cropped to its size at an offset that is uniform over the
    ``(2 * padding + 1) ** 2`` possible ones. Every image draws for itself.

    The images are normalised before, so a padded zero is the mean image's pixel, not black;
    the paper does not say which of the two it pads.

    Args:
        key: a jax random key.
        images: normalised, float, shape (B, H, W, C).
        padding: pixels on each side.
        flip: whether images are mirrored.

    Returns:
        Of the shape and type of the images, each value a value of its image or zero.
    """
    flips, offsets = draw(key, len(images), padding)
    height, width, channels = images.shape[1:]
    if flip:
        images = jnp.where(flips[:, None, None, None], images[:, :, ::-1], images)
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    # Mirroring the whole batch first leaves one slice per image, which was among the fastest
    # exact formulations on a CPU, alone and in a scan.
    def crop(image: jax.Array, offset: jax.Array) -> jax.Array:
        start = (offset[0], offset[1], jnp.zeros_like(offset[0]))
        return jax.lax.dynamic_slice(image, start, (height, width, channels))

    return jax.vmap(crop)(padded, offsets)


def draw(key: jax.Array, examples: int, padding: int) -> tuple[jax.Array, jax.Array]:
    """What `augment` draws.

    Returns:
        Whether each image is mirrored (if images are), bool of shape (examples,); and the
        row and column of each crop in the padded image, int32 of shape (examples, 2),
        from 0 to 2 * padding.
    """
    flip_key, offset_key = jax.random.split(key)
    # Types are named, so that runs in float64 draw the same.
    flips = jax.random.bernoulli(flip_key, np.float32(0.5), (examples,))
    offsets = jax.random.randint(offset_key, (examples, 2), 0, 2 * padding + 1, jnp.int32)
    return flips, offsets


def augmenter(spec: DataSpec) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The augmentation of a run as a function of key and normalised images.

    Args:
        spec: of a `RunSpec`, which has resolved ``augmentation="auto"``.

    Returns:
        `augment` with the padding and flip of the spec, or the identity for "none".

    Raises:
        ValueError: if the augmentation is still "auto".
    """
    if spec.augmentation == "auto":
        raise ValueError('augmentation is still "auto"; take the data spec of a RunSpec')

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        if spec.augmentation == "none":
            return images
        flip = spec.augmentation == "crop-flip"
        return augment(key, images, padding=spec.crop_padding, flip=flip)

    return apply
