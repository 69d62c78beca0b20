"""One environment for every test: the CPU, a cache of the tests' own, no window.

And fixtures that several files share.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "tests"

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"
# Arrays of different rank meet by mistake more often than not. Only here, and not in `runtime`:
# a study's own probe may broadcast as NumPy does.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Compiled programs are kept between test runs, never beside those of the user.
os.environ["RESNET_STUDY_CACHE"] = str(CACHE)

# A shell has what it starts in the background ignore Ctrl-C, and so would the commands under test.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from resnet_study import runtime  # noqa: E402

# Before any test module imports jax.
runtime.prepare()

from resnet_study.data import cifar10  # noqa: E402
from resnet_study.spec import from_flat  # noqa: E402
from tests.recorded import write_run  # noqa: E402

# A first example that compiles or starts a process takes seconds.
settings.register_profile("resnet-study", deadline=None)
settings.load_profile("resnet-study")


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture
def nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, cache or ``data`` folder of the machine takes part."""
    monkeypatch.delenv(cifar10.PATH_VARIABLE, raising=False)
    monkeypatch.setenv(runtime.CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder with four runs."""
    folder = tmp_path_factory.mktemp("written")
    for residual in (False, True):
        for seed in (0, 1):
            values = {"model.depth": 8, "model.residual": residual, "seed": seed}
            spec = from_flat({**values, "data.name": "synthetic", "schedule.iterations": 40})
            write_run(folder / "runs", spec)
    return folder


@pytest.fixture
def study(written: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(written, tmp_path / "study"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, or one core waits for the other's last file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
