"""Small copies of every form of CIFAR, written byte by byte, and the originals that they are of."""

import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_study.data import Split
from resnet_study.data.originals import CIFAR10, Original

BATCH = 20
BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
CLASSES = CIFAR10.classes
PYTHON, BINARY = CIFAR10.folders

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


def small_batches() -> Arrays:
    """Pixels (20, 3072) and labels (20,) of each batch, every class twice."""
    random = np.random.default_rng(0)
    return {
        name: (
            random.integers(0, 256, (BATCH, 3072), np.uint8),
            random.permutation(np.arange(BATCH) % 10),
        )
        for name in BATCHES
    }


def python2_pickle(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """What Python 2 with its numpy wrote for a batch: protocol 2, byte strings throughout."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value  # SHORT_BINSTRING

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    none, false, mark = b"N", b"\x89", b"("
    data_type = (
        b"cnumpy\ndtype\n"
        + (mark + text(b"u1") + integer(0) + integer(1) + b"tR")
        + (mark + integer(3) + text(b"|") + none * 3 + integer(-1) * 2 + integer(0) + b"tb")
    )
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + (mark + integer(0) + b"t" + text(b"b"))
        + b"\x87R"  # TUPLE3, REDUCE
    )
    content = pixels.tobytes()
    buffer = b"T" + struct.pack("<i", len(content)) + content  # BINSTRING
    shape = mark + integer(pixels.shape[0]) + integer(pixels.shape[1]) + b"t"
    array = empty + mark + integer(1) + shape + data_type + false + buffer + b"tb"
    entries = (
        (text(b"batch_label") + text(b"training batch"))
        + (text(b"labels") + b"]" + mark + b"".join(map(integer, labels)) + b"e")
        + (text(b"data") + array)
    )
    return b"\x80\x02}" + mark + entries + b"u."


def python3_pickle(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """The same dictionary as Python 3 writes it for Python 2."""
    return pickle.dumps({b"labels": labels.tolist(), b"data": pixels}, protocol=2)


def binary_batch(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    return b"".join(bytes([c]) + p.tobytes() for c, p in zip(labels, pixels, strict=True))


def python_files(batches: Arrays) -> dict[str, bytes]:
    return {f"{PYTHON}/{name}": python2_pickle(*b) for name, b in batches.items()}


def binary_files(batches: Arrays) -> dict[str, bytes]:
    return {f"{BINARY}/{name}.bin": binary_batch(*b) for name, b in batches.items()}


def encode(image: Image.Image, suffix: str = ".png") -> bytes:
    """An image file, without loss where its format can."""
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}.get(suffix, "PNG")
    stream = io.BytesIO()
    image.save(stream, format=kind, **({"lossless": True} if kind == "WEBP" else {}))
    return stream.getvalue()


def image_files(suffix: str = ".png", per_class: int = 2) -> dict[str, bytes]:
    """``train/<class>/<name>`` and ``test/<class>/<name>``, no two images alike."""
    return {
        f"{split}/{label}/{i:04}{suffix}": encode(Image.fromarray(flat_image(s, c, i)), suffix)
        for s, split in enumerate(("train", "test"))
        for c, label in enumerate(CLASSES)
        for i in range(per_class)
    }


def flat_image(split: int, label: int, number: int) -> np.ndarray:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:] = (split * 200, label * 20, number * 40)
    return image


def write_tar(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in extra:
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def digest(images: Iterable[np.ndarray], labels: Iterable[int]) -> str:
    """As the documentation says it, from nothing but hashlib."""
    pairs = zip(images, labels, strict=True)
    each = [hashlib.sha256(bytes([int(c)]) + i.tobytes()).digest() for i, c in pairs]
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()


def original_of_batches(batches: Arrays) -> Original:
    """A CIFAR-10 of which these batches are all."""
    digests = []
    for names in (BATCHES[:5], BATCHES[5:]):
        pixels = np.concatenate([batches[name][0] for name in names])
        images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        digests.append(digest(images, np.concatenate([batches[name][1] for name in names])))
    return replace(CIFAR10, per_class=(10, 2), digests=(digests[0], digests[1]))


def original_of_images(per_class: int = 2) -> Original:
    """A CIFAR-10 of which `image_files` are all."""
    labels = np.repeat(np.arange(10), per_class)
    digests = [
        digest([flat_image(s, c, i) for c in range(10) for i in range(per_class)], labels)
        for s in range(2)
    ]
    return replace(CIFAR10, per_class=(per_class, per_class), digests=(digests[0], digests[1]))


def expect_batches(train: Split, test: Split, batches: Arrays) -> None:
    """Pixel by pixel: byte 1024 c + 32 y + x of an image is channel c at row y, column x."""
    for split, names in ((train, BATCHES[:5]), (test, BATCHES[5:])):
        pixels = np.concatenate([batches[name][0] for name in names])
        labels = np.concatenate([batches[name][1] for name in names])
        assert split.images.dtype == np.uint8
        assert split.images.flags.c_contiguous
        assert split.labels.dtype == np.int32
        np.testing.assert_array_equal(split.labels, labels)
        assert split.images.shape == (len(labels), 32, 32, 3)
        for y, x, c in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (31, 30, 2), (7, 19, 1)]:
            np.testing.assert_array_equal(
                split.images[:, y, x, c], pixels[:, 1024 * c + 32 * y + x]
            )
