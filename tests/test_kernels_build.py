"""The library of native kernels: how it is built, and what is done without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_study import kernels
from resnet_study.errors import UserError
from resnet_study.kernels.build import BuildError, build
from resnet_study.spec import RunSpec
from tests.native_kernels import missing


def test_without_a_library_auto_takes_xla_and_native_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernels, "LIBRARY", tmp_path / "absent.so")
    kernels._load.cache_clear()
    try:
        assert kernels.resolve("auto") == "xla"
        with pytest.raises(UserError, match=r"python -m resnet_study\.kernels"):
            kernels.resolve("native")
        (tmp_path / "absent.so").write_bytes(b"no library")
        kernels._load.cache_clear()
        with pytest.raises(UserError, match="other sources"):
            kernels.resolve("native")
    finally:
        kernels._load.cache_clear()


def test_native_kernels_are_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert kernels.resolve("auto") == "xla"
    with pytest.raises(UserError, match="an accelerator is used"):
        kernels.resolve("native")


def test_without_a_compiler_building_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError, match="no C\\+\\+ compiler"):
        build(tmp_path / "library.so")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'x.cpp:1: error: bad weather' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(BuildError, match="bad weather"):
        build(tmp_path / "library.so")


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False], ids=["compiler", "no compiler"])
def test_a_wheel_can_be_built_with_and_without_a_compiler(compiler: bool, tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    environment = dict(os.environ)
    if not compiler:
        environment |= {"PATH": str(Path(sys.executable).parent), "CXX": ""}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        env=environment,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    assert "resnet_study/kernels/native/layer.cpp" in names
    if not compiler:
        assert wheel.name.endswith("py3-none-any.whl")
    elif missing is None:
        assert "resnet_study/kernels/libresnet_study.so" in names
        assert "none-any" not in wheel.name


def test_kernels_are_no_part_of_a_spec() -> None:
    assert "kernels" not in RunSpec().flat()
