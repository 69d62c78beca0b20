"""CIFAR-10 in its official forms and as images per class."""

import hashlib
import os
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cifar_files import (
    BATCHES,
    BINARY,
    CLASSES,
    PYTHON,
    binary_files,
    encode,
    expect_batches,
    flat_image,
    image_files,
    original_of_images,
    python2_pickle,
    python3_pickle,
    python_files,
    small_batches,
    write_folder,
    write_tar,
)
from cifar_loaded import SMALL, SMALL_BATCHES, same
from cifar_loaded import whole_refusal as refusal
from PIL import Image

from resnet_study.data import load_dataset, pickles
from resnet_study.data.cache import ReadImages
from resnet_study.data.cifar10 import load_cifar10
from resnet_study.data.originals import CIFAR10, ORIGINALS
from resnet_study.datasets import DATASETS, DataSource
from resnet_study.errors import UserError
from resnet_study.spec import DataSpec

pytestmark = pytest.mark.usefixtures("nothing_from_outside")


SHARED = Path(__file__).parents[1].parent / "shared" / "data"
JPEG_ARCHIVE, PNG_ARCHIVE = SHARED / "cifar10-images.tar.gz", SHARED / "cifar10-png.tar.gz"


# --- the official forms -----------------------------------------------------------------


def official_files(folder: str) -> dict[str, bytes]:
    return (python_files if folder == PYTHON else binary_files)(small_batches())


def archive_of(folder: str) -> str:
    return CIFAR10.archives[CIFAR10.folders.index(folder)]


@pytest.mark.parametrize("folder", [PYTHON, BINARY])
@pytest.mark.parametrize("how", ["packed", "folder", "parent", "parent of packed"])
def test_official_forms_give_the_same_arrays(tmp_path: Path, folder: str, how: str) -> None:
    files = {**official_files(folder), f"{folder}/readme.html": b"not a batch"}
    if "packed" in how:
        archive = write_tar(tmp_path / archive_of(folder), files)
        path = tmp_path if "parent" in how else archive
    else:
        write_folder(tmp_path, files)
        path = tmp_path if how == "parent" else tmp_path / folder
    train, test, source, digests = load_cifar10(path, original=SMALL_BATCHES)
    expect_batches(train, test, small_batches())
    assert (source, digests) == ("CIFAR-10", SMALL_BATCHES.digests)


def test_pickles_of_python_2_and_3_are_read_without_a_warning() -> None:
    pixels, labels = small_batches()["test_batch"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for content in (python2_pickle(pixels, labels), python3_pickle(pixels, labels)):
            found = pickles.decode_python_batch(content, "labels")
            np.testing.assert_array_equal(found[0], pixels)
            np.testing.assert_array_equal(found[1], labels)


def test_the_published_values_hold_by_default(tmp_path: Path) -> None:
    assert CIFAR10.archive_md5 == (
        "c58f30108f718f92721af3b95e74349a",
        "c32a1d4ab5d03f1284b67883e8d87530",
    )
    for name, original in ORIGINALS.items():
        shape = DATASETS[name]
        assert original.sizes == (shape.train_examples, shape.test_examples) == (50_000, 10_000)
        assert len(set(original.classes)) == shape.classes
        assert list(original.classes) == sorted(original.classes)
    archive = write_tar(tmp_path / "renamed.tar.gz", python_files(small_batches()))
    assert "train/airplane has 10 of 5,000 images" in refusal(archive, CIFAR10)


@pytest.mark.parametrize("folder", [PYTHON, BINARY])
def test_changed_official_archive(tmp_path: Path, folder: str) -> None:
    """Whole batches of other pixels: in an archive that says it is the official one, damage."""
    archive = write_tar(tmp_path / archive_of(folder), official_files(folder))
    other = replace(SMALL_BATCHES, digests=("0" * 64, "0" * 64))
    found = hashlib.md5(archive.read_bytes()).hexdigest()
    message = refusal(archive, other)
    assert "does not hold the pixels and labels of CIFAR-10" in message
    assert f"MD5 {found} instead of {CIFAR10.archive_md5[folder == BINARY]}" in message
    # A published checksum is believed as well.
    known = replace(other, archive_md5=(found, found))
    assert load_cifar10(archive, original=known).source == "CIFAR-10"


@pytest.mark.parametrize("folder", [PYTHON, BINARY])
def test_truncated_official_archive(tmp_path: Path, folder: str) -> None:
    archive = write_tar(tmp_path / archive_of(folder), official_files(folder))
    archive.write_bytes(archive.read_bytes()[:10])
    message = refusal(archive, SMALL_BATCHES)
    assert f"instead of {CIFAR10.archive_md5[folder == BINARY]}" in message


def test_small_batches_are_refused_by_default(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, python_files(small_batches()))
    assert "100 of 50,000 training images, 20 of 10,000 test images" in refusal(folder, CIFAR10)


def test_missing_batch(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, python_files(small_batches())) / PYTHON
    (folder / "data_batch_3").unlink()
    message = refusal(folder, SMALL_BATCHES)
    assert f"{PYTHON}: lacks data_batch_3: 4 of 5 batches are there" in message
    found = load_cifar10(folder, original=SMALL_BATCHES, subset=True)
    assert found.source == "CIFAR-10 (incomplete: 80 of 100 training images)"
    (folder / "test_batch").unlink()
    with pytest.raises(UserError, match="lacks test_batch: 0 of 1 batches"):
        load_cifar10(folder, original=SMALL_BATCHES, subset=True)


@pytest.mark.parametrize("name", [PYTHON, BINARY])
def test_cut_batch(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path, official_files(name)) / name
    batch = folder / ("data_batch_2" if name == PYTHON else "data_batch_2.bin")
    batch.write_bytes(batch.read_bytes()[:-7])
    assert f"{batch.name}: is no batch of CIFAR-10" in refusal(folder, SMALL_BATCHES)


@pytest.mark.parametrize(
    ("label", "what"),
    [(10, "labels outside 0..9"), (3, "train/cat has 12 of 10 images, train/horse has 8 of 10")],
)
def test_wrong_labels(tmp_path: Path, label: int, what: str) -> None:
    batches = small_batches()
    labels = batches["data_batch_4"][1]
    labels[labels == 7] = label
    for name, files in ((PYTHON, python_files), (BINARY, binary_files)):
        folder = write_folder(tmp_path, files(batches)) / name
        assert what in refusal(folder, SMALL_BATCHES)


class Exploit:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    "exploit",
    [
        Exploit(os.system, "touch pwned"),
        Exploit(eval, "open('pwned', 'w')"),
        Exploit(np.load, "x", None, True),
        Exploit(np.fromfile, "x"),
    ],
)
def test_malicious_pickle_runs_nothing(tmp_path: Path, exploit: Exploit) -> None:
    pixels, labels = small_batches()["test_batch"]
    content = pickle.dumps({b"labels": labels.tolist(), b"data": pixels, b"x": exploit}, protocol=2)
    files = {**python_files(small_batches()), f"{PYTHON}/data_batch_1": content}
    folder = write_folder(tmp_path, files) / PYTHON
    assert "refused: it asks for" in refusal(folder, SMALL_BATCHES)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {b"data": "text", b"labels": [1]},
        {b"data": np.zeros((20, 3072), object), b"labels": [0] * 20},
        {b"data": np.zeros((20, 3072), np.uint8), b"labels": [0.5] * 20},
        {b"data": np.zeros((20, 3072), np.uint8), b"labels": [10**30] * 20},
        {b"data": np.zeros((20, 100), np.uint8), b"labels": [0] * 20},
        {b"data": np.zeros((20, 3072), np.uint8), b"fine_labels": [0] * 20},  # CIFAR-100
    ],
)
def test_foreign_pickle(tmp_path: Path, content: object) -> None:
    files = python_files(small_batches())
    files[f"{PYTHON}/test_batch"] = pickle.dumps(content, protocol=2)
    folder = write_folder(tmp_path, files) / PYTHON
    assert "test_batch: " in refusal(folder, SMALL_BATCHES)


# --- images per class -------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["", ".tar", ".tar.gz"])
@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".JPEG", "JPEG")])
def test_images_per_class(tmp_path: Path, packed: str, suffix: str, kind: str) -> None:
    files = image_files(suffix.lower())
    files = {name.removesuffix(suffix.lower()) + suffix: files[name] for name in files}
    files = dict(sorted(files.items(), key=lambda item: hash(item[1])))  # in any order
    files |= {"train/cat/notes.txt": b"no image", "train/cat/._0000.png": b"no image either"}
    if packed:
        nested = {f"./some/folder/{name}": content for name, content in files.items()}
        path = write_tar(tmp_path / f"images{packed}", nested)
    else:
        path = write_folder(tmp_path / "images", files)
    train, test, source, digests = load_cifar10(path, original=SMALL)
    # What is the original pixel by pixel needs no more words, JPEG cannot be.
    assert source == ("CIFAR-10" if kind == "PNG" else "CIFAR-10 (JPEG)")
    assert (digests == SMALL.digests) == (kind == "PNG")
    for s, split in enumerate((train, test)):
        np.testing.assert_array_equal(split.labels, np.repeat(np.arange(10), 2))
        expected = np.stack([flat_image(s, c, i) for c in range(10) for i in range(2)])
        error = abs(split.images.astype(int) - expected).max()
        assert error == 0 if kind == "PNG" else error <= 3


def test_grey_and_palette_images_become_rgb(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", image_files())
    grey = Image.fromarray(np.full((32, 32), 77, np.uint8))
    grey.save(folder / "train/cat/0000.png")
    Image.fromarray(flat_image(1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE).save(
        folder / "train/cat/0001.png"
    )
    train, _, source, _ = load_cifar10(folder, original=SMALL)
    assert source == "CIFAR-10 (PNG, not the original pixels or labels)"
    cats = train.images[train.labels == CLASSES.index("cat")]
    assert (cats[0] == 77).all()
    np.testing.assert_array_equal(cats[1], flat_image(1, 2, 3))


def test_classes_must_be_those_of_cifar10(tmp_path: Path) -> None:
    files = image_files()
    lacking = {name: c for name, c in files.items() if not name.startswith("test/ship")}
    assert "test/ lacks images of ship" in refusal(write_tar(tmp_path / "a.tar", lacking))
    foreign = {name.replace("/ship/", "/sloop/"): c for name, c in files.items()}
    message = refusal(write_folder(tmp_path / "b", foreign))
    assert "train/ is not CIFAR-10: it has or lacks images of ship, sloop" in message


def test_sizes_must_be_32(tmp_path: Path) -> None:
    files = image_files()
    files["train/dog/0001.png"] = encode(Image.new("RGB", (64, 32)))
    message = refusal(write_tar(tmp_path / "a.tar", files))
    assert "a.tar/train/dog/0001.png: is no image of 32x32 pixels in 8-bit colour (64x32" in message


@pytest.mark.parametrize("damage", [b"", b"GIF89a", b"text"])
def test_damaged_image(tmp_path: Path, damage: bytes) -> None:
    folder = write_folder(tmp_path / "a", {**image_files(), "test/frog/0000.png": damage})
    assert "test/frog/0000.png: is no image" in refusal(folder)
    whole = image_files(".jpg")
    cut = {**whole, "test/frog/0001.jpg": whole["test/frog/0001.jpg"][:-200]}
    assert "test/frog/0001.jpg: is no image" in refusal(write_tar(tmp_path / "a.tar", cut))


def test_two_sets_in_one_archive_are_refused(tmp_path: Path) -> None:
    twice = {f"{root}/{name}": c for root in "ab" for name, c in image_files().items()}
    assert "more than one set" in refusal(write_tar(tmp_path / "a.tar", twice))


def test_load_dataset_takes_the_number_of_images_that_there_are(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files(per_class=4))
    data = load_dataset(
        DataSpec(name="cifar10", batch_size=36, subset=True), 0, DataSource(archive)
    )
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 40)
    missing = "40 of 50,000 training images, 40 of 10,000 test images"
    assert data.source == f"CIFAR-10 (incomplete: {missing})"
    assert (data.classes, data.mean.shape) == (10, (32, 32, 3))
    assert tuple(data.digest.values()) == original_of_images(4).digests
    with pytest.raises(UserError, match="cifar10 has 36 training images"):
        load_dataset(DataSpec(name="cifar10", subset=True), 0, DataSource(archive))


@pytest.mark.skipif(not JPEG_ARCHIVE.exists(), reason="the archive of JPEG images is not there")
def test_all_images_as_jpeg(tmp_path: Path) -> None:
    train, test, source, digests = load_cifar10(JPEG_ARCHIVE)
    assert source == "CIFAR-10 (JPEG)"
    np.testing.assert_array_equal(train.labels, np.repeat(np.arange(10), 5000))
    np.testing.assert_array_equal(test.labels, np.repeat(np.arange(10), 1000))
    assert train.images.shape == (50_000, 32, 32, 3)
    # Channel means of the original training images, to two digits, are widely published.
    channels = train.images.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(channels, [0.4914, 0.4822, 0.4465], atol=0.002)
    assert same(load_cifar10(JPEG_ARCHIVE), ReadImages(train, test, source, digests))


@pytest.mark.slow
@pytest.mark.skipif(not PNG_ARCHIVE.exists(), reason="the archive of PNG images is not there")
def test_all_images_as_png(tmp_path: Path) -> None:
    train, test, source, digests = load_cifar10(PNG_ARCHIVE)
    assert source == "CIFAR-10"
    assert digests == CIFAR10.digests
    assert (len(train), len(test)) == (50_000, 10_000)
    # In other containers, and the training images in another order, they are the same.
    order = np.random.default_rng(0).permutation(50_000)
    parts = [*np.split(train.images[order], 5), test.images]
    labels = [*np.split(train.labels[order], 5), test.labels]
    pixels = [part.transpose(0, 3, 1, 2).reshape(-1, 3072) for part in parts]
    batches = {n: (p, c) for n, p, c in zip(BATCHES, pixels, labels, strict=True)}
    archive = write_tar(tmp_path / "cifar-10-python.tar", python_files(batches))
    assert load_cifar10(archive).source == "CIFAR-10"
    # Two test images exchange their labels.
    batches["test_batch"][1][[0, -1]] = [9, 0]
    found = load_cifar10(write_folder(tmp_path, binary_files(batches)) / BINARY)
    assert found.source == "CIFAR-10 (binary batches, not the original pixels or labels)"
    assert found.digests[0] == digests[0]
