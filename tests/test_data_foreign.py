"""What is no CIFAR is said to be what it is, in one line."""

import os
from pathlib import Path

import pytest
from cifar_files import (
    write_folder,
)
from cifar_loaded import FILES, pack, refusal

from resnet_study.data import archives

pytestmark = pytest.mark.usefixtures("nothing_from_outside")


FOREIGN_FILES = [
    ("train_32x32.mat", b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(500), "is SVHN"),
    ("notes.txt", b"hello " * 100, "is a text file"),
    ("x.tar.gz", b"<!DOCTYPE html><html>403 Forbidden</html>", "is a web page"),
    ("empty.zip", b"", "is an empty file"),
    ("x.zip", b"PK\3\4" + bytes(100), "is no whole zip archive"),
    ("x.7z", b"7z\xbc\xaf\x27\x1c" + bytes(50), "is a 7z archive"),
    ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(50), "is an HDF5 file"),
    ("cat.png", b"\x89PNG\r\n\x1a\n" + bytes(50), "is a single image"),
    ("data_batch_1", b"\x80\x02}q\1.", "is a single pickle; give the folder"),
    ("data_batch_1.bin", b"\3" + bytes(3072), "is a single file; give the folder"),
    ("train-0.parquet", b"PAR1" + bytes(50), "is one parquet file; give the folder"),
    ("noise", bytes(range(256)) * 8, "is no whole tar archive"),
]


@pytest.mark.parametrize(("name", "content", "what"), FOREIGN_FILES)
def test_foreign_files(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert message.startswith(f"{tmp_path / name}: {what}")


FOREIGN_FOLDERS = [
    ({}, "holds no files"),
    ({"a/.DS_Store": b"x"}, "holds no files"),
    ({"train_32x32.mat": b"x", "test_32x32.mat": b"x"}, "is SVHN"),
    ({"cifar-10-batches-mat/data_batch_1.mat": b"x"}, "is CIFAR-10 as MATLAB files"),
    ({"train/n01440764/a.JPEG": b"x", "val/n01440764/b.JPEG": b"x"}, "looks like ImageNet"),
    ({"n01440764/a.JPEG": b"x"}, "looks like ImageNet"),
    ({"train-images-idx3-ubyte.gz": b"x"}, "is MNIST"),
    ({"train_X.bin": b"x", "test_X.bin": b"x"}, "is STL-10"),
    ({"train.7z": b"x", "test.7z": b"x"}, "holds archives (test.7z, train.7z)"),
    ({"train/0/a.png": b"x", "test/0/a.png": b"x"}, "names its classes by numbers"),
    ({"cat/a.png": b"x"}, "holds images, but not in train/<class>/"),
    ({"notes.txt": b"x"}, "holds neither official batches nor train/<class>/*.png"),
]


@pytest.mark.parametrize(("files", "what"), FOREIGN_FOLDERS)
def test_foreign_folders(tmp_path: Path, files: dict[str, bytes], what: str) -> None:
    (tmp_path / "given").mkdir()
    assert what in refusal(write_folder(tmp_path / "given", files))
    if files:
        assert what in refusal(pack(tmp_path / "a.zip", files))


def test_imagenet_is_named_before_its_million_files_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MEMBERS", 5)
    files = {f"{s}/n0144{c:04}/{c}.JPEG": b"x" for s in ("train", "test") for c in range(9)}
    assert "looks like ImageNet" in refusal(write_folder(tmp_path / "net", files))
    assert "holds more than 5 files" in refusal(write_folder(tmp_path / "images", FILES))


def test_unreadable_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    folder = write_folder(tmp_path / "images", FILES)
    monkeypatch.setattr(os, "scandir", denied)
    assert "cannot be read (Permission denied)" in refusal(folder)


@pytest.mark.parametrize(("kind", "what"), [("pipe", "is a pipe"), ("device", "is a device")])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str, what: str) -> None:
    path = tmp_path / "cifar.tar"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert f"cifar.tar: cannot be read ({what} and no file)" in refusal(path)


def test_pipes_and_devices_among_images_are_no_images(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "given", FILES)
    one, two = sorted(folder.rglob("*.png"))[:2]
    one.unlink()
    os.mkfifo(one)
    two.unlink()
    two.symlink_to("/dev/zero")
    assert "test/ lacks images of airplane (0 of 2 each)" in refusal(folder)
