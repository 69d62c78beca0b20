"""Readers of the forms in which CIFAR-10 (Krizhevsky 2009) is passed around.

The official Python archive (pickles), the official binary archive, and a folder of images
per class; each packed or unpacked. Nothing here trusts a file: archives are read in memory
(`resnet_study.data.tarball`) and a pickle can make numpy arrays and nothing else.

An official batch holds 10,000 images of 3,072 bytes: the 32x32 red, then the green, then
the blue values (https://www.cs.toronto.edu/~kriz/cifar.html). There are five batches of
training images and one of test images.
"""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from resnet_study.data import download, tarball
from resnet_study.data.dataset import Progress, Split
from resnet_study.errors import UserError

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""In the order of the official labels, which is alphabetical."""

HELP = (
    "give CIFAR-10 with --cifar10 PATH or the environment variable RESNET_STUDY_CIFAR10, "
    "or download it with `resnet-study data cifar10`"
)

_TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST_BATCH = "test_batch"
_SIDE, _CHANNELS = 32, 3
_PIXELS = _SIDE * _SIDE * _CHANNELS
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_PROGRESS_EVERY = 500

Content = tuple[Split, Split, str]
"""Training images, test images and the label of the source."""


def problem(where: PurePath | str, what: str) -> UserError:
    """The one line for data that are missing, damaged or something else."""
    return UserError(f"{where}: {' '.join(what.split())}; {HELP}")


def read_cifar10(
    path: Path, official: Sequence[OfficialForm] | None = None, progress: Progress | None = None
) -> Content:
    """Read any form, told apart by what is in it.

    Args:
        path: a tar archive, gzipped or not; or a folder for which `is_unpacked` holds.
        official: the official forms, by default `OFFICIAL`.
        progress: called with images decoded and images in all.

    Returns:
        Training images, test images and the label of the source. Both official forms give
        the same arrays; images per class come sorted by class and file name.

    Raises:
        UserError: naming the file and the ways to provide the data.
    """
    official = OFFICIAL if official is None else official
    try:
        if not path.is_dir():
            return _read_packed(path, official, progress)
        for form in official:
            if form.is_unpacked(path):
                return _read_batches(path, _batch_files(path, form), form, progress)
        return _decode_images(path, _images_in_folder(path), progress)
    except tarfile.TarError as error:
        raise problem(path, f"is no whole tar archive ({error})") from None
    except OSError as error:
        raise problem(path, f"cannot be read ({error.strerror or error})") from None


def is_unpacked(path: Path) -> bool:
    """Whether a folder itself (not one below it) holds one of the forms, whole or not."""
    images = (path / "train").is_dir() and (path / "test").is_dir()
    return images or any(form.is_unpacked(path) for form in OFFICIAL)


def _read_packed(
    path: Path, official: Sequence[OfficialForm], progress: Progress | None
) -> Content:
    md5 = download.md5_of(path)
    for form in official:
        if md5 == form.md5:
            files = {n.name: c for n, c in tarball.members(path) if n.parent.name == form.folder}
            return _read_batches(path, files, form, progress)
    for form in official:
        # A damaged archive may not even show its first file, so its own name counts too.
        if path.name == form.archive:
            raise form.wrong_checksum(path, md5)
    images: dict[_Image, bytes] = {}
    for name, content in tarball.members(path):
        for form in official:
            if form.folder in name.parts:
                raise form.wrong_checksum(path, md5)
        image = _image_of(name)
        if image:
            images[image] = content
    return _decode_images(path, images, progress)


# --- the official forms -----------------------------------------------------------------


@dataclass(frozen=True)
class OfficialForm:
    """One of the two official archives.

    Attributes:
        archive: name of the packed file.
        md5: checksum of the packed file.
        folder: the only folder in it.
        suffix: of the batches' file names.
        source: label for reports.
        decode: makes pixels, (N, 3072) uint8, and labels, (N,), of a batch file; may raise
            anything.
        batch_examples: images in a batch.
    """

    archive: str
    md5: str
    folder: str
    suffix: str
    source: str
    decode: Callable[[bytes], tuple[np.ndarray, np.ndarray]]
    batch_examples: int = 10_000

    def is_unpacked(self, folder: Path) -> bool:
        """Whether a folder is this archive's, whole or not."""
        names = (*_TRAIN_BATCHES, _TEST_BATCH)
        known = any((folder / f"{name}{self.suffix}").is_file() for name in names)
        return known or folder.name == self.folder

    def wrong_checksum(self, path: Path, md5: str) -> UserError:
        """The line for an archive that was cut or changed."""
        what = f"has MD5 {md5} instead of {self.md5}, so it was cut or changed; remove it"
        return problem(path, what)


def _batch_files(folder: Path, form: OfficialForm) -> dict[str, bytes]:
    files = {}
    for name in (f"{batch}{form.suffix}" for batch in (*_TRAIN_BATCHES, _TEST_BATCH)):
        file = folder / name
        if file.is_file():
            if file.stat().st_size > tarball.MEMBER_BYTES:
                raise problem(file, "is too large for a batch of CIFAR-10")
            files[name] = file.read_bytes()
    return files


def _read_batches(
    where: Path, files: Mapping[str, bytes], form: OfficialForm, progress: Progress | None
) -> Content:
    splits = []
    total = (len(_TRAIN_BATCHES) + 1) * form.batch_examples
    done = 0
    for batches in (_TRAIN_BATCHES, (_TEST_BATCH,)):
        count = len(batches) * form.batch_examples
        images = np.empty((count, _SIDE, _SIDE, _CHANNELS), np.uint8)
        labels = np.empty(count, np.int32)
        for i, batch in enumerate(batches):
            rows = slice(i * form.batch_examples, (i + 1) * form.batch_examples)
            pixels, labels[rows] = _decode_batch(where, f"{batch}{form.suffix}", files, form)
            channels_first = pixels.reshape(-1, _CHANNELS, _SIDE, _SIDE)
            images[rows] = channels_first.transpose(0, 2, 3, 1)
            done += form.batch_examples
            if progress is not None:
                progress(done, total)
        per_class = np.bincount(labels, minlength=len(CLASSES))
        if (per_class != count // len(CLASSES)).any():
            raise problem(where, f"the classes have {per_class.tolist()} images, not equally many")
        splits.append(Split(images, labels))
    return splits[0], splits[1], form.source


def _decode_batch(
    where: Path, name: str, files: Mapping[str, bytes], form: OfficialForm
) -> tuple[np.ndarray, np.ndarray]:
    if name not in files:
        raise problem(where, f"{name} is missing")
    try:
        pixels, labels = form.decode(files[name])
    except Exception as error:  # a foreign pickle can raise anything
        reason = str(error) or type(error).__name__
        raise problem(where / name, f"is no batch of CIFAR-10 ({reason})") from None
    if pixels.shape != (form.batch_examples, _PIXELS) or labels.shape != (form.batch_examples,):
        what = f"holds {len(pixels)} images and {len(labels)} labels"
        raise problem(where / name, f"{what}, a batch of CIFAR-10 holds {form.batch_examples}")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise problem(where / name, f"has labels outside 0..{len(CLASSES) - 1}")
    return pixels, labels


def decode_binary_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Records of one byte of label and 3,072 of pixels.

    Raises:
        ValueError: if the content is no whole number of records.
    """
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0]


def decode_python_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A pickled dictionary (Python 2) with ``data`` and ``labels``.

    Raises:
        pickle.UnpicklingError: if it asks for anything but numpy arrays.
        ValueError: if it is no such dictionary. A damaged pickle can raise anything else.
    """
    batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    entries = batch if isinstance(batch, dict) else {}
    pixels, labels = entries.get(b"data"), entries.get(b"labels")
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 2):
        raise ValueError("no array of pixels under 'data'")
    if not (isinstance(labels, list) and all(type(label) is int for label in labels)):
        raise ValueError("no list of integers under 'labels'")
    return pixels, np.array(labels, np.int64)


def _latin1(text: str, encoding: str) -> bytes:
    """What pickles below protocol 3 need of ``_codecs.encode`` to hold bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: encoding {encoding!r}")
    return text.encode(encoding)


class _ArrayUnpickler(pickle.Unpickler):
    """Makes numpy arrays; every other class or function is refused before it is imported."""

    _allowed: Mapping[tuple[str, str], Any] = {
        # The function that numpy itself names when it pickles an array.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"refused: it asks for {module}.{name}")
        return self._allowed[module, name]


PYTHON = OfficialForm(
    archive=download.ARCHIVE,
    md5=download.MD5,
    folder="cifar-10-batches-py",
    suffix="",
    source="CIFAR-10 (official Python archive)",
    decode=decode_python_batch,
)
BINARY = OfficialForm(
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    suffix=".bin",
    source="CIFAR-10 (official binary archive)",
    decode=decode_binary_batch,
)
OFFICIAL = (PYTHON, BINARY)


# --- images per class -------------------------------------------------------------------


class _Image(NamedTuple):
    """``<root>/<split>/<label>/<name>``; sorts by split, class and file name."""

    split: str
    label: str
    name: str
    root: str


def _image_of(path: PurePath) -> _Image | None:
    """The image that a path stands for; None if it stands for something else."""
    if len(path.parts) < 3 or path.name.startswith(".") or not _is_image(path.name):
        return None
    *root, split, label, name = path.parts
    return _Image(split, label, name, "/".join(root)) if split in ("train", "test") else None


def _is_image(name: str) -> bool:
    return name.lower().endswith(_IMAGE_SUFFIXES)


def _images_in_folder(folder: Path) -> dict[_Image, Path]:
    images = {}
    for split in ("train", "test"):
        for label in sorted(p for p in (folder / split).glob("*") if p.is_dir()):
            with os.scandir(label) as entries:
                for entry in entries:
                    image = _image_of(PurePath(split, label.name, entry.name))
                    if image:
                        images[image] = Path(entry.path)
    return images


def _decode_images(
    where: Path, images: Mapping[_Image, bytes | Path], progress: Progress | None
) -> Content:
    if not images:
        raise problem(where, "holds neither official batches nor train/<class>/*.jpg or *.png")
    if len({image.root for image in images}) > 1:
        raise problem(where, "holds more than one set of images")
    splits, formats, done = [], set(), 0
    for split in ("train", "test"):
        members = sorted(image for image in images if image.split == split)
        found = {image.label for image in members}
        wrong = sorted(found ^ set(CLASSES))
        if wrong:
            kind = "lacks" if set(wrong) <= set(CLASSES) else "is not CIFAR-10: it has or lacks"
            raise problem(where, f"{split}/ {kind} images of {', '.join(wrong)}")
        pixels = np.empty((len(members), _SIDE, _SIDE, _CHANNELS), np.uint8)
        for i, image in enumerate(members):
            file = "/".join(image[:3])
            pixels[i], image_format = _decode_image(where / file, images[image])
            formats.add(image_format)
            done += 1
            if progress is not None and (done % _PROGRESS_EVERY == 0 or done == len(images)):
                progress(done, len(images))
        labels = np.array([CLASSES.index(image.label) for image in members], np.int32)
        splits.append(Split(pixels, labels))
    return splits[0], splits[1], f"CIFAR-10 ({'JPEG' if 'JPEG' in formats else 'PNG'})"


def _decode_image(where: Path, content: bytes | Path) -> tuple[np.ndarray, str]:
    from PIL import Image

    file = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        # Opening reads the header only, so a huge picture is refused before it is decoded.
        with Image.open(file, formats=("JPEG", "PNG")) as image:
            if image.size != (_SIDE, _SIDE):
                raise ValueError(f"{image.width}x{image.height} pixels instead of 32x32")
            pixels = np.frombuffer(image.convert("RGB").tobytes(), np.uint8)
            return pixels.reshape(_SIDE, _SIDE, _CHANNELS), str(image.format)
    except Exception as error:  # a damaged image can raise anything
        raise problem(where, f"is no image of CIFAR-10 ({error})") from None
