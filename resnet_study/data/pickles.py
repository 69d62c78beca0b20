"""Batches of CIFAR as pickles and as binary records, read without trusting them.

A pickle is a program. Here its instructions are looked through first: all that a dictionary of
arrays needs is allowed, and nothing may claim more memory than the file has bytes. What then
runs can call five functions of this module, which stand in for those of numpy, and which make
arrays of unsigned bytes or of integers and nothing else.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from resnet_study.data.originals import CHANNELS, PIXELS, SIDE

INSTRUCTIONS = 3_000_000
"""Limit for one pickle; the largest official batch, CIFAR-100's training images, has some
500,000."""

_DTYPES = ("u1", "i4", "i8")
_ORDERS = ("|", "<", ">", "=")


def decode_binary_batch(content: bytes, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Records of one or more bytes of labels, of which the last is taken, and 3,072 of pixels.

    Returns:
        Pixels, uint8, shape (N, 3072), and labels, int64, shape (N,).

    Raises:
        ValueError: if the content is no whole number of records.
    """
    records = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + PIXELS)
    return records[:, label_bytes:], records[:, label_bytes - 1].astype(np.int64)


def decode_python_batch(content: bytes, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """A pickled dictionary with ``data`` and labels, of Python 2 or pickled anew.

    Keys may be bytes or text, pixels (N, 3072) or (N, 3, 32, 32), and the labels a list or
    an array, (N,) or (N, 1).

    Returns:
        Pixels, uint8, shape (N, 3072), and labels, int64, shape (N,).

    Raises:
        pickle.UnpicklingError: if it asks for anything but arrays of bytes or integers.
        ValueError: if it is no such dictionary. A damaged pickle can raise anything else.
    """
    batch = load_arrays(content)
    entries = {}
    if isinstance(batch, dict):
        for key, value in batch.items():
            entries[key.decode("latin1") if isinstance(key, bytes) else key] = value
    if label_key not in entries and "fine_labels" in entries:
        raise ValueError("it has the fine labels of CIFAR-100")
    pixels, labels = entries.get("data"), entries.get(label_key)
    pixels = pixels.array if isinstance(pixels, _Array) else None
    if pixels is None or pixels.dtype != np.uint8 or pixels.ndim not in (2, 4):
        raise ValueError("no array of pixels under 'data'")
    if pixels.ndim == 4 and pixels.shape[1:] != (CHANNELS, SIDE, SIDE):
        raise ValueError(f"pixels of shape {pixels.shape} under 'data'")
    if isinstance(labels, _Array) and labels.array is not None:
        labels = labels.array.ravel().tolist()
    if isinstance(labels, list):
        labels = [x.array.item() if isinstance(x, _Array) else x for x in labels]  # type: ignore[union-attr]
    if not (isinstance(labels, list) and all(type(label) is int for label in labels)):
        raise ValueError(f"no list of integers under '{label_key}'")
    return pixels.reshape(len(pixels), -1), np.array(labels, np.int64)


def load_arrays(content: bytes) -> Any:
    """What a pickle holds, with `_Array` in place of every numpy array.

    Raises:
        pickle.UnpicklingError: if it asks for anything else. A damaged one can raise anything.
    """
    _look_through(content)
    return _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()


def _look_through(content: bytes) -> None:
    """Refuse what would take memory or time before anything of it runs.

    `pickletools.genops` takes no more of an argument than there is, so a length beyond the end
    of the file ends here. A place in the memo is an index into a table that the unpickler
    makes as long as it is told; no file that is allowed needs more places than instructions.
    """
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if number >= INSTRUCTIONS:
            raise pickle.UnpicklingError(f"refused: it has more than {INSTRUCTIONS} instructions")
        if "PUT" in opcode.name and int(argument or 0) > INSTRUCTIONS:
            raise pickle.UnpicklingError(f"refused: it claims {argument} places in memory")
        if opcode.name in _FORBIDDEN:
            raise pickle.UnpicklingError(f"refused: it asks for {opcode.name}")


_FORBIDDEN = frozenset(
    (
        *("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"),
        *("NEXT_BUFFER", "READONLY_BUFFER"),
    )
)


def _refuse(what: object) -> Any:
    raise pickle.UnpicklingError(f"refused: it asks for {str(what)[:60]!r}")


class _DType:
    """A data type: unsigned bytes or integers of four or eight bytes."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(text, str) or text.lstrip("|<>=") not in _DTYPES or len(text) > 3:
            _refuse(f"data type {text}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 8 and all(map(_is_plain, state))):
            _refuse("state of a data type")
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        # Subtype, names and fields, then size, alignment and flags: a plain number has none.
        if order not in _ORDERS or state[2:5] != (None,) * 3 or state[5:] != (-1, -1, 0):
            _refuse("structured data type")
        self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class _Array:
    """An array that gets its content once, whole and of the size that it says."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        if self.array is not None or not (isinstance(state, tuple) and len(state) == 5):
            _refuse("state of an array")
        _, shape, dtype, fortran, content = state
        self.array = _array(shape, dtype, content, "F" if fortran is True or fortran == 1 else "C")


def _array(shape: Any, dtype: Any, content: Any, order: str) -> np.ndarray:
    sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not sizes or len(shape) > 4 or not isinstance(dtype, _DType):
        _refuse("array of another kind")
    if not isinstance(content, bytes | bytearray):
        _refuse("array without bytes")
    if math.prod(shape) * dtype.dtype.itemsize != len(content):
        _refuse(f"array of shape {shape} in {len(content)} bytes")
    flat = np.frombuffer(bytes(content), dtype.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (int, str, bytes)


def _make_dtype(name: Any = None, *_: Any) -> _DType:
    return _DType(name)


def _make_empty(*_: Any) -> _Array:
    """``numpy.ndarray.__reduce__``: what it asks for is said again with the state."""
    return _Array()


def _make_filled(content: Any, dtype: Any, shape: Any, order: Any = "C") -> _Array:
    """``numpy._core.numeric._frombuffer`` of pickle's protocol 5."""
    made = _Array()
    made.array = _array(shape, dtype, content, "F" if order in ("F", b"F") else "C")
    return made


def _make_scalar(dtype: Any, content: Any) -> _Array:
    """``numpy._core.multiarray.scalar``, an integer in a list of labels."""
    return _make_filled(content, dtype, ())


def _encode(text: Any, encoding: Any) -> bytes:
    """``_codecs.encode``: what pickles below protocol 3 need to hold bytes."""
    if encoding not in ("latin1", b"latin1") or not isinstance(text, str):
        _refuse(f"encoding {encoding}")
    return bytes(text.encode("latin1"))


class _Callable:
    """A function that a pickle may call and can neither change nor look into."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        _refuse("state of a function")


class _ArrayUnpickler(pickle.Unpickler):
    """Makes arrays; every other class or function is refused before it is imported."""

    _allowed: Mapping[tuple[str, str], _Callable] = {
        ("numpy", "dtype"): _Callable(_make_dtype),
        ("numpy", "ndarray"): _Callable(_make_empty),
        ("_codecs", "encode"): _Callable(_encode),
        **{
            (f"numpy.{core}.{module}", name): _Callable(function)
            for core in ("core", "_core")
            for module, name, function in (
                ("multiarray", "_reconstruct", _make_empty),
                ("multiarray", "scalar", _make_scalar),
                ("numeric", "_frombuffer", _make_filled),
            )
        },
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"refused: it asks for {module}.{name}")
        return self._allowed[module, name]
