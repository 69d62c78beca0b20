"""Files replaced in one step, and read with a line that names them if they cannot be."""

from __future__ import annotations

import glob
import json
import math
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from resnet_study.errors import UserError, shown

DRAFT_SECONDS = 60.0
"""Age from which a draft is what a kill left, and not what another process is writing."""

TEXT_BYTES = 16 << 20
"""Most bytes of a text of ours; those of runs have some thousand."""

_NESTED = 32
_MEND = "restore or remove it"

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
    """A file to write to that takes the place of another when all of it is on the disk.

    What kills left of earlier writes goes; a younger draft may be one of another process.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            old = os.fstat(handle).st_mtime - DRAFT_SECONDS
            clear_drafts(path.parent, [glob.escape(path.name)], before=old)
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


def clear_drafts(folder: Path, names: Iterable[str], before: float = math.inf) -> None:
    """Remove what kills left of files that were to take these names.

    Args:
        folder: where they lie.
        names: patterns of the names.
        before: they were last written to, by the clock of the file system, which no other
            machine's need agree with; by default whenever.
    """
    for name in names:
        for draft in folder.glob(f".{name}.*"):
            with suppress(FileNotFoundError):
                if draft.lstat().st_mtime < before:
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
    """The same for strict JSON, which has no numbers that are not finite: they become null.

    A named tuple becomes its fields, a number of NumPy one of Python.
    """
    if hasattr(value, "_asdict"):
        return strict(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): strict(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    if getattr(value, "shape", None) == ():
        plain = value.item()  # of a long double itself
        return strict(plain if type(plain) is not type(value) else float(value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON atomically; non-finite numbers become null."""
    write_atomically(path, json.dumps(strict(content), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of one of our files; empty if there is none.

    Raises:
        UserError: if it holds anything else.
    """
    if not path.exists() and not path.is_symlink():
        return {}
    return json_object(read_text(path), str(path))


def json_object(text: str, where: str) -> dict[str, Any]:
    """Parse what must be a JSON object.

    Raises:
        UserError: if it is none, or one that no file of ours holds: nested without end, or with
            text that cannot be written again.
    """
    try:
        content = json.loads(text)
        if max(text.count("{"), text.count("[")) > _NESTED and _deeper(content, _NESTED):
            raise ValueError(f"nested more than {_NESTED} times")
        if "\\u" in text:
            json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair
    except RecursionError:
        raise UserError(f"{where}: not valid JSON (nested too deep); {_MEND}") from None
    except ValueError as error:
        reason = shown(" ".join(str(error).split()))
        raise UserError(f"{where}: not valid JSON ({reason}); {_MEND}") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise UserError(f"{where}: needed is a JSON object, not {kind}; {_MEND}")
    return content


def read_text(path: Path) -> str:
    """The text of one of our small files.

    Raises:
        UserError: if it is no text, or cannot be read.
    """
    try:
        return read_bytes(path, TEXT_BYTES).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read ({error}); {_MEND}") from None


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file.

    A pipe that nobody writes to would be waited for, and a device read without end.

    Raises:
        UserError: if there is no such file, it has more bytes than that, or it cannot be read.
    """
    check_regular(path)
    if (size := path.stat().st_size) > most:
        raise UserError(f"{path}: has {size:,} bytes, more than {most:,}; {_MEND}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_MEND}") from None


def check_regular(path: Path) -> None:
    """Refuse to open what is no file.

    Raises:
        UserError: saying what it is.
    """
    if reason := irregular(path):
        raise UserError(f"{path}: cannot be read ({reason}); {_MEND}")


def irregular(path: Path) -> str | None:
    """Why a path is no file: a folder, a pipe, a device, or a link to one or to nothing."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return error.strerror
    if stat.S_ISREG(mode):
        return None
    kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))
    return f"is a {next((name for is_kind, name in kinds if is_kind(mode)), 'device')} and no file"


def _deeper(content: Any, levels: int) -> bool:
    """Whether lists and objects lie within each other more than so many times."""
    at = [content]
    for _ in range(levels):
        at = [
            inner
            for value in at
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return any(isinstance(value, dict | list) for value in at)
