"""Files replaced in one step, and read with a line that names them if they cannot be."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from resnet_study.errors import UserError

_ASIDE = re.compile(r"\.(.+)\.[0-9a-f]{32}")
"""What `replace_folder` calls the old folder until the new one is in its place."""


def expanded(path: Path) -> Path:
    """With ``~`` at its beginning as the home folder, which a shell leaves in ``--flag=~/data``
    and nothing fills in that starts a command without one; an unknown user stays."""
    return Path(os.path.expanduser(path))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of another when all of it is on the disk."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; records are shared like any other file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        # A full disk names no file.
        raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def clear_drafts(folder: Path, names: Iterable[str], older_than: float = 0.0) -> None:
    """Remove what kills left of files that were to take these names.

    Args:
        folder: where they lie.
        names: patterns of the names.
        older_than: seconds since they were last written to, where another process may be writing.
    """
    for name in names:
        for draft in folder.glob(f".{name}.*"):
            with suppress(FileNotFoundError):
                if time.time() - draft.lstat().st_mtime >= older_than:
                    remove(draft)


def replace_folder(fresh: Path, target: Path) -> None:
    """Put a folder in the place of another, which is then removed.

    A kill leaves the one or the other under the name, or the old one beside it under a name that
    begins with a dot, from which `restore_folders` brings it back. Where a link was, the link alone
    is removed.
    """
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    there = target.is_symlink() or target.exists()
    if there:
        target.rename(aside)
    fresh.rename(target)
    if there:
        remove(aside)


def restore_folders(parent: Path) -> None:
    """End what a kill in `replace_folder` left: where nothing took the place of the old folder it
    is put back, else it is removed."""
    for target, aside in _left_aside(parent):
        if os.path.lexists(target):
            remove(aside)
        else:
            # Another process may be faster.
            with suppress(FileNotFoundError):
                aside.rename(target)


def missing_folders(parent: Path) -> dict[str, str]:
    """Folders that a kill in `replace_folder` left under another name, and a line on each."""
    return {
        target.name: f"{target}: is missing since a command that replaced it was killed; give that "
        f"command again, or rename {aside.name} to {target.name}"
        for target, aside in _left_aside(parent)
        if not os.path.lexists(target)
    }


def refuse_missing(parent: Path) -> None:
    """Refuse to read a folder without those that a kill left under another name.

    Raises:
        UserError: naming one.
    """
    for line in missing_folders(parent).values():
        raise UserError(line)


def _left_aside(parent: Path) -> list[tuple[Path, Path]]:
    """Names of folders and what a kill left of them."""
    there = parent.iterdir() if parent.is_dir() else ()
    found = ((_ASIDE.fullmatch(path.name), path) for path in there)
    return [(parent / name[1], path) for name, path in found if name and path.is_dir()]


def remove(path: Path) -> None:
    """Remove a file or folder; of a link nothing but the link."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def folders_below(*tops: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder at or below some paths, with the names of its files, through links.

    A folder that is reached twice, as through a loop of links, comes once; hidden ones, in which
    something is being made or was left by a kill, and checkpoints are left out.

    Raises:
        OSError: if a folder cannot be read.
        UserError: if a kill left one aside.
    """

    def refuse(error: OSError) -> None:
        raise error

    seen = set()
    for top in tops:
        for name, folders, names in os.walk(top, onerror=refuse, followlinks=True):
            state = os.stat(name)
            if (place := (state.st_dev, state.st_ino)) in seen:
                folders.clear()
                continue
            seen.add(place)
            if any(map(_ASIDE.fullmatch, folders)):
                refuse_missing(Path(name))
            folders[:] = sorted(f for f in folders if f[0] != "." and f != "checkpoints")
            yield Path(name), names


def strict(value: Any) -> Any:
    """The same for strict JSON, which has no numbers that are not finite: they become null."""
    if isinstance(value, Mapping):
        return {k: strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [strict(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON atomically; non-finite numbers become null."""
    write_atomically(path, json.dumps(strict(content), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none.

    Raises:
        UserError: if it cannot be read, or holds something else.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); restore or remove it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; restore or remove it")
    return content


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore or remove it") from None
