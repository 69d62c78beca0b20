"""The files of a folder or an archive as one mapping, and which of several is the data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from resnet_study.data import archives, images
from resnet_study.data.originals import ORIGINALS, DataError, Original, other_than

Tree = dict[PurePosixPath, Path | bytes | None]
"""Every file under its path: where it lies, its content, or None if that is not needed."""

DEPTH = 6
"""Folders below the one that is given in which files are looked for."""
FOLDERS = 2_000
"""Folders that are looked into for a data set; an archive of class folders has below 250."""

JUNK = ("__MACOSX", "@eaDir", "lost+found", "Thumbs.db", "desktop.ini")
"""What systems leave beside files, beside all that begins with a dot."""
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
TABLES = ("trainLabels.csv", "testLabels.csv")
"""Kaggle's, and its like for test images."""

_BATCHES = frozenset(
    name + suffix
    for original in ORIGINALS.values()
    for batches in original.batches
    for name in batches
    for suffix in ("", ".bin")
)
_IMAGE_SUFFIXES = images.SUFFIXES


def is_junk(name: str) -> bool:
    """Whether a file or folder is no part of any data."""
    return name.startswith(".") or name in JUNK


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return name.lower().endswith(_IMAGE_SUFFIXES)


def is_parquet(path: PurePosixPath) -> bool:
    """Whether a file is a table of Hugging Face's."""
    return path.suffix == ".parquet"


def is_wanted(path: PurePosixPath) -> bool:
    """Whether the content of a file can be part of a data set."""
    known = path.name in _BATCHES or path.name in TABLES or is_parquet(path)
    return known or is_image(path.name)


def tree_of(source: Path) -> Tree:
    """All files of a folder or an archive but junk.

    Raises:
        DataError: if there are too many.
        archives.ArchiveError: if the archive is damaged or none.
        OSError: if something cannot be read.
    """
    if source.is_dir():
        return {PurePosixPath(name): Path(e.path) for name, e in files_in(source)}
    return {
        path: content
        for path, content in archives.members(source, lambda p: is_wanted(p) and not _hidden(p))
        if not _hidden(path)
    }


def files_in(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Relative name and entry of every file below a folder but junk, to the depth of `DEPTH`.

    Raises:
        DataError: if there are more than an archive may have.
        OSError: if a folder cannot be read.
    """
    waiting, count = [(str(folder), "", 0)], 0
    while waiting:
        place, prefix, depth = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if is_junk(entry.name):
                    continue
                if entry.is_dir():
                    if depth < DEPTH:
                        waiting.append((entry.path, f"{prefix}{entry.name}/", depth + 1))
                    continue
                count += 1
                if count > archives.MEMBERS:
                    raise DataError(folder, f"holds more than {archives.MEMBERS:,} files")
                if entry.is_file():
                    yield prefix + entry.name, entry


def find_in(folder: Path, original: Original) -> Path | None:
    """The data set in a folder: the folder itself, one below it, or an archive there.

    Folders are looked into level by level. On each, what publishers call the data set comes
    before what merely looks like one.

    Raises:
        DataError: if two below it could be meant.
        OSError: if the folder cannot be read.
    """
    level, left = [folder], FOLDERS
    for depth in range(DEPTH):
        known, alike, below = [], [], []
        for place in level[:left]:
            folders, files = _names(place)
            if looks_like(folders, files, original):
                alike.append(place)
                continue
            name = next((n for n in usual_names(original) if n in folders | files), None)
            known += [place / name] if name else []
            below += [place / name for name in sorted(folders)]
        found = known if known and depth else alike or known
        if len(found) > 1:
            shown = ", ".join(str(path.relative_to(folder)) for path in found[:3])
            raise DataError(folder, f"holds more than one set of images ({shown}); name one")
        if found:
            return found[0]
        level, left = below, left - len(level)
        if left <= 0:
            break
    return None


def nearest_in(folder: Path, original: Original) -> Path:
    """What to read, and to name in a message, where `find_in` finds nothing.

    Another data set, else the only archive, else the folder itself.

    Raises:
        DataError, OSError: as `find_in`.
    """
    for other in other_than(original):
        found = find_in(folder, other)
        if found is not None:
            return found
    packed = [name for name in sorted(_names(folder)[1]) if name.lower().endswith(ARCHIVES)]
    return folder / packed[0] if len(packed) == 1 else folder


def looks_like(folders: set[str], files: set[str], original: Original) -> bool:
    """Whether a folder with these folders and files in it holds a data set itself."""
    batches = [name for split in original.batches for name in split]
    for suffix in ("", ".bin"):
        here = [f"{name}{suffix}" in files for name in batches]
        if all(here) or (any(here) and original.label_bytes == 1):
            return True
    if folders & {"train", "test"}:
        return True
    return TABLES[0] in files or any(name.endswith(".parquet") for name in files)


def _names(folder: Path) -> tuple[set[str], set[str]]:
    folders: set[str] = set()
    files: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_junk(entry.name):
                    (folders if entry.is_dir() else files).add(entry.name)
    except OSError:
        if not folder.is_dir():
            raise
    return folders, files


def usual_names(original: Original) -> tuple[str, ...]:
    """Usual names of archives and folders: the official forms first, lossless images next."""
    stems = [name.removesuffix(".tar.gz") for name in original.archives]
    images = [f"{original.name}-{kind}" for kind in ("png", "images")]
    return (
        *original.archives,
        *original.folders,
        *(
            f"{stem}{suffix}"
            for stem in (*images, *stems, *original.folders)
            for suffix in ARCHIVES
        ),
        *images,
    )


def _hidden(path: PurePosixPath) -> bool:
    return any(is_junk(part) for part in path.parts)
