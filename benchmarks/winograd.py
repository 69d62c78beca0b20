"""A training step with Winograd's algorithm against one that takes every product.

    python benchmarks/winograd.py                   # residual-20, 32×32, batch 128
    python benchmarks/winograd.py --depths 20 56

Both are the same compiled program of the native kernels with all per-layer statistics, in one
process; only what its layers do with their products changes between turns.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from equality import batch_of, save
from jax_worker import Training
from timing import interleaved, median_ms, ratio

from resnet_study import kernels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depths", type=int, nargs="+", default=[20], metavar="DEPTH")
    parser.add_argument("--batch", type=int, default=128, metavar="IMAGES")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="in a turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        batch = str(Path(folder, "batch.npz"))
        save(batch, batch_of(32, 3, options.batch))
        for depth in options.depths:
            network = {"depth": depth, "residual": True, "channels": 3}
            training = Training(network, batch, "native", True, "float32", True)

            def turn(allowed: bool, training: Training = training) -> float:
                kernels.winograd(allowed)
                return training.run(options.steps) / options.steps

            variants = {"direct": lambda: turn(False), "winograd": lambda: turn(True)}
            for variant in variants.values():
                variant()
            seconds = interleaved(variants, options.rounds)
            print(f"residual-{depth} 32×32, {kernels.instructions()}")
            for name, values in seconds.items():
                fastest = 1000 * min(values)
                print(f"  {name:8} {median_ms(values):7.1f} ms a step, at best {fastest:.1f}")
            best = np.min(seconds["direct"]) / np.min(seconds["winograd"])
            print(f"  direct / winograd {ratio(seconds, 'direct', 'winograd')}, at best {best:.2f}")


if __name__ == "__main__":
    main()
