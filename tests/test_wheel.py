"""The wheel outside of a clone: every command, with the studies and sweeps that travel in it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a fresh environment that has the wheel, and its dependencies from here."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--quiet")
    made = run(sys.executable, "-m", "pip", "wheel", ROOT, "-w", folder, *options, cwd=folder)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("resnet_study-*.whl")
    made = run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    assert made.returncode == 0, made.stderr
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    # Of a path file inside a path file nothing is read, so the clone itself is not found.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python = folder / "venv" / "bin" / "python"
    made = run(python, "-m", "pip", "install", "--no-deps", "--quiet", wheel, cwd=folder)
    assert made.returncode == 0, made.stderr
    where = run(python, "-c", "import resnet_study; print(resnet_study.__file__)", cwd=folder)
    assert str(packages) in where.stdout
    return folder / "venv" / "bin" / "resnet-study"


@pytest.mark.slow
def test_a_study_runs_from_the_wheel_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "reproduce", "smoke", "--workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "smoke" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "results" / "smoke" / "findings.md").exists()
    for study in ("quick", "cifar10_night"):
        listed = run(installed, "reproduce", "no-such-study", cwd=tmp_path)
        assert listed.returncode == 2
        known = run(
            Path(installed).parent / "python",
            "-c",
            "from resnet_study.studies.find import load_study, specs_of; import sys; "
            "print(len(specs_of(load_study(sys.argv[1]))))",
            study,
            cwd=tmp_path,
        )
        assert int(known.stdout) > 10, known.stderr
