"""Lesions: what changes nothing, what is drawn, and errors against a second computation."""

from __future__ import annotations

import itertools
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_study.architecture import ModelSpec
from resnet_study.data import Dataset, Split
from resnet_study.data.augment import normalize
from resnet_study.inspection import lesion_figure, lesions
from resnet_study.inspection.inspected import Inspected, logits_of
from resnet_study.models import Recorder
from resnet_study.phenomena.initialization.chain import take_apart
from resnet_study.studies.find import home
from tests.inspected import CPU, data_of, network_of, spec_of

BLOCKS = st.sampled_from([3, 6, 9, 27])


def answered(network: Inspected) -> Dataset:
    """Images with the network's own answers as labels: it makes no error until it is changed.

    Its classifier gets a bias with which it does not answer the same to all.
    """
    dataset = data_of(network.spec)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, dataset.test.images.shape, np.uint8)
    head = network.parameters["head"]
    head["bias"] -= logits_of(network, CPU, images, dataset.mean).mean(axis=0)
    answers = logits_of(network, CPU, images, dataset.mean).argmax(axis=1)
    assert len(set(answers)) > 1
    return replace(dataset, test=Split(images, answers.astype(np.int32)))


def errors(network: Inspected, plans: list[lesions.Plan], dataset: Dataset) -> list[float]:
    chain = take_apart(network.module(), network.model)
    return lesions.errors_of(chain, plans, dataset.test, dataset.mean, CPU).tolist()


def test_the_intact_error_is_that_of_the_network() -> None:
    network = network_of(spec_of(depth=14))
    dataset = data_of(network.spec)
    logits = logits_of(network, CPU, dataset.test.images, dataset.mean)
    expected = 100 * np.mean(logits.argmax(axis=1) != dataset.test.labels)
    assert errors(network, [lesions.intact(6)], dataset) == [expected]
    assert errors(network, [lesions.intact(6)], answered(network)) == [0]


def test_errors_are_those_of_blocks_put_together_by_hand() -> None:
    network = network_of(spec_of(depth=20))
    dataset = answered(network)
    n = 3
    plans = [
        lesions.without(9, [1]),
        lesions.without(9, [4, 3, 8]),
        lesions.swapped(9, [(1, 2), (0, 1), (7, 8)]),
    ]

    def by_hand(plan: lesions.Plan) -> float:
        module = network.module()
        pixels = normalize(jnp.asarray(dataset.test.images), jnp.asarray(dataset.mean))
        x = module.begin(pixels, Recorder(), train=False)
        for number, lesion in plan:
            if not lesion:
                x = module.blocks[number](x, Recorder(), train=False)
            elif number in (n, 2 * n):
                x = jnp.pad(x[:, ::2, ::2], ((0, 0),) * 3 + ((x.shape[-1] // 2,) * 2,))
        logits = module.end(x, Recorder(), train=False)
        return float(100 * np.mean(np.argmax(logits, axis=1) != dataset.test.labels))

    found = errors(network, plans, dataset)
    assert found == [by_hand(plan) for plan in plans]
    assert min(found) > 0


def test_to_delete_a_block_whose_branch_is_zero_changes_nothing() -> None:
    network = network_of(spec_of(depth=14))
    norm = network.parameters["blocks"][4]["layer2"]["norm"]
    norm.update(scale=jnp.zeros(16), bias=jnp.zeros(16))
    plans = [lesions.without(6, [4]), lesions.without(6, [2])]
    without_it, without_another = errors(network, plans, answered(network))
    assert without_it == 0
    assert without_another > 0


def test_to_swap_equal_blocks_changes_nothing() -> None:
    network = network_of(spec_of(depth=20))
    for part in (network.parameters, network.statistics):
        part["blocks"][5] = part["blocks"][4]
    plans = [lesions.swapped(9, [(4, 5)]), lesions.swapped(9, [(7, 8)])]
    equal, other = errors(network, plans, answered(network))
    assert equal == 0
    assert other > 0


@given(BLOCKS, st.integers(0, 5), st.integers(0, 5), st.data())
def test_as_many_random_blocks_are_deleted_as_asked(
    blocks: int, seed: int, sample: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, blocks))
    plan = lesions.random_deletion(blocks, k, seed, sample)
    assert [block for block, _ in plan] == list(range(blocks))
    assert sum(lesion == "block" for _, lesion in plan) == k
    assert plan == lesions.random_deletion(blocks, k, seed, sample)


@given(st.sampled_from([6, 9, 27]), st.integers(0, 12), st.integers(0, 5))
def test_swaps_stay_in_their_stage_and_leave_what_changes_the_shape(
    blocks: int, k: int, seed: int
) -> None:
    model = ModelSpec(depth=2 * blocks + 2)
    order = [block for block, _ in lesions.random_swaps(model, k, seed, 0)]
    n = blocks // 3
    assert sorted(order) == list(range(blocks))
    assert [block // n for block in order] == [place // n for place in range(blocks)]
    assert (order[n], order[2 * n]) == (n, 2 * n)
    if k == 1:
        assert sum(block != place for place, block in enumerate(order)) == 2


@given(BLOCKS, st.integers(0, 26))
def test_to_swap_a_block_with_itself_is_to_do_nothing(blocks: int, block: int) -> None:
    one = block % blocks
    assert lesions.swapped(blocks, [(one, one)]) == lesions.intact(blocks)
    assert lesions.swapped(blocks, [(0, one), (0, one)]) == lesions.intact(blocks)


def test_images_are_of_all_classes_and_the_same_for_every_network() -> None:
    labels = np.repeat(np.arange(10), 100).astype(np.int32)
    split = Split(np.zeros(1000, np.uint8).reshape(-1, 1, 1, 1), labels)
    few = lesions.images_of(split, 200)
    assert np.bincount(few.labels).min() > 8
    assert np.array_equal(few.images, lesions.images_of(split, 200).images)
    assert np.array_equal(lesions.images_of(split, 5000).labels, labels)


def test_the_rank_correlation_counts_pairs_in_order() -> None:
    plan = lesions.swapped(9, [(0, 2), (7, 8)])
    order = [block for block, _ in plan]
    pairs = list(itertools.combinations(order, 2))
    agree = sum(one < other for one, other in pairs)
    assert lesions.kendall_tau(plan) == pytest.approx((2 * agree - len(pairs)) / len(pairs))
    assert lesions.kendall_tau(lesions.intact(9)) == 1


def test_a_study_has_a_plan_for_every_block_and_layer() -> None:
    chosen = lesions.lesions_of(ModelSpec(depth=20, residual=False), seed=0, samples=2)
    assert len(set(chosen.single)) == 9
    assert len(set(chosen.layers)) == 18
    assert list(chosen.deletions) == list(chosen.swaps) == [1, 2, 3, 5, 8]
    assert {len(plans) for plans in (*chosen.deletions.values(), *chosen.swaps.values())} == {2}
    # More samples are those and more.
    more = lesions.lesions_of(ModelSpec(depth=20, residual=False), seed=0, samples=4)
    assert all(more.swaps[k][:2] == plans for k, plans in chosen.swaps.items())
    # A bottleneck has three layers, and its network begins with a block of another shape too.
    bottlenecks = ModelSpec(depth=29, residual=False, block="bottleneck")
    assert len(set(lesions.lesions_of(bottlenecks, seed=0, samples=1).layers)) == 27
    assert set(lesions.pairs_of_equal_shape(bottlenecks)) == {(1, 2), (4, 5), (7, 8)}
    assert len(lesions.pairs_of_equal_shape(ModelSpec(depth=20))) == 5
    # Three blocks have no two of equal shape.
    smallest = lesions.lesions_of(ModelSpec(depth=8), seed=0, samples=1)
    assert not smallest.swaps
    assert not smallest.layers


def test_all_is_measured_in_its_place() -> None:
    network = network_of(spec_of(depth=14, residual=False))
    dataset = data_of(network.spec)
    found = list(lesions.measure(network, dataset.test, dataset.mean, CPU, samples=1))
    values = {(name, first): (stages, numbers) for name, first, stages, numbers in found}
    stages, numbers = values["layer_deletion_error", 2]
    assert stages.tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert len(numbers) == 12
    blocks = values["block_deletion_error", 1][1]
    without_third = errors(network, [lesions.without(6, [2])], dataset)
    assert [blocks[2]] == without_third
    assert np.isnan(values["swap_sd", 5][1]).all()
    assert {first for name, first in values if name == "swap_kendall_tau"} == {1, 2, 3, 5}


def test_the_figure_says_what_its_axes_are() -> None:
    file = home() / "results/reference/cifar10/trained/residual-56_step64000.csv"
    figure = lesion_figure.lesions.draw(lesion_figure.frames_of(pd.read_csv(file)))
    assert [panel.get_xlabel() for panel in figure.axes] == ["layer", "k (log scale)"]
    assert figure.axes[0].get_ylabel() == "test error, %"
    single = next(line for line in figure.axes[0].lines if line.get_gid() == "block_deletion_error")
    # A block of two layers lies between them: the first of 27 is of layers 2 and 3.
    assert np.asarray(single.get_xdata())[[0, -1]].tolist() == [2.5, 54.5]
