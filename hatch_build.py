"""Compiles the native kernels while the package is installed; without a compiler it goes on."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """See `resnet_study/kernels/build.py`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel or an editable install is made."""
        path = Path(self.root, "resnet_study", "kernels", "build.py")
        spec = importlib.util.spec_from_file_location("build_kernels", path)
        assert spec is not None
        assert spec.loader is not None
        kernels = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(kernels)
        try:
            library = kernels.build()
        except kernels.BuildError as error:
            self.app.display_warning(f"native kernels: {error}; XLA computes everything")
            return
        build_data["artifacts"].append(f"/{library.relative_to(self.root)}")
        build_data["pure_python"] = False
        # It is loaded by ctypes, so any Python of this platform can use it.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
