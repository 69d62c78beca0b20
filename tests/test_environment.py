"""What a run was made with is recorded, and names no machine."""

import getpass
import importlib.metadata
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from resnet_study import __version__, environment, runtime


def test_the_environment_of_this_process() -> None:
    found = environment.describe("resnet-study train --seed=1", "digits")
    assert json.loads(json.dumps(found)) == found
    assert found["resnet_study"] == __version__
    assert found["packages"]["jax"] == importlib.metadata.version("jax")
    assert found["device"]["platform"] == "cpu"
    assert found["device"]["count"] >= 1
    assert found["device"]["cores"] == runtime.available_cores()
    assert found["settings"] == runtime.prepare()
    assert (found["command"], found["data"]) == ("resnet-study train --seed=1", "digits")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["started"])


def test_no_machine_is_named() -> None:
    text = json.dumps(environment.describe("resnet-study", "digits"))
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text
    for name in (socket.gethostname(), getpass.getuser()):
        assert f'"{name}"' not in text


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package-here"))
    found = environment.versions()
    assert found["no-such-package-here"] == "not installed"
    assert found["numpy"] == importlib.metadata.version("numpy")


def checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository that holds a copy of the module's place in the package."""
    package = folder / "resnet_study"
    package.mkdir()
    (package / "environment.py").write_text("")
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    return package / "environment.py"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.invalid")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_the_revision_and_whether_it_is_dirty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = checkout(tmp_path, monkeypatch)
    assert environment.git_revision() == {}
    git(tmp_path, "init", "-q")
    # No commit yet, so there is no revision to name.
    assert environment.git_revision() == {}
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert environment.git_revision() == {"revision": revision, "dirty": False}
    file.write_text("changed")
    assert environment.git_revision() == {"revision": revision, "dirty": True}


def test_a_machine_without_git_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout(tmp_path, monkeypatch)
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git_revision() == {}
