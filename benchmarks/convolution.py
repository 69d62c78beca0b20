"""The 3x3 convolution of a 2x2 map: as a matrix product against XLA's own convolution.

    python benchmarks/convolution.py

Forward and both gradients, batch 128, 64 channels, one core, as in the last stage of the
networks on 8x8 images.
"""

from __future__ import annotations

from resnet_study import runtime

runtime.pin_to_core(0)
runtime.prepare()

import jax  # noqa: E402
from timing import interleaved, median_ms, ratio, verdict  # noqa: E402

from resnet_study.models.layers import convolve  # noqa: E402


def with_gradients(function):
    """Jitted forward pass and vector-Jacobian product."""

    def both(x, kernel):
        y, pull_back = jax.vjp(function, x, kernel)
        return y, pull_back(y)

    return jax.jit(both)


def xla(x, kernel):
    """XLA's own convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def main() -> None:
    x = jax.random.normal(jax.random.key(0), (128, 2, 2, 64))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 64, 64))
    functions = {
        "product": with_gradients(lambda x, kernel: convolve(x, kernel, 1)),
        "convolution": with_gradients(xla),
    }
    seconds = interleaved(
        {name: lambda f=f: jax.block_until_ready(f(x, kernel)) for name, f in functions.items()},
        rounds=50,
    )
    for name, values in seconds.items():
        print(f"{name:12} {median_ms(values):6.2f} ms")
    print("convolution / product", verdict(*ratio(seconds, "convolution", "product")))


if __name__ == "__main__":
    main()
