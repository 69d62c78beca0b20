"""The frame that an arm becomes, and the grid of arms."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from resnet_study.architecture import ModelSpec
from resnet_study.data import load_dataset
from resnet_study.errors import UserError
from resnet_study.phenomena.initialization.arms import (
    ARMS,
    BATCH,
    DEPTHS,
    GRADIENTS,
    LAGS,
    MOMENTS,
    QUANTITIES,
    SEEDS,
    SIZES_DEPTH,
    VARIANCES,
    InitializationArm,
    SeededArm,
    seeded_arms,
)
from resnet_study.phenomena.initialization.measuring import first_batch, measure_arm
from resnet_study.records import INITIALIZATION_COLUMNS
from resnet_study.spec import DataSpec


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    arm = InitializationArm(ModelSpec(depth=8, block_order="full-preactivation"), QUANTITIES)
    return measure_arm(SeededArm(arm, (4, 1)))


def test_an_arm_has_every_value_once_in_its_place(frame: pd.DataFrame) -> None:
    assert tuple(frame.columns) == INITIALIZATION_COLUMNS
    assert frame["value"].dtype == np.float64
    assert np.isfinite(frame["value"]).all()
    assert frame["seed"].unique().tolist() == [4, 1]
    constant = {
        "family": "residual",
        "depth": 8,
        "normalization": "batch",
        "initialization": "he",
        "activation": "relu",
        "block_order": "full-preactivation",
        "width": 16,
        "images": BATCH,
    }
    for name, value in constant.items():
        assert (frame[name] == value).all()
    # Three blocks of two layers, one per stage.
    expected = {
        "activation_gradient_norm": (range(1, 8), [0, 1, 1, 2, 2, 3, 3]),
        "block_gradient_norm": (range(1, 5), [1, 2, 3, 3]),
        "branch_variance": (range(1, 4), [1, 2, 3]),
        "skip_variance": (range(1, 4), [1, 2, 3]),
        "channel_mean_square": (range(4), [0, 1, 2, 3]),
        "channel_variance": (range(4), [0, 1, 2, 3]),
        "gradient_autocorrelation": (range(LAGS + 1), [0] * (LAGS + 1)),
        "path_gradient_norm": (range(4), [0] * 4),
    }
    assert set(expected) == set(QUANTITIES)
    for (quantity, seed), part in frame.groupby(["quantity", "seed"]):
        index, stages = expected[quantity]
        assert part["index"].tolist() == list(index), (quantity, seed)
        assert part["stage"].tolist() == stages, (quantity, seed)


def test_quantities_agree_where_they_meet(frame: pd.DataFrame) -> None:
    for _, part in frame.groupby("seed"):
        values = part.set_index(["quantity", "index"])["value"]
        assert values["gradient_autocorrelation", 0] == 1
        # One pre-activated block with a clean addition: the variance of the sum.
        moments = values["channel_variance"]
        np.testing.assert_allclose(values["skip_variance", 1], moments[0], rtol=1e-12)
        sum_of_parts = values["branch_variance", 1] + values["skip_variance", 1]
        assert moments[1] == pytest.approx(sum_of_parts, rel=0.3)
        assert (values["path_gradient_norm"] > 0).all()


def test_a_seed_gives_the_same_numbers_alone_and_another_seed_others(frame: pd.DataFrame) -> None:
    arm = InitializationArm(ModelSpec(depth=8, block_order="full-preactivation"), GRADIENTS)
    alone = measure_arm(SeededArm(arm, (1,)))
    assert set(alone["quantity"]) == set(GRADIENTS)
    together = frame[frame["quantity"].isin(GRADIENTS)]
    same = together[together["seed"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, same)
    assert not np.isclose(alone["value"], together[together["seed"] == 4]["value"]).any()


def test_the_batch_is_real_and_of_the_seed() -> None:
    dataset = load_dataset(DataSpec(name="digits"), 5)
    batch = first_batch(5)
    assert batch.images.shape == (BATCH, 8, 8, 1)
    known = {image.tobytes(): label for image, label in zip(*vars_of(dataset.train), strict=True)}
    restored = np.rint((np.asarray(batch.images) + dataset.mean) * 255).astype(np.uint8)
    assert [known[image.tobytes()] for image in restored] == batch.labels.tolist()
    assert len({image.tobytes() for image in restored}) > BATCH // 2
    few = first_batch(5, 16)
    np.testing.assert_array_equal(few.images, batch.images[:16])
    np.testing.assert_array_equal(few.labels, batch.labels[:16])
    assert not np.array_equal(batch.images, first_batch(6).images)


def vars_of(split) -> tuple[np.ndarray, np.ndarray]:
    return split.images, split.labels


def test_the_default_grid_has_what_theory_is_compared_with() -> None:
    sizes = {
        (arm.model.family, *settings(arm.model), arm.model.depth, arm.model.width, arm.images): arm
        for arm in ARMS
    }
    assert len(sizes) == len(ARMS)
    arms = {key[:-2]: arm for key, arm in sizes.items() if key[-2:] == (16, BATCH)}
    for depth in DEPTHS:
        for normalization, initialization, activation, families in (
            ("batch", "he", "relu", ("plain", "residual")),
            ("none", "he", "relu", ("plain", "residual")),
            ("none", "lecun", "relu", ("plain", "residual")),
            ("none", "uniform", "relu", ("plain", "residual")),
            ("none", "uniform", "sigmoid", ("plain", "residual")),
            ("none", "uniform", "linear", ("plain",)),
        ):
            for family in families:
                arm = arms[family, normalization, initialization, activation, "original", depth]
                assert set(GRADIENTS + MOMENTS) <= set(arm.quantities)
                assert (set(VARIANCES) <= set(arm.quantities)) == (family == "residual")
        for order in ("original", "full-preactivation"):
            arm = arms["residual", "batch", "he", "relu", order, depth]
            assert ("gradient_autocorrelation" in arm.quantities) == (order == "original")
            paths = order == "original" and depth == 110
            assert ("path_gradient_norm" in arm.quantities) == paths
    base = ("plain", "batch", "he", "relu", "original")
    for width, images in ((16, 128), (32, 128), (128, 128), (16, 16), (16, 512)):
        assert "activation_gradient_norm" in sizes[*base, SIZES_DEPTH, width, images].quantities
    assert len(SEEDS) >= 3


def settings(model: ModelSpec) -> tuple[str, str, str, str]:
    return model.normalization, model.initialization, model.activation, model.block_order


def test_names_of_files_are_distinct_and_of_what_decides_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = seeded_arms(ARMS, SEEDS)
    assert [one.arm for one in made] == list(ARMS)
    assert len({one.name for one in made}) == len(made)
    first = made[0]
    assert first.name.startswith("plain-8_batch_he_relu_original_")
    assert SeededArm(first.arm, (*SEEDS, 9)).name != first.name
    less = InitializationArm(first.arm.model, GRADIENTS)
    assert SeededArm(less, first.seeds).name != first.name
    fewer = InitializationArm(first.arm.model, first.arm.quantities, 16)
    assert SeededArm(fewer, first.seeds).name != first.name
    again = InitializationArm(first.arm.model, first.arm.quantities[::-1])
    assert SeededArm(again, first.seeds).name == first.name
    name = first.name
    monkeypatch.setattr("resnet_study.phenomena.initialization.arms.GRID", 64)
    assert first.name != name


@pytest.mark.parametrize(
    ("model", "quantities", "message"),
    [
        ({"depth": 9}, GRADIENTS, "6n"),
        ({}, (), "at least one"),
        ({}, ("gradient",), "gradient_autocorrelation"),
        ({"residual": False}, VARIANCES, "no shortcuts"),
        ({"residual": False}, ("path_gradient_norm",), "no shortcuts"),
        ({"pooling": "max"}, GRADIENTS, "model.pooling="),
        ({"batch_norm_images": 64}, GRADIENTS, "model.batch_norm_images"),
    ],
)
def test_what_cannot_be_measured_is_refused(model: dict, quantities, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        InitializationArm(ModelSpec(**model), quantities)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,), (2**32,)])
def test_seeds_that_make_no_sense_are_refused(seeds: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="seed"):
        seeded_arms(ARMS[:1], seeds)


def test_an_arm_named_twice_is_refused() -> None:
    with pytest.raises(UserError, match="merge"):
        seeded_arms([ARMS[0], InitializationArm(ARMS[0].model, GRADIENTS)], SEEDS)


def test_the_grid_can_be_read_without_jax() -> None:
    code = (
        "import sys, resnet_study.phenomena.initialization.arms as s\n"
        "assert s.seeded_arms(s.ARMS, s.SEEDS)[0].name\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
