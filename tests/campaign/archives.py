"""Data sets in every container, cut, flipped, spliced and crafted: refused in one line, or known.

An accepted one is called CIFAR-10 only if it has the pixels and labels of the original; nothing is
written anywhere but to the cache.
"""

from __future__ import annotations

import io
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from resnet_study.data.originals import Original
from tests.campaign.damage import flipped
from tests.campaign.outcome import Trial, defect_of, run_forked
from tests.cifar_files import (
    binary_files,
    digest,
    image_files,
    original_of_batches,
    original_of_images,
    python3_pickle,
    python_files,
    small_batches,
    write_folder,
    write_tar,
)

SUFFIXES = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip", "")


class _Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


def _pickle_bomb() -> bytes:
    """Lists that hold the list before twice, 60 times."""

    def doubled(k: int) -> bytes:
        before = b"h" + bytes([k])
        return b"](" + 2 * before + b"eq" + bytes([k + 1]) + b"0"

    return b"\x80\x04]q\x000" + b"".join(map(doubled, range(60))) + b"h\x3c."


CRAFTED: dict[str, Callable[[], bytes]] = {
    "a pickle that runs a command": lambda: pickle.dumps({"data": _Evil(), "labels": []}),
    "a pickle of lists in lists": lambda: b"\x80\x04" + b"(l" * 50_000 + b".",
    "a pickle that doubles": _pickle_bomb,
    "an array of a terabyte": lambda: b"\x80\x02cnumpy\nzeros\nJ\xff\xff\xff\x7f\x85R.",
    "npy with objects": lambda: (
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, "
        b"'shape': (1000000000,), }".ljust(128)
        + b"\x80\x04N."
    ),
    "npy of a large header": lambda: b"\x93NUMPY\x02\x00\xff\xff\xff\x3f" + b" " * 1000,
    "png of a gigapixel": lambda: _png(60_000, 60_000),
    "nothing": lambda: b"",
}


def _png(width: int, height: int) -> bytes:
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def _forms() -> dict[str, tuple[dict[str, bytes], Original]]:
    batches = small_batches()
    of_batches = original_of_batches(batches)
    again = {name: python3_pickle(*batch) for name, batch in batches.items()}
    return {
        "python": (python_files(batches), of_batches),
        "pickled anew": (again, of_batches),
        "binary": (binary_files(batches), of_batches),
        "images": (image_files(), original_of_images()),
    }


def _pack(path: Path, files: dict[str, bytes], suffix: str) -> Path:
    if suffix == "":
        return write_folder(path, files)
    target = path.with_name(path.name + suffix)
    if suffix != ".zip":
        return write_tar(target, files)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def _outside(files: dict[str, bytes], rng: random.Random, path: Path) -> Path:
    """An archive with names, links and devices that lead outside."""
    names = ["../outside", "/tmp/outside", "train/../../outside", "C:\\outside", "\x00", "a" * 5000]
    target = path.with_name("outside.tar")
    with tarfile.open(target, "w") as tar:
        for name in rng.sample(names, 3):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"out"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"train/{rng.random()}")
            member.type, member.linkname = kind, rng.choice(["/etc/passwd", "..", "../outside"])
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target


def hostile(work: Path, count: int, seed: int) -> Iterator[Trial]:
    """Damage or craft a data set again and again and read it; what was done, and how it ended."""
    forms = _forms()
    here, cache = work / "here", work / "cache"
    for folder in (here, cache):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ["RESNET_STUDY_CACHE"] = str(cache)
    for index in range(count):
        rng = random.Random(f"{seed} {index}")
        form, suffix = rng.choice(sorted(forms)), rng.choice(SUFFIXES)
        files, original = dict(forms[form][0]), forms[form][1]
        kind = rng.choice(["member", "member", "archive", "archive", "crafted", "lost", "outside"])
        name = rng.choice(sorted(files))
        what = f"{index}: {form}{suffix}, {kind}"
        if kind == "crafted":
            crafted = rng.choice(sorted(CRAFTED))
            what, files[name] = f"{what}, {crafted}", CRAFTED[crafted]()
        elif kind == "member":
            files[name] = _damaged(rng, files[name])
        elif kind == "lost":
            del files[name]
        path = (
            _outside(files, rng, work / "set")
            if kind == "outside"
            else _pack(work / "set", files, suffix)
        )
        if kind == "archive" and path.is_file():
            path.write_bytes(_damaged(rng, path.read_bytes()))
        before = _listing(work)
        ended = run_forked(lambda p=path, o=original: _load(p, o), here)  # type: ignore[misc]
        defect = defect_of(ended)
        if written := _listing(work) ^ before:
            defect = f"wrote or removed {sorted(written)[:3]}"
        yield Trial(what, ended.refused, defect)
        _remove(path)


def _damaged(rng: random.Random, content: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return content[: rng.randrange(len(content))]
        case 1:
            return flipped(rng, content)
        case 2:
            at = rng.randrange(len(content))
            return content[:at] + rng.randbytes(rng.randrange(1, 200)) + content[at + 100 :]
        case _:
            at = rng.randrange(len(content))
            return content[:at] + content[rng.randrange(len(content)) :]


def _load(path: Path, original: Original) -> None:
    """As the command line reads a data set: a refusal is its one line and exit code 2."""
    import sys

    from resnet_study.data.cifar10 import load_cifar10
    from resnet_study.errors import UserError

    try:
        content = load_cifar10(path, original=original)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    held = [digest(split.images, split.labels) for split in (content.train, content.test)]
    if content.source == "CIFAR-10" and tuple(held) != original.digests:
        print("accepted as CIFAR-10 with other pixels", file=sys.stderr)
        sys.exit(1)


def _listing(work: Path) -> set[str]:
    return {str(path) for path in work.rglob("*") if "cache" not in path.parts}


def _remove(path: Path) -> None:
    from resnet_study import files

    files.remove(path)
