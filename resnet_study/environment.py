"""What a run was made with: versions, device, git revision, settings; names no machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_study import __version__, runtime
from resnet_study.errors import UserError, shown

if TYPE_CHECKING:
    import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas", "scikit-learn")

_ASK = """
import sys
from resnet_study.environment import devices_here
from resnet_study.errors import UserError
try:
    devices_here()
except UserError as error:
    sys.exit(str(error))
"""


def describe(
    command: str, data_source: str, data_digest: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Content of ``environment.json``.

    Args:
        command: the command line that the user gave.
        data_source: label of the data, such as "CIFAR-10 (JPEG)".
        data_digest: what identifies their pixels and labels, for each split.
    """
    devices = devices_here()
    return {
        "resnet_study": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": versions(),
        "device": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "cores": runtime.available_cores(),
        },
        "settings": runtime.settings(),
        "git": git_revision(),
        "data": data_source,
        "data_digest": dict(data_digest or {}),
        "command": command,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def devices_here() -> list[jax.Device]:
    """The devices that jax computes on.

    Raises:
        UserError: if it has none, as where JAX_PLATFORMS names what this machine does not have.
    """
    import jax

    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        chosen = os.environ.get("JAX_PLATFORMS", "")
        reason = shown(str(error).partition("\n")[0] or "none could be started")
        raise UserError(
            f"JAX_PLATFORMS={chosen}: jax has no device ({reason}); unset it, or take cpu"
        ) from None


def check_platforms() -> None:
    """Refuse JAX_PLATFORMS that are not there, before runs are handed to workers.

    In a process of its own, for jax keeps an accelerator from others.

    Raises:
        UserError: as `devices_here`.
    """
    if os.environ.get("JAX_PLATFORMS", "") in ("", "cpu"):
        return
    ended = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise UserError(ended.stderr.strip().rpartition("\n")[2])


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change numbers."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_revision() -> dict[str, Any]:
    """Commit of this checkout and whether files differ from it; empty outside one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return {}

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {}
