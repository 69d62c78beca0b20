"""Reading a tar archive in memory without trusting it."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

MEMBER_BYTES = 64 << 20
"""Limit of one file in an archive; the largest in an official CIFAR-10 archive has 31 MB."""
ARCHIVE_BYTES = 1 << 30
"""Limit of an archive once decompressed; the official ones have below 200 MB."""
MEMBERS = 200_000
"""Limit of the number of files; CIFAR-10 as images has 60,000."""


def members(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Name and content of every regular file of a tar archive, gzipped or not.

    Nothing is written to disk. Links, devices and names that lead outside the archive are
    passed over. Whatever an archive claims, no more than the limits of this module is held
    in memory, and one that was cut or damaged ends in an error, not in fewer files: the
    tarfile module by itself takes a damaged header for the end.

    Args:
        path: the archive.

    Yields:
        Files in the order of the archive.

    Raises:
        tarfile.TarError: if the archive is damaged, no tar archive, or beyond the limits.
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = _Bounded(gzip.GzipFile(fileobj=file) if gzipped else file)
        untyped: Any = stream
        try:
            with tarfile.open(fileobj=untyped, mode="r|") as tar:
                for count, member in enumerate(tar):
                    if member.size > MEMBER_BYTES:
                        limit = f"{MEMBER_BYTES >> 20} MiB"
                        raise tarfile.TarError(f"{member.name!r} is larger than {limit}")
                    if count >= MEMBERS:
                        raise tarfile.TarError(f"it has more than {MEMBERS} files")
                    name = PurePosixPath(member.name)
                    if name.is_absolute() or ".." in name.parts or member.issparse():
                        continue
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is not None:
                        yield name, content.read()
                end = tar.offset
            while stream.read(1 << 20):
                pass  # to the end, where gzip holds its checksum
        except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
            raise tarfile.TarError(str(error) or type(error).__name__) from None
        if stream.position <= end or stream.data_end > end:
            raise tarfile.TarError(f"it is damaged or ends early at byte {end}")


class _Bounded:
    """A stream that ends in an error rather than in a full memory, and knows where it is."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile) -> None:
        self.stream = stream
        self.position = 0
        self.data_end = 0
        """Position behind the last byte so far that is not zero."""

    def read(self, size: int) -> bytes:
        # One byte beyond the limit is enough to know.
        chunk = self.stream.read(min(size, ARCHIVE_BYTES + 1 - self.position))
        data = chunk.rstrip(b"\0")
        if data:
            self.data_end = self.position + len(data)
        self.position += len(chunk)
        if self.position > ARCHIVE_BYTES:
            raise tarfile.TarError(f"it holds more than {ARCHIVE_BYTES >> 20} MiB")
        return chunk
