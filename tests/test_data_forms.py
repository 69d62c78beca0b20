"""What people have: CIFAR known by its content, whole or in part, also as others pack it."""

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cifar_files import (
    BATCHES,
    BINARY,
    CLASSES,
    PYTHON,
    digest,
    encode,
    expect_batches,
    flat_image,
    image_files,
    python3_pickle,
    python_files,
    small_batches,
    write_folder,
    write_tar,
)
from cifar_loaded import FILES, SMALL, SMALL_BATCHES, at, load, refusal
from PIL import Image

from resnet_study import environment
from resnet_study.data import Split, cifar10, load_dataset
from resnet_study.data.originals import CIFAR10, digest_of
from resnet_study.spec import DataSpec

pytestmark = pytest.mark.usefixtures("nothing_from_outside")


# --- known by its content ---------------------------------------------------------------


def test_the_digest_is_over_labels_and_pixels_and_no_order() -> None:
    assert SMALL.digests is not None
    content = np.stack([flat_image(0, c, i) for c in range(10) for i in range(2)])
    labels = np.repeat(np.arange(10), 2).astype(np.int32)
    whole = Split(content, labels)
    assert digest_of(whole) == digest(content, labels) == SMALL.digests[0]
    order = np.random.default_rng(0).permutation(20)
    assert digest_of(whole.take(order)) == SMALL.digests[0]
    other = labels.copy()
    other[0] = 1
    changed = content.copy()
    changed[7, 31, 31, 2] ^= 1
    assert digest_of(Split(content, other)) != SMALL.digests[0]
    assert digest_of(Split(changed, labels)) != SMALL.digests[0]


def test_the_published_digests_are_of_hexadecimal_sha256() -> None:
    assert CIFAR10.digests is not None
    assert all(len(bytes.fromhex(digest)) == 32 for digest in CIFAR10.digests)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_lossless_formats_have_the_plain_label(tmp_path: Path, suffix: str) -> None:
    folder = write_folder(tmp_path / "images", image_files(suffix))
    assert load(folder)[2:] == ("CIFAR-10", SMALL.digests)


def test_names_and_order_of_files_play_no_part(tmp_path: Path) -> None:
    renamed = {
        f"{Path(name).parent}/{hash(content)}.png": content for name, content in FILES.items()
    }
    assert load(write_folder(tmp_path / "images", renamed)).source == "CIFAR-10"


def test_one_pixel_or_one_label_makes_another_set(tmp_path: Path) -> None:
    image = flat_image(0, 3, 0)
    image[4, 5, 1] ^= 1
    pixel = {**FILES, "train/cat/0000.png": encode(Image.fromarray(image))}
    cat, dog = "train/cat/0000.png", "train/dog/0000.png"
    label = {**FILES, cat: FILES[dog], dog: FILES[cat]}
    for name, files in (("pixel", pixel), ("label", label)):
        found = load(write_folder(tmp_path / name, files))
        assert found.source == "CIFAR-10 (PNG, not the original pixels or labels)"
        assert found.digests[0] != SMALL.digests[0]  # type: ignore[index]
        assert found.digests[1] == SMALL.digests[1]  # type: ignore[index]


def test_jpeg_among_png_says_so(tmp_path: Path) -> None:
    files = {**FILES, "test/dog/0000.png": image_files(".jpg")["test/dog/0000.jpg"]}
    assert load(write_folder(tmp_path / "images", files)).source == "CIFAR-10 (JPEG and PNG)"


# --- counts -----------------------------------------------------------------------------


def test_missing_images_are_named_by_split_and_class(tmp_path: Path) -> None:
    files = {**FILES}
    del files["train/cat/0001.png"], files["test/ship/0000.png"]
    message = refusal(write_folder(tmp_path / "images", files))
    assert "train/cat has 1 of 2 images, test/ship has 1 of 2 images" in message
    assert "in all 19 of 20 training images, 19 of 20 test images" in message
    assert "--data.subset=true" in message


def test_a_subset_is_asked_for_and_named(tmp_path: Path) -> None:
    files = {**FILES}
    del files["test/ship/0000.png"]
    folder = write_folder(tmp_path / "images", files)
    found = load(folder, subset=True)
    assert found.source == "CIFAR-10 (incomplete: 19 of 20 test images)"
    # The cache does not make it welcome.
    assert "test/ship has 1 of 2 images" in refusal(folder)
    jpeg = image_files(".jpg")
    del jpeg["test/ship/0000.jpg"]
    found = load(write_folder(tmp_path / "jpeg", jpeg), subset=True)
    assert found.source == "CIFAR-10 (JPEG, incomplete: 19 of 20 test images)"


def test_a_subset_has_every_class_and_no_image_too_many(tmp_path: Path) -> None:
    lacking = {name: c for name, c in FILES.items() if not name.startswith("test/ship")}
    message = refusal(write_folder(tmp_path / "a", lacking), subset=True)
    assert "test/ lacks images of ship (0 of 2 each)" in message
    more = {**FILES, "train/cat/0002.png": FILES["train/cat/0001.png"]}
    message = refusal(write_folder(tmp_path / "b", more), subset=True)
    assert "train/cat has 3 of 2 images" in message
    assert "data.subset" not in message


def test_a_whole_set_as_a_subset_is_the_original(tmp_path: Path) -> None:
    assert load(write_folder(tmp_path / "a", FILES), subset=True).source == "CIFAR-10"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "change",
    [
        lambda pixels, labels: {"data": pixels, "labels": labels.tolist()},
        lambda pixels, labels: {"data": pixels, "labels": labels.astype(np.int64)},
        lambda pixels, labels: {b"data": pixels, b"labels": labels.astype(np.int32)},
        lambda pixels, labels: {"data": pixels, "labels": list(labels.astype(np.int64))},
        lambda pixels, labels: {"data": pixels, "labels": labels.astype(np.uint8)[:, None]},
        lambda pixels, labels: {"data": pixels.reshape(-1, 3, 32, 32), "labels": labels.tolist()},
        lambda pixels, labels: {"data": np.asfortranarray(pixels), "labels": labels.tolist()},
        lambda pixels, labels: {"data": pixels, "labels": labels.astype(">i8")},
    ],
)
def test_batches_pickled_anew(tmp_path: Path, change: Callable, protocol: int) -> None:
    files = {
        name: pickle.dumps(change(*batch), protocol) for name, batch in small_batches().items()
    }
    found = load(write_folder(tmp_path / "batches", files), SMALL_BATCHES)
    expect_batches(found.train, found.test, small_batches())
    assert found.source == "CIFAR-10"


# --- Hugging Face and Kaggle ------------------------------------------------------------


def parquet_file(
    files: dict[str, bytes], split: str, image: str = "img", label: str = "label"
) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    names = [name for name in files if name.startswith(split)]
    rows = [{"bytes": files[name], "path": None} for name in names]
    labels = [CLASSES.index(name.split("/")[1]) for name in names]
    stream = io.BytesIO()
    parquet.write_table(pa.table({image: rows, label: labels}), stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    "names",
    [
        ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"),
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
    ],
)
@pytest.mark.parametrize("columns", [("img", "label"), ("image", "label")])
def test_parquet(tmp_path: Path, names: tuple[str, str], columns: tuple[str, str]) -> None:
    parts = {
        name: parquet_file(FILES, split, *columns)
        for name, split in zip(names, ("train", "test"), strict=True)
    }
    assert load(write_folder(tmp_path / "hub", parts)).source == "CIFAR-10"
    assert load(write_tar(tmp_path / "hub.tar", parts)).source == "CIFAR-10"


def test_parquet_in_shards(tmp_path: Path) -> None:
    names = [name for name in FILES if name.startswith("train")]
    halves = [{n: FILES[n] for n in part} for part in (names[:7], names[7:])]
    parts = {
        f"train-{i:05}-of-00002.parquet": parquet_file(h, "train") for i, h in enumerate(halves)
    }
    parts["test-00000-of-00001.parquet"] = parquet_file(FILES, "test")
    found = load(write_folder(tmp_path / "hub", parts))
    assert found.source == "CIFAR-10"
    np.testing.assert_array_equal(found.train.labels, np.repeat(np.arange(10), 2))


def test_parquet_that_is_refused(tmp_path: Path) -> None:
    train = parquet_file(FILES, "train")
    one = write_folder(tmp_path / "one", {"train-00000.parquet": train})
    assert "holds no test-*.parquet" in refusal(one)
    test = parquet_file(FILES, "test")
    cut = write_folder(tmp_path / "cut", {"train-0.parquet": train[:-9], "test-0.parquet": test})
    assert "train-0.parquet: is no whole parquet file" in refusal(cut)
    fine = parquet_file(FILES, "train", label="fine_label")
    hundred = write_folder(tmp_path / "b", {"train-0.parquet": fine, "test-0.parquet": test})
    assert "is CIFAR-100, not CIFAR-10; --data.name=cifar100 reads it" in refusal(hundred)
    bad = parquet_file({**FILES, "train/cat/0000.png": b"x"}, "train")
    damaged = write_folder(tmp_path / "c", {"train-0.parquet": bad, "test-0.parquet": test})
    assert "train-0.parquet, row 6: is no image" in refusal(damaged)


def kaggle_files() -> dict[str, bytes]:
    names = [name for name in FILES if name.startswith("train")]
    order = np.random.default_rng(0).permutation(len(names))
    lines = ["id,label"]
    files = {}
    for number, index in enumerate(order, start=1):
        lines.append(f"{number},{names[index].split('/')[1]}")
        files[f"train/{number}.png"] = FILES[names[index]]
    return {**files, "trainLabels.csv": "\n".join(lines).encode()}


def test_kaggle_has_no_test_labels(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "kaggle", kaggle_files() | {"test/1.png": b"x"})
    message = refusal(folder)
    assert "is Kaggle's CIFAR-10, whose test images have no labels" in message
    assert refusal(folder, subset=True) == message


def test_kaggle_with_labelled_test_images(tmp_path: Path) -> None:
    test = {name: content for name, content in FILES.items() if name.startswith("test")}
    folder = write_folder(tmp_path / "kaggle", kaggle_files() | test)
    found = load(folder)
    assert found.source == "CIFAR-10"
    assert load(write_tar(tmp_path / "a.tar", at("k", kaggle_files() | test))).source == "CIFAR-10"
    table = ["id,label", *(f"{i},{n.split('/')[1]}" for i, n in enumerate(test))]
    files = {f"test/{i}.png": content for i, content in enumerate(test.values())}
    files["testLabels.csv"] = "\n".join(table).encode()
    assert load(write_folder(tmp_path / "tables", kaggle_files() | files)).source == "CIFAR-10"


def test_damaged_kaggle(tmp_path: Path) -> None:
    files = kaggle_files() | {n: c for n, c in FILES.items() if n.startswith("test")}
    del files["train/3.png"]
    message = refusal(write_folder(tmp_path / "a", files))
    assert "train: has 19 of the 20 images that trainLabels.csv names" in message
    files["trainLabels.csv"] = b"id,label\n1,sloop"
    assert "is no table of the columns id and label" in refusal(write_folder(tmp_path / "b", files))


# --- where it stands --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_bundled_data_have_a_digest_too(name: str) -> None:
    dataset = load_dataset(DataSpec(name=name), seed=0)  # type: ignore[arg-type]
    whole = load_dataset(DataSpec(name=name, validation=0.0), seed=1)  # type: ignore[arg-type]
    expected = {part: digest_of(getattr(whole, part)) for part in ("train", "test")}
    assert dataset.digest == expected  # of all training images, whatever is held out
    found = environment.describe("resnet-study", dataset.source, dataset.digest)
    assert json.loads(json.dumps(found))["data_digest"] == expected


def test_published_numbers_are_not_laid_over_a_subset() -> None:
    from planted import planted_frames

    from resnet_study.drawing.panels import beside_the_paper

    whole = {"data.name": "cifar10"}
    assert beside_the_paper(planted_frames((20,), 1, 60, values=whole, layers=False))
    part = {**whole, "data.subset": True}
    assert not beside_the_paper(planted_frames((20,), 1, 60, values=part, layers=False))


def test_the_cache_keeps_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "a.tar", FILES)
    first = load(path)

    def never(_: object) -> str:
        raise AssertionError("computed again")

    monkeypatch.setattr(cifar10, "digest_of", never)
    assert load(path)[2:] == first[2:]


def test_a_change_deep_in_a_folder_is_noticed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "given", at("deep/down", FILES))
    assert load(folder).source == "CIFAR-10"
    image = folder / "deep/down/train/cat/0001.png"
    os.replace(folder / "deep/down/train/cat/0000.png", image)
    assert "train/cat has 1 of 2 images" in refusal(folder)


def test_reading_batches_imports_neither_pillow_nor_pyarrow(tmp_path: Path) -> None:
    write_folder(tmp_path, python_files(small_batches()))
    code = (
        "import sys; from pathlib import Path; from resnet_study.data.cifar10 import load_cifar10\n"
        "from resnet_study.errors import UserError\n"
        f"try: load_cifar10(Path({str(tmp_path)!r}))\n"
        "except UserError as error: print('of 50,000 training' in str(error))\n"
        "print([m for m in ('jax', 'PIL', 'pyarrow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split() == ["True", "[]"], result.stderr


def test_names_of_the_forms_are_those_of_the_originals() -> None:
    assert CIFAR10.folders == (PYTHON, BINARY)
    assert (*CIFAR10.batches[0], *CIFAR10.batches[1]) == tuple(BATCHES)
    assert python3_pickle(*small_batches()["test_batch"])
