"""Three probes of what a layer's responses and gradients still say.

Each asks whether what is left at a layer depends on more than chance:

- `GRADIENT_AGREEMENT`: do two halves of a mini-batch want the same change of the weights?
- `COPY_CORRELATION`: does the forward map take an image and a slightly changed copy to nearly the
  same response (Schoenholz et al. 2017, arXiv 1611.01232: ordered), or apart (chaotic)?
- `CLASS_CONTRAST`: are responses to images of one class closer than those of two?

Images are always normalised together with those that they are compared with. Imports no jax, for
claims and figures have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_study.probes import Passes, Probe

if TYPE_CHECKING:
    from jax import Array

NOISE = 0.1
"""Norm of the change of a copy, relative to the norm of its image."""


def _agreement(passes: Passes) -> Array:
    from resnet_study.tensors import inner, norm

    half = len(passes.labels) // 2
    halves: list[Sequence[Array]] = [
        passes.gradients(passes.images[part], passes.labels[part])
        for part in (slice(half), slice(half, 2 * half))
    ]
    return passes.by_layer(lambda x, y: inner(x / norm(x), y / norm(y)), *halves)


def _copy_correlation(passes: Passes) -> Array:
    import jax
    import jax.numpy as jnp

    images = passes.images[: len(passes.images) // 2]
    noise = jax.random.normal(passes.key, images.shape)
    both = jnp.concatenate([images, images + NOISE * _rows(images, noise)])

    def correlation(response: Array) -> Array:
        directions = _directions(response)
        first, second = directions[: len(images)], directions[len(images) :]
        return jnp.mean(jnp.sum(first * second, axis=1))

    return passes.responses(both, correlation)


def _rows(images: Array, noise: Array) -> Array:
    """Noise with the norm of each image, (N, H, W, C)."""
    import jax.numpy as jnp

    count = len(images)
    lengths = jnp.linalg.norm(images.reshape(count, -1), axis=1, keepdims=True)
    return (lengths * _directions(noise)).reshape(images.shape)


def _directions(response: Array) -> Array:
    """Responses as vectors of length 1, (N, entries)."""
    import jax.numpy as jnp

    rows = response.reshape(len(response), -1)
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


def _class_contrast(passes: Passes) -> Array:
    import jax.numpy as jnp

    labels = passes.labels
    same = labels[:, None] == labels[None, :]
    pairs = ~jnp.eye(len(labels), dtype=bool)

    def contrast(response: Array) -> Array:
        directions = _directions(response)
        correlation = directions @ directions.T
        return jnp.mean(correlation, where=same & pairs) - jnp.mean(correlation, where=~same)

    return passes.responses(passes.images, contrast)


GRADIENT_AGREEMENT = Probe(
    "gradient_agreement",
    "cosine of the angle between ∂L/∂w_l of the first and of the second half of the mini-batch, "
    "each a batch of its own",
    of_passes=_agreement,
    label="agreement of gradients",
    linear=True,
)
COPY_CORRELATION = Probe(
    "copy_correlation",
    "correlation (uncentred) of y_l of an image and of the same image with normal noise of a tenth "
    "of its norm, mean over half of the mini-batch, which is normalised together with its copies",
    of_passes=_copy_correlation,
    label="correlation of image and noisy copy",
    linear=True,
)
CLASS_CONTRAST = Probe(
    "class_contrast",
    "correlation of y_l of two images of one class minus that of two classes, mean over the pairs "
    "of the mini-batch",
    of_passes=_class_contrast,
    label="correlation within minus between classes",
    linear=True,
)
PROBES = (GRADIENT_AGREEMENT, COPY_CORRELATION, CLASS_CONTRAST)
