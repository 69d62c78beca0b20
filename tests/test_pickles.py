"""Pickles that were made to harm: refused, in bounded memory and time, and nothing runs."""

import os
import pickle
import struct
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from cifar_files import python2_pickle, small_batches

from resnet_study.data.pickles import decode_python_batch, load_arrays

# Of pickletools itself, for text with a backslash in it.
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")
REFUSED = (pickle.UnpicklingError, ValueError, TypeError, AttributeError, IndexError, EOFError)


class Call:
    """Pickles as a call of a function, with a state that is set later."""

    def __init__(self, function: object, *arguments: object, state: object = None) -> None:
        self.call = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


PIXELS, LABELS = small_batches()["test_batch"]
OBJECTS = np.array([[1, "x"]], object)
RECORDS = np.zeros(3, [("a", "u1"), ("b", "i4")])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        OBJECTS,
        RECORDS,
        np.zeros((2, 2), np.float32),
        np.zeros(2, "U4"),
        np.zeros(2, "datetime64[s]"),
        np.zeros(2, bool),
        np.zeros(2, np.complex128),
        np.dtype("O"),
        np.dtype([("a", "u1")]),
        np.float64(1),
        np.void(b"abc"),
        Call(os.system, "touch pwned"),
        Call(eval, "1"),
        Call(np.dtype, "u1", state=(3, "|", (np.dtype("O"), (2,)), None, None, -1, -1, 0)),
        Call(np.dtype, "u1", state=(3, "|", None, ("a",), {"a": (1, 2)}, 8, 8, 63)),
        Call(np.dtype, "u1", state=(3, "|", None, None, None, 8, 1, 63)),
        Call(np.dtype, "u1", state={"a": 1}),
        Call(np.dtype, "|O"),
        Call(np.dtype, "O8", True, False),
        Call(np.dtype, ("u1", 10**9)),
        Call(np.dtype, "u1,O"),
        Call(np.frombuffer, b"12", "O"),
        Call(np.empty, (10**9,)),
        Call(bytes, 10**10),
        Call(bytearray, 10**10),
        Call(np.dtype, Call(np.dtype, "O")),
        OrderedDict(a=1),
        {1, 2}.__class__,
    ],
)
def test_only_arrays_of_bytes_and_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"data": PIXELS, "labels": LABELS.tolist(), "x": value}, protocol)
    with pytest.raises(REFUSED, match=r"refused|unsupported|not callable"):
        decode_python_batch(content, "labels")
    assert not Path("pwned").exists()


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
U1 = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"


def state(shape: bytes, content: bytes, dtype: bytes = U1) -> bytes:
    return b"(I1\n" + shape + dtype + b"I00\n" + content + b"tb"


HOSTILE = {
    "a shape of a terabyte": ARRAY + state(b"(I1000000\nI1000000\nt", b"S'abc'\n") + b".",
    "a negative shape": ARRAY + state(b"(I-1\nI-3\nt", b"S'abc'\n") + b".",
    "a shape of text": ARRAY + state(b"(S'a'\nt", b"S'abc'\n") + b".",
    "an empty dimension": ARRAY + state(b"(I0\nI1000000000000\nt", b"S''\n") + b"0" + b"\x80\x02X",
    "a list in place of bytes": ARRAY + state(b"(I3\nt", b"(I1\nI2\nI3\nl") + b".",
    "two states": ARRAY + state(b"(I1\nt", b"S'a'\n") + state(b"(I1\nt", b"S'b'\n") + b".",
    "state of a function": b"cnumpy\ndtype\n}b.",
    "attributes of a function": b"cnumpy\ndtype\n(N}S'_function'\nI1\nstb.",
    "a call of an array": ARRAY + b"(tR.",
    "a class made by hand": b"(inumpy\ndtype\n.",
    "an object": b"(cnumpy\ndtype\nS'u1'\no.",
    "new object": b"cnumpy\ndtype\n)\x81.",
    "persistent": b"Pabc\n.",
    "extension": b"\x82\x01.",
    "a claim of a gigabyte of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 30) + b"abc.",
    "a claim of an exabyte of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc.",
    "a claim of a gigabyte of text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 30) + b"abc.",
    "a claim of a gigabyte array": b"\x80\x05\x96" + struct.pack("<Q", 1 << 30) + b"abc.",
    "a claim of a gigabyte in Python 2": b"T" + struct.pack("<i", 1 << 30) + b"abc.",
    "a frame of a gigabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 30) + b"N.",
    "a memo of a gigabyte": b"\x80\x02Nr" + struct.pack("<I", 0x3FFFFFFF) + b".",
    "a memo of a gigabyte in text": b"Np1073741823\n.",
    "a long integer of a gigabyte": b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"abc.",
    "a nested call": b"cnumpy\ndtype\n(cnumpy\ndtype\n(S'O'\ntRtR.",
    "no end": b"(" * 1000,
    "marks without end": b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000,
    "a protocol of the future": b"\x80\xff.",
    "nothing": b"",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_crafted_pickles_are_refused(what: str) -> None:
    with pytest.raises(REFUSED):
        load_arrays(HOSTILE[what])


def test_claims_take_neither_memory_nor_time() -> None:
    """All of them in a process that may take little more than it has."""
    code = (
        "import resource, sys, time\n"
        "from test_pickles import HOSTILE, REFUSED\n"
        "from resnet_study.data.pickles import load_arrays\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20),) * 2)\n"
        "start = time.process_time()\n"
        "for content in HOSTILE.values():\n"
        "    try: load_arrays(content)\n"
        "    except REFUSED: pass\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "print(grown < 50_000, time.process_time() - start < 5)\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("the size of a process is read from /proc")
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert result.stdout.split() == ["True", "True"], result.stderr


def test_a_flood_of_instructions_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_study.data.pickles.INSTRUCTIONS", 10_000)
    start = time.process_time()
    with pytest.raises(pickle.UnpicklingError, match="more than 10000 instructions"):
        load_arrays(b"]" + b"N0" * 5_000_000 + b".")
    assert time.process_time() - start < 1


def test_what_is_allowed_is_exact() -> None:
    for content in (
        python2_pickle(PIXELS, LABELS),
        pickle.dumps({"data": PIXELS, "labels": LABELS}),
    ):
        pixels, labels = decode_python_batch(content, "labels")
        np.testing.assert_array_equal(pixels, PIXELS)
        np.testing.assert_array_equal(labels, LABELS)


def test_cut_and_flipped_pickles_raise_and_nothing_else() -> None:
    content = bytearray(python2_pickle(PIXELS[:1], LABELS[:1]))
    raised: list[Exception] = []
    random = np.random.default_rng(0)
    for _ in range(2000):
        changed = bytearray(content)
        for position in random.integers(0, len(content), 2):
            # The instructions are before and after the pixels; those are of no interest.
            near = int(position) % 160 if random.random() < 0.5 else -1 - int(position) % 60
            changed[near] = int(random.integers(0, 256))
        try:
            decode_python_batch(bytes(changed), "labels")
        except Exception as error:
            raised.append(error)
    assert len(raised) > 100
    assert not any(isinstance(error, MemoryError) for error in raised)
