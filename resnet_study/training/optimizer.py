"""Stochastic gradient descent as the paper uses it, its learning-rate schedule and warm-up."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from resnet_study.kernels import Kernels, operations
from resnet_study.models import weights_of
from resnet_study.spec import OptimizerSpec, RunSpec, ScheduleSpec
from resnet_study.tensors import angular_step, by_layer, norms, tangent_cosine

WARMUP_BATCHES = 50
"""Mini-batches whose mean error decides on the end of a warm-up."""


FIXUP_RATE = 0.1
"""Of the rate, for all parameters but kernels in a Fixup network: biases and multipliers, as in the
CIFAR-10 training of its authors (hongyi-zhang/Fixup, of Zhang et al. 2019, arXiv 1901.09321)."""


def sgd(spec: OptimizerSpec, *, fixup: bool = False) -> optax.GradientTransformation:
    """Direction of descent: v ← μ v + (g + λ w); the step is then −η v.

    With Nesterov's momentum the step is −η (g + λ w + μ v). Weight decay joins here, behind the
    recorded gradient of the loss. The learning rate is applied by the caller because it changes
    during a run without a new compilation; it multiplies the velocity as in Torch (Caffe, which
    the paper used, stores η v, which differs for some iterations after each drop).

    Args:
        spec: momentum and weight decay.
        fixup: `FIXUP_RATE` applies.
    """
    mask = _weights if spec.weight_decay_on == "weights" else None
    slower = (optax.masked(optax.scale(FIXUP_RATE), _others),) if fixup else ()
    return optax.chain(
        optax.add_decayed_weights(spec.weight_decay, mask),
        optax.trace(decay=spec.momentum, nesterov=spec.nesterov),
        *slower,
    )


class Descent(NamedTuple):
    """A step of `sgd`."""

    parameters: dict[str, Any]
    optimizer: Any
    """Its state."""
    measured: dict[str, Array]
    """What `resnet_study.probes.Observed` has of weights, gradients and updates, by its names."""


_MEASURED = (
    "weight_gradient_norms",
    "weight_norms",
    "update_norms",
    "angular_steps",
    "velocity_cosines",
)


class Descend(NamedTuple):
    """How to take a step of `sgd`.

    Attributes:
        spec: momentum and weight decay.
        fixup: `FIXUP_RATE` applies.
        measure: what the step does to the weights of every layer.
        kernels: what computes it.
    """

    spec: OptimizerSpec
    fixup: bool = False
    measure: bool = False
    kernels: Kernels = "xla"

    def __call__(
        self, rate: Array, gradients: dict[str, Any], optimizer: Any, parameters: dict[str, Any]
    ) -> Descent:
        """Take one.

        Args:
            rate: η, scalar.
            gradients: of the loss.
            optimizer: state of `sgd`.
            parameters: of a network.
        """
        if self.kernels == "native":
            return self._natively(rate, gradients, optimizer, parameters)
        updates, following = self.updates(rate, gradients, optimizer, parameters)
        measured: dict[str, Array] = {}
        if self.measure:
            velocity = optax.tree_utils.tree_get(optimizer, "trace")
            w, g, v, u = map(weights_of, (parameters, gradients, velocity, updates))
            turns = by_layer(angular_step, w, u), by_layer(tangent_cosine, g, v, w)
            values = (norms(g), norms(w), norms(u), *turns)
            measured = dict(zip(_MEASURED, values, strict=True))
        return Descent(optax.apply_updates(parameters, updates), following, measured)

    def updates(
        self, rate: Array, gradients: dict[str, Any], optimizer: Any, parameters: dict[str, Any]
    ) -> tuple[dict[str, Any], Any]:
        """Δw and the optimiser's next state, computed by XLA."""
        transformation = sgd(self.spec, fixup=self.fixup)
        direction, following = transformation.update(gradients, optimizer, parameters)
        return jax.tree.map(lambda v: -rate * v, direction), following

    def _natively(
        self, rate: Array, gradients: dict[str, Any], optimizer: Any, parameters: dict[str, Any]
    ) -> Descent:
        """Many tensors in a call: XLA makes three programs of each."""
        velocity = optax.tree_utils.tree_get(optimizer, "trace")
        leaves, structure = jax.tree.flatten(parameters)
        weights = jax.tree.leaves(_weights(parameters))
        everything = self.spec.weight_decay_on == "all"
        decays = [self.spec.weight_decay if everything or weight else 0.0 for weight in weights]
        done = operations.descend(
            rate,
            jax.tree.leaves(gradients),
            jax.tree.leaves(velocity),
            leaves,
            momentum=self.spec.momentum,
            nesterov=self.spec.nesterov,
            decay=decays,
            scale=[FIXUP_RATE if self.fixup and not weight else 1.0 for weight in weights],
            measure=self.measure,
        )
        rows = np.array(weights_of(jax.tree.unflatten(structure, range(len(leaves)))))
        trace = jax.tree.unflatten(structure, done.velocity)
        return Descent(
            jax.tree.unflatten(structure, done.weights),
            optax.tree_utils.tree_set(optimizer, trace=trace),
            dict(zip(_MEASURED, done.measured[rows].T, strict=True)) if self.measure else {},
        )


def _weights(parameters: Any) -> Any:
    """True for the kernels of convolutions and classifier, false for the rest."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", parameters)


def _others(parameters: Any) -> Any:
    return jax.tree.map(lambda weight: not weight, _weights(parameters))


def learning_rate(optimizer: OptimizerSpec, schedule: ScheduleSpec, step: int) -> float:
    """Rate of the update that takes the network from `step` to `step + 1` updates.

    He et al. 2015, section 4.2: 0.1, divided by 10 at 32k and at 48k iterations. A warm-up of
    fixed length comes first, at its own rate unless the schedule's is lower. A warm-up that
    ends at an error is not in it, since it depends on the run: see `Warmup`.
    """
    drops = sum(step >= cast(int, drop) for drop in (schedule.first_drop, schedule.second_drop))
    rate = optimizer.learning_rate * schedule.drop_factor**drops
    warm = step < cast(int, schedule.warmup_iterations)
    return min(rate, schedule.warmup_learning_rate) if warm else rate


def first_rate(spec: RunSpec) -> Array:
    """Rate of the first update, whatever the kind of warm-up, scalar."""
    rate = jnp.asarray(learning_rate(spec.optimizer, spec.schedule, 0), float)
    return warmed_rate(start_warmup(spec.schedule), spec.schedule, rate)


class Warmup(NamedTuple):
    """State of a warm-up that ends at a training error; part of the training state.

    He et al. 2015, section 4.2, of depth 110: "we use 0.01 to warm up the training until the
    training error is below 80% (about 400 iterations), and then go back to 0.1".
    """

    errors: Array
    """Errors in percent of the last `WARMUP_BATCHES` mini-batches, in a ring; 100 before the
    start, so that a few lucky batches end nothing."""
    over: Array
    """Whether the warm-up has ended, for good, bool scalar."""


def start_warmup(schedule: ScheduleSpec) -> Warmup | None:
    """The state at iteration 0; None if no warm-up ends at an error."""
    if schedule.warmup_error == 0:
        return None
    return Warmup(jnp.full(WARMUP_BATCHES, 100.0), jnp.zeros((), bool))


def warmed_rate(warmup: Warmup | None, schedule: ScheduleSpec, rate: Array) -> Array:
    """The rate of an update: `rate`, or that of the warm-up as long as it lasts, if lower."""
    if warmup is None:
        return rate
    return jnp.where(warmup.over, rate, jnp.minimum(rate, schedule.warmup_learning_rate))


def continue_warmup(
    warmup: Warmup | None, schedule: ScheduleSpec, step: Array, error: Array
) -> Warmup | None:
    """The state after the mini-batch of `step`, which had this error in percent."""
    if warmup is None:
        return None
    errors = warmup.errors.at[step % WARMUP_BATCHES].set(error)
    return Warmup(errors, warmup.over | (jnp.mean(errors) < schedule.warmup_error))
