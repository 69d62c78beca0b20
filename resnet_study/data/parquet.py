"""Hugging Face's tables: a column of encoded images and one of labels.

https://huggingface.co/datasets/uoft-cs/cifar10 has ``img`` (``bytes`` and ``path``) and
``label``, that of CIFAR-100 ``fine_label`` and ``coarse_label``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from resnet_study.data.images import FILE_BYTES
from resnet_study.data.originals import DataError, Original, other_than

ROWS = 60_000
"""Limit of one file."""
GROUP_BYTES = 512 << 20
"""Limit of what one group of rows may take once decompressed, as the file says it."""

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = {"cifar10": ("label", "labels"), "cifar100": ("fine_label", "fine_labels")}
_BATCH = 500


def read_labels(where: object, content: bytes, original: Original) -> np.ndarray:
    """Labels of one file.

    Returns:
        int32, shape (N,).

    Raises:
        DataError: if it is damaged, too large, of another data set, or has labels out of range.
    """
    table = _open(where, content)
    names = set(table.schema_arrow.names)
    column = next((n for n in _LABEL_COLUMNS[original.name] if n in names), None)
    for other in other_than(original):
        if column is None and names & set(_LABEL_COLUMNS[other.name]):
            what = f"is {other.title}, not {original.title}; --data.name={other.name} reads it"
            raise DataError(where, what)
    if column is None:
        raise DataError(where, f"has no column {_LABEL_COLUMNS[original.name][0]}")
    try:
        labels = np.asarray(table.read(columns=[column]).column(0).to_numpy())
        valid = labels.dtype.kind in "iu" and labels.ndim == 1
    except Exception as error:  # of pyarrow's own kinds
        raise DataError(where, f"is no whole parquet file ({error})") from None
    if not valid or (len(labels) and not 0 <= labels.min() <= labels.max() < len(original.classes)):
        raise DataError(where, f"has labels that are not 0..{len(original.classes) - 1}")
    return labels.astype(np.int32)


def read_images(where: object, content: bytes) -> Iterator[bytes]:
    """Encoded images of one file, in order.

    Raises:
        DataError: if it is damaged or has none.
    """
    table = _open(where, content)
    column = next((n for n in _IMAGE_COLUMNS if n in table.schema_arrow.names), None)
    if column is None:
        raise DataError(where, "has no column img or image")
    try:
        for batch in table.iter_batches(batch_size=_BATCH, columns=[column]):
            for value in batch.column(0).to_pylist():
                image = value.get("bytes") if isinstance(value, dict) else value
                if not isinstance(image, bytes) or len(image) > FILE_BYTES:
                    raise DataError(where, "has a row without the bytes of an image")
                yield image
    except DataError:
        raise
    except Exception as error:  # of pyarrow's own kinds
        raise DataError(where, f"is no whole parquet file ({error})") from None


def _open(where: object, content: bytes) -> Any:
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(io.BytesIO(content))
        metadata = table.metadata
        groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    except Exception as error:  # of pyarrow's own kinds
        raise DataError(where, f"is no whole parquet file ({error})") from None
    if metadata.num_rows > ROWS or max(groups, default=0) > GROUP_BYTES:
        raise DataError(where, f"has more than {ROWS} rows, or groups of rows that are too large")
    return table
