"""Reading a tar or zip archive in memory without trusting it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

MEMBER_BYTES = 256 << 20
"""Limit of one file in an archive; the largest official batch, CIFAR-100's, has 155 MB."""
ARCHIVE_BYTES = 1 << 30
"""Limit of an archive once decompressed; the official ones have below 200 MB."""
MEMBERS = 400_000
"""Limit of the number of files; CIFAR-10 as images has 60,000, Kaggle's has 350,000."""
XZ_BYTES = 128 << 20
"""Memory that decompressing xz may take, which the file chooses; ``xz -9`` chooses 65 MiB."""
ZIP_DIRECTORY_BYTES = 32 << 20
"""Limit of the list of files in a zip archive, which is read at once."""

_CHUNK = 1 << 18
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
"""Those whose memory the file cannot choose."""

Wanted = Callable[[PurePosixPath], bool]
Member = tuple[PurePosixPath, bytes | None]


class ArchiveError(Exception):
    """An archive is damaged, cut, none at all, or beyond the limits."""

    def __init__(self, kind: str, reason: object) -> None:
        super().__init__(f"is no whole {kind} archive ({reason})")


def is_archive(head: bytes) -> bool:
    """Whether the first 512 bytes of a file are those of an archive that `members` reads."""
    magics = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"PK\3\4", b"PK\5\6")
    return head.startswith(magics) or head[257:262] == b"ustar" or head == bytes(512)


def members(path: Path, wanted: Wanted = lambda _: True) -> Iterator[Member]:
    """Name and content of every regular file of an archive.

    It may be tar, plain or compressed by gzip, bzip2 or xz, or zip; its content decides, not
    its name. Nothing is written to disk. Links, devices and names that lead outside the
    archive are passed over. Whatever an archive claims, no more than the limits of this module
    is held in memory, and one that was cut or damaged ends in an error, not in fewer files.

    Args:
        path: the archive.
        wanted: whether the content of a file is needed.

    Yields:
        Files in the order of the archive; None in place of content that is not wanted.

    Raises:
        ArchiveError: if the archive is damaged, none at all, or beyond the limits.
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        if head.startswith(b"PK"):
            yield from _zip_members(file, wanted)
        else:
            yield from _tar_members(file, head, wanted)


def _tar_members(file: BinaryIO, head: bytes, wanted: Wanted) -> Iterator[Member]:
    stream = _Bounded(_decompressed(file, head))
    untyped: Any = stream
    try:
        with tarfile.open(fileobj=untyped, mode="r|") as tar:
            for count, member in enumerate(tar):
                _check_member(member.name, member.size, count)
                name = PurePosixPath(member.name)
                if not _is_inside(name) or member.issparse() or not member.isreg():
                    continue
                content = tar.extractfile(member) if wanted(name) else None
                yield name, content.read() if content is not None else None
            end = tar.offset
        while stream.read(1 << 20):
            pass  # to the end, where gzip holds its checksum
    except OSError as error:
        # What a decompressor says has no number, unlike what the system says of the file.
        if error.errno is not None:
            raise
        raise ArchiveError("tar", error) from None
    except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, ValueError) as error:
        raise ArchiveError("tar", str(error) or type(error).__name__) from None
    # The tarfile module by itself takes a damaged header for the end.
    if stream.position <= end or stream.data_end > end:
        raise ArchiveError("tar", f"it is damaged or ends early at byte {end}")


def _zip_members(file: BinaryIO, wanted: Wanted) -> Iterator[Member]:
    small: Any = _SmallReads(file)
    total = 0
    try:
        with zipfile.ZipFile(small) as archive:
            for count, member in enumerate(archive.infolist()):
                _check_member(member.filename, member.file_size, count)
                name = PurePosixPath(member.filename)
                if not _is_inside(name) or member.is_dir():
                    continue
                if not wanted(name):
                    yield name, None
                    continue
                if member.compress_type not in _ZIP_METHODS:
                    raise zipfile.BadZipFile(f"{name} is compressed in an unusual way")
                with archive.open(member) as stream:
                    content = stream.read(min(MEMBER_BYTES, ARCHIVE_BYTES - total) + 1)
                total += len(content)
                _check_total(total)
                yield name, content
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError),
        *(NotImplementedError, RuntimeError, tarfile.TarError),
    ) as error:
        raise ArchiveError("zip", str(error) or type(error).__name__) from None


def _check_member(name: str, size: int, count: int) -> None:
    if size > MEMBER_BYTES:
        raise tarfile.TarError(f"{name!r} is larger than {MEMBER_BYTES >> 20} MiB")
    if count >= MEMBERS:
        raise tarfile.TarError(f"it has more than {MEMBERS} files")


def _check_total(total: int) -> None:
    if total > ARCHIVE_BYTES:
        raise tarfile.TarError(f"it holds more than {ARCHIVE_BYTES >> 20} MiB")


def _is_inside(name: PurePosixPath) -> bool:
    return not name.is_absolute() and ".." not in name.parts


def _decompressed(file: BinaryIO, head: bytes) -> Any:
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return _Xz(file) if head.startswith(b"\xfd7zXZ") else file


class _Xz:
    """An xz stream; unlike `lzma.LZMAFile` it bounds the memory that the file asks for."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_BYTES)

    def read(self, size: int) -> bytes:
        while size > 0 and not self.decoder.eof:
            chunk = self.file.read(_CHUNK) if self.decoder.needs_input else b""
            if self.decoder.needs_input and not chunk:
                raise EOFError("the compressed file ends early")
            data = self.decoder.decompress(chunk, size)
            if data:
                return data
        return b""


class _SmallReads:
    """A file that is not read in large pieces: zipfile takes the size of its list on trust."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > ZIP_DIRECTORY_BYTES:
            data = self.file.read(ZIP_DIRECTORY_BYTES + 1)
            if len(data) > ZIP_DIRECTORY_BYTES:
                raise zipfile.BadZipFile("its list of files is too long")
            return data
        return self.file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class _Bounded:
    """A stream that ends in an error rather than in a full memory, and knows where it is."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.position = 0
        self.data_end = 0
        """Position behind the last byte so far that is not zero."""

    def read(self, size: int) -> bytes:
        # One byte beyond the limit is enough to know.
        chunk: bytes = self.stream.read(min(size, ARCHIVE_BYTES + 1 - self.position))
        data = chunk.rstrip(b"\0")
        if data:
            self.data_end = self.position + len(data)
        self.position += len(chunk)
        _check_total(self.position)
        return chunk
