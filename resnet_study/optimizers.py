"""Stochastic gradient descent as the paper uses it, and its learning-rate schedule."""

from __future__ import annotations

from typing import cast

import optax

from resnet_study.spec import OptimizerSpec, ScheduleSpec


def sgd(spec: OptimizerSpec) -> optax.GradientTransformation:
    """Direction of descent: v ← μ v + (g + λ w); the step is then −η v.

    Weight decay joins here, behind the recorded gradient of the loss. The learning rate is
    applied by the caller because it changes during a run without a new compilation; it
    multiplies the velocity as in Torch (Caffe, which the paper used, stores η v, which
    differs for some iterations after each drop).
    """
    return optax.chain(
        optax.add_decayed_weights(spec.weight_decay),
        optax.trace(decay=spec.momentum),
    )


def learning_rate(optimizer: OptimizerSpec, schedule: ScheduleSpec, step: int) -> float:
    """Rate of the update that takes the network from `step` to `step + 1` updates.

    He et al. 2015, section 4.2: 0.1, divided by 10 at 32k and at 48k iterations.
    """
    drops = sum(step >= cast(int, drop) for drop in (schedule.first_drop, schedule.second_drop))
    return optimizer.learning_rate * schedule.drop_factor**drops
