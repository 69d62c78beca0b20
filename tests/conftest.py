"""One environment for every test: the CPU, a cache of the tests' own, no window."""

import os
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

# A first example that compiles or starts a process takes seconds.
settings.register_profile("resnet-study", deadline=None)
settings.load_profile("resnet-study")


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the checkout."""
    return ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, or one core waits for the other's last file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
