"""Data sets, the validation split, and the order of the training examples."""

import subprocess
import sys
from typing import get_args

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_study.data import Split, load_dataset
from resnet_study.data.batches import (
    BatchOrder,
    epochs_touched,
    evaluation_batches,
    order_of_epochs,
)
from resnet_study.data.dataset import pixel_mean, stable_permutation
from resnet_study.data.digits import load_digits, stratified_test_indices
from resnet_study.data.originals import ORIGINALS
from resnet_study.data.synthetic import make_synthetic
from resnet_study.datasets import DATASETS, ENTRIES, IN_FILES, DatasetName
from resnet_study.errors import UserError
from resnet_study.spec import DataSpec, from_flat

NAMES = tuple(name for name in DATASETS if name not in IN_FILES)


def rows(split: Split) -> list[bytes]:
    """Each example as bytes, so that examples can be counted and compared."""
    return [i.tobytes() + bytes([c]) for i, c in zip(split.images, split.labels, strict=True)]


def positions_in(part: Split, whole: Split) -> list[int]:
    """Where the examples of a part are in the whole, taking equal ones one after the other."""
    left: dict[bytes, list[int]] = {}
    for position, row in enumerate(rows(whole)):
        left.setdefault(row, []).append(position)
    return [left[row].pop(0) for row in rows(part)]


@pytest.mark.parametrize("name", NAMES)
def test_shapes_types_and_sizes(name: str) -> None:
    data = load_dataset(DataSpec(name=name), seed=0)  # type: ignore[arg-type]
    shape = DATASETS[name]
    size = (shape.height, shape.width, shape.channels)
    for split in (data.train, data.val, data.test):
        assert split.images.dtype == np.uint8
        assert split.images.flags.c_contiguous
        assert split.images.shape == (len(split), *size)
        assert split.labels.dtype == np.int32
        assert split.labels.shape == (len(split),)
        assert set(split.labels) == set(range(shape.classes))
    assert len(data.val) == round(0.1 * shape.train_examples)
    assert len(data.train) + len(data.val) == shape.train_examples
    assert len(data.test) == shape.test_examples
    assert (data.name, data.classes) == (name, shape.classes)
    assert data.mean.dtype == np.float32
    assert data.mean.shape == size


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_split_is_a_partition_that_keeps_the_order(name: str, seed: int) -> None:
    spec = DataSpec(name=name, validation=0.2)  # type: ignore[arg-type]
    whole = load_dataset(DataSpec(name=name, validation=0), seed).train  # type: ignore[arg-type]
    data = load_dataset(spec, seed)
    assert sorted(rows(data.train) + rows(data.val)) == sorted(rows(whole))
    for part in (data.train, data.val):
        positions = positions_in(part, whole)
        assert positions == sorted(positions)


def test_split_depends_on_the_seed_and_nothing_else_does() -> None:
    first, again, other = (load_dataset(DataSpec(), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.val.images, again.val.images)
    assert rows(first.val) != rows(other.val)
    assert rows(first.test) == rows(other.test)
    # Two draws of a tenth share about a tenth of their images.
    shared = len(set(rows(first.val)) & set(rows(other.val)))
    assert shared < len(other.val) / 3


def test_a_data_set_is_one_entry_and_its_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(ENTRIES) == set(get_args(DatasetName))
    assert set(IN_FILES) == set(ORIGINALS)
    other = ENTRIES["synthetic"]._replace(augmentation="crop")
    monkeypatch.setitem(ENTRIES, "digits", other)  # type: ignore[arg-type]
    spec = from_flat({"data.name": "digits"}).data
    assert spec.augmentation == "crop"
    assert load_dataset(spec, 0).source == "synthetic"


def test_no_validation_images() -> None:
    data = load_dataset(DataSpec(validation=0), seed=0)
    assert len(data.train) == DATASETS["digits"].train_examples
    assert data.val.images.shape == (0, 8, 8, 1)


def test_mean_is_that_of_the_training_images_alone() -> None:
    data = load_dataset(DataSpec(validation=0.3), seed=4)
    np.testing.assert_allclose(data.mean, (data.train.images / 255).mean(axis=0), rtol=1e-6)
    whole = np.concatenate([data.train.images, data.val.images])
    assert abs(data.mean - (whole / 255).mean(axis=0)).max() > 1e-4


def test_pixel_mean_is_exact_and_independent_of_the_order() -> None:
    images = np.full((70_000, 1, 1, 1), 255, np.uint8)
    assert pixel_mean(images) == 1
    images[::3] = 7
    np.testing.assert_array_equal(pixel_mean(images), pixel_mean(images[::-1]))


def test_batch_larger_than_the_training_images_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.batch_size=512.*461 training images") as error:
        load_dataset(DataSpec(name="synthetic", batch_size=512), seed=0)
    assert "\n" not in str(error.value)


def test_digits_are_the_whole_file_scaled_to_bytes() -> None:
    from sklearn import datasets

    train, test, source = load_digits()
    assert source == "scikit-learn digits"
    bunch = datasets.load_digits()
    expected = np.floor(bunch.images * 255 / 16 + 0.5)  # 127.5 is the only half; it goes up
    everything = sorted(
        i.astype(np.uint8).tobytes() + bytes([c])
        for i, c in zip(expected, bunch.target, strict=True)
    )
    assert sorted(rows(train) + rows(test)) == everything
    assert (train.images.min(), train.images.max()) == (0, 255)


def test_digits_are_stratified() -> None:
    train, test, _ = load_digits()
    counts = np.bincount(np.concatenate([train.labels, test.labels]))
    share = counts * len(test) / (len(train) + len(test))
    assert abs(np.bincount(test.labels) - share).max() < 1


@given(
    labels=st.lists(st.integers(0, 4), min_size=5, max_size=60),
    fraction=st.floats(0, 1),
)
def test_stratified_indices(labels: list[int], fraction: float) -> None:
    array, count = np.array(labels), round(fraction * len(labels))
    chosen = stratified_test_indices(array, count)
    assert len(set(chosen.tolist())) == len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    share = np.bincount(array, minlength=5) * count / len(labels)
    assert abs(np.bincount(array[chosen], minlength=5) - share).max() < 1


def test_synthetic_images_can_be_learnt_but_differ() -> None:
    train, test, source = make_synthetic()
    assert source == "synthetic"
    flat = [split.images.reshape(len(split), -1).astype(float) for split in (train, test)]
    centres = np.stack([flat[0][train.labels == c].mean(axis=0) for c in range(10)])
    distances = ((flat[1][:, None] - centres) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == test.labels).mean() > 0.95
    assert len(set(rows(train) + rows(test))) == len(train) + len(test)
    np.testing.assert_array_equal(train.images, make_synthetic()[0].images)


@given(n=st.integers(0, 300), seed=st.integers(0, 2**63))
def test_stable_permutation_is_a_permutation(n: int, seed: int) -> None:
    order = stable_permutation(n, 1, seed)
    assert sorted(order.tolist()) == list(range(n))
    np.testing.assert_array_equal(order, stable_permutation(n, 1, seed))


def test_loading_imports_neither_jax_nor_what_other_data_sets_need() -> None:
    code = (
        "import sys; from resnet_study.data import load_dataset; import resnet_study.data.cifar10;"
        "from resnet_study.spec import DataSpec; load_dataset(DataSpec(name='synthetic'), 0);"
        "print([m for m in ('jax', 'sklearn', 'PIL', 'pandas') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


# --- the order of the training examples -------------------------------------------------

sizes = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@settings(max_examples=30, deadline=None)
@given(sizes=sizes, seed=st.integers(0, 100))
def test_every_epoch_is_a_permutation(sizes: tuple[int, int], seed: int) -> None:
    examples, batch_size = sizes
    order = BatchOrder(jax.random.key(seed), examples, batch_size)
    epochs = 3
    iterations = -(-epochs * examples // batch_size)
    batches = [order.indices(i) for i in range(iterations)]
    assert all(b.shape == (batch_size,) and b.dtype == np.int32 for b in batches)
    stream = np.concatenate(batches)[: epochs * examples].reshape(epochs, examples)
    np.testing.assert_array_equal(np.sort(stream, axis=1), [np.arange(examples)] * epochs)


@settings(max_examples=30, deadline=None)
@given(sizes=sizes, asked=st.lists(st.integers(0, 60), min_size=1, max_size=12))
def test_random_access_equals_sequential_access(sizes: tuple[int, int], asked: list[int]) -> None:
    key = jax.random.key(7)
    sequential = BatchOrder(key, *sizes)
    expected = [sequential.indices(i) for i in range(max(asked) + 1)]
    order = BatchOrder(key, *sizes)
    for i in asked:
        np.testing.assert_array_equal(order.indices(i), expected[i])


def test_order_is_that_of_folded_keys() -> None:
    key, n, batch_size = jax.random.key(11), 10, 4
    epochs = [jax.random.permutation(jax.random.fold_in(key, e), n) for e in range(4)]
    stream = np.concatenate(epochs)
    order = BatchOrder(key, n, batch_size)
    np.testing.assert_array_equal([order.indices(i) for i in range(10)], stream.reshape(10, 4))
    assert (epochs[0] != epochs[1]).any()
    assert (order.indices(0) != BatchOrder(jax.random.key(12), n, batch_size).indices(0)).any()


def test_far_iterations_do_not_overflow() -> None:
    order = BatchOrder(jax.random.key(0), 50_000, 128)
    batch = order.indices(10**8)
    assert len(set(batch.tolist())) == 128
    assert batch.max() < 50_000


@pytest.mark.parametrize("batch_size", [0, 6])
def test_impossible_batches_are_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        BatchOrder(jax.random.key(0), 5, batch_size)


@given(examples=st.integers(0, 50), batch_size=st.integers(1, 60))
def test_evaluation_covers_every_example_once(examples: int, batch_size: int) -> None:
    seen: list[int] = []
    for positions, mask in evaluation_batches(examples, batch_size):
        assert positions.shape == mask.shape == (batch_size,)
        assert (positions.dtype, mask.dtype) == (np.int32, np.float32)
        assert positions.min() >= 0
        assert positions.max() < examples
        assert set(mask) <= {0, 1}
        assert mask.any()
        seen += positions[mask == 1].tolist()
    assert seen == list(range(examples))


@pytest.mark.parametrize(
    ("examples", "batch_size", "start", "iterations"),
    [(1, 1, 5, 3), (7, 7, 3, 4), (50, 8, 499, 20), (200, 150, 12, 5), (1293, 128, 290, 10)],
)
def test_the_order_inside_a_program_is_that_of_the_host(
    examples: int, batch_size: int, start: int, iterations: int
) -> None:
    """What an accelerator computes for a chunk, against what a CPU is given step by step."""
    key = jax.random.key(3)
    order = BatchOrder(key, examples, batch_size)
    epoch, offset = divmod(start * batch_size, examples)
    epochs = epochs_touched(iterations, examples, batch_size)
    sequence = jax.jit(order_of_epochs, static_argnums=(2, 3))(key, epoch, epochs, examples)
    assert sequence.dtype == np.int32
    for index in range(iterations):
        first = offset + index * batch_size
        np.testing.assert_array_equal(
            sequence[first : first + batch_size], order.indices(start + index)
        )
