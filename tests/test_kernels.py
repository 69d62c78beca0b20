"""The native kernels against XLA and float64, with every instruction set of this processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_study import kernels
from resnet_study.errors import UserError
from resnet_study.kernels.operations import (
    Descended,
    LayerInput,
    LayerOptions,
    convolve,
    descend,
    layer,
    pool,
)
from resnet_study.models.layers import convolve as xla_convolve
from resnet_study.tensors import per_channel
from tests.native_kernels import missing, native, relative

# Float32 sums of up to some 10^5 products, in another order than the reference.
TOLERANCE = 3e-6


def available() -> list[str]:
    if missing is not None:
        return []
    best, names = kernels.instructions(), []
    for name in ("avx512", "avx2", "baseline"):
        try:
            names.append(kernels.instructions(name))
        except UserError:
            continue
    kernels.instructions(best)
    return names


@pytest.fixture(params=available() or ["none"])
def instructions(request: pytest.FixtureRequest) -> Iterator[None]:
    best = kernels.instructions()
    kernels.instructions(request.param)
    yield
    kernels.instructions(best)


def reference(
    options: LayerOptions, signal: LayerInput, kernel: jax.Array
) -> tuple[jax.Array, ...]:
    """z, x, mean and variance as the documentation says, through XLA."""
    x = signal.z
    if signal.mean is not None:
        x = (x - per_channel(signal.mean)) * per_channel(signal.factor)
        x = x + per_channel(signal.shift)
        x = jax.nn.relu(x if signal.skip is None else x + signal.skip)
    z = xla_convolve(x, kernel, options.stride)
    mean = jnp.mean(z, axis=(0, 1, 2))
    return z, x, mean, jnp.mean(jnp.square(z - per_channel(mean)), axis=(0, 1, 2))


def random_signal(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> LayerInput:
    def draw(*size: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=size), jnp.float32)

    if kind == "image":
        return LayerInput(draw(*shape))
    channels = shape[-1]
    skip = draw(*shape) if kind == "skip" else None
    return LayerInput(draw(*shape), draw(channels), draw(channels), draw(channels), skip)


def check_layer(
    seed: int, shape: tuple[int, int, int, int], outputs: int, stride: int, side: int, kind: str
) -> None:
    """Results and all gradients of one layer agree with XLA's."""
    rng = np.random.default_rng(seed)
    signal = random_signal(rng, shape, kind)
    kernel = jnp.asarray(rng.normal(size=(side, side, shape[-1], outputs)) / side, jnp.float32)
    options = LayerOptions(stride, keep=kind != "image")
    expected = reference(options, signal, kernel)
    weights = [jnp.asarray(rng.normal(size=v.shape), jnp.float32) for v in expected]
    count = expected[0].size // outputs

    def total(results: tuple[jax.Array | None, ...]) -> jax.Array:
        # Mean and variance get as much weight as all the entries that they are made of.
        scales = (1.0, 1.0, float(count), float(count))
        products = zip(results, weights, scales, strict=True)
        return sum(s * jnp.sum(r * w) for r, w, s in products if r is not None)  # type: ignore

    def ours(signal: LayerInput, kernel: jax.Array, taps: Any) -> tuple[jax.Array, Any]:
        out = layer(options, signal, kernel, taps)
        return total((out.z, out.x, out.mean, out.variance)), out

    def theirs(signal: LayerInput, kernel: jax.Array, offset: jax.Array) -> jax.Array:
        z, x, _, _ = reference(options, signal, kernel)
        z = z + offset
        mean = jnp.mean(z, axis=(0, 1, 2))
        variance = jnp.mean(jnp.square(z - per_channel(mean)), axis=(0, 1, 2))
        return total((z, x if options.keep else None, mean, variance))

    taps = (jnp.zeros(()), jnp.zeros(()))
    ours_of = jax.jit(jax.value_and_grad(ours, argnums=(0, 1, 2), has_aux=True))
    (_, out), (signal_gradient, kernel_gradient, tapped) = ours_of(signal, kernel, taps)
    offset = jnp.zeros(expected[0].shape)
    expected_gradients = jax.jit(jax.grad(theirs, argnums=(0, 1, 2)))(signal, kernel, offset)

    for name, got, wanted in zip(
        ("z", "x", "mean", "variance"),
        (out.z, out.x, out.mean, out.variance),
        expected,
        strict=True,
    ):
        if got is not None:
            assert relative(got, wanted) < TOLERANCE, name
    for name in LayerInput._fields:
        wanted = getattr(expected_gradients[0], name)
        if wanted is not None:
            assert relative(getattr(signal_gradient, name), wanted) < TOLERANCE, name
    assert relative(kernel_gradient, expected_gradients[1]) < TOLERANCE
    assert relative(tapped[1], jnp.linalg.norm(expected_gradients[2])) < TOLERANCE
    if kind == "image":
        assert int(out.inactive) == 0
    else:
        assert int(out.inactive) == int(jnp.sum(expected[1] == 0))
    if kind == "skip":
        # The gradient of the skip is that of the response.
        response = jnp.linalg.norm(expected_gradients[0].skip)
        assert relative(tapped[0], response) < TOLERANCE


@native
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("kind", ["signal", "skip"])
@pytest.mark.parametrize(
    ("shape", "outputs", "stride"),
    [
        ((3, 32, 32, 16), 16, 1),
        ((3, 32, 32, 16), 32, 2),
        ((4, 16, 16, 32), 32, 1),
        ((4, 16, 16, 32), 64, 2),
        ((5, 8, 8, 64), 64, 1),
        ((5, 8, 8, 16), 32, 2),
        ((17, 4, 4, 32), 64, 2),
        ((17, 2, 2, 64), 64, 1),
    ],
)
def test_every_layer_of_the_networks_agrees_with_xla(
    shape: tuple[int, int, int, int], outputs: int, stride: int, kind: str
) -> None:
    check_layer(0, shape, outputs, stride, 3, kind)


@native
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 19), st.integers(1, 19), st.integers(1, 40)),
    outputs=st.integers(1, 40),
    stride=st.integers(1, 2),
    side=st.sampled_from([1, 3]),
    kind=st.sampled_from(["image", "signal", "skip"]),
)
def test_any_shape_agrees_with_xla(
    seed: int,
    shape: tuple[int, int, int, int],
    outputs: int,
    stride: int,
    side: int,
    kind: str,
) -> None:
    check_layer(seed, shape, outputs, stride, side, kind)


@native
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("kind", ["signal", "skip"])
@pytest.mark.parametrize("shape", [(20, 8, 8, 64), (9, 2, 2, 13), (3, 1, 5, 7)])
def test_pooling_agrees_with_xla(shape: tuple[int, int, int, int], kind: str) -> None:
    rng = np.random.default_rng(1)
    signal = random_signal(rng, shape, kind)
    weights = jnp.asarray(rng.normal(size=(shape[0], shape[-1])), jnp.float32)

    def theirs(signal: LayerInput) -> jax.Array:
        response = (signal.z - per_channel(signal.mean)) * per_channel(signal.factor)
        response = response + per_channel(signal.shift)
        x = jax.nn.relu(response if signal.skip is None else response + signal.skip)
        return jnp.sum(jnp.mean(x, axis=(1, 2)) * weights)

    def ours(signal: LayerInput, tap: jax.Array) -> jax.Array:
        return jnp.sum(pool(signal, tap)[0] * weights)

    value, (gradient, norm) = jax.value_and_grad(ours, argnums=(0, 1))(signal, jnp.zeros(()))
    wanted_value, wanted = jax.value_and_grad(theirs)(signal)
    assert value == pytest.approx(float(wanted_value), rel=1e-5, abs=1e-4)
    for got, expected in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        assert relative(got, expected) < TOLERANCE
    if kind == "skip":
        assert relative(norm, jnp.linalg.norm(wanted.skip)) < TOLERANCE


@native
def test_variance_does_not_cancel() -> None:
    """A mean 1,000 times the deviation leaves E[z²] - E[z]² no digits in float32."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(1000 + rng.normal(size=(16, 8, 8, 4)), jnp.float32)
    kernel = jnp.zeros((3, 3, 4, 4)).at[1, 1].set(jnp.eye(4))
    out = layer(LayerOptions(), LayerInput(x), kernel, (jnp.zeros(()), jnp.zeros(())))
    assert relative(out.variance, np.var(np.asarray(x, np.float64), axis=(0, 1, 2))) < 1e-5


@native
def test_not_a_number_is_not_hidden() -> None:
    z = jnp.zeros((2, 8, 8, 16)).at[1, 3, 3, 5].set(jnp.nan)
    vector = jnp.ones(16)
    signal = LayerInput(z, vector, vector, vector)
    out = layer(LayerOptions(), signal, jnp.ones((3, 3, 16, 16)), (jnp.zeros(()), jnp.zeros(())))
    assert bool(jnp.isnan(out.mean).all())
    assert not bool(jnp.isnan(out.z[0]).any())


SHAPES = ((3, 3, 16, 16), (10,), (2,), (64, 10), (3, 3, 1, 16))


def tensors(rng: np.random.Generator, scale: float = 1.0) -> list[Any]:
    return [jnp.asarray(scale * rng.normal(size=s), jnp.float32) for s in SHAPES]


def descent(g: list[Any], v: list[Any], w: list[Any], rate: float, **options: Any) -> Descended:
    usual = {"momentum": 0.9, "nesterov": False, "decay": [1e-4] * len(w), "scale": [1.0] * len(w)}
    step = jax.jit(lambda r, g, v, w: descend(r, g, v, w, **{**usual, "measure": True, **options}))
    return Descended(*step(jnp.float32(rate), g, v, w))


@native
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.usefixtures("instructions")
def test_a_step_of_descent_is_the_formula(scale: float, nesterov: bool) -> None:
    """And what it measures, which neither overflows nor vanishes; what it was given stays."""
    rng = np.random.default_rng(0)
    given = [tensors(rng, scale) for _ in range(3)]
    g, v, w = ([np.asarray(t, np.float64) for t in kind] for kind in given)
    decay, factor = [0.0, 0.1, 0.2, 0.3, 0.4], [1.0, 0.1, 1.0, 0.5, 1.0]
    done = descent(*given, 0.1, nesterov=nesterov, decay=decay, scale=factor)
    updates = []
    for i in range(len(SHAPES)):
        gradient = g[i] + decay[i] * w[i]
        velocity = 0.9 * v[i] + gradient
        updates.append(-0.1 * factor[i] * (gradient + 0.9 * velocity if nesterov else velocity))
        assert relative(done.velocity[i], velocity) < 1e-6
        assert relative(done.weights[i], w[i] + updates[i]) < 1e-6
        for before, kind in zip((g, v, w), given, strict=True):
            np.testing.assert_array_equal(np.asarray(kind[i], np.float64), before[i])
    for i, row in enumerate(done.measured):
        unit = w[i] / np.linalg.norm(w[i])
        turning = [x - np.sum(unit * x) * unit for x in (updates[i], g[i], v[i])]
        across = np.linalg.norm(turning[0])
        expected = [
            *(np.linalg.norm(x) for x in (g[i], w[i], updates[i])),
            np.arctan2(across, np.linalg.norm(w[i]) + np.sum(unit * updates[i])),
            np.sum(turning[1] * turning[2]) / np.prod([np.linalg.norm(x) for x in turning[1:]]),
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-6)


@native
@pytest.mark.usefixtures("instructions")
def test_a_direction_without_length_has_no_angle_and_decay_turns_nothing() -> None:
    nothing, w = [jnp.zeros(s) for s in SHAPES], tensors(np.random.default_rng(1))
    done = descent(nothing, nothing, w, 0.1, decay=[0.5] * len(w))
    assert np.all(done.measured[:, 2] > 0)
    assert np.all(done.measured[:, 3] < 1e-8)
    assert np.all(np.isnan(done.measured[:, 4]))
    lost = descent(w, w, nothing, 0.1).measured
    assert np.all(np.isnan(lost[:, 3:]))
    wrong = [w[0].at[1, 1, 1, 1].set(jnp.nan), *w[1:]]
    assert np.all(np.isnan(descent(wrong, w, w, 0.1).measured[0, [0, 2, 3, 4]]))


@native
def test_tensors_of_different_sizes_are_refused() -> None:
    one, other = [jnp.ones(3)], [jnp.ones(4)]
    with pytest.raises(Exception, match="of different sizes"):
        jax.block_until_ready(descent(other, one, one, 0.1))


@native
def test_a_kernel_of_another_shape_is_refused() -> None:
    with pytest.raises(Exception, match="a kernel is"):
        jax.block_until_ready(convolve(jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 5, 4)), 1))
