"""CIFAR-10 in damaged and hostile archives."""

import gzip
import tarfile
from pathlib import Path

import pytest
from cifar_files import (
    image_files,
    original_of_images,
    write_tar,
)
from cifar_loaded import SMALL
from cifar_loaded import whole_refusal as refusal
from PIL import Image

from resnet_study.data import archives
from resnet_study.data.cifar10 import cache_folder, load_cifar10

pytestmark = pytest.mark.usefixtures("nothing_from_outside")


def test_links_and_names_that_lead_outside_are_passed_over(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (32, 32), "red").save(secret)
    extra = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        link = tarfile.TarInfo("train/cat/9999.png")
        link.type, link.linkname = kind, str(secret)
        extra.append(link)
    outside = {"../train/cat/9.png": b"x", "/train/cat/9.png": b"x", "a/../train/cat/9.png": b"x"}
    archive = write_tar(tmp_path / "a.tar.gz", {**image_files(), **outside}, *extra)
    before = sorted(tmp_path.rglob("*"))
    assert load_cifar10(archive, original=SMALL).source == "CIFAR-10"
    assert set(tmp_path.rglob("*")) - set(before) == {cache_folder(), *cache_folder().iterdir()}


def test_decompression_bombs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBER_BYTES", 1 << 20)
    monkeypatch.setattr(archives, "ARCHIVE_BYTES", 3 << 20)
    large = write_tar(tmp_path / "large.tar.gz", {"train/cat/0.png": bytes((1 << 20) + 1)})
    assert "'train/cat/0.png' is larger than 1 MiB" in refusal(large)
    many = {f"train/cat/{i}.png": bytes(1 << 20) for i in range(3)}
    assert "more than 3 MiB" in refusal(write_tar(tmp_path / "many.tar.gz", many))
    # An extended header is read by tarfile itself, before there is a file to look at.
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 8 << 20
    (tmp_path / "name.tar.gz").write_bytes(gzip.compress(header.tobuf() + b"a" * header.size))
    assert "more than 3 MiB" in refusal(tmp_path / "name.tar.gz")
    zeros = gzip.compress(bytes(10240) + bytes(8 << 20))
    (tmp_path / "zeros.tar.gz").write_bytes(zeros)
    assert "more than 3 MiB" in refusal(tmp_path / "zeros.tar.gz")
    monkeypatch.setattr(archives, "MEMBERS", 5)
    assert "more than 5 files" in refusal(write_tar(tmp_path / "files.tar", image_files()))


@pytest.mark.parametrize("packed", [".tar", ".tar.gz"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.98])
def test_cut_archive_of_images(tmp_path: Path, packed: str, part: float) -> None:
    archive = write_tar(tmp_path / f"a{packed}", image_files(per_class=3))
    content = archive.read_bytes().rstrip(b"\0")
    archive.write_bytes(content[: int(len(content) * part)])
    expected = "is no whole tar archive" if part else "is an empty file"
    assert expected in refusal(archive, original_of_images(3))


def test_archive_cut_between_two_files(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files(per_class=3))
    with tarfile.open(archive) as tar:
        last = tar.getmembers()[-1]
    archive.write_bytes(archive.read_bytes()[: last.offset])
    assert "is no whole tar archive (it is damaged or ends early" in refusal(archive)


@pytest.mark.parametrize("position", [5, 20, -1])
def test_damaged_header_is_not_taken_for_the_end(tmp_path: Path, position: int) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files(per_class=3))
    with tarfile.open(archive) as tar:
        start = tar.getmembers()[position].offset
    content = bytearray(archive.read_bytes())
    content[start + 10] ^= 0xFF
    archive.write_bytes(content)
    assert "is no whole tar archive" in refusal(archive)


def test_flipped_bit_in_a_gzipped_archive(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar.gz", image_files())
    content = bytearray(archive.read_bytes())
    content[-6] ^= 1  # of the checksum at the end
    archive.write_bytes(content)
    assert "CRC check failed" in refusal(archive)


def test_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 1000)
    assert "text: is a text file" in refusal(tmp_path / "text")
    (tmp_path / "empty").touch()
    assert "empty: is an empty file" in refusal(tmp_path / "empty")
    with tarfile.open(tmp_path / "none.tar", "w"):
        pass
    assert "none.tar: holds no files" in refusal(tmp_path / "none.tar")
