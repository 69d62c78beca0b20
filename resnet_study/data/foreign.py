"""What somebody gave in place of CIFAR, in words, so that the message names it rightly."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from resnet_study.data.originals import SPLITS, DataError
from resnet_study.data.trees import ARCHIVES, TABLES, Tree, is_image

_IMAGENET = re.compile(r"n\d{8}$")
_HEADS = (
    (b"MATLAB", "is a MATLAB file"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive, which is not read; unpack it and give the folder"),
    (b"Rar!", "is a RAR archive, which is not read; unpack it and give the folder"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd, which is not read; unpack it"),
    (b"\x89HDF", "is an HDF5 file, which is not read"),
    (b"PAR1", "is one parquet file; give the folder that holds train-*.parquet and test-*.parquet"),
    (b"\x89PNG", "is a single image, no data set"),
    (b"\xff\xd8\xff", "is a single image, no data set"),
    (b"\x80", "is a single pickle; give the folder that holds all batches"),
    (b"\x93NUMPY", "is a numpy file, which is not read"),
)
_MATLAB = (
    "is {what} as MATLAB files (.mat), which are not read; "
    "the Python and the binary version are (www.cs.toronto.edu/~kriz/cifar.html)"
)


def describe_file(file: Path) -> str | None:
    """What a file is that is no archive; None if it may be a damaged one.

    Raises:
        OSError: if it cannot be read.
    """
    with file.open("rb") as stream:
        head = stream.read(4096)
    if not head:
        return "is an empty file"
    if head.startswith(b"MATLAB") and re.search(r"_32x32\.mat$", file.name):
        return f"is SVHN ({file.name}), not CIFAR"
    for magic, what in _HEADS:
        if head.startswith(magic):
            return what
    if file.suffix == ".bin" or file.name.startswith(("data_batch", "test_batch")):
        return "is a single file; give the folder that holds all batches"
    if head[:1024].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, probably of a download that failed"
    # A file name at the head of a damaged tar archive is followed by zeros.
    if b"\0" not in head:
        try:
            head[: len(head) - 3 if len(head) == 4096 else None].decode()
        except UnicodeDecodeError:
            return None
        return "is a text file"
    return None


def describe_tree(tree: Tree) -> str:
    """What the files of a folder or archive are in which no form of CIFAR was found."""
    if not tree:
        return "holds no files"
    paths = list(tree)
    names = [path.name for path in paths]
    matlab = [name for name in names if name.endswith(".mat")]
    if any(re.match(r"(train|test|extra)_32x32\.mat$", name) for name in matlab):
        return f"is SVHN ({sorted(matlab)[0]}), not CIFAR"
    if matlab:
        cifar = any("batch" in name for name in matlab)
        return _MATLAB.format(what="CIFAR-10" if cifar else "CIFAR-100 or something else")
    if _has_imagenet_classes(paths):
        return "looks like ImageNet (class folders such as n01440764), not CIFAR"
    if any(re.search(r"idx[13]-ubyte", name) for name in names):
        return "is MNIST or a data set in its format (idx-ubyte files), not CIFAR"
    if any(name in ("train_X.bin", "unlabeled_X.bin") for name in names):
        return "is STL-10, not CIFAR"
    packed = [name for name in names if name.lower().endswith((*ARCHIVES, ".7z", ".rar"))]
    if packed:
        shown = ", ".join(sorted(packed)[:3])
        return f"holds archives ({shown}); unpack the one of the data or name it"
    pictures = [path for path in paths if is_image(path.name)]
    if pictures:
        return f"holds images, but not in train/<class>/ and test/<class>/; one is {pictures[0]}"
    shown = ", ".join(sorted({str(path) for path in paths[:1000]})[:3])
    return (
        "holds neither official batches nor train/<class>/*.png (or .jpg, .webp, .bmp) nor "
        f"parquet files nor {TABLES[0]}; there is {shown}"
    )


def check_folder(source: Path) -> None:
    """Refuse a folder of known other classes before its files, maybe millions, are listed.

    Raises:
        DataError: naming what it looks like.
        OSError: if it cannot be read.
    """
    for split in SPLITS:
        if (source / split).is_dir():
            with os.scandir(source / split) as entries:
                what = describe_classes({e.name for e in entries if e.is_dir()})
            if what is not None:
                raise DataError(source, what)


def describe_classes(found: set[str]) -> str | None:
    """What set has such classes; None if it is not known."""
    if any(_IMAGENET.match(name) for name in found):
        return "looks like ImageNet (class folders such as n01440764), not CIFAR"
    if found and all(name.isdigit() for name in found):
        return "names its classes by numbers; the folders need the names, such as airplane"
    return None


def _has_imagenet_classes(paths: list[PurePosixPath]) -> bool:
    return any(_IMAGENET.match(part) for path in paths[:5000] for part in path.parts[:-1])
