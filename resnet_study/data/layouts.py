"""The layouts in which CIFAR-10 and CIFAR-100 (Krizhevsky 2009) are passed around.

The official batches, Python or binary; images in a folder for each class; Kaggle's table of
labels beside a folder of images; Hugging Face's parquet files. Each reader takes the files of
a folder or archive (`trees`) and finds its layout in them, at whatever depth, or returns None.

An official batch of CIFAR-10 holds 10,000 images of 3,072 bytes: the 32x32 red, then the
green, then the blue values (https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from resnet_study.data import archives, foreign, parquet
from resnet_study.data.dataset import Progress, Split
from resnet_study.data.images import decode_image
from resnet_study.data.originals import (
    CHANNELS,
    PIXELS,
    SIDE,
    SPLITS,
    DataError,
    Original,
    check_counts,
    counts_of,
    other_than,
)
from resnet_study.data.pickles import decode_binary_batch, decode_python_batch
from resnet_study.data.trees import TABLES, Tree, is_image, is_parquet

_PROGRESS_EVERY = 500


class FoundImages(NamedTuple):
    """Training and test images as they were found.

    Attributes:
        train, test: the images, in the order of the source.
        form: for the label, such as "PNG" or "Python batches".
        verified: published checksums of the files have proved them.
    """

    train: Split
    test: Split
    form: str
    verified: bool = False


@dataclass(frozen=True)
class Request:
    """What is asked for, and where the answer comes from.

    Attributes:
        where: path for messages.
        tree: the files.
        original: the data set.
        subset: fewer images are welcome.
        progress: called with images decoded and images in all.
    """

    where: Path
    tree: Tree
    original: Original
    subset: bool = False
    progress: Progress | None = None

    def error(self, what: str, path: PurePosixPath | None = None) -> DataError:
        """The line for a file of the tree, or for all of it."""
        return DataError(self.where / path if path is not None else self.where, what)

    def content(self, path: PurePosixPath) -> bytes:
        """Content of a file, bounded."""
        found = self.tree[path]
        if isinstance(found, Path):
            with found.open("rb") as file:
                found = file.read(archives.MEMBER_BYTES + 1)
            if len(found) > archives.MEMBER_BYTES:
                raise self.error("is too large for a part of the data set", path)
        return found or b""

    def check(self, labels: Sequence[np.ndarray]) -> None:
        """Refuse wrong numbers of images before they are decoded."""
        counts = [counts_of(self.original, part) for part in labels]
        check_counts(self.where, self.original, counts, self.subset)


def read_layout(request: Request) -> FoundImages:
    """Find and read whichever layout there is.

    Raises:
        DataError: if there is none, saying what is there instead, or if it is damaged, of
            another data set or incomplete.
    """
    readers: tuple[Callable[[Request], FoundImages | None], ...] = (
        lambda r: _read_batches(r, ""),
        lambda r: _read_batches(r, ".bin"),
        _read_parquet,
        _read_kaggle,
        _read_class_folders,
    )
    for read in readers:
        found = read(request)
        if found is not None:
            return found
    for other in other_than(request.original):
        if any(_batch_folders(request.tree, other, suffix) for suffix in ("", ".bin")):
            raise request.error(_is_other(other, request.original))
    raise request.error(foreign.describe_tree(request.tree))


def _is_other(other: Original, original: Original) -> str:
    return f"is {other.title}, not {original.title}; --data.name={other.name} reads it"


# --- the official batches ---------------------------------------------------------------


def _batch_folders(tree: Tree, original: Original, suffix: str) -> list[PurePosixPath]:
    """Folders with batches, those with all of them if there are such."""
    names = {f"{name}{suffix}" for split in original.batches for name in split}
    found: dict[PurePosixPath, set[str]] = {}
    for path in tree:
        if path.name in names:
            found.setdefault(path.parent, set()).add(path.name)
    whole = [folder for folder, there in found.items() if there == names]
    # The batches of CIFAR-100 are called train and test: one of them alone is anything.
    return whole or (list(found) if original.label_bytes == 1 else [])


def _read_batches(request: Request, suffix: str) -> FoundImages | None:
    original = request.original
    folders = _batch_folders(request.tree, original, suffix)
    if not folders:
        return None
    if len(folders) > 1:
        shown = ", ".join(map(str, folders[:3]))
        raise request.error(f"holds more than one set of batches, in {shown}")
    splits, proofs, done = [], [], 0
    for names in original.batches:
        parts = []
        paths = [folders[0] / f"{name}{suffix}" for name in names]
        there = [path for path in paths if path in request.tree]
        if not there or (len(there) < len(paths) and not request.subset):
            missing = [path.name for path in paths if path not in there]
            what = f"lacks {', '.join(missing)}: {len(there)} of {len(paths)} batches are there"
            raise request.error(what, folders[0])
        for path in there:
            pixels, labels, proof = _read_batch(request, path)
            parts.append((pixels, labels))
            proofs.append(proof)
            done += len(labels)
            if request.progress is not None:
                request.progress(done, sum(original.sizes))
        labels = np.concatenate([part[1] for part in parts]).astype(np.int32)
        pixels = np.concatenate([part[0] for part in parts])
        channels_first = pixels.reshape(-1, CHANNELS, SIDE, SIDE)
        splits.append(Split(np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1)), labels))
    request.check([split.labels for split in splits])
    form = "binary batches" if suffix else "Python batches"
    return FoundImages(splits[0], splits[1], form, all(proofs))


def _read_batch(request: Request, path: PurePosixPath) -> tuple[np.ndarray, np.ndarray, bool]:
    original = request.original
    content = request.content(path)
    try:
        if path.suffix:
            pixels, labels = decode_binary_batch(content, original.label_bytes)
        else:
            pixels, labels = decode_python_batch(content, original.label_key)
    except Exception as error:  # a foreign pickle can raise anything
        reason = str(error) or type(error).__name__
        raise request.error(f"is no batch of {original.title} ({reason})", path) from None
    if pixels.shape != (len(labels), PIXELS) or not len(labels):
        what = f"holds {len(pixels)} images of {pixels.shape[1]} bytes and {len(labels)} labels"
        raise request.error(what, path)
    if len(labels) > sum(original.sizes):
        raise request.error(f"holds {len(labels)} images, more than {original.title}", path)
    if labels.min() < 0 or labels.max() >= len(original.classes):
        raise request.error(f"has labels outside 0..{len(original.classes) - 1}", path)
    published = original.file_md5.get(path.name)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() if published else ""
    return pixels, labels, bool(published) and md5 == published


# --- images in files --------------------------------------------------------------------


def _read_class_folders(request: Request) -> FoundImages | None:
    """``<root>/<split>/<class>/<image>``, sorted by class and file name."""
    original, roots = request.original, set()
    members: dict[str, list[tuple[str, str, PurePosixPath]]] = {split: [] for split in SPLITS}
    for path in request.tree:
        if len(path.parts) >= 3 and path.parts[-3] in SPLITS and is_image(path.name):
            *root, split, label, name = path.parts
            members[split].append((label, name, path))
            roots.add(tuple(root))
    if not roots:
        return None
    if len(roots) > 1:
        shown = ", ".join(sorted("/".join(root) or "." for root in roots)[:3])
        raise request.error(f"holds more than one set of images, in {shown}")
    for split, images in members.items():
        _check_classes(request, split, {label for label, _, _ in images})
    order = {name: label for label, name in enumerate(original.classes)}
    chosen = [sorted(members[split]) for split in SPLITS]
    labels = [np.array([order[m[0]] for m in part], np.int32) for part in chosen]
    return _decode(request, [[m[2] for m in part] for part in chosen], labels)


def _check_classes(request: Request, split: str, found: set[str]) -> None:
    original = request.original
    for other in other_than(original):
        if len(found & set(other.classes)) > len(found & set(original.classes)):
            raise request.error(_is_other(other, original))
    strange = foreign.describe_classes(found)
    if strange:
        raise request.error(strange)
    wrong = sorted(found ^ set(original.classes))
    if wrong:
        known = set(wrong) <= set(original.classes)
        kind = "lacks" if known else f"is not {original.title}: it has or lacks"
        shown = ", ".join(wrong[:12]) + (" and others" if len(wrong) > 12 else "")
        due = original.per_class[SPLITS.index(split)]
        count = f" (0 of {due:,} each)" if known else ""
        raise request.error(f"{split}/ {kind} images of {shown}{count}")


def _read_kaggle(request: Request) -> FoundImages | None:
    """``trainLabels.csv`` beside ``train/<id>.png``; the test images need labels too."""
    tables = [path for path in request.tree if path.name == TABLES[0]]
    if not tables:
        return None
    root = tables[0].parent
    paths, labels = _by_table(request, tables[0], root / "train")
    test = [
        path for path in request.tree if is_image(path.name) and path.parent.parent == root / "test"
    ]
    if root / TABLES[1] in request.tree:
        test_paths, test_labels = _by_table(request, root / TABLES[1], root / "test")
    elif test:
        _check_classes(request, "test", {path.parent.name for path in test})
        order = {name: label for label, name in enumerate(request.original.classes)}
        test_paths = sorted(test, key=lambda path: path.parts[-2:])
        test_labels = np.array([order[path.parent.name] for path in test_paths], np.int32)
    else:
        raise request.error(
            f"is Kaggle's {request.original.title}, whose test images have no labels: the "
            "training images are there and the test images of the original are not; put them "
            f"beside as test/<class>/*.png, with nothing else in test/, or with {TABLES[1]}"
        )
    return _decode(request, [paths, test_paths], [labels, test_labels])


def _by_table(
    request: Request, table: PurePosixPath, folder: PurePosixPath
) -> tuple[list[PurePosixPath], np.ndarray]:
    """Images and labels in the order of a table with the columns ``id`` and ``label``."""
    order = {name: label for label, name in enumerate(request.original.classes)}
    names = {path.stem: path for path in request.tree if path.parent == folder}
    paths, labels = [], []
    try:
        rows = list(csv.DictReader(io.StringIO(request.content(table).decode("utf-8-sig"))))
        for row in rows:
            labels.append(order[row["label"]])
            if row["id"] in names:
                paths.append(names[row["id"]])
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        what = f"is no table of the columns id and label with the classes' names ({error})"
        raise request.error(what, table) from None
    if len(paths) < len(labels):
        what = f"has {len(paths):,} of the {len(labels):,} images that {table.name} names"
        raise request.error(what, folder)
    return paths, np.array(labels, np.int32)


def _decode(
    request: Request, paths: Sequence[Sequence[PurePosixPath]], labels: Sequence[np.ndarray]
) -> FoundImages:
    request.check(labels)
    total, done, splits, forms = sum(map(len, paths)), 0, [], set()
    for part, classes in zip(paths, labels, strict=True):
        pixels = np.empty((len(part), SIDE, SIDE, CHANNELS), np.uint8)
        for i, path in enumerate(part):
            pixels[i], form = decode_image(request.where / path, request.tree[path] or b"")
            forms.add(form)
            done += 1
            if request.progress is not None and (done % _PROGRESS_EVERY == 0 or done == total):
                request.progress(done, total)
        splits.append(Split(pixels, classes))
    return FoundImages(splits[0], splits[1], _form(forms))


def _form(forms: Iterable[str]) -> str:
    return " and ".join(sorted(forms))


# --- Hugging Face's parquet files -------------------------------------------------------


def _read_parquet(request: Request) -> FoundImages | None:
    """``train-*.parquet`` and ``test-*.parquet``, or ``train/*.parquet`` and ``test/``."""
    tables = sorted(path for path in request.tree if is_parquet(path))
    if not tables:
        return None
    files: list[list[tuple[Path, bytes]]] = []
    for split in SPLITS:
        parts = [p for p in tables if p.name.startswith(split) or p.parent.name == split]
        if not parts:
            raise request.error(f"holds no {split}-*.parquet beside {tables[0]}")
        if len({path.parent for path in parts}) > 1:
            raise request.error(f"holds more than one set of {split}-*.parquet")
        files.append([(request.where / path, request.content(path)) for path in parts])
    original, done, splits, forms = request.original, 0, [], set()
    labels = [
        np.concatenate([parquet.read_labels(w, c, original) for w, c in part]) for part in files
    ]
    request.check(labels)
    for part, classes in zip(files, labels, strict=True):
        pixels = np.empty((len(classes), SIDE, SIDE, CHANNELS), np.uint8)
        position = 0
        for where, content in part:
            for number, image in enumerate(parquet.read_images(where, content)):
                pixels[position], form = decode_image(f"{where}, row {number}", image)
                forms.add(form)
                position, done = position + 1, done + 1
                if request.progress is not None and done % _PROGRESS_EVERY == 0:
                    request.progress(done, sum(map(len, labels)))
        splits.append(Split(pixels, classes))
    return FoundImages(splits[0], splits[1], _form(forms))
