"""What people have: every layout and container of CIFAR, what is refused, and in which words."""

import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
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
    digest,
    encode,
    expect_batches,
    flat_image,
    image_files,
    original_of_batches,
    original_of_images,
    python3_pickle,
    python_files,
    small_batches,
    write_folder,
    write_tar,
)
from PIL import Image

from resnet_study import environment, runtime
from resnet_study.data import Split, archives, cifar10, images, load_dataset
from resnet_study.data.cache import ReadImages
from resnet_study.data.cifar10 import load_cifar10
from resnet_study.data.originals import CIFAR10, CIFAR100, Original, digest_of
from resnet_study.errors import UserError
from resnet_study.spec import DataSpec

SMALL = original_of_images()
SMALL_BATCHES = original_of_batches(small_batches())
FILES = image_files()
CONTAINERS = [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip"]


@pytest.fixture(autouse=True)
def _nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, cache or ``data`` folder of the machine takes part."""
    monkeypatch.delenv(cifar10.PATH_VARIABLE, raising=False)
    monkeypatch.setenv(runtime.CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix != ".zip":
        return write_tar(path, files)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def load(path: Path, original: Original = SMALL, subset: bool = False) -> ReadImages:
    return load_cifar10(path, original=original, subset=subset)


def refusal(path: Path, original: Original = SMALL, subset: bool = False) -> str:
    """The line with which a path is refused, without the ways out."""
    with pytest.raises(UserError) as error:
        load(path, original, subset)
    message = str(error.value)
    assert "\n" not in message
    assert "--cifar10 PATH" in message
    return message.rsplit("; give ", 1)[0]


def at(root: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{root}/{name}": content for name, content in files.items()}


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


# --- containers -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("kind", ["images", "python", "binary"])
def test_repacked_archives_are_known_by_their_content(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    files = {"images": FILES, "python": python_files(small_batches())}.get(kind)
    files = files or binary_files(small_batches())
    original = SMALL if kind == "images" else SMALL_BATCHES
    # The name says nothing: a browser may have unpacked the gzip layer and kept it.
    for name in (f"any{suffix}", "cifar-10-python.tar.gz"):
        path = pack(tmp_path / f"packed{suffix}", files).rename(tmp_path / name)
        assert load(path, original).source == "CIFAR-10"


def test_junk_beside_the_classes(tmp_path: Path) -> None:
    png = FILES["train/cat/0000.png"]
    junk = {
        "train/.ipynb_checkpoints/0000-checkpoint.png": png,
        "train/cat/.ipynb_checkpoints/0000-checkpoint.png": png,
        "train/.DS_Store": b"x",
        ".DS_Store": b"x",
        "train/cat/Thumbs.db": b"x",
        "train/cat/._0000.png": b"x",
        "__MACOSX/train/cat/._0000.png": b"x",
        "__MACOSX/train/cat/0000.png": png,
        "readme.txt": b"x",
    }
    for where in (
        write_folder(tmp_path / "images", FILES | junk),
        write_tar(tmp_path / "a.tar", at("cifar10", FILES) | junk),
        pack(tmp_path / "a.zip", FILES | junk),
    ):
        assert load(where).source == "CIFAR-10"


@pytest.mark.parametrize("root", ["cifar10", "a/b/c"])
def test_images_some_folders_down(tmp_path: Path, root: str) -> None:
    write_folder(tmp_path / "given", at(root, FILES))
    assert load(tmp_path / "given").source == "CIFAR-10"
    assert load(write_tar(tmp_path / "a.tar", at(root, FILES))).source == "CIFAR-10"


def test_two_sets_below_a_folder_are_not_guessed_at(tmp_path: Path) -> None:
    write_folder(tmp_path / "given", at("a", FILES) | at("b", FILES))
    assert "holds more than one set of images (a, b); name one" in refusal(tmp_path / "given")


@pytest.mark.parametrize(
    "root",
    [
        f"{PYTHON}/{PYTHON}",
        f"datasets/{PYTHON}-target/{PYTHON}",  # Keras
        f"root/{PYTHON}",  # torchvision
    ],
)
def test_batches_some_folders_down(tmp_path: Path, root: str) -> None:
    files = {f"{root}/{Path(n).name}": c for n, c in python_files(small_batches()).items()}
    write_folder(tmp_path, files)
    given = tmp_path / root.split("/")[0]
    for path in (given, tmp_path / root, write_tar(tmp_path / "a.tar", files)):
        found = load(path, SMALL_BATCHES)
        expect_batches(found.train, found.test, small_batches())
        assert found.source == "CIFAR-10"


def test_folder_of_torchvision_with_its_archive(tmp_path: Path) -> None:
    files = python_files(small_batches())
    root = write_folder(tmp_path / "root", files)
    write_tar(root / "cifar-10-python.tar.gz", files)
    assert load(root, SMALL_BATCHES).source == "CIFAR-10"


def test_lossless_images_come_before_others(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "given", {})
    folder.mkdir()
    write_tar(folder / "cifar10-images.tar.gz", image_files(".jpg"))
    write_tar(folder / "cifar10-png.tar.gz", FILES)
    assert load(folder).source == "CIFAR-10"


def test_the_only_archive_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    pack(tmp_path / "given" / "my images.zip", FILES)
    assert load(tmp_path / "given").source == "CIFAR-10"


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


# --- CIFAR-100 --------------------------------------------------------------------------


def hundred() -> tuple[dict[str, bytes], dict[str, bytes], Original]:
    """Python and binary files of two training and one test image per class."""
    python, binary, digests = {}, {}, []
    for name, count in (("train", 200), ("test", 100)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 3072), np.uint8)
        labels = np.random.default_rng(1).permutation(np.arange(count) % 100)
        batch = {
            b"data": pixels,
            b"fine_labels": labels.tolist(),
            b"coarse_labels": (labels // 5).tolist(),
        }
        python[f"cifar-100-python/{name}"] = pickle.dumps(batch, protocol=2)
        binary[f"cifar-100-binary/{name}.bin"] = b"".join(
            bytes([c // 5, c]) + p.tobytes() for c, p in zip(labels, pixels, strict=True)
        )
        image = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        digests.append(digest(image, labels))
    python["cifar-100-python/meta"] = pickle.dumps({})
    original = replace(CIFAR100, per_class=(2, 1), digests=(digests[0], digests[1]))
    return python, binary, original


@pytest.mark.parametrize("how", ["folder", "parent", "packed"])
def test_cifar100_with_its_fine_classes(tmp_path: Path, how: str) -> None:
    python, binary, original = hundred()
    for files, folder in ((python, "cifar-100-python"), (binary, "cifar-100-binary")):
        place = write_folder(tmp_path / folder, files)
        path = place / folder if how == "folder" else place
        if how == "packed":
            path = write_tar(tmp_path / f"{folder}.tar.gz", files)
        found = load(path, original)
        assert found[2:] == ("CIFAR-100", original.digests)
        assert np.bincount(found.train.labels).tolist() == [2] * 100


def test_cifar100_is_proved_by_published_checksums_of_its_batches(tmp_path: Path) -> None:
    python, _, original = hundred()
    folder = write_folder(tmp_path, python)
    unknown = replace(original, digests=None)
    assert load(folder, unknown).source == "CIFAR-100 (Python batches, not verified)"
    sums = {n: hashlib.md5(python[f"cifar-100-python/{n}"]).hexdigest() for n in ("train", "test")}
    assert load(folder, replace(unknown, file_md5=sums)).source == "CIFAR-100"
    # One of the two is not enough.
    half = {**sums, "test": "0" * 32}
    assert "not verified" in load(folder, replace(unknown, file_md5=half)).source


def test_cifar100_as_images(tmp_path: Path) -> None:
    files = {
        f"{split}/{name}/0.png": encode(Image.fromarray(np.full((32, 32, 3), i, np.uint8)))
        for i, name in enumerate(CIFAR100.classes)
        for split in ("train", "test")
    }
    original = replace(CIFAR100, per_class=(1, 1))
    found = load(write_folder(tmp_path / "a", files), original)
    assert found.source == "CIFAR-100 (PNG, not verified)"
    np.testing.assert_array_equal(found.train.labels, np.arange(100))
    assert "is CIFAR-100, not CIFAR-10; --data.name=cifar100" in refusal(tmp_path / "a")


def test_one_in_place_of_the_other(tmp_path: Path) -> None:
    python, binary, original = hundred()
    for number, files in enumerate((python, binary)):
        for path in (
            write_folder(tmp_path / f"{number}", files),
            write_tar(tmp_path / f"{number}.tar", files),
        ):
            assert "is CIFAR-100, not CIFAR-10; --data.name=cifar100 reads it" in refusal(path)
    ten = write_folder(tmp_path / "ten", python_files(small_batches()))
    for path in (ten, write_folder(tmp_path / "images", FILES)):
        assert "is CIFAR-10, not CIFAR-100; --data.name=cifar10" in refusal(path, original)


def test_a_folder_may_hold_both(tmp_path: Path) -> None:
    python, _, original = hundred()
    write_folder(tmp_path, python | python_files(small_batches()))
    assert load(tmp_path, original).source == "CIFAR-100"
    assert load(tmp_path, SMALL_BATCHES).source == "CIFAR-10"


# --- what is something else -------------------------------------------------------------


FOREIGN_FILES = [
    ("train_32x32.mat", b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(500), "is SVHN"),
    ("notes.txt", b"hello " * 100, "is a text file"),
    ("x.tar.gz", b"<!DOCTYPE html><html>403 Forbidden</html>", "is a web page"),
    ("empty.zip", b"", "is an empty file"),
    ("x.zip", b"PK\3\4" + bytes(100), "is no whole zip archive"),
    ("x.7z", b"7z\xbc\xaf\x27\x1c" + bytes(50), "is a 7z archive"),
    ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(50), "is an HDF5 file"),
    ("cat.png", b"\x89PNG\r\n\x1a\n" + bytes(50), "is a single image"),
    ("data_batch_1", b"\x80\x02}q\1.", "is a single pickle; give the folder"),
    ("data_batch_1.bin", b"\3" + bytes(3072), "is a single file; give the folder"),
    ("train-0.parquet", b"PAR1" + bytes(50), "is one parquet file; give the folder"),
    ("noise", bytes(range(256)) * 8, "is no whole tar archive"),
]


@pytest.mark.parametrize(("name", "content", "what"), FOREIGN_FILES)
def test_foreign_files(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert message.startswith(f"{tmp_path / name}: {what}")


FOREIGN_FOLDERS = [
    ({}, "holds no files"),
    ({"a/.DS_Store": b"x"}, "holds no files"),
    ({"train_32x32.mat": b"x", "test_32x32.mat": b"x"}, "is SVHN"),
    ({"cifar-10-batches-mat/data_batch_1.mat": b"x"}, "is CIFAR-10 as MATLAB files"),
    ({"train/n01440764/a.JPEG": b"x", "val/n01440764/b.JPEG": b"x"}, "looks like ImageNet"),
    ({"n01440764/a.JPEG": b"x"}, "looks like ImageNet"),
    ({"train-images-idx3-ubyte.gz": b"x"}, "is MNIST"),
    ({"train_X.bin": b"x", "test_X.bin": b"x"}, "is STL-10"),
    ({"train.7z": b"x", "test.7z": b"x"}, "holds archives (test.7z, train.7z)"),
    ({"train/0/a.png": b"x", "test/0/a.png": b"x"}, "names its classes by numbers"),
    ({"cat/a.png": b"x"}, "holds images, but not in train/<class>/"),
    ({"notes.txt": b"x"}, "holds neither official batches nor train/<class>/*.png"),
]


@pytest.mark.parametrize(("files", "what"), FOREIGN_FOLDERS)
def test_foreign_folders(tmp_path: Path, files: dict[str, bytes], what: str) -> None:
    (tmp_path / "given").mkdir()
    assert what in refusal(write_folder(tmp_path / "given", files))
    if files:
        assert what in refusal(pack(tmp_path / "a.zip", files))


def test_imagenet_is_named_before_its_million_files_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MEMBERS", 5)
    files = {f"{s}/n0144{c:04}/{c}.JPEG": b"x" for s in ("train", "test") for c in range(9)}
    assert "looks like ImageNet" in refusal(write_folder(tmp_path / "net", files))
    assert "holds more than 5 files" in refusal(write_folder(tmp_path / "images", FILES))


def test_unreadable_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    folder = write_folder(tmp_path / "images", FILES)
    monkeypatch.setattr(os, "scandir", denied)
    assert "cannot be read (Permission denied)" in refusal(folder)


# --- images by value --------------------------------------------------------------------


def decoded(image: Image.Image, **options: object) -> np.ndarray:
    stream = io.BytesIO()
    image.save(stream, format="PNG", **options)
    return images.decode_image("x", stream.getvalue())[0]


def test_images_are_converted_by_value() -> None:
    grey = np.arange(1024, dtype=np.uint16).reshape(32, 32) % 256
    expected = np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(decoded(Image.fromarray(grey.astype(np.uint8))), expected)
    np.testing.assert_array_equal(decoded(Image.fromarray(grey * 257)), expected)
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    colours = colours // 64 * 64 + 7  # 64 colours fit into a palette
    palette = Image.fromarray(colours).quantize(64, dither=Image.Dither.NONE)
    assert palette.mode == "P"
    exact = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decoded(palette), exact)
    black_and_white = Image.fromarray((grey > 100).astype(np.uint8) * 255).convert("1")
    assert set(np.unique(decoded(black_and_white))) == {0, 255}


def png16(colour_type: int) -> bytes:
    """A PNG file with 16 bits per channel, which Pillow cannot write in colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    channels = {0: 1, 2: 3}[colour_type]
    rows = (b"\0" + bytes(32 * channels * 2)) * 32
    header = struct.pack(">IIBBBBB", 32, 32, 16, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def refused(content: bytes) -> str:
    with pytest.raises(images.DataError) as error:
        images.decode_image("x", content)
    return str(error.value)


def test_images_that_would_lose_something_are_refused() -> None:
    assert "16 bits in each of three channels" in refused(png16(2))
    assert images.decode_image("x", png16(0))[0].max() == 0
    rounded = np.full((32, 32), 257, np.uint16)
    rounded[3, 4] = 300
    assert "16 bits that 8 bits cannot hold" in refused(encode(Image.fromarray(rounded)))
    for mode in ("RGBA", "LA"):
        assert "alpha channel" in refused(encode(Image.new(mode, (32, 32))))
    assert "alpha channel" in refused(encode(Image.new("RGBA", (32, 32)), ".webp"))
    stream = io.BytesIO()
    Image.new("P", (32, 32)).save(stream, format="PNG", transparency=0)
    assert "alpha channel" in refused(stream.getvalue())
    stream = io.BytesIO()
    Image.new("CMYK", (32, 32)).save(stream, format="JPEG")
    assert "colours of mode CMYK" in refused(stream.getvalue())
    assert "more than 1024 KiB" in refused_file()


def refused_file() -> str:
    Path("large.png").write_bytes(bytes(images.FILE_BYTES + 1))
    with pytest.raises(images.DataError) as error:
        images.decode_image("x", Path("large.png"))
    return str(error.value)


# --- hostile archives -------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tar.bz2", ".tar.xz", ".zip"])
def test_bombs_in_other_containers(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MEMBER_BYTES", 1 << 20)
    monkeypatch.setattr(archives, "ARCHIVE_BYTES", 3 << 20)
    large = pack(tmp_path / f"large{suffix}", {"train/cat/0.png": bytes((1 << 20) + 1)})
    assert "'train/cat/0.png' is larger than 1 MiB" in refusal(large)
    many = {f"train/cat/{i}.png": bytes(1 << 20) for i in range(4)}
    assert "more than 3 MiB" in refusal(pack(tmp_path / f"many{suffix}", many))
    monkeypatch.setattr(archives, "MEMBERS", 5)
    assert "more than 5 files" in refusal(pack(tmp_path / f"files{suffix}", FILES))


def test_zip_that_lies_about_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "a.zip", {"train/cat/0.png": bytes(5 << 20)})
    content = path.read_bytes()
    path.write_bytes(content.replace((5 << 20).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    assert "is no" in refusal(path)
    monkeypatch.setattr(archives, "ZIP_DIRECTORY_BYTES", 100)
    assert "its list of files is too long" in refusal(pack(tmp_path / "b.zip", FILES))


def test_xz_that_asks_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "XZ_BYTES", 1 << 20)
    path = write_tar(tmp_path / "a.tar.xz", FILES)
    assert "is no whole tar archive (Memory usage limit" in refusal(path)


@pytest.mark.parametrize("suffix", [".tar.bz2", ".tar.xz", ".zip"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.97])
def test_cut_archives(tmp_path: Path, suffix: str, part: float) -> None:
    path = pack(tmp_path / f"a{suffix}", FILES)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "archive (" in refusal(path)


def test_flipped_bits_in_a_zip(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", FILES)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = archive.infolist()[3]
    content[member.header_offset + 30 + len(member.filename) + 20] ^= 0xFF
    path.write_bytes(content)
    assert "is no whole zip archive" in refusal(path)


def test_names_in_a_zip_that_lead_outside(tmp_path: Path) -> None:
    outside = {"../train/cat/9.png": b"x", "/train/cat/9.png": b"x", "a/../train/cat/9.png": b"x"}
    assert load(pack(tmp_path / "a.zip", FILES | outside)).source == "CIFAR-10"


def test_gzip_under_another_name(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", FILES)
    (tmp_path / "b.tar").write_bytes(gzip.compress(path.read_bytes()))
    assert load(tmp_path / "b.tar").source == "CIFAR-10"
    assert tarfile.is_tarfile(tmp_path / "b.tar")


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


@pytest.mark.parametrize(("kind", "what"), [("pipe", "is a pipe"), ("device", "is a device")])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str, what: str) -> None:
    path = tmp_path / "cifar.tar"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert f"cifar.tar: cannot be read ({what} and no file)" in refusal(path)


def test_pipes_and_devices_among_images_are_no_images(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "given", FILES)
    one, two = sorted(folder.rglob("*.png"))[:2]
    one.unlink()
    os.mkfifo(one)
    two.unlink()
    two.symlink_to("/dev/zero")
    assert "test/ lacks images of airplane (0 of 2 each)" in refusal(folder)
