"""What a network is made of: a weighted layer, a shortcut, a block, and who listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_study.architecture import GATED, ModelSpec
from resnet_study.kernels import Kernels
from resnet_study.models.initialization import Initializer, initializer, scaled
from resnet_study.models.layers import Convolution
from resnet_study.models.normalization import Moments, normalization
from resnet_study.tensors import inactive_fraction, response_moments, tap, unstack


class Responses(NamedTuple):
    """Statistics of the forward pass in forward order, each of shape (depth,)."""

    mean: Array
    std: Array
    inactive: Array
    extra: dict[str, Array]
    """A study's own statistics of the responses, by name."""


class Recorder:
    """Collects the statistics of one forward pass, layer by layer.

    Args:
        taps: zeros of shape (depth, 2), or None to collect nothing.
        kernels: what computes the 3x3 convolutions of this pass.
        of_response: further statistics of each response, by name.
    """

    def __init__(
        self,
        taps: Array | None = None,
        kernels: Kernels = "xla",
        of_response: Mapping[str, Callable[[Array], Array]] | None = None,
    ) -> None:
        self.taps = None if taps is None else unstack(taps)
        self.kernels = kernels
        self.moments: list[Moments] = []
        self.inactive: list[Array] = []
        self.of_response = of_response or {}
        self.extra: dict[str, list[Array]] = {name: [] for name in self.of_response}

    def tap(self, x: Array, kind: int) -> Array:
        return x if self.taps is None else tap(x, self.taps[len(self.moments)][kind])

    def response(self, moments: Moments, response: Array | None = None) -> None:
        """Take note of a layer's response.

        Args:
            moments: of it.
            response: itself, where there is one in memory.
        """
        self.moments.append(moments)
        if self.taps is not None and response is not None:
            for name, statistic in self.of_response.items():
                self.extra[name].append(statistic(jax.lax.stop_gradient(response)))

    def activation(self, x: Array) -> Array:
        if self.taps is not None:
            self.inactive.append(inactive_fraction(x))
        return x

    def result(self) -> Responses | None:
        if self.taps is None:
            return None
        means, stds = zip(*self.moments, strict=True)
        # The head has no nonlinearity.
        inactive = jnp.stack([*self.inactive, jnp.array(jnp.nan)])
        extra = {name: jnp.stack(values) for name, values in self.extra.items()}
        return Responses(jnp.stack(means), jnp.stack(stds), inactive, extra)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "linear": lambda x: x,
}


POOLINGS: dict[str, Callable[..., Array]] = {"average": jnp.mean, "max": jnp.max}
"""Of pixels, each channel by itself."""


CONSTANT = 0.5
"""What constant scaling multiplies shortcut and branch by."""


PREACTIVATED = ("activation-only-preactivation", "full-preactivation")
"""Block orders whose blocks begin with the nonlinearity."""


class WeightedLayer(nnx.Module):
    """A 3x3 convolution from its input to its response, y = a · norm(conv(x + s)) + b.

    Normalisation is as the spec says, unless the layer has none behind it. Without any the
    convolution has a bias per channel. The scalars a, b and s are there only for branch
    scaling; b and s are Fixup's (Zhang et al. 2019, arXiv 1901.09321).

    Args:
        spec: of the network.
        inputs, outputs: channels.
        stride: in pixels.
        key: draws the kernel.
        normalized: whether a normalisation follows at once.
        draw: initialises the kernel; by default as the spec says.
        scale: start of a; None leaves it out.
        shifted: whether to have s, with Fixup.
    """

    def __init__(
        self,
        spec: ModelSpec,
        inputs: int,
        outputs: int,
        stride: int,
        key: Array,
        *,
        normalized: bool = True,
        draw: Initializer | None = None,
        scale: float | None = None,
        shifted: bool = True,
    ) -> None:
        fixup = spec.branch_scaling == "fixup"
        self.shift = nnx.Param(jnp.zeros(())) if fixup and shifted else None
        self.conv = Convolution(
            inputs,
            outputs,
            kernel=3,
            stride=stride,
            bias=spec.normalization == "none" and not fixup,
            initializer=draw or initializer(spec),
            key=key,
            precision=spec.precision,
        )
        self.norm = normalization(spec, outputs) if normalized else None
        self.scale = None if scale is None else nnx.Param(jnp.full((), scale))
        self.bias = nnx.Param(jnp.zeros(())) if fixup else None

    def __call__(self, x: Array, recorder: Recorder, *, train: bool) -> Array:
        if self.shift is not None:
            x = x + self.shift[...]
        z = recorder.tap(self.conv(x, recorder.kernels), 0)
        response, moments = z, None
        if self.norm is not None:
            response, moments = self.norm(z, train=train)
        if self.scale is not None:
            response, moments = response * self.scale[...], None
        if self.bias is not None:
            response, moments = response + self.bias[...], None
        response = recorder.tap(response, 1)
        recorder.response(response_moments(response) if moments is None else moments, response)
        return response


class Shortcut(nnx.Module):
    """The path around a block: identity, zero-padded identity, or projection.

    Option A takes every second pixel, or the mean or maximum of 2x2 of them, and appends zero
    channels, half on each side, so it has no parameters. Pixels that share a maximum share its
    gradient. Options B and C use a 1x1 convolution with
    normalisation (He et al. 2015, sections 3.3 and 4.1). Projections are not counted in
    the depth, as in the paper, and are not probed.
    """

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int, stride: int, key: Array) -> None:
        self.stride, self.padding = stride, outputs - inputs
        self.subsampling = spec.subsampling
        changes = stride != 1 or inputs != outputs
        projects = spec.shortcut == "C" or (spec.shortcut == "B" and changes)
        self.norm = normalization(spec, outputs) if projects else None
        self.projection = (
            Convolution(
                inputs,
                outputs,
                kernel=1,
                stride=stride,
                bias=spec.normalization == "none",
                initializer=initializer(spec),
                key=key,
                precision=spec.precision,
            )
            if projects
            else None
        )

    def __call__(self, x: Array, *, train: bool) -> Array:
        if self.projection is not None:
            y = self.projection(x)
            return y if self.norm is None else self.norm(y, train=train)[0]
        if self.subsampling != "stride" and self.stride > 1:
            n, h, w, c = x.shape
            x = x.reshape(n, h // self.stride, self.stride, w // self.stride, self.stride, c)
            return identity(POOLINGS[self.subsampling](x, axis=(2, 4)), 1, self.padding)
        return identity(x, self.stride, self.padding)


def identity(x: Array, stride: int, padding: int) -> Array:
    """Nothing, as far as shapes allow: every so many pixels, and channels of zeros on both sides.

    Args:
        x: (N, H, W, C).
        stride: in pixels.
        padding: channels to add, half of them on each side.
    """
    before = padding // 2
    sides = ((0, 0), (0, 0), (0, 0), (before, padding - before))
    return jnp.pad(x[:, ::stride, ::stride], sides)


class Gate(nnx.Module):
    """g(x), between 0 and 1: the sigmoid of a 1x1 convolution with bias, per pixel and channel.

    He et al. 2016 (arXiv 1603.05027), section 3.1, after Highway Networks. Where a block
    changes the shape, the convolution has the block's stride and width; the paper says nothing
    of these blocks.
    """

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int, stride: int, key: Array) -> None:
        self.conv = Convolution(
            inputs,
            outputs,
            kernel=1,
            stride=stride,
            bias=True,
            initializer=initializer(spec),
            key=key,
            precision=spec.precision,
        )
        self.conv.bias = nnx.Param(jnp.full(outputs, spec.gate_bias))

    def __call__(self, x: Array) -> Array:
        return jax.nn.sigmoid(self.conv(x))


class Block(nnx.Module):
    """Two 3x3 layers, with a shortcut around them if residual.

    The five orders of He et al. 2016 (arXiv 1603.05027, Figure 4), w a convolution, N a
    normalisation, f the nonlinearity and + the addition of the shortcut:

    ============================ ===================================
    original                     w N f w N + f
    norm-after-addition          w N f w + N f
    activation-before-addition   w N f w N f +
    activation-only-preactivation  f w N f w N +
    full-preactivation           N f w N f w +
    ============================ ===================================

    Args:
        spec: of the network.
        inputs, outputs: channels.
        stride: of the first convolution and the shortcut, in pixels.
        key: draws the weights.
        first: whether this block follows the stem. The stem's own N f then take the place of
            a pre-activation, before the paths part (He et al. 2016, section 4.1).
    """

    def __init__(
        self, spec: ModelSpec, inputs: int, outputs: int, stride: int, key: Array, first: bool
    ) -> None:
        keys = [jax.random.fold_in(key, part) for part in range(4)]
        self.order, self.activation = spec.block_order, spec.activation
        self.preactivated = self.order in PREACTIVATED and not first
        full = self.order == "full-preactivation"
        self.before = normalization(spec, inputs) if full and not first else None
        draw = initializer(spec)
        branches = (spec.depth - 2) // 2
        scaling = {
            "none": (draw, draw, None),
            "skipinit": (draw, draw, 0.0),
            "rezero": (draw, draw, 0.0),
            # L^(-1/(2m-2)) for L branches of m = 2 layers, the last of which starts at 0.
            "fixup": (scaled(draw, branches**-0.5), scaled(draw, 0.0), 1.0),
        }
        first_draw, second_draw, scale = scaling[spec.branch_scaling]
        self.layer1 = WeightedLayer(spec, inputs, outputs, stride, keys[0], draw=first_draw)
        self.layer2 = WeightedLayer(
            spec,
            outputs,
            outputs,
            1,
            keys[1],
            normalized=self.order not in ("norm-after-addition", "full-preactivation"),
            draw=second_draw,
            scale=scale,
        )
        after = self.order == "norm-after-addition"
        self.after = normalization(spec, outputs) if after else None
        self.shortcut = Shortcut(spec, inputs, outputs, stride, keys[2]) if spec.residual else None
        self.scaling = spec.shortcut_scaling
        gated = self.scaling in GATED
        self.gate = Gate(spec, inputs, outputs, stride, keys[3]) if gated else None

    def __call__(self, x: Array, recorder: Recorder, *, train: bool) -> Array:
        return self.join(
            self.branch(x, recorder, train=train), self.skip(x, train=train), recorder, train=train
        )

    def branch(self, x: Array, recorder: Recorder, *, train: bool) -> Array:
        """The weighted path, up to the addition."""
        f, entered = ACTIVATIONS[self.activation], x
        if self.preactivated:
            x = x if self.before is None else self.before(x, train=train)[0]
            x = recorder.activation(f(x))
        hidden = recorder.activation(f(self.layer1(x, recorder, train=train)))
        response = self.layer2(hidden, recorder, train=train)
        if self.order == "activation-before-addition":
            response = recorder.activation(f(response))
        if self.scaling == "constant":
            return CONSTANT * response
        if self.gate is not None and self.scaling == "exclusive-gating":
            return self.gate(entered) * response
        return response

    def skip(self, x: Array, *, train: bool) -> Array | None:
        """The shortcut, up to the addition; None in a plain network."""
        if self.shortcut is None:
            return None
        shortcut = self.shortcut(x, train=train)
        if self.gate is not None:
            return (1 - self.gate(x)) * shortcut
        return CONSTANT * shortcut if self.scaling == "constant" else shortcut

    def join(self, branch: Array, skip: Array | None, recorder: Recorder, *, train: bool) -> Array:
        """The addition and what follows it."""
        x = branch if skip is None else branch + skip
        if self.after is not None:
            x = self.after(x, train=train)[0]
        if self.order in ("original", "norm-after-addition"):
            x = recorder.activation(ACTIVATIONS[self.activation](x))
        return x
