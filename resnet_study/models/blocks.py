"""What a network is made of: a weighted layer, a block, and who listens."""

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
from resnet_study.models.shortcuts import CONSTANT, Gate, Shortcut, dropout
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
        kernels: what computes the convolutions of the weighted layers in this pass.
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
        self.layer = 0
        """How many have responded."""
        self.moments: list[Moments] = []
        """Of one layer after the other, or vectors of several."""
        self.inactive: list[Array] = []
        self.of_response = of_response or {}
        self.extra: dict[str, list[Array]] = {name: [] for name in self.of_response}

    def tap(self, x: Array, kind: int) -> Array:
        return x if self.taps is None else tap(x, self.taps[self.layer][kind])

    def response(self, moments: Moments, response: Array | None = None) -> None:
        """Take note of a layer's response.

        Args:
            moments: of it.
            response: itself, where there is one in memory.
        """
        self.layer += 1
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
        inactive = jnp.hstack([*self.inactive, jnp.array(jnp.nan)])
        extra = {name: jnp.stack(values) for name, values in self.extra.items()}
        return Responses(jnp.hstack(means), jnp.hstack(stds), inactive, extra)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "linear": lambda x: x,
}


PREACTIVATED = ("activation-only-preactivation", "full-preactivation")
"""Block orders whose blocks begin with the nonlinearity."""


class Shape(NamedTuple):
    """Of a weighted layer: channels in and out; stride, and side of the kernel, in pixels."""

    inputs: int
    outputs: int
    stride: int
    side: int


def shapes_of(spec: ModelSpec, inputs: int, outputs: int, stride: int) -> list[Shape]:
    """The weighted layers of a block, in forward order.

    The first has the stride. In a bottleneck that is a 1x1 layer, as in the authors' code for
    CIFAR-10 (KaimingHe/resnet-1k-layers, of He et al. 2016).

    Args:
        spec: of the network.
        inputs, outputs: channels of the block.
        stride: of the block.
    """
    if spec.block == "basic":
        return [Shape(inputs, outputs, stride, 3), Shape(outputs, outputs, 1, 3)]
    inner = outputs // spec.expansion
    reduce, expand = Shape(inputs, inner, stride, 1), Shape(inner, outputs, 1, 1)
    return [reduce, Shape(inner, inner, 1, 3), expand]


class WeightedLayer(nnx.Module):
    """A convolution from its input to its response, y = a · norm(conv(x + s)) + b.

    Normalisation is as the spec says, unless the layer has none behind it. Without any the
    convolution has a bias per channel. The scalars a, b and s are there only for branch
    scaling; b and s are Fixup's (Zhang et al. 2019, arXiv 1901.09321).

    Args:
        spec: of the network.
        shape: of the convolution.
        key: draws the kernel.
        normalized: whether a normalisation follows at once.
        draw: initialises the kernel; by default as the spec says.
        scale: start of a; None leaves it out.
        shifted: whether to have s, with Fixup.
    """

    def __init__(
        self,
        spec: ModelSpec,
        shape: Shape,
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
            shape.inputs,
            shape.outputs,
            kernel=shape.side,
            stride=shape.stride,
            bias=spec.normalization == "none" and not fixup,
            initializer=draw or initializer(spec),
            key=key,
            precision=spec.precision,
        )
        self.norm = normalization(spec, shape.outputs) if normalized else None
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


class Block(nnx.Module):
    """Two or three weighted layers (`shapes_of`), with a shortcut around them if residual.

    The five orders of He et al. 2016 (arXiv 1603.05027, Figure 4), w a convolution, N a
    normalisation, f the nonlinearity and + the addition of the shortcut; a bottleneck has one
    more w in the middle, with the same around it:

    ============================ ===================================
    original                     w N f w N + f
    norm-after-addition          w N f w + N f
    activation-before-addition   w N f w N f +
    activation-only-preactivation  f w N f w N +
    full-preactivation           N f w N f w +
    ============================ ===================================

    In a pre-activated bottleneck network the projections of shortcuts have that order too, f w N
    or N f w, and share N and f with the branch (He et al. 2016, appendix, and the authors' code).
    In a basic one they take the block's input as it is, and N follows them.

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
        keys = [jax.random.fold_in(key, part) for part in range(5)]
        self.order, self.activation = spec.block_order, spec.activation
        self.preactivated = self.order in PREACTIVATED and not first
        full = self.order == "full-preactivation"
        self.before = normalization(spec, inputs) if full and not first else None
        shapes = shapes_of(spec, inputs, outputs, stride)
        draw, m = initializer(spec), len(shapes)
        branches = 3 * spec.blocks_per_stage
        scaling = {
            "none": (draw, draw, None),
            "skipinit": (draw, draw, 0.0),
            "rezero": (draw, draw, 0.0),
            # L^(-1/(2m-2)) for L branches of m layers, the last of which starts at 0.
            "fixup": (scaled(draw, branches ** (-1 / (2 * m - 2))), scaled(draw, 0.0), 1.0),
        }
        inner_draw, last_draw, scale = scaling[spec.branch_scaling]
        layers: list[WeightedLayer] = []
        # A third layer came after the keys of shortcut and gate.
        for shape, part in zip(shapes, (0, 1, 4), strict=False):
            last = len(layers) == m - 1
            normalized = self.order not in ("norm-after-addition", "full-preactivation")
            layers.append(
                WeightedLayer(
                    spec,
                    shape,
                    keys[part],
                    normalized=normalized or not last,
                    draw=last_draw if last else inner_draw,
                    scale=scale if last else None,
                )
            )
        self.layer1, self.layer2 = layers[:2]
        self.layer3 = layers[2] if m == 3 else None
        after = self.order == "norm-after-addition"
        self.after = normalization(spec, outputs) if after else None
        bottleneck = spec.block == "bottleneck"
        self.shortcut = (
            Shortcut(spec, inputs, outputs, stride, keys[2], normalized=not (bottleneck and full))
            if spec.residual
            else None
        )
        projects = self.shortcut is not None and self.shortcut.projection is not None
        self.shares = bottleneck and self.preactivated and projects
        self.scaling, self.dropout_ratio = spec.shortcut_scaling, spec.dropout_ratio
        gated = self.scaling in GATED
        self.gate = Gate(spec, inputs, outputs, stride, keys[3]) if gated else None

    @property
    def layers(self) -> list[WeightedLayer]:
        """The weighted layers in forward order."""
        return [x for x in (self.layer1, self.layer2, self.layer3) if x is not None]

    def __call__(
        self, x: Array, recorder: Recorder, *, train: bool, dropout_key: Array | None = None
    ) -> Array:
        branch = self.branch(x, recorder, train=train)
        skip = self.skip(x, train=train, dropout_key=dropout_key)
        return self.join(branch, skip, recorder, train=train)

    def branch(self, x: Array, recorder: Recorder, *, train: bool) -> Array:
        """The weighted path, up to the addition."""
        f, entered = ACTIVATIONS[self.activation], x
        if self.preactivated:
            x = x if self.before is None else self.before(x, train=train)[0]
            x = recorder.activation(f(x))
        *inner, last = self.layers
        for layer in inner:
            x = recorder.activation(f(layer(x, recorder, train=train)))
        response = last(x, recorder, train=train)
        if self.order == "activation-before-addition":
            response = recorder.activation(f(response))
        if self.scaling == "constant":
            return CONSTANT * response
        if self.gate is not None and self.scaling == "exclusive-gating":
            return self.gate(entered) * response
        return response

    def skip(self, x: Array, *, train: bool, dropout_key: Array | None = None) -> Array | None:
        """The shortcut, up to the addition; None in a plain network.

        Args:
            x: the block's input.
            train: normalise with batch statistics.
            dropout_key: as of `resnet_study.models.shortcuts.dropout`.
        """
        if self.shortcut is None:
            return None
        if self.shares:
            # The branch keeps the running statistics of this normalisation.
            seen = x if self.before is None else self.before(x, train=train, track=False)[0]
            return self.shortcut(ACTIVATIONS[self.activation](seen), train=train)
        shortcut = self.shortcut(x, train=train)
        if self.scaling == "dropout":
            return dropout(shortcut, self.dropout_ratio, dropout_key)
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
