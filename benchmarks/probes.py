"""What recording costs: a training step with all per-layer probes against one without.

    python benchmarks/probes.py

Probes are computed in every step, so this is the cost at any cadence; a recorded step
copies 8 numbers per layer to the host besides.
"""

from __future__ import annotations

from resnet_study import runtime

runtime.prepare()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from timing import interleaved, median_ms, ratio, verdict  # noqa: E402

from resnet_study.environment import describe  # noqa: E402
from resnet_study.spec import DATASETS, from_flat  # noqa: E402
from resnet_study.training.loop import keys_of  # noqa: E402
from resnet_study.training.step import Batch, initial_state, make_train_step  # noqa: E402


def stepper(data: str, depth: int, residual: bool, probes: bool):
    """A function that takes one training step and waits for it."""
    spec = from_flat({"data.name": data, "model.depth": depth, "model.residual": residual})
    shape = DATASETS[data]
    keys, rng = keys_of(0), np.random.default_rng(0)
    size = (spec.data.batch_size, shape.height, shape.width, shape.channels)
    batch = Batch(
        images=jnp.asarray(rng.integers(0, 256, size, np.uint8)),
        labels=jnp.asarray(rng.integers(0, shape.classes, size[0], np.int32)),
        pixel_mean=jnp.full(size[1:], 0.5),
        learning_rate=jnp.float32(0.01),
        augmentation_key=keys.augmentation,
    )
    step = jax.jit(make_train_step(spec, shape, probes=probes), donate_argnums=0)
    state = initial_state(spec, shape, keys.initialization)

    def run() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def main() -> None:
    about = describe("python benchmarks/probes.py", "random images")
    print(about["system"], about["device"], about["packages"]["jax"], about["settings"])
    print("time of a step with probes / without, batch 128")
    for data, depths in (("digits", (20, 56, 110)), ("cifar10", (20, 56))):
        for depth in depths:
            for residual in (False, True):
                seconds = interleaved(
                    {
                        "with": stepper(data, depth, residual, True),
                        "without": stepper(data, depth, residual, False),
                    },
                    rounds=20 if data == "digits" else 8,
                )
                family = "residual" if residual else "plain"
                print(
                    f"{data:8} {family:>8}-{depth:<4} {median_ms(seconds['with']):7.1f} ms  "
                    f"{verdict(*ratio(seconds, 'with', 'without'))}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
