"""Compiles the native kernels: at installation, by hatch_build.py, or by hand.

    python -m resnet_study.kernels

Imports nothing of the package, since it runs before the package is installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
LIBRARY = Path(__file__).parent / "libresnet_study.so"

_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-Wno-psabi")
_X86 = {
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma"),
}


class BuildError(Exception):
    """Why the kernels could not be compiled, in one line."""


def compiler() -> str:
    """The C++ compiler: $CXX, else the first of c++, g++ and clang++ that is there.

    Raises:
        BuildError: if there is none.
    """
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and shutil.which(name.split()[0]):
            return name
    raise BuildError("no C++ compiler (c++, g++ or clang++) was found")


def build(library: Path = LIBRARY) -> Path:
    """Compile every instruction set of this kind of processor into one library.

    Args:
        library: file to write; it is replaced at once or not at all.

    Raises:
        BuildError: if there is no compiler, no jaxlib or no support for the system, or if the
            compiler fails.
    """
    if platform.system() not in ("Linux", "Darwin"):
        raise BuildError(f"native kernels are not made for {platform.system()}")
    command = [*compiler().split(), *_FLAGS]
    try:
        import jaxlib
    except ImportError:
        raise BuildError("jaxlib, whose headers are needed, is not installed") from None
    headers = Path(str(jaxlib.__file__)).parent / "include"
    instructions: dict[str, tuple[str, ...]] = {"baseline": ()}
    if platform.machine() in ("x86_64", "AMD64"):
        instructions |= _X86
    with tempfile.TemporaryDirectory() as folder:
        objects = {"ffi": Path(folder, "ffi.o")}
        known = f'-DFINGERPRINT="{fingerprint()}"'
        calls = [[*command, known, "-isystem", str(headers), "-c", str(SOURCES / "ffi.cpp")]]
        for name, flags in instructions.items():
            objects[name] = Path(folder, f"{name}.o")
            source = str(SOURCES / "layer.cpp")
            calls.append([*command, *flags, f"-DINSTRUCTIONS={name}", "-c", source])
        outputs = [["-o", str(made)] for made in objects.values()]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_run, map(list.__add__, calls, outputs)))
        # The baseline comes before the others: of a function of the standard library that
        # several of them hold the linker keeps the first, which must run everywhere.
        linked = library.with_suffix(f".{os.getpid()}")
        _run([*command, "-shared", "-o", str(linked), *map(str, objects.values())])
        linked.replace(library)
    return library


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise BuildError(f"{command[0]} failed: {lines[0].strip()[:300]}")


def fingerprint() -> str:
    """Of the sources; the library knows those that it was built from."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]
