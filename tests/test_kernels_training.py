"""Training and evaluation with the native kernels: what XLA computes, with any threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.models import Network
from resnet_study.models.fused import fusable
from resnet_study.spec import from_flat
from resnet_study.training.step import initial_state, make_train_step
from tests.native_kernels import native, random_batch, relative

ARMS: list[dict[str, Any]] = [
    {},
    {"model.residual": False},
    {"model.shortcut": "B"},
    {"model.shortcut": "C"},
    {"model.width": 10},
    {"model.subsampling": "average"},
    {"model.subsampling": "max"},
    {"model.pooling": "max"},
    {"model.shortcut_scaling": "exclusive-gating"},
    {"model.normalization": "none"},
    {"model.normalization": "layer"},
    {"model.normalization": "none", "model.branch_scaling": "fixup"},
    {"model.block_order": "full-preactivation"},
    {"model.activation": "tanh"},
    {"model.shortcut_scaling": "dropout"},
    {"model.block": "bottleneck", "model.depth": 11, "model.shortcut": "B"},
    {"optimizer.nesterov": True},
    {"optimizer.weight_decay_on": "weights", "optimizer.weight_decay": 0.1},
]


@native
@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_a_training_step_agrees_with_xla(arm: dict[str, Any]) -> None:
    """Two steps from one state: loss, all that changes (velocity is the first gradient), probes."""
    spec, shape = from_flat({"model.depth": 8, **arm}), DATASETS["digits"]
    steps = [jax.jit(make_train_step(spec, shape, kernels=k)) for k in ("xla", "native")]  # type: ignore
    before = initial_state(spec, shape, jax.random.key(0))
    for _ in range(2):
        (wanted_state, wanted), (state, metrics) = (
            s(before, random_batch("digits")) for s in steps
        )
        assert abs(metrics.loss - wanted.loss) < 2e-6
        for part in ("optimizer", "statistics", "parameters"):
            leaves = (jax.tree.leaves(getattr(s, part)) for s in (state, wanted_state))
            for got, expected in zip(*leaves, strict=True):
                assert relative(got, expected) < 2e-5
        # Fixup begins with zeros: its first velocities are parallel to the weights, up to rounding.
        unsure = {"gradient_velocity_cosine"} if "model.branch_scaling" in arm else set()
        for name in wanted.layers.keys() - unsure:
            got, expected = metrics.layers[name], wanted.layers[name]
            np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-7)
        before = wanted_state


@native
@pytest.mark.parametrize("residual", [True, False])
def test_evaluation_agrees_with_xla(residual: bool) -> None:
    spec = from_flat({"model.depth": 20, "model.residual": residual})
    model = Network(spec.model, DATASETS["digits"], jax.random.key(0))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(50, 8, 8, 1)), jnp.float32)
    logits = [model(images, train=False, kernels=k)[0] for k in ("xla", "native")]  # type: ignore
    assert relative(logits[1], logits[0]) < 1e-5


@native
def test_the_paper_s_networks_take_the_fused_way_and_arms_do_not() -> None:
    assert fusable(ModelSpec())
    assert fusable(ModelSpec(residual=False))
    assert fusable(ModelSpec(block="bottleneck"))
    assert not fusable(ModelSpec(normalization="none"))
    assert not fusable(ModelSpec(batch_norm_images=64))
    assert not fusable(ModelSpec(pooling="max"))
    assert not fusable(ModelSpec(shortcut_scaling="constant"))
    assert not fusable(ModelSpec(shortcut_scaling="dropout"))


TRAIN = """
import hashlib, os, pathlib, sys
from resnet_study import runtime
runtime.prepare()
import jax, numpy as np
from resnet_study import kernels
from resnet_study.datasets import DATASETS
from resnet_study.spec import (from_flat)
from resnet_study.training.step import initial_state, make_train_step
sys.path.insert(0, {tests!r})
from native_kernels import random_batch
assert kernels.resolve("native") == "native"
spec = from_flat({{"data.name": {data!r}, "model.depth": 14}})
state = initial_state(spec, DATASETS[{data!r}], jax.random.key(0))
step = jax.jit(make_train_step(spec, DATASETS[{data!r}], kernels="native"))
for _ in range(3):
    state, metrics = step(state, random_batch({data!r}))
tasks = [task / "comm" for task in pathlib.Path("/proc/self/task").glob("*")]
if tasks:
    assert sum(task.read_text().strip() == "tf_XLAEigen" for task in tasks) == {threads}
leaves = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state, metrics)))
print(hashlib.sha256(leaves).hexdigest())
"""


@native
@pytest.mark.parametrize("data", ["digits", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_training_gives_the_same_bits_with_one_thread_and_with_several(data: str) -> None:
    tests = str(Path(__file__).parent)
    digests = {
        subprocess.run(
            [sys.executable, "-c", TRAIN.format(tests=tests, data=data, threads=threads)],
            capture_output=True,
            text=True,
            check=True,
            # XLA asks here how many threads it may have; on any number of cores.
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PJRT_NPROC": str(threads)},
        ).stdout
        for threads in (1, 2, 3, 7)
    }
    assert len(digests) == 1
