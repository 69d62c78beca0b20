"""Which kernels compute the convolutions: XLA's own, or the native ones of this package.

The choice is outside the spec of a run: it changes its numbers by float32 rounding only.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Literal

from resnet_study import runtime
from resnet_study.errors import UserError
from resnet_study.kernels.build import LIBRARY, fingerprint

Kernels = Literal["xla", "native"]
"""What computes a network."""

Choice = Literal["auto", "xla", "native"]
"""What a user asks for; auto takes the native kernels where they are there."""


def resolve(choice: Choice) -> Kernels:
    """The kernels that a choice means on this machine.

    Raises:
        UserError: if native kernels are asked for and are not there, with the reason.
    """
    if choice == "xla":
        return "xla"
    missing = why_not()
    if missing is None:
        return "native"
    if choice == "native":
        raise UserError(f"--kernels=native: {missing}; --kernels=auto goes without them")
    return "xla"


def why_not() -> str | None:
    """Why the native kernels cannot be used here; None where they can."""
    if not runtime.uses_cpu():
        return "they are for the CPU, and an accelerator is used"
    loaded = _load()
    return loaded if isinstance(loaded, str) else None


def summary() -> str:
    """What is in use and what it costs, in one line."""
    missing = why_not()
    if missing is None:
        return f"native ({instructions()})"
    cost = ", at about 0.4 of the speed (benchmarks/README.md)" if runtime.uses_cpu() else ""
    return f"XLA's own{cost}: the native ones {missing.removeprefix('they ')}"


def instructions(name: str | None = None) -> str:
    """The vector instructions in use, such as ``avx2``.

    Args:
        name: takes these from now on, for tests: avx512, avx2 or baseline.

    Raises:
        UserError: if the kernels are not there or this processor lacks the instructions.
    """
    library = _load()
    if isinstance(library, str):
        raise UserError(f"native kernels: {library}")
    found = library.resnet_study_instructions(None if name is None else name.encode())
    if found is None:
        raise UserError(f"native kernels: no {name} on this processor")
    return str(found.decode())


def winograd(allowed: bool | None = None) -> bool:
    """Whether layers that can be are computed by Winograd's algorithm, as they are unless told.

    The others, and with False all, take every product: for tests and comparisons. It holds for
    this process, and like the choice of kernels it changes numbers by float32 rounding only.

    Args:
        allowed: from now on.

    Raises:
        UserError: if the kernels are not there.
    """
    library = _load()
    if isinstance(library, str):
        raise UserError(f"native kernels: {library}")
    return bool(library.resnet_study_winograd(-1 if allowed is None else int(allowed)))


@functools.cache
def _load() -> ctypes.CDLL | str:
    """The library, its handlers known to XLA; or why not."""
    if not LIBRARY.exists():
        return (
            "they were not built, for want of a C++ compiler when this package was installed; "
            "install one, then run python -m resnet_study.kernels"
        )
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.resnet_study_instructions.restype = ctypes.c_char_p
        library.resnet_study_instructions.argtypes = [ctypes.c_char_p]
        library.resnet_study_fingerprint.restype = ctypes.c_char_p
        current = library.resnet_study_fingerprint().decode() == fingerprint()
    except (OSError, AttributeError):
        current = False
    if not current:
        return "they were built from other sources; run python -m resnet_study.kernels"
    import jax

    for name in ("forward", "backward", "pool", "pool_backward", "descend"):
        handler = jax.ffi.pycapsule(getattr(library, f"resnet_study_{name}"))
        jax.ffi.register_ffi_target(f"resnet_study_{name}", handler, platform="cpu")
    return library
