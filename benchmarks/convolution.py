"""3x3 convolutions as matrix products against XLA's own: of a 2x2 map, and in float64.

    python benchmarks/convolution.py

Forward and both gradients, batch 128, one core: 64 channels on a 2x2 map, as in the last stage of
the networks on 8x8 images; in float64 16 channels on 8x8, as in the first.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

from resnet_study import runtime

runtime.pin_to_core(0)
runtime.prepare()

import jax  # noqa: E402
from timing import interleaved, median_ms, ratio, timed  # noqa: E402

from resnet_study.models.layers import convolve  # noqa: E402
from resnet_study.tensors import arithmetic  # noqa: E402


def with_gradients(function: Callable[[jax.Array, jax.Array], jax.Array]) -> Any:
    """Jitted forward pass and vector-Jacobian product."""

    def both(x: jax.Array, kernel: jax.Array) -> Any:
        y, pull_back = jax.vjp(function, x, kernel)
        return y, pull_back(y)

    return jax.jit(both)


def xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's own convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def run(function: Any, *arguments: jax.Array) -> None:
    """Call it and wait for what it computes."""
    jax.block_until_ready(function(*arguments))


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for precision, side, channels in (("float32", 2, 64), ("float64", 8, 16)):
        with arithmetic(precision):
            compare(precision, side, channels)


def compare(precision: Any, side: int, channels: int) -> None:
    """Time both ways on maps of side x side pixels, and print it."""
    x = jax.random.normal(jax.random.key(0), (128, side, side, channels))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels))
    functions = {
        "product": with_gradients(lambda x, kernel: convolve(x, kernel, 1, precision)),
        "convolution": with_gradients(xla),
    }
    seconds = interleaved(
        {
            name: timed(functools.partial(run, function, x, kernel))
            for name, function in functions.items()
        },
        rounds=50,
    )
    print(f"{precision}, {channels} channels, {side}x{side}")
    for name, values in seconds.items():
        print(f"{name:12} {median_ms(values):6.2f} ms")
    print("convolution / product", ratio(seconds, "convolution", "product"))


if __name__ == "__main__":
    main()
