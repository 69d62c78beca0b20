"""The download of CIFAR-10."""

import hashlib
import http.server
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from resnet_study.data.download import ARCHIVE, MD5, download_cifar10
from resnet_study.errors import UserError

pytestmark = pytest.mark.usefixtures("nothing_from_outside")


CONTENT = np.random.default_rng(1).bytes(1_000_000)
CONTENT_MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; keeps the Range of every request."""

    ranges: list[str | None]
    honours_range: bool
    breaks_after: int | None
    content: bytes


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.ranges.append(wanted)
        if self.path != "/archive":
            self.send_error(404)
            return
        start = 0
        if wanted and server.honours_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start:][: server.breaks_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.ranges, server.honours_range, server.breaks_after = [], True, None
    server.content = CONTENT
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url_of(server: Server, path: str = "/archive") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def failure(folder: Path, url: str) -> str:
    with pytest.raises(UserError) as error:
        download_cifar10(folder, url, md5=CONTENT_MD5)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_download(tmp_path: Path, server: Server) -> None:
    calls: list[tuple[int, int]] = []
    folder = tmp_path / "new" / "folder"
    path = download_cifar10(folder, url_of(server), lambda *c: calls.append(c), CONTENT_MD5)
    assert path == folder / ARCHIVE
    assert path.read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == [ARCHIVE]
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [c[0] for c in calls] == sorted(c[0] for c in calls)
    # What is there and whole is not fetched again; what is damaged is.
    download_cifar10(folder, url_of(server), md5=CONTENT_MD5)
    assert server.ranges == [None]
    path.write_bytes(CONTENT[:-1])
    download_cifar10(folder, url_of(server), md5=CONTENT_MD5)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("honours_range", [True, False])
def test_broken_download_is_resumed(tmp_path: Path, server: Server, honours_range: bool) -> None:
    server.honours_range, server.breaks_after = honours_range, 300_000
    message = failure(tmp_path, url_of(server))
    assert "broke after 300000 of 1000000 bytes; run the command again to resume" in message
    assert not (tmp_path / ARCHIVE).exists()
    server.breaks_after = None
    calls: list[tuple[int, int]] = []
    path = download_cifar10(tmp_path, url_of(server), lambda *c: calls.append(c), CONTENT_MD5)
    assert server.ranges == [None, "bytes=300000-"]
    assert path.read_bytes() == CONTENT
    assert (calls[0][0] > 300_000) == honours_range
    assert calls[-1] == (len(CONTENT), len(CONTENT))


def test_complete_part_is_used(tmp_path: Path, server: Server) -> None:
    (tmp_path / f"{ARCHIVE}.part").write_bytes(CONTENT)
    assert download_cifar10(tmp_path, url_of(server), md5=CONTENT_MD5).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000000-"]


def test_wrong_checksum(tmp_path: Path, server: Server) -> None:
    server.content = CONTENT[::-1]
    message = failure(tmp_path, url_of(server))
    assert hashlib.md5(server.content).hexdigest() in message
    assert CONTENT_MD5 in message
    server.content = CONTENT
    # The wrong bytes do not stay to spoil the next attempt.
    assert download_cifar10(tmp_path, url_of(server), md5=CONTENT_MD5).read_bytes() == CONTENT


def test_part_of_another_file_is_removed(tmp_path: Path, server: Server) -> None:
    (tmp_path / f"{ARCHIVE}.part").write_bytes(b"x" * 500)
    assert "MD5" in failure(tmp_path, url_of(server))
    assert download_cifar10(tmp_path, url_of(server), md5=CONTENT_MD5).read_bytes() == CONTENT


def test_download_failures_are_one_line(tmp_path: Path, server: Server) -> None:
    assert "the server answers 404" in failure(tmp_path, url_of(server, "/other"))
    (tmp_path / "file").touch()
    assert "cannot be written" in failure(tmp_path / "file", url_of(server))
    assert "RESNET_STUDY_CACHE" in failure(tmp_path / "file" / "below", url_of(server))
    assert "transfer failed" in failure(tmp_path, "http://127.0.0.1:1/closed")
    assert "transfer failed" in failure(tmp_path, "no address")


def test_disk_that_takes_no_more(tmp_path: Path, server: Server) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        message = failure(tmp_path, url_of(server))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be written (File too large); make room" in message
    # What fitted is kept and resumed.
    assert download_cifar10(tmp_path, url_of(server), md5=CONTENT_MD5).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


def test_default_checksum_refuses_anything_else(tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match=f"instead of {MD5}"):
        download_cifar10(tmp_path, url_of(server))
