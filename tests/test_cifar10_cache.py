"""Where CIFAR-10 is looked for, and the cache of what was decoded."""

import os
from pathlib import Path

import pytest
from cifar_files import (
    binary_files,
    image_files,
    small_batches,
    write_folder,
    write_tar,
)
from cifar_loaded import SMALL, SMALL_BATCHES, same
from cifar_loaded import whole_refusal as refusal

from resnet_study import runtime
from resnet_study.data import cifar10, load_dataset
from resnet_study.data.cache import ReadImages
from resnet_study.data.cifar10 import cache_folder, find_cifar10, load_cifar10
from resnet_study.data.download import ARCHIVE
from resnet_study.data.originals import CIFAR10
from resnet_study.data.trees import usual_names
from resnet_study.errors import UserError
from resnet_study.spec import DataSpec

pytestmark = pytest.mark.usefixtures("nothing_from_outside")


# --- where it is looked for -------------------------------------------------------------


def test_order_of_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {name: tmp_path / name for name in ("cache", "named", "given")}
    for folder in folders.values():
        folder.mkdir()
        (folder / ARCHIVE).touch()
    assert find_cifar10() == folders["cache"] / ARCHIVE
    Path("data").mkdir()
    assert find_cifar10() == folders["cache"] / ARCHIVE  # nothing in data/
    write_folder(Path("data"), image_files())
    assert find_cifar10() == Path("data")
    monkeypatch.setenv(cifar10.PATH_VARIABLE, str(folders["named"] / ARCHIVE))
    assert find_cifar10() == folders["named"] / ARCHIVE
    assert find_cifar10(folders["given"]) == folders["given"] / ARCHIVE


@pytest.mark.parametrize("name", usual_names(CIFAR10))
def test_usual_names_in_the_data_folder(name: str) -> None:
    path = Path("data", name)
    path.parent.mkdir()
    path.touch() if path.suffix in (
        ".gz",
        ".tar",
        ".tgz",
        ".xz",
        ".txz",
        ".bz2",
        ".tbz2",
        ".zip",
    ) else path.mkdir()
    assert find_cifar10() == path


def test_nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"cifar10: not found in data or .*cache; give CIFAR-10"):
        load_dataset(DataSpec(name="cifar10"), seed=0)
    assert "missing: no such file or folder" in refusal(tmp_path / "missing")
    assert "here: holds no files" in refusal(tmp_path / "here")
    monkeypatch.setenv(cifar10.PATH_VARIABLE, "/missing")
    with pytest.raises(UserError, match="RESNET_STUDY_CIFAR10=/missing: no such file"):
        find_cifar10()


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv(runtime.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "resnet-study"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "resnet-study"


# --- the decoded cache ------------------------------------------------------------------


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows by one path at every decoding."""
    calls: list[Path] = []
    read = cifar10._read

    def counted(path: Path, *arguments: object) -> ReadImages:
        calls.append(path)
        return read(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cifar10, "_read", counted)
    return calls


def test_second_start_reads_the_cache(
    tmp_path: Path, decodings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files())
    first = load_cifar10(archive, original=SMALL)
    monkeypatch.chdir(tmp_path)
    assert same(load_cifar10(Path("a.tar"), original=SMALL), first)  # the same file by another name
    assert len(decodings) == 1
    assert [f.suffix for f in cache_folder().iterdir()] == [".npz"]


def test_changed_source_is_decoded_again(tmp_path: Path, decodings: list[Path]) -> None:
    folder = write_folder(tmp_path / "images", image_files())
    archive = write_tar(tmp_path / "a.tar", image_files())
    for path, changed in ((folder, folder / "train/cat/0001.png"), (archive, archive)):
        decodings.clear()
        load_cifar10(path, original=SMALL)
        os.utime(changed, (1, 1))
        load_cifar10(path, original=SMALL)
        load_cifar10(path, original=SMALL)
        assert decodings == [path, path]
    files = sorted(cache_folder().iterdir())
    assert len(files) == 2  # one for each source, not for each change
    (folder / "train/cat/0002.png").write_bytes((folder / "train/cat/0001.png").read_bytes())
    assert "train/cat has 3 of 2 images" in refusal(folder)


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty"])
def test_damaged_cache_is_replaced(tmp_path: Path, decodings: list[Path], damage: str) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files())
    first = load_cifar10(archive, original=SMALL)
    (file,) = cache_folder().iterdir()
    whole = file.read_bytes()
    content = bytearray(whole)
    content[len(whole) // 2] ^= 1
    file.write_bytes(
        {"cut": whole[:-99], "flipped": bytes(content), "foreign": b"text", "empty": b""}[damage]
    )
    assert same(load_cifar10(archive, original=SMALL), first)
    assert len(decodings) == 2
    assert same(load_cifar10(archive, original=SMALL), first)
    assert len(decodings) == 2


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files())
    (tmp_path / "file").touch()
    content = load_cifar10(archive, cache=tmp_path / "file" / "below", original=SMALL)
    assert len(content.train) == 20

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    load_cifar10(archive, original=SMALL)
    assert list(cache_folder().iterdir()) == []


def test_progress(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, binary_files(small_batches()))
    calls: list[tuple[int, int]] = []
    load_cifar10(folder, progress=lambda *c: calls.append(c), original=SMALL_BATCHES)
    assert calls == [(20 * i, 120) for i in range(1, 7)]
    calls.clear()
    load_cifar10(folder, progress=lambda *c: calls.append(c), original=SMALL_BATCHES)
    assert calls == []
