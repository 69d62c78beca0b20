"""CIFAR-10: found, read once, and kept decoded so that the next start is quick.

What is read is, in this order: the path that is given; that of the environment variable
RESNET_STUDY_CIFAR10; the folder ``data`` where the command runs; the cache folder, where
``resnet-study data cifar10`` puts its download. Each may be an archive, the folder that
was in it, or a folder that has one of them under its usual name (`NAMES`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnet_study.data.cifar10_formats import (
    BINARY,
    PYTHON,
    Content,
    OfficialForm,
    is_unpacked,
    problem,
    read_cifar10,
)
from resnet_study.data.dataset import Progress, Split
from resnet_study.runtime import cache_folder

PATH_VARIABLE = "RESNET_STUDY_CIFAR10"

NAMES = (
    PYTHON.archive,
    BINARY.archive,
    PYTHON.folder,
    BINARY.folder,
    "cifar10-images.tar.gz",
    "cifar10-images.tar",
    "cifar10-images",
)
"""What is looked for in a folder; the official forms first, for they are the original."""

_CACHE_VERSION = 1
"""Part of every fingerprint; a change of how images are decoded must raise it."""


def load_cifar10(
    path: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    official: Sequence[OfficialForm] | None = None,
) -> Content:
    """Training and test images of CIFAR-10, from the decoded cache where there is one.

    A cached copy counts only while the source has the same path, size and time of change;
    a damaged one is replaced. Where the cache cannot be written, the data are decoded
    every time.

    Args:
        path: see the module; None looks for the data.
        cache: folder for the decoded images; see `cache_folder`.
        progress: called with images decoded and images in all; not when the cache serves.
        official: the official forms, other ones only in tests.

    Returns:
        Training images, test images and the label of the source.

    Raises:
        UserError: if there are no data, or none that can be trusted; one line that names
            the file and the ways to provide them.
    """
    source = find_cifar10(path, cache)
    try:
        fingerprint = _fingerprint(source)
    except OSError as error:
        raise problem(source, f"cannot be read ({error.strerror or error})") from None
    name = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]
    cached = cache_folder(cache) / f"cifar10-{name}.npz"
    content = _read_cache(cached, fingerprint)
    if content is None:
        content = read_cifar10(source, official, progress)
        _write_cache(cached, fingerprint, content)
    return content


def is_available(cache: Path | None = None) -> bool:
    """Whether a path is named by the environment or the data lie in one of the usual places."""
    if os.environ.get(PATH_VARIABLE):
        return True
    return any(_find_in(place) for place in (Path("data"), cache_folder(cache)))


def find_cifar10(path: Path | None = None, cache: Path | None = None) -> Path:
    """The archive or folder to read, by the order in the module's description.

    Raises:
        UserError: if a path that is given does not exist or holds no known form, or if
            nothing is given and nothing is found.
    """
    variable = os.environ.get(PATH_VARIABLE)
    named = path or (Path(variable) if variable else None)
    if named is not None:
        named = named.expanduser()
        label = named if path else f"{PATH_VARIABLE}={named}"
        if not named.exists():
            raise problem(label, "no such file or folder")
        found = _find_in(named)
        if found is None:
            raise problem(label, f"the folder holds none of {', '.join(NAMES)}, train/ and test/")
        return found
    places = (Path("data"), cache_folder(cache))
    for place in places:
        found = _find_in(place)
        if found is not None:
            return found
    raise problem("cifar10", f"not found in {' or '.join(map(str, places))}")


def _find_in(place: Path) -> Path | None:
    if place.is_file() or (place.is_dir() and is_unpacked(place)):
        return place
    for name in NAMES:
        if (place / name).exists():
            return place / name
    return None


def _fingerprint(source: Path) -> str:
    """Hash of path, size and time of change of the source, for a folder of each file in it."""
    files = [source]
    for pattern in ("*", "train/*/*", "test/*/*"):
        files += source.glob(pattern)
    lines = [f"{_CACHE_VERSION} {source.resolve()}"]
    for file in sorted(files):
        status = file.stat()
        lines.append(f"{file.relative_to(source)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _read_cache(file: Path, fingerprint: str) -> Content | None:
    """The cached content; None if there is none, or it is of another source or damaged."""
    try:
        # The checksums of the zip format, which numpy writes, reveal damage.
        with np.load(file, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) != fingerprint:
                return None
            train, test = (
                Split(stored[f"{split}_images"], stored[f"{split}_labels"])
                for split in ("train", "test")
            )
            return train, test, str(stored["source"])
    except Exception:  # a damaged file can raise anything, and it can be made again
        return None


def _write_cache(file: Path, fingerprint: str, content: Content) -> None:
    """Replace the cached content in one step; go on without where that fails."""
    train, test, source = content
    part = file.with_name(f".{file.stem}.{uuid.uuid4().hex}.npz")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(
                part,
                fingerprint=np.array(fingerprint),
                source=np.array(source),
                train_images=train.images,
                train_labels=train.labels,
                test_images=test.images,
                test_labels=test.labels,
            )
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
