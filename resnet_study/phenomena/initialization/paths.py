"""The gradient that comes back along single paths of a residual network.

Every block offers two ways, so that a network of b blocks is a sum over 2^b paths. Veit et al.
2016 (arXiv 1605.06431) measure one of them at a time: the forward pass is that of the whole
network, and on the way back the gradient goes through the branch of k blocks and through the
shortcut of all others. The gradient of the network is the sum over all paths.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from resnet_study.data.dataset import stable_permutation
from resnet_study.models import Recorder
from resnet_study.phenomena.initialization.chain import Chain, ForwardPass, end_gradient, rescale

_PATH_ENTROPY = 110
"""Keeps the random numbers of the paths apart from those of the splits."""


def path_gradient_norms(
    chain: Chain, forward: ForwardPass, labels: Array, samples: int, seed: int
) -> np.ndarray:
    """Mean norm at the input of the first block, by the number k of branches on the path.

    The mean is arithmetic: times the number of paths of a length it is what these contribute,
    as Veit et al. count it. Each of the sets of k blocks is as likely as any other.

    Args:
        chain, forward: a residual network and its forward pass.
        labels: (N,) integers.
        samples, seed: paths of each length, and of their choice.

    Returns:
        For k = 0 to the number of blocks b, (b + 1,) float64.
    """
    total = np.zeros(len(chain.blocks) + 1)
    for sample in range(samples):
        # One path of every length at a time.
        through = random_paths(len(chain.blocks), seed, sample)
        gradients, exponents = path_gradients(chain, forward, labels, through)
        norms = np.sqrt(np.square(np.asarray(gradients, np.float64)).sum(axis=(1, 2, 3, 4)))
        total += np.ldexp(norms, exponents)
    return total / samples


def random_paths(blocks: int, seed: int, sample: int) -> np.ndarray:
    """One random path of every length.

    Returns:
        (blocks + 1, blocks) booleans; row k is true at the k blocks whose branch it takes.
    """
    through = np.zeros((blocks + 1, blocks), bool)
    for length in range(blocks + 1):
        chosen = stable_permutation(blocks, _PATH_ENTROPY, seed, sample, length)[:length]
        through[length, chosen] = True
    return through


def path_gradients(
    chain: Chain, forward: ForwardPass, labels: Array, through: np.ndarray
) -> tuple[Array, np.ndarray]:
    """What comes back along given paths to the input of the first block.

    Args:
        chain, forward: a residual network and its forward pass.
        labels: (N,) integers, of the mean cross-entropy.
        through: (paths, blocks) booleans: through the branch (true) or the shortcut.

    Returns:
        Gradients (paths, N, H, W, C), each divided by two to the power of its exponent; the
        exponents, (paths,) integers.
    """
    gradient, exponent, _ = end_gradient(chain, forward, labels)
    gradients = jnp.broadcast_to(gradient, (len(through), *gradient.shape))
    total = np.full(len(through), int(exponent))
    for index in reversed(range(len(chain.blocks))):
        taken = jnp.asarray(through[:, index], gradient.dtype)
        block, x = chain.blocks[index], forward.inputs[index]
        gradients, exponents = _path_backward(*block, x, gradients, taken)
        total += np.asarray(exponents)
    return gradients, total


@partial(jax.jit, static_argnums=0)
def _path_backward(
    graph: Any, state: dict[str, Any], x: Array, gradients: Array, through: Array
) -> tuple[Array, Array]:
    """Through one block, each path by its own way.

    From gradients at its output, (paths, ...), and for each path 1 for the branch and 0 for the
    shortcut.
    """

    # Modules may not cross into a differentiated function, so each makes its own.
    def part(x: Array) -> tuple[Array, Array]:
        block = nnx.merge(graph, state)
        return block.branch(x, Recorder(), train=True), block.skip(x, train=True)

    def join(branch: Array, skip: Array) -> Array:
        return nnx.merge(graph, state).join(branch, skip, Recorder(), train=True)

    parted, pull_back_parts = jax.vjp(part, x)
    _, pull_back_join = jax.vjp(join, *parted)

    def pull_back(gradient: Array, through: Array) -> tuple[Array, Array]:
        branch, skip = pull_back_join(gradient)
        (arriving,) = pull_back_parts((through * branch, (1 - through) * skip))
        return rescale(arriving)[:2]

    return jax.vmap(pull_back)(gradients, through)
