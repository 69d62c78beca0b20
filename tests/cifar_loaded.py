"""Small sets of CIFAR as they are loaded, and the line with which one is refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from cifar_files import (
    image_files,
    original_of_batches,
    original_of_images,
    small_batches,
    write_tar,
)

from resnet_study.data.cache import ReadImages
from resnet_study.data.cifar10 import load_cifar10
from resnet_study.data.originals import Original
from resnet_study.errors import UserError

SMALL = original_of_images()
SMALL_BATCHES = original_of_batches(small_batches())


def whole_refusal(path: Path, original: Original = SMALL) -> str:
    """The line with which a path is refused; it must be one and name the ways out."""
    with pytest.raises(UserError) as error:
        load_cifar10(path, original=original)
    message = str(error.value)
    assert "\n" not in message
    for way in ("--cifar10", "RESNET_STUDY_CIFAR10", "resnet-study data cifar10"):
        assert way in message
    return message


def same(first: ReadImages, second: ReadImages) -> bool:
    return first[2:] == second[2:] and all(
        np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
        for a, b in zip(first[:2], second[:2], strict=True)
    )


FILES = image_files()


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
