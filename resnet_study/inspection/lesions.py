"""Errors of networks that lost blocks or have them in another order.

Veit et al. 2016 (arXiv 1605.06431) delete single blocks of a trained network (section 4.1),
several at random (section 4.2), and swap blocks of equal shape (section 4.3), and test it as it
then is. Nothing is trained again.

========================= ==================================================================
intact_error              of the whole network on these images; index 0
block_deletion_error      without block b = 1..3n; a plain network has the same layers for
                          blocks; see `resnet_study.inspection.walk.through`
layer_deletion_error      without layer l = 2..depth - 1, of plain networks
random_deletion_error,    without k random blocks: mean and standard deviation over the
random_deletion_sd        samples; index k
swap_error, swap_sd       after k swaps of two random blocks of equal shape, one after the
                          other, likewise; index k
swap_kendall_tau          rank correlation of the order of the blocks with the original
                          one, mean over the same samples; index k
========================= ==================================================================

Errors in percent. ``stage`` is that of the block or layer, 0 where it has no meaning. A block that
changes the shape is never swapped, but may be deleted. No sample of deletions or swaps depends on
how many others there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
import scipy

from resnet_study.architecture import ModelSpec
from resnet_study.data.dataset import Split, stable_permutation
from resnet_study.inspection import walk
from resnet_study.inspection.inspected import Inspected, batches
from resnet_study.inspection.walk import Lesion
from resnet_study.kernels import Kernels
from resnet_study.phenomena.initialization.chain import Chain, take_apart
from resnet_study.phenomena.initialization.measuring import Values, stages_of
from resnet_study.probes import fibonacci
from resnet_study.training.devices import Devices

Plan = tuple[tuple[int, Lesion], ...]
"""The blocks that an image goes through, by number from 0, and what each is without."""

DELETION_ENTROPY, SWAP_ENTROPY, IMAGE_ENTROPY = 41, 43, 47
"""Keep the random numbers of deletions, swaps and images apart from all others."""


class Lesions(NamedTuple):
    """What is done to one network: plans by quantity, index for index.

    Attributes:
        single: a plan for each block.
        layers: a plan for each layer of a plain network; empty for a residual one.
        deletions, swaps: samples of plans by k.
    """

    single: list[Plan]
    layers: list[Plan]
    deletions: dict[int, list[Plan]]
    swaps: dict[int, list[Plan]]


def images_of(split: Split, count: int) -> Split:
    """Random images of a split, the same for every network; all of them if there are no more.

    The first ones would not do: a source may have its images class by class.
    """
    order = stable_permutation(len(split), IMAGE_ENTROPY)
    return split.take(np.sort(order[:count]))


def intact(blocks: int) -> Plan:
    """Nothing is done."""
    return tuple((block, "") for block in range(blocks))


def without(blocks: int, deleted: Sequence[int], lesion: Lesion = "block") -> Plan:
    """These blocks, by number from 0, have this lesion."""
    gone = set(deleted)
    return tuple((block, lesion if block in gone else "") for block in range(blocks))


def random_deletion(blocks: int, k: int, seed: int, sample: int) -> Plan:
    """Without k random blocks."""
    order = stable_permutation(blocks, DELETION_ENTROPY, seed, sample, k)
    return without(blocks, order[:k].tolist())


def swapped(blocks: int, pairs: Sequence[tuple[int, int]]) -> Plan:
    """After these blocks, by their places from 0, changed places, one pair after the other."""
    order = list(range(blocks))
    for one, other in pairs:
        order[one], order[other] = order[other], order[one]
    return tuple((block, "") for block in order)


def pairs_of_equal_shape(model: ModelSpec) -> list[tuple[int, int]]:
    """All pairs of blocks of one stage, but for those that begin with another shape."""
    n = model.blocks_per_stage
    pairs = []
    for stage in range(3):
        changes = stage > 0 or model.expansion > 1
        inside = range(stage * n + changes, (stage + 1) * n)
        pairs += [(one, other) for one in inside for other in inside if one < other]
    return pairs


def random_swaps(model: ModelSpec, k: int, seed: int, sample: int) -> Plan:
    """After k swaps of random pairs of equal shape; a pair may be drawn again."""
    pairs = pairs_of_equal_shape(model)
    chosen = [
        pairs[stable_permutation(len(pairs), SWAP_ENTROPY, seed, sample, number)[0]]
        for number in range(k)
    ]
    return swapped(3 * model.blocks_per_stage, chosen)


def kendall_tau(plan: Plan) -> float:
    """Rank correlation of the order of a plan's blocks with the original one."""
    order = [block for block, _ in plan]
    return float(scipy.stats.kendalltau(range(len(order)), order).statistic)


def lesions_of(model: ModelSpec, seed: int, samples: int) -> Lesions:
    """What is done to a network; what is random is drawn with the seed."""
    blocks = 3 * model.blocks_per_stage
    counts, can_swap = fibonacci(blocks), len(pairs_of_equal_shape(model)) > 0
    layers: list[Plan] = []
    if not model.residual:
        parts = walk.LAYERS[: model.layers_per_block]
        layers = [without(blocks, [block], part) for block in range(blocks) for part in parts]
    return Lesions(
        single=[without(blocks, [block]) for block in range(blocks)],
        layers=layers,
        deletions={
            k: [random_deletion(blocks, k, seed, sample) for sample in range(samples)]
            for k in counts
        },
        swaps={
            k: [random_swaps(model, k, seed, sample) for sample in range(samples)]
            for k in counts
            if can_swap
        },
    )


def errors_of(
    chain: Chain,
    plans: Sequence[Plan],
    images: Split,
    pixel_mean: np.ndarray,
    where: Devices,
) -> np.ndarray:
    """Error of each plan in percent, (plans,), with running statistics.

    A plan starts at the first block at which it differs from the intact network. The mean of the
    pixels, (H, W, C), is that of the run's training images.
    """
    whole, kernels = intact(len(chain.blocks)), where.kernels
    chain, mean = walk.placed(chain, where), where.replicate(pixel_mean)
    wrong = np.zeros(len(plans), np.int64)
    for positions, count in batches(len(images), where):
        labels = images.labels[positions[:count]]
        forward = walk.begin(*chain.ends, where.split(images.images[positions]), mean, kernels)
        inputs = [forward, *_outputs(chain, whole, forward, kernels)]
        for number, plan in enumerate(plans):
            shared = next((i for i in range(len(whole)) if plan[i] != whole[i]), len(whole))
            *_, last = inputs[shared], *_outputs(chain, plan[shared:], inputs[shared], kernels)
            answers = np.argmax(jax.device_get(walk.end(*chain.ends, last)), axis=1)[:count]
            wrong[number] += np.sum(answers != labels)
    return 100 * wrong / len(images)


def _outputs(chain: Chain, plan: Plan, x: jax.Array, kernels: Kernels) -> Iterator[jax.Array]:
    for block, lesion in plan:
        x = walk.through(*chain.blocks[block], x, kernels, lesion)
        yield x


def measure(
    network: Inspected, images: Split, pixel_mean: np.ndarray, where: Devices, samples: int
) -> Iterator[Values]:
    """Do all of it to one network.

    Args:
        network, where: of `resnet_study.inspection.inspected.on_devices`.
        images: on which the errors are.
        pixel_mean: of the run's training images.
        samples: of each number of deletions and swaps, drawn with the run's seed.
    """
    chain = take_apart(network.module(), network.model)
    chosen, whole = lesions_of(network.model, network.spec.seed, samples), intact(len(chain.blocks))
    sampled = [*chosen.deletions.values(), *chosen.swaps.values()]
    every = [whole, *chosen.single, *chosen.layers, *itertools.chain(*sampled)]
    plans = list(dict.fromkeys(every))
    found = errors_of(chain, plans, images, pixel_mean, where)
    errors = dict(zip(plans, found.tolist(), strict=True))

    def of(several: Sequence[Plan]) -> np.ndarray:
        return np.array([errors[plan] for plan in several])

    yield "intact_error", 0, np.zeros(1, int), of([whole])
    yield "block_deletion_error", 1, stages_of(network.model, 1), of(chosen.single)
    if chosen.layers:
        stages = stages_of(network.model, network.model.layers_per_block)
        yield "layer_deletion_error", 2, stages, of(chosen.layers)
    for name, by_count in (("random_deletion", chosen.deletions), ("swap", chosen.swaps)):
        for statistic, reduce in (("error", np.mean), ("sd", _deviation)):
            for k, several in by_count.items():
                value = np.array([reduce(of(several))])
                yield f"{name}_{statistic}", k, np.zeros(1, int), value
    for k, several in chosen.swaps.items():
        tau = np.mean([kendall_tau(plan) for plan in several])
        yield "swap_kendall_tau", k, np.zeros(1, int), np.array([tau])


def _deviation(values: np.ndarray) -> float:
    """Standard deviation of the sample; NaN of one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
