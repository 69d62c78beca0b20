"""CIFAR in every container and some folders down, and in hostile ones."""

import gzip
import tarfile
import zipfile
from pathlib import Path

import pytest
from cifar_files import (
    PYTHON,
    binary_files,
    expect_batches,
    image_files,
    python_files,
    small_batches,
    write_folder,
    write_tar,
)
from cifar_loaded import FILES, SMALL, SMALL_BATCHES, at, load, pack, refusal

from resnet_study.data import archives

pytestmark = pytest.mark.usefixtures("nothing_from_outside")

CONTAINERS = [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip"]


# --- containers -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("kind", ["images", "python", "binary"])
def test_repacked_archives_are_known_by_their_content(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    files = {"images": FILES, "python": python_files(small_batches())}.get(kind)
    files = files or binary_files(small_batches())
    original = SMALL if kind == "images" else SMALL_BATCHES
    # The name says nothing: a browser may have unpacked the gzip layer and kept it.
    for name in (f"any{suffix}", "cifar-10-python.tar.gz"):
        path = pack(tmp_path / f"packed{suffix}", files).rename(tmp_path / name)
        assert load(path, original).source == "CIFAR-10"


def test_junk_beside_the_classes(tmp_path: Path) -> None:
    png = FILES["train/cat/0000.png"]
    junk = {
        "train/.ipynb_checkpoints/0000-checkpoint.png": png,
        "train/cat/.ipynb_checkpoints/0000-checkpoint.png": png,
        "train/.DS_Store": b"x",
        ".DS_Store": b"x",
        "train/cat/Thumbs.db": b"x",
        "train/cat/._0000.png": b"x",
        "__MACOSX/train/cat/._0000.png": b"x",
        "__MACOSX/train/cat/0000.png": png,
        "readme.txt": b"x",
    }
    for where in (
        write_folder(tmp_path / "images", FILES | junk),
        write_tar(tmp_path / "a.tar", at("cifar10", FILES) | junk),
        pack(tmp_path / "a.zip", FILES | junk),
    ):
        assert load(where).source == "CIFAR-10"


@pytest.mark.parametrize("root", ["cifar10", "a/b/c"])
def test_images_some_folders_down(tmp_path: Path, root: str) -> None:
    write_folder(tmp_path / "given", at(root, FILES))
    assert load(tmp_path / "given").source == "CIFAR-10"
    assert load(write_tar(tmp_path / "a.tar", at(root, FILES))).source == "CIFAR-10"


def test_two_sets_below_a_folder_are_not_guessed_at(tmp_path: Path) -> None:
    write_folder(tmp_path / "given", at("a", FILES) | at("b", FILES))
    assert "holds more than one set of images (a, b); name one" in refusal(tmp_path / "given")


@pytest.mark.parametrize(
    "root",
    [
        f"{PYTHON}/{PYTHON}",
        f"datasets/{PYTHON}-target/{PYTHON}",  # Keras
        f"root/{PYTHON}",  # torchvision
    ],
)
def test_batches_some_folders_down(tmp_path: Path, root: str) -> None:
    files = {f"{root}/{Path(n).name}": c for n, c in python_files(small_batches()).items()}
    write_folder(tmp_path, files)
    given = tmp_path / root.split("/")[0]
    for path in (given, tmp_path / root, write_tar(tmp_path / "a.tar", files)):
        found = load(path, SMALL_BATCHES)
        expect_batches(found.train, found.test, small_batches())
        assert found.source == "CIFAR-10"


def test_folder_of_torchvision_with_its_archive(tmp_path: Path) -> None:
    files = python_files(small_batches())
    root = write_folder(tmp_path / "root", files)
    write_tar(root / "cifar-10-python.tar.gz", files)
    assert load(root, SMALL_BATCHES).source == "CIFAR-10"


def test_lossless_images_come_before_others(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "given", {})
    folder.mkdir()
    write_tar(folder / "cifar10-images.tar.gz", image_files(".jpg"))
    write_tar(folder / "cifar10-png.tar.gz", FILES)
    assert load(folder).source == "CIFAR-10"


def test_the_only_archive_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    pack(tmp_path / "given" / "my images.zip", FILES)
    assert load(tmp_path / "given").source == "CIFAR-10"


# --- hostile archives -------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tar.bz2", ".tar.xz", ".zip"])
def test_bombs_in_other_containers(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MEMBER_BYTES", 1 << 20)
    monkeypatch.setattr(archives, "ARCHIVE_BYTES", 3 << 20)
    large = pack(tmp_path / f"large{suffix}", {"train/cat/0.png": bytes((1 << 20) + 1)})
    assert "'train/cat/0.png' is larger than 1 MiB" in refusal(large)
    many = {f"train/cat/{i}.png": bytes(1 << 20) for i in range(4)}
    assert "more than 3 MiB" in refusal(pack(tmp_path / f"many{suffix}", many))
    monkeypatch.setattr(archives, "MEMBERS", 5)
    assert "more than 5 files" in refusal(pack(tmp_path / f"files{suffix}", FILES))


def test_zip_that_lies_about_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "a.zip", {"train/cat/0.png": bytes(5 << 20)})
    content = path.read_bytes()
    path.write_bytes(content.replace((5 << 20).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    assert "is no" in refusal(path)
    monkeypatch.setattr(archives, "ZIP_DIRECTORY_BYTES", 100)
    assert "its list of files is too long" in refusal(pack(tmp_path / "b.zip", FILES))


def test_xz_that_asks_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "XZ_BYTES", 1 << 20)
    path = write_tar(tmp_path / "a.tar.xz", FILES)
    assert "is no whole tar archive (Memory usage limit" in refusal(path)


@pytest.mark.parametrize("suffix", [".tar.bz2", ".tar.xz", ".zip"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.97])
def test_cut_archives(tmp_path: Path, suffix: str, part: float) -> None:
    path = pack(tmp_path / f"a{suffix}", FILES)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "archive (" in refusal(path)


def test_flipped_bits_in_a_zip(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", FILES)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = archive.infolist()[3]
    content[member.header_offset + 30 + len(member.filename) + 20] ^= 0xFF
    path.write_bytes(content)
    assert "is no whole zip archive" in refusal(path)


def test_names_in_a_zip_that_lead_outside(tmp_path: Path) -> None:
    outside = {"../train/cat/9.png": b"x", "/train/cat/9.png": b"x", "a/../train/cat/9.png": b"x"}
    assert load(pack(tmp_path / "a.zip", FILES | outside)).source == "CIFAR-10"


def test_gzip_under_another_name(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", FILES)
    (tmp_path / "b.tar").write_bytes(gzip.compress(path.read_bytes()))
    assert load(tmp_path / "b.tar").source == "CIFAR-10"
    assert tarfile.is_tarfile(tmp_path / "b.tar")
