"""A network as a chain of parts: stem, blocks, classifier.

The signal goes forward and the gradient backward one block at a time, by the chain rule, and
both are kept at every block. Two things follow that differentiation of the whole network does
not give:

- Blocks of one stage are one program, whatever the depth, so that nothing is compiled anew for
  another depth, initialisation or seed.
- Between two blocks the gradient can be brought back to a norm of about 1. It is multiplied by
  a power of two, which changes no digit, and the exponents are added up on the host. Nothing
  underflows: without normalisation a gradient falls by 1e-90 over 110 sigmoid layers, while
  float32 ends at 1e-38. The block is linear in the gradient that it is given, so this is exact.

The same is done to the signal where the network is positively homogeneous, f(cx) = c f(x) for
c > 0: ReLU or no activation, no normalisation, no gates, biases at 0. Its Jacobian is then the
same at x and at cx. All other networks keep their signal as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from resnet_study.architecture import GATED, ModelSpec
from resnet_study.datasets import DatasetShape
from resnet_study.models import Network, Recorder
from resnet_study.tensors import norm


class Part(NamedTuple):
    """A module as structure and arrays; equal structures share their compiled programs."""

    graph: Any
    state: dict[str, Any]


class Chain(NamedTuple):
    """A network: its stem and classifier, and its blocks in forward order.

    Attributes:
        ends: the network without its blocks.
        blocks: 3n of them.
        homogeneous: whether f(cx) = c f(x) for c > 0.
    """

    ends: Part
    blocks: tuple[Part, ...]
    homogeneous: bool


class ChannelMoments(NamedTuple):
    """Of one array (N, H, W, C) divided by two to the power of an integer `exponent`.

    Squares leave float32 before the array does. The squared mean and the variance of each channel
    over images and pixels, mean over channels.
    """

    mean_square: Array
    variance: Array
    exponent: Array


class ForwardPass(NamedTuple):
    """What a forward pass leaves.

    Attributes:
        images: what entered, (N, H, W, channels).
        inputs: of every block, and the output of the last one; 3n + 1 arrays, each divided by
            two to the power of its exponent.
        exponents: integers, shape (3n + 1,); all 0 unless the network is homogeneous.
        mean_squares, variances: as in `ChannelMoments`, of the stem behind its nonlinearity,
            then of every block's output; (3n + 1,) float64.
        branches, skips: variances of the two paths at every addition, (3n,) float64; those of
            the skips are NaN in a plain network.
    """

    images: Array
    inputs: tuple[Array, ...]
    exponents: np.ndarray
    mean_squares: np.ndarray
    variances: np.ndarray
    branches: np.ndarray
    skips: np.ndarray


class Gradient(NamedTuple):
    """What a backward pass leaves.

    Attributes:
        images: gradient with respect to the images, but for a power of two.
        blocks: norms at the input of every block, and at the output of the last one; (3n + 1,)
            float64.
        layers: norms at the output z of every convolution in forward order, before normalisation;
            (depth - 1,) float64.
    """

    images: Array
    blocks: np.ndarray
    layers: np.ndarray


def make_chain(model: ModelSpec, shape: DatasetShape, key: Array) -> Chain:
    """The network that `Network` makes of the same arguments, taken apart."""
    return take_apart(Network(model, shape, key), model)


def take_apart(network: Network, model: ModelSpec) -> Chain:
    """A network of this model, at initialisation or trained, as a chain, which shares its state; it
    has no blocks afterwards.
    """
    biased = any(bool(jnp.any(bias)) for bias in _biases(nnx.to_pure_dict(nnx.state(network))))
    blocks = tuple(_part(block) for block in network.blocks)
    network.blocks = nnx.List([])
    return Chain(_part(network), blocks, is_homogeneous(model) and not biased)


def _biases(state: dict[str, Any]) -> Iterator[Array]:
    """What a network adds to its signal before the average over pixels."""
    for name, value in state.items():
        if isinstance(value, dict):
            if name != "head":
                yield from _biases(value)
        elif name in ("bias", "shift"):
            yield value


def is_homogeneous(model: ModelSpec) -> bool:
    """Whether f(cx) = c f(x) for c > 0 at initialisation, where all biases are 0."""
    linear = model.normalization == "none" and model.activation in ("relu", "linear")
    return linear and model.shortcut_scaling not in GATED


def propagate(chain: Chain, images: Array) -> ForwardPass:
    """The forward pass, normalising with the statistics of these images.

    They are (N, H, W, channels), mean subtracted.
    """
    x, exponent, moments = _begin(*chain.ends, images, chain.homogeneous)
    inputs, exponents, outputs = [x], [exponent], [moments]
    branches, skips = [], []
    for block in chain.blocks:
        x, exponent, moments, branch, skip = _forward(*block, x, chain.homogeneous)
        inputs.append(x)
        exponents.append(exponent)
        outputs.append(moments)
        branches.append(branch)
        skips.append(skip)
    total = np.cumsum(np.asarray(exponents, np.int64))
    # What a part reports is computed from an input that was divided.
    entering = np.concatenate([[0], total[:-1]])
    mean_squares, variances = _undivided(outputs, entering)
    return ForwardPass(
        images=images,
        inputs=tuple(inputs),
        exponents=total,
        mean_squares=mean_squares,
        variances=variances,
        branches=_undivided(branches, entering[1:])[1],
        skips=_undivided(skips, entering[1:])[1],
    )


def backpropagate(chain: Chain, forward: ForwardPass, labels: Array | None) -> Gradient:
    """The backward pass through a forward pass.

    The gradient is that of the mean cross-entropy with labels, (N,) integers; without them that of
    the first logit, summed over the images.
    """
    gradient, exponent, size = end_gradient(chain, forward, labels)
    exponents, sizes, layers = [exponent], [size], []
    for block, x in zip(reversed(chain.blocks), reversed(forward.inputs[:-1]), strict=True):
        gradient, exponent, size, taps = _backward(*block, x, gradient)
        exponents.append(exponent)
        sizes.append(size)
        layers.append(taps)
    gradient, tap = _begin_backward(*chain.ends, forward.images, gradient)
    # Part p of the backward pass was given a gradient divided by two to the sum of the
    # exponents before it.
    total = np.cumsum(np.asarray(exponents, np.int64))
    scale = np.ldexp(1.0, total)
    given = np.concatenate([[1.0], scale[:-1]])
    inner = np.asarray(layers, np.float64) * given[1:, None]
    return Gradient(
        images=gradient,
        blocks=(np.asarray(sizes, np.float64) * given)[::-1],
        layers=np.concatenate([[float(tap) * scale[-1]], inner[::-1].ravel()]),
    )


def end_gradient(
    chain: Chain, forward: ForwardPass, labels: Array | None
) -> tuple[Array, Array, Array]:
    """Gradient at the output of the last block, of what `backpropagate` says.

    Returns:
        The gradient divided by a power of two, that exponent, and the norm before.
    """
    exponent = jnp.asarray(forward.exponents[-1], jnp.int32)
    return _end_backward(*chain.ends, forward.inputs[-1], exponent, labels)


def rescale(x: Array) -> tuple[Array, Array, Array]:
    """x divided by a power of two to a norm of 1/2 to 1, that exponent, and the norm of x."""
    size = norm(x)
    exponent = jnp.frexp(size)[1]
    return jnp.ldexp(x, -exponent), exponent, size


def channel_moments(x: Array) -> ChannelMoments:
    """Of (N, H, W, C)."""
    x, exponent, _ = rescale(x)
    mean, variance = jnp.mean(x, axis=(0, 1, 2)), jnp.var(x, axis=(0, 1, 2))
    return ChannelMoments(jnp.mean(jnp.square(mean)), jnp.mean(variance), exponent)


def _undivided(
    moments: Sequence[ChannelMoments], exponents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares and variances of arrays that were divided by two to these powers before."""
    squares, variances, inner = (
        np.asarray(values, np.float64) for values in zip(*moments, strict=True)
    )
    scale = np.ldexp(1.0, 2 * (exponents + inner.astype(np.int64)))
    return squares * scale, variances * scale


def _part(module: nnx.Module) -> Part:
    graph, state = nnx.split(module)
    return Part(graph, nnx.to_pure_dict(state))


def _divided(x: Array, homogeneous: bool) -> tuple[Array, Array]:
    return rescale(x)[:2] if homogeneous else (x, jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnums=(0, 3))
def _begin(
    graph: Any, state: dict[str, Any], images: Array, homogeneous: bool
) -> tuple[Array, Array, ChannelMoments]:
    x = nnx.merge(graph, state).begin(images, Recorder(), train=True)
    return *_divided(x, homogeneous), channel_moments(x)


@partial(jax.jit, static_argnums=(0, 3))
def _forward(
    graph: Any, state: dict[str, Any], x: Array, homogeneous: bool
) -> tuple[Array, Array, ChannelMoments, ChannelMoments, ChannelMoments]:
    """Output of a block, its exponent and moments, and those of branch and skip."""
    block, recorder = nnx.merge(graph, state), Recorder()
    branch, skip = block.branch(x, recorder, train=True), block.skip(x, train=True)
    y = block.join(branch, skip, recorder, train=True)
    nothing = ChannelMoments(jnp.array(jnp.nan), jnp.array(jnp.nan), jnp.zeros((), jnp.int32))
    beside = nothing if skip is None else channel_moments(skip)
    return *_divided(y, homogeneous), channel_moments(y), channel_moments(branch), beside


@partial(jax.jit, static_argnums=0)
def _backward(
    graph: Any, state: dict[str, Any], x: Array, gradient: Array
) -> tuple[Array, Array, Array, Array]:
    """From the gradient at a block's output to that at its input, with the norms in between.

    Returns:
        The gradient divided by a power of two, that exponent, the norm before, and the norms
        at the outputs of the block's convolutions, (layers,).
    """
    layers = len(nnx.merge(graph, state).layers)

    def run(x: Array, taps: Array) -> Array:
        return nnx.merge(graph, state)(x, Recorder(taps), train=True)

    _, pull_back = jax.vjp(run, x, jnp.zeros((layers, 2)))
    gradient, taps = pull_back(gradient)
    return *rescale(gradient), taps[:, 0]


@partial(jax.jit, static_argnums=0)
def _begin_backward(
    graph: Any, state: dict[str, Any], images: Array, gradient: Array
) -> tuple[Array, Array]:
    """Gradient at the images, and the norm at the output of the stem's convolution."""

    def run(images: Array, taps: Array) -> Array:
        return nnx.merge(graph, state).begin(images, Recorder(taps), train=True)

    _, pull_back = jax.vjp(run, images, jnp.zeros((1, 2)))
    gradient, taps = pull_back(gradient)
    return gradient, taps[0, 0]


@partial(jax.jit, static_argnums=0)
def _end_backward(
    graph: Any, state: dict[str, Any], x: Array, exponent: Array, labels: Array | None
) -> tuple[Array, Array, Array]:
    def objective(x: Array) -> Array:
        logits = nnx.merge(graph, state).end(x, Recorder(), train=True)
        if labels is None:
            return jnp.sum(logits[:, 0])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    # A signal below 1e-38 becomes 0 here: its logits are 0 to any precision.
    return rescale(jax.grad(objective)(jnp.ldexp(x, exponent)))
