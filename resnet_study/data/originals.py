"""What CIFAR-10 and CIFAR-100 are: their classes, counts and the digest of their content.

A set of images is known by a digest for each split: the SHA-256 over the sorted SHA-256 of
every image, each over one byte of label and the 3,072 bytes of the pixels (row by row, red,
green and blue of a pixel side by side). Neither file names nor their order take part, nor does
the container: whatever has the two digests of `CIFAR10` is CIFAR-10, pixel by pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from resnet_study.data.dataset import Split

SPLITS = ("train", "test")
SIDE, CHANNELS = 32, 3
PIXELS = SIDE * SIDE * CHANNELS

LOSSY = ("JPEG",)
"""Formats that cannot hold the original's pixels."""

_NAMED = 3
"""Classes that a message names before it counts the rest."""

_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class DataError(Exception):
    """What is wrong with data, without the ways to mend it: those depend on who asked."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(f"{where}: {' '.join(what.split())}")


@dataclass(frozen=True)
class Original:
    """A data set as it was published.

    Attributes:
        name: as in `DataSpec.name`.
        title: as in reports.
        classes: names in the order of the labels.
        per_class: training and test images of each class.
        digests: of the training and the test images, see the module; None if not known.
        archives: names of the packed official forms, Python before binary.
        archive_md5: published checksum of each.
        folders: the folder in each of them.
        batches: file names of the batches of each split; the binary ones end in .bin.
        label_key: of a Python batch.
        label_bytes: in a record of a binary batch; the last one is the label.
        file_md5: published checksums of batches, which prove a set without `digests`.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    per_class: tuple[int, int]
    digests: tuple[str, str] | None
    archives: tuple[str, str]
    archive_md5: tuple[str, str]
    folders: tuple[str, str]
    batches: tuple[tuple[str, ...], tuple[str, ...]]
    label_key: str
    label_bytes: int
    file_md5: Mapping[str, str] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of training and test images."""
        return self.per_class[0] * len(self.classes), self.per_class[1] * len(self.classes)


CIFAR10 = Original(
    name="cifar10",
    title="CIFAR-10",
    classes=tuple(_CIFAR10_CLASSES.split()),
    per_class=(5000, 1000),
    # Computed from the 60,000 images as lossless PNG files, whose channel means and standard
    # deviations are the published ones and on which published weights have their published
    # errors; the labels are the official ones, 0 airplane to 9 truck.
    digests=(
        "d59acf989e068e709ce686cda292672c7b212c08d29d3d3e6d8c3aa99eba6a85",
        "899683d46c3a8c66fd56e1af12202e69fe5a4517be10b0f68e04c78fe585c57c",
    ),
    archives=("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"),
    archive_md5=("c58f30108f718f92721af3b95e74349a", "c32a1d4ab5d03f1284b67883e8d87530"),
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    batches=(tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)),
    label_key="labels",
    label_bytes=1,
)

CIFAR100 = Original(
    name="cifar100",
    title="CIFAR-100",
    classes=tuple(_CIFAR100_CLASSES.split()),
    per_class=(500, 100),
    digests=None,  # no copy was at hand to compute them from; the checksums below stand in
    archives=("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
    archive_md5=("eb9058c3a382ffc7106e4002c42a8d85", "03b5dce01913d631647c71ecec9e9cb8"),
    folders=("cifar-100-python", "cifar-100-binary"),
    batches=(("train",), ("test",)),
    label_key="fine_labels",
    label_bytes=2,
    # Of the batches in the official archives, as published libraries check them.
    file_md5={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "train.bin": "6172c7755cfe09b2fe270c85cebc1b15",
        "test.bin": "4499cfba6c016c1be1438163640a0898",
    },
)

ORIGINALS = {original.name: original for original in (CIFAR10, CIFAR100)}


def other_than(original: Original) -> tuple[Original, ...]:
    """The data sets that may be given in place of the one that is asked for."""
    return tuple(other for other in ORIGINALS.values() if other.name != original.name)


def digest_of(split: Split) -> str:
    """The digest of the module's description, in hexadecimal; any image shape, labels to 255."""
    rows = split.images.reshape(len(split), -1)
    hashes = sorted(
        hashlib.sha256(bytes([label]) + row.tobytes()).digest()
        for label, row in zip(split.labels.tolist(), rows, strict=True)
    )
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def counts_of(original: Original, labels: np.ndarray) -> list[int]:
    """Images of each class, in the order of the labels."""
    return np.bincount(labels, minlength=len(original.classes)).tolist()


def check_counts(
    where: object, original: Original, counts: Sequence[Sequence[int]], subset: bool
) -> None:
    """Refuse a set that has not as many images of each class as the original.

    Args:
        where: for the message.
        original: the data set.
        counts: images of each class, for the training and the test images.
        subset: fewer images are welcome, as long as there is one of each class.

    Raises:
        DataError: naming split, class and how many of how many.
    """
    wrong = [
        f"{split}/{name} has {count:,} of {due:,} images"
        for split, due, found in zip(SPLITS, original.per_class, counts, strict=True)
        for name, count in zip(original.classes, found, strict=True)
        if count > due or (count < due and not (subset and count))
    ]
    if not wrong:
        return
    missing = incompleteness(original, [sum(found) for found in counts])
    what = f"is not the whole of {original.title}: {', '.join(wrong[:_NAMED])}"
    if len(wrong) > _NAMED:
        what += f" and {len(wrong) - _NAMED} more classes differ"
    if missing:
        what += f" (in all {missing})"
    fewer = all(sum(found) > 0 for found in counts) and not subset
    more = any(
        count > due
        for due, found in zip(original.per_class, counts, strict=True)
        for count in found
    )
    if fewer and not more and all(count for found in counts for count in found):
        what += "; --data.subset=true trains on fewer images and says so"
    raise DataError(where, what)


def incompleteness(original: Original, found: Sequence[int]) -> str:
    """Such as "9,610 of 10,000 test images"; empty for as many images as the original has."""
    names = ("training", "test")
    return ", ".join(
        f"{count:,} of {due:,} {name} images"
        for name, count, due in zip(names, found, original.sizes, strict=True)
        if count != due
    )


def label_of(
    original: Original,
    form: str,
    found: Sequence[int],
    digests: tuple[str, str],
    verified: bool = False,
) -> str:
    """What reports call the images: the plain title for the original alone.

    Args:
        original: the data set.
        form: such as "JPEG" or "Python batches".
        found: numbers of training and test images.
        digests: of both.
        verified: a published checksum has proved the files to be the original.
    """
    missing = incompleteness(original, found)
    lossy = form if any(kind in form for kind in LOSSY) else ""
    if missing:
        return f"{original.title} ({f'{lossy}, ' if lossy else ''}incomplete: {missing})"
    if verified or digests == original.digests:
        return original.title
    if lossy:
        return f"{original.title} ({lossy})"
    reason = "not verified" if original.digests is None else "not the original pixels or labels"
    return f"{original.title} ({form}, {reason})"
