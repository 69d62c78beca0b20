"""Winograd's algorithm in the native kernels: where it is taken, its errors, its bits."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_study import kernels
from resnet_study.kernels import build
from resnet_study.kernels.operations import convolve

missing = kernels.why_not()
native = pytest.mark.skipif(missing is not None, reason=f"no native kernels: {missing}")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    if missing is None:
        kernels.winograd(True)


def computed(allowed: bool, *given: np.ndarray, stride: int = 1) -> list[np.ndarray]:
    """A convolution and its two gradients, jitted; given input, kernel and output's gradient."""
    kernels.winograd(allowed)

    @jax.jit
    def all_three(x: Any, kernel: Any, gradient: Any) -> Any:
        z, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, stride), x, kernel)
        return z, *pull(gradient)

    return [np.asarray(v) for v in all_three(*(jnp.asarray(g, jnp.float32) for g in given))]


def exact(x: np.ndarray, kernel: np.ndarray, gradient: np.ndarray) -> list[np.ndarray]:
    """The same in float64."""
    x, kernel, gradient = (v.astype(np.float64) for v in (x, kernel, gradient))
    _, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    z, padded_gradient = np.zeros(gradient.shape), np.zeros(padded.shape)
    kernel_gradient = np.zeros(kernel.shape)
    for r in range(3):
        for c in range(3):
            seen = padded[:, r : r + h, c : c + w]
            z += seen @ kernel[r, c]
            padded_gradient[:, r : r + h, c : c + w] += gradient @ kernel[r, c].T
            kernel_gradient[r, c] = np.einsum("nhwi,nhwo->io", seen, gradient)
    return [z, padded_gradient[:, 1:-1, 1:-1], kernel_gradient]


@native
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    images=st.integers(1, 40),
    height=st.integers(1, 16).map(lambda n: 2 * n),
    width=st.integers(1, 16).map(lambda n: 2 * n),
    inputs=st.integers(1, 4).map(lambda n: 16 * n),
    outputs=st.integers(1, 4).map(lambda n: 16 * n),
    offset=st.sampled_from([0.0, 0.5, 4.0]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_its_errors_are_those_of_the_direct_kernels(
    seed: int,
    images: int,
    height: int,
    width: int,
    inputs: int,
    outputs: int,
    offset: float,
    scale: float,
) -> None:
    """Of the convolution and both gradients against float64, on signals with and without a mean."""
    rng = np.random.default_rng(seed)
    x = scale * np.maximum(rng.normal(size=(images, height, width, inputs)) + offset, 0)
    kernel = rng.normal(size=(3, 3, inputs, outputs)) / (3 * np.sqrt(inputs))
    gradient = rng.normal(size=(images, height, width, outputs)) / scale
    given = [v.astype(np.float32) for v in (x, kernel, gradient)]
    wanted = exact(*given)
    errors = {
        allowed: [
            np.linalg.norm(got - want) / np.linalg.norm(want)
            for got, want in zip(computed(allowed, *given), wanted, strict=True)
        ]
        for allowed in (True, False)
    }
    for winograd, direct in zip(errors[True], errors[False], strict=True):
        # Where both are within the last bit of float32, which one is nearer is chance.
        assert winograd < max(1.25 * direct, 2.5e-7)


@native
@pytest.mark.parametrize(
    ("shape", "outputs", "stride", "takes"),
    [
        ((2, 32, 32, 16), 16, 1, True),
        ((2, 8, 8, 64), 64, 1, True),
        ((2, 2, 10, 16), 48, 1, True),
        ((2, 32, 32, 3), 16, 1, False),  # the stem
        ((2, 16, 16, 16), 32, 2, False),
        ((2, 9, 8, 16), 16, 1, False),
        ((2, 8, 9, 16), 16, 1, False),
        ((9, 4, 4, 32), 32, 1, True),
        ((3, 6, 6, 16), 32, 1, True),
        ((2, 2, 2, 64), 64, 1, True),
        ((2, 4, 2, 16), 16, 1, False),
        ((2, 8, 8, 24), 16, 1, False),
    ],
)
def test_which_layers_take_it(
    shape: tuple[int, int, int, int], outputs: int, stride: int, takes: bool
) -> None:
    rng = np.random.default_rng(0)
    n, h, w, c = shape
    given = [
        rng.normal(size=size)
        for size in (shape, (3, 3, c, outputs), (n, -(-h // stride), -(-w // stride), outputs))
    ]
    ours, direct = (computed(allowed, *given, stride=stride) for allowed in (True, False))
    for a, b in zip(ours, direct, strict=True):
        assert np.array_equal(a, b) != takes
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@native
def test_it_is_taken_unless_told_otherwise() -> None:
    assert kernels.winograd()
    assert not kernels.winograd(False)
    assert not kernels.winograd()
    assert kernels.winograd(True)


def fused_multiply_add() -> bool:
    flags = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and flags.exists() and " fma " in flags.read_text()


@pytest.mark.slow
@pytest.mark.skipif(not fused_multiply_add(), reason="no x86-64 processor with FMA")
def test_the_same_bits_for_every_width_and_order_of_shards_and_no_memory_error(
    tmp_path: Path,
) -> None:
    """Vectors of four and eight floats, built with the sanitizers for addresses and behaviour."""
    try:
        compiler = build.compiler().split()
    except build.BuildError as error:
        pytest.skip(str(error))
    command = [*compiler, *build._FLAGS, "-O1", "-g", "-I", str(build.SOURCES)]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    objects = []
    for name, flag in (("four", "-mavx"), ("eight", "-mavx2")):
        objects.append(str(tmp_path / f"{name}.o"))
        source = ["-c", str(build.SOURCES / "layer.cpp"), "-o", objects[-1]]
        subprocess.run([*command, flag, "-mfma", f"-DINSTRUCTIONS={name}", *source], check=True)
    program = str(tmp_path / "widths")
    main = str(Path(__file__).parent / "widths.cpp")
    linked = subprocess.run([*command, main, *objects, "-o", program], capture_output=True)
    if linked.returncode and b"asan" in linked.stderr:
        pytest.skip("no sanitizers with this compiler")
    assert linked.returncode == 0, linked.stderr.decode()
    run = subprocess.run([program], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
