"""CIFAR-10 in every form, from trusted and from damaged or hostile files, and its download."""

import gzip
import hashlib
import http.server
import os
import pickle
import resource
import tarfile
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cifar_files import (
    BATCHES,
    BINARY,
    CLASSES,
    PYTHON,
    binary_files,
    encode,
    expect_batches,
    flat_image,
    image_files,
    original_of_batches,
    original_of_images,
    python2_pickle,
    python3_pickle,
    python_files,
    small_batches,
    write_folder,
    write_tar,
)
from PIL import Image

from resnet_study import runtime
from resnet_study.data import archives, cifar10, load_dataset, pickles
from resnet_study.data.cache import ReadImages
from resnet_study.data.cifar10 import cache_folder, find_cifar10, load_cifar10
from resnet_study.data.download import ARCHIVE, MD5, download_cifar10
from resnet_study.data.originals import CIFAR10, ORIGINALS, Original
from resnet_study.data.trees import usual_names
from resnet_study.datasets import DATASETS, DataSource
from resnet_study.errors import UserError
from resnet_study.spec import DataSpec

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
JPEG_ARCHIVE, PNG_ARCHIVE = SHARED / "cifar10-images.tar.gz", SHARED / "cifar10-png.tar.gz"
SMALL = original_of_images()
SMALL_BATCHES = original_of_batches(small_batches())


@pytest.fixture(autouse=True)
def _nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, cache or ``data`` folder of the machine takes part."""
    monkeypatch.delenv(cifar10.PATH_VARIABLE, raising=False)
    monkeypatch.setenv(runtime.CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def refusal(path: Path, original: Original = SMALL) -> str:
    """The line with which a path is refused; it must be one and name the ways out."""
    with pytest.raises(UserError) as error:
        load_cifar10(path, original=original)
    message = str(error.value)
    assert "\n" not in message
    for way in ("--cifar10", "RESNET_STUDY_CIFAR10", "resnet-study data cifar10"):
        assert way in message
    return message


# --- the official forms -----------------------------------------------------------------


def official_files(folder: str) -> dict[str, bytes]:
    return (python_files if folder == PYTHON else binary_files)(small_batches())


def archive_of(folder: str) -> str:
    return CIFAR10.archives[CIFAR10.folders.index(folder)]


@pytest.mark.parametrize("folder", [PYTHON, BINARY])
@pytest.mark.parametrize("how", ["packed", "folder", "parent", "parent of packed"])
def test_official_forms_give_the_same_arrays(tmp_path: Path, folder: str, how: str) -> None:
    files = {**official_files(folder), f"{folder}/readme.html": b"not a batch"}
    if "packed" in how:
        archive = write_tar(tmp_path / archive_of(folder), files)
        path = tmp_path if "parent" in how else archive
    else:
        write_folder(tmp_path, files)
        path = tmp_path if how == "parent" else tmp_path / folder
    train, test, source, digests = load_cifar10(path, original=SMALL_BATCHES)
    expect_batches(train, test, small_batches())
    assert (source, digests) == ("CIFAR-10", SMALL_BATCHES.digests)


def test_pickles_of_python_2_and_3_are_read_without_a_warning() -> None:
    pixels, labels = small_batches()["test_batch"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for content in (python2_pickle(pixels, labels), python3_pickle(pixels, labels)):
            found = pickles.decode_python_batch(content, "labels")
            np.testing.assert_array_equal(found[0], pixels)
            np.testing.assert_array_equal(found[1], labels)


def test_the_published_values_hold_by_default(tmp_path: Path) -> None:
    assert CIFAR10.archive_md5 == (
        "c58f30108f718f92721af3b95e74349a",
        "c32a1d4ab5d03f1284b67883e8d87530",
    )
    for name, original in ORIGINALS.items():
        shape = DATASETS[name]
        assert original.sizes == (shape.train_examples, shape.test_examples) == (50_000, 10_000)
        assert len(set(original.classes)) == shape.classes
        assert list(original.classes) == sorted(original.classes)
    archive = write_tar(tmp_path / "renamed.tar.gz", python_files(small_batches()))
    assert "train/airplane has 10 of 5,000 images" in refusal(archive, CIFAR10)


@pytest.mark.parametrize("folder", [PYTHON, BINARY])
def test_changed_official_archive(tmp_path: Path, folder: str) -> None:
    """Whole batches of other pixels: in an archive that says it is the official one, damage."""
    archive = write_tar(tmp_path / archive_of(folder), official_files(folder))
    other = replace(SMALL_BATCHES, digests=("0" * 64, "0" * 64))
    found = hashlib.md5(archive.read_bytes()).hexdigest()
    message = refusal(archive, other)
    assert "does not hold the pixels and labels of CIFAR-10" in message
    assert f"MD5 {found} instead of {CIFAR10.archive_md5[folder == BINARY]}" in message
    # A published checksum is believed as well.
    known = replace(other, archive_md5=(found, found))
    assert load_cifar10(archive, original=known).source == "CIFAR-10"


@pytest.mark.parametrize("folder", [PYTHON, BINARY])
def test_truncated_official_archive(tmp_path: Path, folder: str) -> None:
    archive = write_tar(tmp_path / archive_of(folder), official_files(folder))
    archive.write_bytes(archive.read_bytes()[:10])
    message = refusal(archive, SMALL_BATCHES)
    assert f"instead of {CIFAR10.archive_md5[folder == BINARY]}" in message


def test_small_batches_are_refused_by_default(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, python_files(small_batches()))
    assert "100 of 50,000 training images, 20 of 10,000 test images" in refusal(folder, CIFAR10)


def test_missing_batch(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, python_files(small_batches())) / PYTHON
    (folder / "data_batch_3").unlink()
    message = refusal(folder, SMALL_BATCHES)
    assert f"{PYTHON}: lacks data_batch_3: 4 of 5 batches are there" in message
    found = load_cifar10(folder, original=SMALL_BATCHES, subset=True)
    assert found.source == "CIFAR-10 (incomplete: 80 of 100 training images)"
    (folder / "test_batch").unlink()
    with pytest.raises(UserError, match="lacks test_batch: 0 of 1 batches"):
        load_cifar10(folder, original=SMALL_BATCHES, subset=True)


@pytest.mark.parametrize("name", [PYTHON, BINARY])
def test_cut_batch(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path, official_files(name)) / name
    batch = folder / ("data_batch_2" if name == PYTHON else "data_batch_2.bin")
    batch.write_bytes(batch.read_bytes()[:-7])
    assert f"{batch.name}: is no batch of CIFAR-10" in refusal(folder, SMALL_BATCHES)


@pytest.mark.parametrize(
    ("label", "what"),
    [(10, "labels outside 0..9"), (3, "train/cat has 12 of 10 images, train/horse has 8 of 10")],
)
def test_wrong_labels(tmp_path: Path, label: int, what: str) -> None:
    batches = small_batches()
    labels = batches["data_batch_4"][1]
    labels[labels == 7] = label
    for name, files in ((PYTHON, python_files), (BINARY, binary_files)):
        folder = write_folder(tmp_path, files(batches)) / name
        assert what in refusal(folder, SMALL_BATCHES)


class Exploit:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    "exploit",
    [
        Exploit(os.system, "touch pwned"),
        Exploit(eval, "open('pwned', 'w')"),
        Exploit(np.load, "x", None, True),
        Exploit(np.fromfile, "x"),
    ],
)
def test_malicious_pickle_runs_nothing(tmp_path: Path, exploit: Exploit) -> None:
    pixels, labels = small_batches()["test_batch"]
    content = pickle.dumps({b"labels": labels.tolist(), b"data": pixels, b"x": exploit}, protocol=2)
    files = {**python_files(small_batches()), f"{PYTHON}/data_batch_1": content}
    folder = write_folder(tmp_path, files) / PYTHON
    assert "refused: it asks for" in refusal(folder, SMALL_BATCHES)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {b"data": "text", b"labels": [1]},
        {b"data": np.zeros((20, 3072), object), b"labels": [0] * 20},
        {b"data": np.zeros((20, 3072), np.uint8), b"labels": [0.5] * 20},
        {b"data": np.zeros((20, 3072), np.uint8), b"labels": [10**30] * 20},
        {b"data": np.zeros((20, 100), np.uint8), b"labels": [0] * 20},
        {b"data": np.zeros((20, 3072), np.uint8), b"fine_labels": [0] * 20},  # CIFAR-100
    ],
)
def test_foreign_pickle(tmp_path: Path, content: object) -> None:
    files = python_files(small_batches())
    files[f"{PYTHON}/test_batch"] = pickle.dumps(content, protocol=2)
    folder = write_folder(tmp_path, files) / PYTHON
    assert "test_batch: " in refusal(folder, SMALL_BATCHES)


# --- images per class -------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["", ".tar", ".tar.gz"])
@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".JPEG", "JPEG")])
def test_images_per_class(tmp_path: Path, packed: str, suffix: str, kind: str) -> None:
    files = image_files(suffix.lower())
    files = {name.removesuffix(suffix.lower()) + suffix: files[name] for name in files}
    files = dict(sorted(files.items(), key=lambda item: hash(item[1])))  # in any order
    files |= {"train/cat/notes.txt": b"no image", "train/cat/._0000.png": b"no image either"}
    if packed:
        nested = {f"./some/folder/{name}": content for name, content in files.items()}
        path = write_tar(tmp_path / f"images{packed}", nested)
    else:
        path = write_folder(tmp_path / "images", files)
    train, test, source, digests = load_cifar10(path, original=SMALL)
    # What is the original pixel by pixel needs no more words, JPEG cannot be.
    assert source == ("CIFAR-10" if kind == "PNG" else "CIFAR-10 (JPEG)")
    assert (digests == SMALL.digests) == (kind == "PNG")
    for s, split in enumerate((train, test)):
        np.testing.assert_array_equal(split.labels, np.repeat(np.arange(10), 2))
        expected = np.stack([flat_image(s, c, i) for c in range(10) for i in range(2)])
        error = abs(split.images.astype(int) - expected).max()
        assert error == 0 if kind == "PNG" else error <= 3


def test_grey_and_palette_images_become_rgb(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", image_files())
    grey = Image.fromarray(np.full((32, 32), 77, np.uint8))
    grey.save(folder / "train/cat/0000.png")
    Image.fromarray(flat_image(1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE).save(
        folder / "train/cat/0001.png"
    )
    train, _, source, _ = load_cifar10(folder, original=SMALL)
    assert source == "CIFAR-10 (PNG, not the original pixels or labels)"
    cats = train.images[train.labels == CLASSES.index("cat")]
    assert (cats[0] == 77).all()
    np.testing.assert_array_equal(cats[1], flat_image(1, 2, 3))


def test_classes_must_be_those_of_cifar10(tmp_path: Path) -> None:
    files = image_files()
    lacking = {name: c for name, c in files.items() if not name.startswith("test/ship")}
    assert "test/ lacks images of ship" in refusal(write_tar(tmp_path / "a.tar", lacking))
    foreign = {name.replace("/ship/", "/sloop/"): c for name, c in files.items()}
    message = refusal(write_folder(tmp_path / "b", foreign))
    assert "train/ is not CIFAR-10: it has or lacks images of ship, sloop" in message


def test_sizes_must_be_32(tmp_path: Path) -> None:
    files = image_files()
    files["train/dog/0001.png"] = encode(Image.new("RGB", (64, 32)))
    message = refusal(write_tar(tmp_path / "a.tar", files))
    assert "a.tar/train/dog/0001.png: is no image of 32x32 pixels in 8-bit colour (64x32" in message


@pytest.mark.parametrize("damage", [b"", b"GIF89a", b"text"])
def test_damaged_image(tmp_path: Path, damage: bytes) -> None:
    folder = write_folder(tmp_path / "a", {**image_files(), "test/frog/0000.png": damage})
    assert "test/frog/0000.png: is no image" in refusal(folder)
    whole = image_files(".jpg")
    cut = {**whole, "test/frog/0001.jpg": whole["test/frog/0001.jpg"][:-200]}
    assert "test/frog/0001.jpg: is no image" in refusal(write_tar(tmp_path / "a.tar", cut))


def test_two_sets_in_one_archive_are_refused(tmp_path: Path) -> None:
    twice = {f"{root}/{name}": c for root in "ab" for name, c in image_files().items()}
    assert "more than one set" in refusal(write_tar(tmp_path / "a.tar", twice))


# --- hostile and damaged archives -------------------------------------------------------


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


def same(first: ReadImages, second: ReadImages) -> bool:
    return first[2:] == second[2:] and all(
        np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
        for a, b in zip(first[:2], second[:2], strict=True)
    )


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


def test_load_dataset_takes_the_number_of_images_that_there_are(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files(per_class=4))
    data = load_dataset(
        DataSpec(name="cifar10", batch_size=36, subset=True), 0, DataSource(archive)
    )
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 40)
    missing = "40 of 50,000 training images, 40 of 10,000 test images"
    assert data.source == f"CIFAR-10 (incomplete: {missing})"
    assert (data.classes, data.mean.shape) == (10, (32, 32, 3))
    assert tuple(data.digest.values()) == original_of_images(4).digests
    with pytest.raises(UserError, match="cifar10 has 36 training images"):
        load_dataset(DataSpec(name="cifar10", subset=True), 0, DataSource(archive))


@pytest.mark.skipif(not JPEG_ARCHIVE.exists(), reason="the archive of JPEG images is not there")
def test_all_images_as_jpeg(tmp_path: Path) -> None:
    train, test, source, digests = load_cifar10(JPEG_ARCHIVE)
    assert source == "CIFAR-10 (JPEG)"
    np.testing.assert_array_equal(train.labels, np.repeat(np.arange(10), 5000))
    np.testing.assert_array_equal(test.labels, np.repeat(np.arange(10), 1000))
    assert train.images.shape == (50_000, 32, 32, 3)
    # Channel means of the original training images, to two digits, are widely published.
    channels = train.images.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(channels, [0.4914, 0.4822, 0.4465], atol=0.002)
    assert same(load_cifar10(JPEG_ARCHIVE), ReadImages(train, test, source, digests))


@pytest.mark.slow
@pytest.mark.skipif(not PNG_ARCHIVE.exists(), reason="the archive of PNG images is not there")
def test_all_images_as_png(tmp_path: Path) -> None:
    train, test, source, digests = load_cifar10(PNG_ARCHIVE)
    assert source == "CIFAR-10"
    assert digests == CIFAR10.digests
    assert (len(train), len(test)) == (50_000, 10_000)
    # In other containers, and the training images in another order, they are the same.
    order = np.random.default_rng(0).permutation(50_000)
    parts = [*np.split(train.images[order], 5), test.images]
    labels = [*np.split(train.labels[order], 5), test.labels]
    pixels = [part.transpose(0, 3, 1, 2).reshape(-1, 3072) for part in parts]
    batches = {n: (p, c) for n, p, c in zip(BATCHES, pixels, labels, strict=True)}
    archive = write_tar(tmp_path / "cifar-10-python.tar", python_files(batches))
    assert load_cifar10(archive).source == "CIFAR-10"
    # Two test images exchange their labels.
    batches["test_batch"][1][[0, -1]] = [9, 0]
    found = load_cifar10(write_folder(tmp_path, binary_files(batches)) / BINARY)
    assert found.source == "CIFAR-10 (binary batches, not the original pixels or labels)"
    assert found.digests[0] == digests[0]


# --- the download -----------------------------------------------------------------------

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
