"""What a user asks of the machine, and how large networks are dispatched."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from resnet_study.spec import from_flat
from resnet_study.training import devices
from resnet_study.training.devices import save_memory

RUN = """
import sys
from pathlib import Path
from resnet_study import runtime
runtime.prepare()
from resnet_study.training import devices
devices.WAIT_FROM = float(sys.argv[1])
from resnet_study.data import load_dataset
from resnet_study.spec import (from_flat)
from resnet_study.training.loop import train
spec = from_flat({"model.depth": 8, "data.name": "synthetic", "schedule.iterations": 3})
train(spec, load_dataset(spec.data, spec.seed), Path(sys.argv[2]))
import jax
long = jax.jit(lambda x: jax.lax.fori_loop(0, 300, lambda _, y: y @ x / 600, x))
x = long(jax.numpy.ones((600, 600)))
x.block_until_ready()
print(long(x).is_ready())
"""


@pytest.mark.parametrize("waits", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_decides_whether_steps_wait_for_each_other(tmp_path_factory, waits: bool) -> None:
    """In the process of a run, computations have ended when they return, or have not."""
    folder = tmp_path_factory.mktemp("run")
    words = [sys.executable, "-c", RUN, "0" if waits else "inf", str(folder / "run")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"{waits}\n"


@pytest.mark.parametrize(
    ("flat", "waits"),
    [
        ({"data.name": "cifar10", "model.depth": 20}, True),
        ({"data.name": "cifar10", "model.depth": 8}, True),
        ({"data.name": "digits", "model.depth": 110}, False),
        ({"data.name": "digits", "model.depth": 1202}, True),
    ],
)
def test_large_networks_wait(
    monkeypatch: pytest.MonkeyPatch, flat: dict[str, object], waits: bool
) -> None:
    import jax

    seen = {}
    monkeypatch.setattr(jax.config, "update", seen.__setitem__)
    save_memory(from_flat(flat))
    assert seen == {"jax_cpu_enable_async_dispatch": not waits}
    assert devices.WAIT_FROM == 2**24


COMPILES = """
from pathlib import Path
import numpy as np
from resnet_study import runtime
kept = runtime.prepare()["allocator"] == runtime.KEPT
import jax
from resnet_study.spec import (RunSpec)
from resnet_study.training.devices import save_memory

def mib():
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x]
    return int(line.split()[1]) / 1024

for _ in range(2):
    save_memory(RunSpec())
jax.numpy.ones(3).block_until_ready()
pieces = [np.ones(50_000, np.uint8) for _ in range(4000)]
last = np.ones(50_000, np.uint8)
full = mib()
del pieces
freed = mib()
jax.jit(lambda x: x + 1)(3)
print(int(kept), round(full - freed), round(freed - mib()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_compilation_leaves_goes_back_to_the_system() -> None:
    words = [sys.executable, "-c", COMPILES]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC")}
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "JAX_PLATFORMS": "cpu"},
    )
    kept, freed, returned = map(int, done.stdout.split())
    if kept:
        assert freed < 20
        assert returned > 150
