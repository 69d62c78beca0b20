"""The pure training step, the evaluation step, and the state they work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.sharding import Sharding

from resnet_study import tensors
from resnet_study.architecture import ModelSpec
from resnet_study.data.augment import augmenter, normalize
from resnet_study.datasets import DatasetShape
from resnet_study.kernels import Kernels
from resnet_study.models import Network, normalizations_of, weights_of
from resnet_study.probes import Observed, Passes, check_shapes, chosen, guarded
from resnet_study.spec import RunSpec
from resnet_study.training.optimizer import (
    Descend,
    Warmup,
    continue_warmup,
    sgd,
    start_warmup,
    warmed_rate,
)


class TrainState(NamedTuple):
    """Everything that changes while training; a plain pytree of arrays."""

    step: Array
    """Updates taken, int32 scalar."""
    parameters: dict[str, Any]
    """Pure dictionary of the network's `nnx.Param`."""
    statistics: dict[str, Any]
    """Running statistics of batch normalisation."""
    optimizer: Any
    """Velocity."""
    warmup: Warmup | None = None
    """Of a warm-up that ends at an error."""


class Batch(NamedTuple):
    """One mini-batch, and what else a step is given from outside."""

    images: Array
    """(N, H, W, C), uint8."""
    labels: Array
    """(N,), int32."""
    pixel_mean: Array
    """(H, W, C), float32, of the training images / 255."""
    learning_rate: Array
    """Scalar, without a warm-up that ends at an error."""
    augmentation_key: Array
    """The run's key; the step folds its own number in."""
    dropout_key: Array
    """Likewise."""


class StepMetrics(NamedTuple):
    """What one training step reports; the network is the one before the update."""

    loss: Array
    """Mean cross-entropy, scalar."""
    error: Array
    """Percent of wrong images in the mini-batch, scalar."""
    learning_rate: Array
    """Of this update, scalar."""
    layers: dict[str, Array]
    """One vector of shape (depth,) per name in `resnet_study.probes.chosen`; empty
    without probes."""


class EvaluationSums(NamedTuple):
    """Sums over the unmasked images of a batch."""

    loss: Array
    wrong: Array


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]
EvaluationStep = Callable[
    [dict[str, Any], dict[str, Any], Array, Array, Array, Array], EvaluationSums
]


def optimizer_of(spec: RunSpec) -> optax.GradientTransformation:
    """That of the spec and its network."""
    return sgd(spec.optimizer, fixup=_fixup(spec))


def _fixup(spec: RunSpec) -> bool:
    return spec.model.branch_scaling == "fixup"


def initial_state(spec: RunSpec, shape: DatasetShape, key: Array) -> TrainState:
    """Parameters drawn with `key`, zero velocity, statistics of mean 0 and variance 1."""
    graph, parameters, statistics = _split(Network(spec.model, shape, key))
    _graphs.clear()
    _graphs[spec.model, shape] = graph
    velocity = optimizer_of(spec).init(parameters)
    warmup = start_warmup(spec.schedule)
    return TrainState(jnp.zeros((), jnp.int32), parameters, statistics, velocity, warmup)


def _split(model: Network) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    graph, parameters, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)  # type: ignore[misc]
    return graph, nnx.to_pure_dict(parameters), nnx.to_pure_dict(statistics)


_graphs: dict[tuple[ModelSpec, DatasetShape], Any] = {}
"""Of networks that this process has built, which takes long for a deep one: the last that it drew
weights for, and those that were asked for since."""


def graph_of(spec: ModelSpec, shape: DatasetShape) -> Any:
    """The structure of a network, which `nnx.merge` fills with parameters and statistics."""
    if (spec, shape) not in _graphs:
        model = nnx.eval_shape(lambda: Network(spec, shape, jax.random.key(0)))
        _graphs[spec, shape] = _split(model)[0]
    return _graphs[spec, shape]


def make_train_step(
    spec: RunSpec,
    shape: DatasetShape,
    *,
    probes: bool = True,
    kernels: Kernels = "xla",
    sharding: Sharding | None = None,
) -> TrainStep:
    """The step for one spec, not yet jitted; see `jax.jit(step, donate_argnums=0)`.

    It depends on the spec through model, augmentation, momentum, weight decay and the error that
    ends a warm-up; runs that differ in seed or learning rate share one compilation.

    Args:
        spec: the run.
        shape: image shape and classes of the data.
        probes: compute the per-layer statistics in the same pass.
        kernels: what computes the network.
        sharding: how a batch of images lies on several devices; XLA divides the network with it.
    """
    graph, augment = graph_of(spec.model, shape), augmenter(spec.data)
    taps = jnp.zeros((spec.model.depth, 2)) if probes else None
    recorded = chosen(spec.probes.extra) if probes else ()
    of_step = {p.name: guarded(p.name, p.function) for p in recorded if p.function is not None}
    of_response = {
        p.name: guarded(p.name, p.of_response, scalar=True)
        for p in recorded
        if p.of_response is not None
    }
    of_passes = {p.name: guarded(p.name, p.of_passes) for p in recorded if p.of_passes is not None}
    if of_response:
        kernels = "xla"  # the native ones never write a response
    descend = Descend(spec.optimizer, _fixup(spec), probes, kernels)
    drops = spec.model.shortcut_scaling == "dropout"

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(batch.augmentation_key, state.step)
        images = augment(key, normalize(batch.images, batch.pixel_mean))
        if sharding is not None:
            images = jax.lax.with_sharding_constraint(images, sharding)
        dropout_key = jax.random.fold_in(batch.dropout_key, state.step) if drops else None

        def loss_of(parameters: dict[str, Any], taps: Array | None) -> tuple[Array, Any]:
            model = nnx.merge(graph, parameters, state.statistics)
            logits, responses = model(
                images,
                taps,
                train=True,
                kernels=kernels,
                of_response=of_response,
                dropout_key=dropout_key,
            )
            return _mean_loss(logits, batch.labels), (logits, responses, _split(model)[2])

        (loss, (logits, responses, statistics)), (gradients, tapped) = jax.value_and_grad(
            loss_of, argnums=(0, 1), has_aux=True
        )(state.parameters, taps)
        rate = warmed_rate(state.warmup, spec.schedule, batch.learning_rate)
        descent = descend(rate, gradients, state.optimizer, state.parameters)
        layers = {}
        if responses is not None:
            moved = (rate, gradients, state.optimizer, state.parameters)
            observed = Observed(
                weights=weights_of(state.parameters),
                gradients=weights_of(gradients),
                velocity=weights_of(optax.tree_utils.tree_get(state.optimizer, "trace")),
                scales=normalizations_of(state.parameters, "scale"),
                shifts=normalizations_of(state.parameters, "bias"),
                output_gradient_norms=tapped[:, 0],
                response_gradient_norms=tapped[:, 1],
                response_means=responses.mean,
                response_stds=responses.std,
                inactive=responses.inactive,
                **descent.measured,
                norms=tensors.norms,
                rms=tensors.rms,
                by_layer=tensors.by_layer,
                make_updates=lambda: weights_of(descend.updates(*moved)[0]),
            )
            layers = {name: function(observed) for name, function in of_step.items()}
            layers |= responses.extra
            if of_passes:
                passes = passes_of(graph, state, images, batch.labels, key, kernels)
                layers |= {name: function(passes) for name, function in of_passes.items()}
            check_shapes(layers, spec.model.depth)
        error = 100 * jnp.mean(jnp.argmax(logits, axis=-1) != batch.labels, dtype=float)
        following = TrainState(
            step=state.step + 1,
            parameters=descent.parameters,
            statistics=statistics,
            optimizer=descent.optimizer,
            warmup=continue_warmup(state.warmup, spec.schedule, state.step, error),
        )
        return following, StepMetrics(loss, error, rate, layers)

    return train_step


def passes_of(
    graph: Any, state: TrainState, images: Array, labels: Array, key: Array, kernels: Kernels
) -> Passes:
    """Further passes through the network of a state; see `Passes`.

    Args:
        graph: of `graph_of`.
        state: the network.
        images, labels: the mini-batch.
        key: of the step.
        kernels: what computes gradients.
    """
    depth = len(weights_of(state.parameters))

    def gradients(images: Array, labels: Array) -> list[Array]:
        def loss(parameters: dict[str, Any]) -> Array:
            model = nnx.merge(graph, parameters, state.statistics)
            return _mean_loss(model(images, train=True, kernels=kernels)[0], labels)

        return weights_of(jax.grad(loss)(state.parameters))

    def responses(images: Array, statistic: Callable[[Array], Array]) -> Array:
        model = nnx.merge(graph, state.parameters, state.statistics)
        taps = jnp.zeros((depth, 2))
        _, found = model(images, taps, train=True, of_response={"statistic": statistic})
        return found.extra["statistic"]

    return Passes(images, labels, key, gradients, responses, tensors.by_layer)


def _mean_loss(logits: Array, labels: Array) -> Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def make_logits(
    spec: ModelSpec, shape: DatasetShape, *, kernels: Kernels = "xla"
) -> Callable[[dict[str, Any], dict[str, Any], Array, Array], Array]:
    """What a network answers, with running statistics; not yet jitted.

    Returns:
        A function of parameters, statistics, images (N, H, W, C) as uint8 and their mean pixels
        (H, W, C) to logits (N, classes).
    """
    graph = graph_of(spec, shape)

    def logits(
        parameters: dict[str, Any], statistics: dict[str, Any], images: Array, pixel_mean: Array
    ) -> Array:
        model = nnx.merge(graph, parameters, statistics)
        return model(normalize(images, pixel_mean), train=False, kernels=kernels)[0]

    return logits


def make_evaluation_step(
    spec: RunSpec, shape: DatasetShape, *, kernels: Kernels = "xla"
) -> EvaluationStep:
    """Sums of loss and wrong answers over a batch, with running statistics; not yet jitted."""
    logits_of = make_logits(spec.model, shape, kernels=kernels)

    def evaluation_step(
        parameters: dict[str, Any],
        statistics: dict[str, Any],
        images: Array,
        labels: Array,
        mask: Array,
        pixel_mean: Array,
    ) -> EvaluationSums:
        logits = logits_of(parameters, statistics, images, pixel_mean)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        wrong, mask = jnp.argmax(logits, axis=-1) != labels, mask.astype(float)
        return EvaluationSums(jnp.sum(losses * mask), jnp.sum(wrong * mask))

    return evaluation_step
