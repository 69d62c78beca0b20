"""CIFAR-100, and either set in place of the other."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cifar_files import (
    digest,
    encode,
    python_files,
    small_batches,
    write_folder,
    write_tar,
)
from cifar_loaded import FILES, SMALL_BATCHES, load, refusal
from PIL import Image

from resnet_study.data.originals import CIFAR100, Original

pytestmark = pytest.mark.usefixtures("nothing_from_outside")


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
