"""Process settings that must be made before jax starts. Imports no jax.

None of them changes what is computed beyond rounding, and each one stays away where the
user has chosen otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

from resnet_study.errors import UserError

CACHE_VARIABLE = "RESNET_STUDY_CACHE"

FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
# jaxlib aborts the process on a flag that it does not know, so the flag is set only
# where it was seen to work.
FUSION_FLAG_VERSIONS = ("0.10.2",)

_MALLOC_VARIABLES = ("MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "LD_PRELOAD")
# Parameter numbers of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8

_DECIDED_HERE = {
    "JAX_ENABLE_X64": "model.precision says it",
    "JAX_DEBUG_NANS": "what is undefined is recorded as NaN",
    "JAX_DEBUG_INFS": "a run may diverge",
}
"""What a person may have set for other programs, and would change or end a run here."""

KEPT = "keeps its pages"

CGROUP = Path("/sys/fs/cgroup/memory.max")
"""Where a container is told its share."""

_settings: dict[str, str] = {}


def prepare() -> dict[str, str]:
    """Make every setting that applies, once; call before importing jax.

    Returns:
        What was set and what was left alone, with the reason, for `doctor` and
        ``environment.json``.

    Raises:
        UserError: if jax was imported before and the settings would come too late.
    """
    if _settings:
        return _settings
    if "jax" in sys.modules:
        raise UserError("runtime.prepare() must be called before jax is imported")
    _settings["allocator"] = _keep_pages()
    _settings["xla_fusion"] = _set_fusion_flag()
    _settings["compilation_cache"] = _set_compilation_cache()
    for name in (name for name in _DECIDED_HERE if os.environ.pop(name, None)):
        _settings[name.lower()] = f"left out ({_DECIDED_HERE[name]})"
    # Orbax and absl log every checkpoint; the run folder already says it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return _settings


def settings() -> dict[str, str]:
    """What `prepare` did; empty where jax is used without it, as in a notebook."""
    return dict(_settings)


def cache_folder(cache: Path | None = None) -> Path:
    """Folder for downloads, decoded images and compiled programs; it need not exist.

    The argument, else the environment variable RESNET_STUDY_CACHE, else ``resnet-study`` in
    the user's cache folder ($XDG_CACHE_HOME or ~/.cache).
    """
    named = cache or os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification has relative paths ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "resnet-study"


def uses_cpu() -> bool:
    """Whether jax will compute on the CPU, judged without starting it."""
    chosen = os.environ.get("JAX_PLATFORMS", "").lower()
    if chosen:
        return chosen.split(",")[0] == "cpu"
    accelerators = ("/dev/nvidia0", "/dev/kfd", "/dev/accel0", "/dev/vfio/0")
    return not any(Path(device).exists() for device in accelerators)


def pin_to_core(index: int) -> None:
    """Restrict this process to one of its cores, so that XLA starts one thread."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int:
    """Bytes of this machine, or of this container's share."""
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # There may be no container, or one without a limit.
    with contextlib.suppress(OSError, ValueError):
        here = min(here, int(CGROUP.read_text()))
    return here


def return_pages() -> None:
    """Give the system back, once, what malloc holds free, if `prepare` let it keep its pages."""
    if _settings.get("allocator") == KEPT:
        ctypes.CDLL(None).malloc_trim(0)


def _keep_pages() -> str:
    """Let malloc keep the pages that XLA gives back after every step.

    XLA:CPU takes its temporaries from malloc at each execution. glibc returns them to
    the system, so that every step faults in hundreds of megabytes again.
    """
    if not uses_cpu():
        return "left alone (an accelerator is used)"
    if platform.libc_ver()[0] != "glibc":
        return "left alone (not glibc)"
    if chosen := [name for name in _MALLOC_VARIABLES if os.environ.get(name)]:
        return f"left alone ({', '.join(chosen)} set by the user)"
    libc = ctypes.CDLL(None)
    options = (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, -1),
        (_M_TOP_PAD, 256 << 20),
    )
    refused = [number for number, value in options if libc.mallopt(number, value) != 1]
    return f"mallopt refused {refused}" if refused else KEPT


def _set_fusion_flag() -> str:
    if not uses_cpu():
        return "left alone (an accelerator is used)"
    if FUSION_FLAG in os.environ.get("XLA_FLAGS", ""):
        return "left alone (XLA_FLAGS set by the user)"
    # Reads a package index: too slow for a module that every command imports.
    import importlib.metadata

    version = importlib.metadata.version("jaxlib")
    if version not in FUSION_FLAG_VERSIONS:
        return f"left alone (jaxlib {version} was not tried)"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "left alone (only tried on Linux x86_64)"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FUSION_FLAG}=eltwise,reduce"
    os.environ["XLA_FLAGS"] = flags.strip()
    return "eltwise,reduce"


def _set_compilation_cache() -> str:
    """Keep compiled programs between processes, apart for each kind of processor."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return "left alone (JAX_COMPILATION_CACHE_DIR set by the user)"
    folder = cache_folder() / "xla" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"off ({folder}: {error.strerror})"
    if not os.access(folder, os.W_OK):
        return f"off ({folder}: not writable)"
    keep_programs(folder)
    return "on"


def keep_programs(folder: Path) -> None:
    """Compiled ones, in a folder, unless the user has named another.

    Small ones too: what draws, scales and places weights is dozens of them.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # One that another process is just writing, or was killed at, is compiled again.
    warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")


def _processor() -> str:
    """Fingerprint of the instruction set, since compiled programs do not move between them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"
