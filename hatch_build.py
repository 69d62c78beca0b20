"""Compiles the native kernels while the package is installed; without a compiler it goes on.

A wheel also takes studies, sweeps and the committed findings along.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """See `resnet_study/kernels/build.py` and `resnet_study.studies.find.home`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel or an editable install is made."""
        if version == "standard":
            # They travel inside the package; in a clone they are at its top.
            patterns = ("experiments/*.py", "sweeps/*.yaml", "results/reference/*/findings.json")
            for file in (file for pattern in patterns for file in Path(self.root).glob(pattern)):
                inside = f"resnet_study/bundled/{file.relative_to(self.root).as_posix()}"
                build_data["force_include"][str(file)] = inside
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
