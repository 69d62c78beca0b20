"""Decoded images on disk, so that the second start is quick."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnet_study.data.dataset import Split
from resnet_study.data.originals import Original
from resnet_study.data.trees import files_in
from resnet_study.files import replacing

VERSION = 2
"""Part of every fingerprint; a change of how images are decoded or named must raise it."""


class ReadImages(NamedTuple):
    """What was read.

    Attributes:
        train, test: the images.
        source: label for reports, such as "CIFAR-10 (JPEG)".
        digests: of the training and the test images (`originals.digest_of`).
    """

    train: Split
    test: Split
    source: str
    digests: tuple[str, str]


def cache_file(folder: Path, source: Path, original: Original) -> Path:
    """Where the decoded images of a source are kept: one file for each."""
    name = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]
    return folder / f"{original.name}-{name}.npz"


def fingerprint_of(source: Path, original: Original) -> str:
    """Hash of path, size and time of change of the source, for a folder of each file in it.

    Raises:
        DataError: if the folder has too many files.
        OSError: if something cannot be read.
    """
    first = source.stat()
    lines = [f" {first.st_size} {first.st_mtime_ns}"]
    if source.is_dir():
        for name, entry in files_in(source):
            status = entry.stat()
            lines.append(f"{name} {status.st_size} {status.st_mtime_ns}")
    head = f"{VERSION} {source.resolve()} {original}"
    return hashlib.sha256("\n".join([head, *sorted(lines)]).encode()).hexdigest()


def read_cache(file: Path, fingerprint: str) -> ReadImages | None:
    """The cached content; None if there is none, or it is of another source or damaged."""
    try:
        # The checksums of the zip format, which numpy writes, reveal damage.
        # Opened here, for numpy leaves a damaged file open.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) != fingerprint:
                return None
            train, test = (
                Split(stored[f"{split}_images"], stored[f"{split}_labels"])
                for split in ("train", "test")
            )
            digests = str(stored["digests"][0]), str(stored["digests"][1])
            return ReadImages(train, test, str(stored["source"]), digests)
    except Exception:  # a damaged file can raise anything, and it can be made again
        return None


def write_cache(file: Path, fingerprint: str, content: ReadImages) -> None:
    """Replace the cached content in one step; go on without where that fails."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as stream:
            np.savez(
                stream,
                fingerprint=np.array(fingerprint),
                source=np.array(content.source),
                digests=np.array(content.digests),
                train_images=content.train.images,
                train_labels=content.train.labels,
                test_images=content.test.images,
                test_labels=content.test.labels,
            )
