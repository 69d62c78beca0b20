"""Fetch the official CIFAR-10 archive: resumable, checked, and in place only when whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_study.data.dataset import Progress
from resnet_study.errors import UserError

OFFICIAL_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE = "cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
"""Of the archive, as published beside it."""

_CHUNK = 1 << 18
_TIMEOUT = 30.0
"""Seconds without a byte after which the connection counts as broken."""
_BY_HAND = f"fetch {ARCHIVE} by other means and give it with --cifar10 PATH"


def download_cifar10(
    folder: Path,
    url: str = OFFICIAL_URL,
    progress: Progress | None = None,
    md5: str = MD5,
) -> Path:
    """Download the official Python archive unless it is there already.

    What was received before a broken connection stays in a ``.part`` file and is resumed by
    the next call, if the server can; if it cannot, the transfer starts afresh.

    Args:
        folder: where to put it; made if missing.
        url: the official one or a mirror of the same file.
        progress: called with bytes received and bytes in all (0 if the server does not say).
        md5: checksum that the file must have.

    Returns:
        Path of the archive.

    Raises:
        UserError: if the network, the server, the disk or the checksum fails.
    """
    target, part = folder / ARCHIVE, folder / f"{ARCHIVE}.part"
    try:
        if target.is_file() and md5_of(target) == md5:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        _receive(url, part, progress)
        found = md5_of(part)
        if found != md5:
            part.unlink()
            raise UserError(
                f"{url}: the download has MD5 {found} instead of {md5} and was removed; "
                f"run the command again, or {_BY_HAND}"
            )
        # Not `files.replacing`: what a broken connection leaves is where the next try goes on.
        os.replace(part, target)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); make room there, or "
            "choose another folder with the environment variable RESNET_STUDY_CACHE"
        ) from None
    return target


def md5_of(path: Path) -> str:
    """MD5 of a file in hexadecimal; it guards against damage, not against malice."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    """Append to `part` what it lacks. An OSError that leaves here comes from the disk."""
    received = part.stat().st_size if part.exists() else 0
    with _network_errors(url):
        request = urllib.request.Request(url)
        if received:
            request.add_header("Range", f"bytes={received}-")
        try:
            response = urllib.request.urlopen(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and received:
                return  # nothing is left to send; the checksum decides whether that is right
            raise
    with response, part.open("ab") as file:
        with _network_errors(url):
            received = _start_of(response, received)
            length = response.headers["Content-Length"]
            total = received + int(length) if length else 0
        file.truncate(received)
        while True:
            with _network_errors(url):
                chunk = response.read(_CHUNK)
            if not chunk:
                break
            file.write(chunk)
            received += len(chunk)
            if progress is not None:
                progress(received, total)
    if received < total:
        raise UserError(
            f"{url}: the connection broke after {received} of {total} bytes; "
            f"run the command again to resume, or {_BY_HAND}"
        )


def _start_of(response: http.client.HTTPResponse, asked: int) -> int:
    """Position in the file at which the response begins; a server may ignore a range."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    content_range = response.headers["Content-Range"] or ""
    match = re.match(r"bytes (\d+)-", content_range)
    if match is None or int(match[1]) != asked:
        raise ValueError(f"asked for bytes {asked}-, the server sends {content_range!r}")
    return asked


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """Turn what a connection can raise into one line; nothing in its body touches the disk."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise UserError(
            f"{url}: the server answers {error.code} {error.reason}; "
            f"check the address, or {_BY_HAND}"
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        raise UserError(
            f"{url}: the transfer failed ({reason or type(error).__name__}); "
            f"check the network and run the command again, or {_BY_HAND}"
        ) from None
