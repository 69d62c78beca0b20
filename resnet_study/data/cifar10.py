"""CIFAR-10 and CIFAR-100: found, read once, known by their content, and kept decoded.

What is read is, in this order: the path that is given; that of the environment variable
RESNET_STUDY_CIFAR10; the folder ``data`` where the command runs; the cache folder, where
``resnet-study data cifar10`` puts its download. Each may be an archive, a folder of any of
the `layouts`, or a folder that has one of them in it. A path serves both data sets: which one
it holds is seen by its content.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from resnet_study.data import archives, foreign, trees
from resnet_study.data.cache import ReadImages, cache_file, fingerprint_of, read_cache, write_cache
from resnet_study.data.dataset import Progress
from resnet_study.data.download import md5_of
from resnet_study.data.layouts import FoundImages, Request, read_layout
from resnet_study.data.originals import (
    CIFAR10,
    DataError,
    Original,
    check_counts,
    counts_of,
    digest_of,
    label_of,
)
from resnet_study.errors import UserError
from resnet_study.files import irregular
from resnet_study.runtime import cache_folder

PATH_VARIABLE = "RESNET_STUDY_CIFAR10"


def load_cifar10(
    path: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    original: Original = CIFAR10,
    subset: bool = False,
) -> ReadImages:
    """Training and test images, from the decoded cache where there is one.

    A cached copy counts only while the source has the same path, size and time of change;
    a damaged one is replaced. Where the cache cannot be written, the data are decoded
    every time.

    Args:
        path: see the module; None looks for the data.
        cache: folder for the decoded images; see `cache_folder`.
        progress: called with images decoded and images in all; not when the cache serves.
        original: the data set.
        subset: fewer images than the data set has are welcome.

    Returns:
        Training images, test images, the label of the source and the digests.

    Raises:
        UserError: if there are no data, or none that can be trusted, or too few; one line
            that names the file and the ways to provide them.
    """
    source = find_cifar10(path, cache, original)
    try:
        if not source.is_dir() and (reason := irregular(source)):
            raise DataError(source, f"cannot be read ({reason})")
        foreign.check_folder(source)
        fingerprint = fingerprint_of(source, original)
        file = cache_file(cache_folder(cache), source, original)
        content = read_cache(file, fingerprint)
        if content is None:
            content = _read(source, original, subset, progress)
            write_cache(file, fingerprint, content)
        else:
            counts = [counts_of(original, split.labels) for split in content[:2]]
            check_counts(source, original, counts, subset)
        return content
    except DataError as error:
        raise _with_help(str(error), original) from None
    except archives.ArchiveError as error:
        named = source.name in original.archives
        note = _checksum_note(source, original) if named else ""
        raise problem(source, f"{error}{note}", original) from None
    except OSError as error:
        raise problem(source, f"cannot be read ({error.strerror or error})", original) from None


def is_available(cache: Path | None = None, original: Original = CIFAR10) -> bool:
    """Whether a path is named by the environment or the data lie in one of the usual places."""
    if os.environ.get(PATH_VARIABLE):
        return True
    return any(_find(place, original) for place in (Path("data"), cache_folder(cache)))


def find_cifar10(
    path: Path | None = None, cache: Path | None = None, original: Original = CIFAR10
) -> Path:
    """The archive or folder to read, by the order in the module's description.

    Raises:
        UserError: if a path that is given does not exist or holds several data sets, or if
            nothing is given and nothing is found.
    """
    variable = os.environ.get(PATH_VARIABLE)
    named = path or (Path(variable) if variable else None)
    places = (Path("data"), cache_folder(cache))
    if named is not None:
        named = named.expanduser()
        label = named if path else f"{PATH_VARIABLE}={named}"
        if not named.exists():
            raise problem(label, "no such file or folder", original)
        return _find(named, original, nearest=True) or named
    for place in places:
        found = _find(place, original)
        if found is not None:
            return found
    raise problem(original.name, f"not found in {' or '.join(map(str, places))}", original)


def problem(where: PurePath | str, what: str, original: Original = CIFAR10) -> UserError:
    """The one line for data that are missing, damaged or something else."""
    return _with_help(str(DataError(where, what)), original)


def _with_help(line: str, original: Original) -> UserError:
    ways = f"give {original.title} with --cifar10 PATH or the environment variable {PATH_VARIABLE}"
    if original.name == CIFAR10.name:
        ways += ", or download it with `resnet-study data cifar10`"
    else:
        ways += f": the official {original.archives[0]}, or another form of docs/data.md"
    return UserError(f"{line}; {ways}")


def _find(place: Path, original: Original, nearest: bool = False) -> Path | None:
    try:
        if not place.is_dir():
            return place if place.exists() else None
        found = trees.find_in(place, original)
        return trees.nearest_in(place, original) if found is None and nearest else found
    except DataError as error:
        raise _with_help(str(error), original) from None
    except OSError as error:
        raise problem(place, f"cannot be read ({error.strerror or error})", original) from None


def _read(source: Path, original: Original, subset: bool, progress: Progress | None) -> ReadImages:
    if source.is_file():
        with source.open("rb") as file:
            known = archives.is_archive(file.read(512))
        what = None if known else foreign.describe_file(source)
        if what is not None:
            raise DataError(source, what)
    images = read_layout(Request(source, trees.tree_of(source), original, subset, progress))
    digests = digest_of(images.train), digest_of(images.test)
    verified = images.verified or _is_trusted(source, original, images, digests)
    found = len(images.train), len(images.test)
    label = label_of(original, images.form, found, digests, verified)
    return ReadImages(images.train, images.test, label, digests)


def _is_trusted(
    source: Path, original: Original, images: FoundImages, digests: tuple[str, str]
) -> bool:
    """Whether an archive of batches has a published checksum in place of known content.

    Raises:
        DataError: if it says it is all of the official batches and holds something else.
    """
    whole = (len(images.train), len(images.test)) == original.sizes
    batches = images.form.endswith("batches")
    if source.is_dir() or not batches or not whole or digests == original.digests:
        return False
    if md5_of(source) in original.archive_md5:
        return True
    if original.digests is not None:
        what = f"does not hold the pixels and labels of {original.title}"
        raise DataError(source, what + _checksum_note(source, original))
    return False


def _checksum_note(source: Path, original: Original) -> str:
    """What the checksum says of an archive that is not the official one any more."""
    published = dict(zip(original.archives, original.archive_md5, strict=True))
    due = published.get(source.name) or " or ".join(original.archive_md5)
    return f"; it has MD5 {md5_of(source)} instead of {due}, so it was cut or changed; remove it"
