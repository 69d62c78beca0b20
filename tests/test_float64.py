"""Runs in float64: another computation, the start of float32, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy

from resnet_study.architecture import ModelSpec, Precision
from resnet_study.data import Dataset, load_dataset
from resnet_study.data.augment import draw
from resnet_study.data.batches import epoch_order
from resnet_study.datasets import DATASETS
from resnet_study.errors import UserError
from resnet_study.inspection.inspected import export, load, logits_of
from resnet_study.models import weights_of
from resnet_study.models.initialization import drawn, initializer
from resnet_study.records import read_run
from resnet_study.spec import RunSpec, from_flat
from resnet_study.tensors import arithmetic
from resnet_study.training import loop, programs
from resnet_study.training.devices import Devices
from resnet_study.training.loop import train
from resnet_study.training.options import Execution, Host, Options, StopFlag
from resnet_study.training.programs import Chunked, keys_of, shape_of
from resnet_study.training.step import Batch, TrainState, initial_state, make_train_step

SHAPE = DATASETS["digits"]
RATE, DECAY = 0.1, 1e-4
QUICKLY = {"xla_backend_optimization_level": "0"}
CPU = Devices("xla", (jax.devices()[0],))


def spec_of(precision: str = "float64", **values: Any) -> RunSpec:
    base = {
        "model.depth": 8,
        "model.width": 2,
        "model.precision": precision,
        "data.name": "digits",
        "data.batch_size": 8,
        "data.augmentation": "none",
        "schedule.iterations": 3,
        "probes.log_every": 1,
        "probes.layers_every": 0,
    }
    return from_flat({**base, **values})


def small(spec: RunSpec) -> Dataset:
    """Few enough images that evaluations take no time."""
    data = load_dataset(spec.data, spec.seed)
    few = {name: getattr(data, name).take(np.arange(16)) for name in ("train", "val", "test")}
    return data.__class__(**{**vars(data), **few})


def step_of(spec: RunSpec, probes: bool = True) -> tuple[Any, TrainState, Batch]:
    """A step and what it is given; to be called within the arithmetic of the spec."""
    data = small(spec)
    batch = Batch(
        jnp.asarray(data.train.images[:8]),
        jnp.asarray(data.train.labels[:8]),
        jnp.asarray(data.mean),
        jnp.asarray(RATE, float),
        keys_of(0).augmentation,
        keys_of(0).dropout,
    )
    state = initial_state(spec, SHAPE, keys_of(0).initialization)
    return make_train_step(spec, SHAPE, probes=probes), state, batch


def loss_in_numpy(weights: list[np.ndarray], batch: Batch) -> float:
    """Of a plain network at initialisation, whose γ are 1 and whose β and biases are 0."""
    images = np.asarray(batch.images, np.float64) / 255 - np.asarray(batch.pixel_mean, np.float64)
    x = images
    for number, kernel in enumerate(weights[:-1]):
        stride = 2 if number and kernel.shape[3] > kernel.shape[2] else 1
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        z = np.einsum("nhwcij,ijco->nhwo", windows[:, ::stride, ::stride], kernel)
        z = z - z.mean(axis=(0, 1, 2))
        x = np.maximum(z / np.sqrt(np.square(z).mean(axis=(0, 1, 2)) + 1e-5), 0)
    logits = x.mean(axis=(1, 2)) @ weights[-1]
    own = logits[np.arange(len(logits)), np.asarray(batch.labels)]
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - own))


def test_a_step_is_that_of_numpy_in_float64() -> None:
    """Loss, and the slope of the loss along a direction in all weights, from the first update.

    Finite differences of float64 are good to about 1e-9 of the slope; float32 to 1e-6."""
    errors, starts = {}, []
    kinds: tuple[Precision, ...] = ("float64", "float32")
    for precision in kinds:
        with arithmetic(precision):
            spec = spec_of(precision, **{"model.residual": False})
            step, state, batch = step_of(spec, probes=False)
            following, metrics = jax.jit(step, compiler_options=QUICKLY)(state, batch)
            before, after = (
                [np.asarray(w, np.float64) for w in weights_of(s.parameters)]
                for s in (state, following)
            )
            starts.append(before)
            random = np.random.default_rng(0)
            direction = [random.normal(size=w.shape) for w in before]
            # w ← w − η (g + λ w), from a velocity of 0.
            slope = sum(
                np.vdot((w - v) / RATE - DECAY * w, d)
                for w, v, d in zip(before, after, direction, strict=True)
            )

            def moved(h: float, w=before, d=direction, batch=batch) -> float:
                return loss_in_numpy([a + h * b for a, b in zip(w, d, strict=True)], batch)

            exact = (moved(1e-6) - moved(-1e-6)) / 2e-6
            errors[precision] = [
                abs(float(metrics.loss) / moved(0.0) - 1),
                abs(float(slope) / exact - 1),
            ]
    for single, double in zip(*starts, strict=True):
        np.testing.assert_array_equal(single, double)
    assert errors["float64"][0] < 1e-14 < 1e-9 < errors["float32"][0]
    assert errors["float64"][1] < 1e-8
    assert errors["float32"][1] > 10 * errors["float64"][1]


@pytest.mark.parametrize(
    "switches",
    [
        {"model.residual": False},
        {"model.shortcut": "C", "model.block_order": "full-preactivation"},
        {"model.normalization": "none", "model.branch_scaling": "fixup"},
        {"model.shortcut_scaling": "exclusive-gating", "model.batch_norm_images": 4},
        {"model.normalization": "layer", "schedule.warmup_error": 80.0},
        {"model.initialization": "orthogonal"},
    ],
    ids=lambda switches: "-".join(map(str, switches.values())),
)
def test_everything_in_a_step_is_float64(switches: dict[str, Any]) -> None:
    spec = spec_of(**switches)
    with arithmetic("float64"):
        step, state, batch = step_of(spec)
        following, metrics = jax.eval_shape(step, state, batch)
        made = jax.make_jaxpr(step)(state, batch)
    leaves = {jax.tree_util.keystr(p): v for p, v in jax.tree.leaves_with_path((state, following))}
    whole = {name for name, leaf in leaves.items() if not jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert all(name.endswith(("step", "over")) for name in whole)
    assert {leaf.dtype.name for name, leaf in leaves.items() if name not in whole} == {"float64"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(metrics)} == {"float64"}
    # In float32 are the mean pixels, which are data.
    single = {
        equation.primitive.name
        for equation in equations(made.jaxpr)
        for value in equation.outvars
        if getattr(value.aval, "dtype", None) == jnp.float32
    }
    assert single <= {"broadcast_in_dim", "reshape"}


def equations(jaxpr: Any) -> Any:
    """Of a program and all that it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    yield from equations(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("initialization", ["he", "glorot", "delta-orthogonal"])
def test_both_precisions_start_from_one_point_and_draw_the_same(initialization: str) -> None:
    found = []
    kinds: tuple[Precision, ...] = ("float32", "float64")
    for precision in kinds:
        with arithmetic(precision):
            keys = keys_of(5)
            model = ModelSpec(initialization=initialization)  # type: ignore[arg-type]
            kernel = drawn(initializer(model), keys.initialization, (3, 3, 2, 4))
            augmented = draw(keys.augmentation, 9, 4)
            found.append((kernel, *augmented, epoch_order(keys.order, 3, 50)))
    for single, double in zip(*found, strict=True):
        np.testing.assert_array_equal(single, double)
    assert [leaf.dtype.name for leaf in found[1]] == ["float64", "bool", "int32", "int32"]


@pytest.mark.slow
def test_a_run_resumes_to_the_bit_and_changes_no_other_run(tmp_path: Path) -> None:
    """Whole, and stopped after its first iteration; runs in float32 before and after."""

    class Once(StopFlag):
        @property
        def requested(self) -> bool:  # type: ignore[override]
            return True

    options = Options(execution=Execution("xla"))

    def run(precision: str, name: str, **host: Any) -> str:
        spec = spec_of(precision)
        return str(train(spec, small(spec), tmp_path / name, options, Host(**host))["status"])

    assert run("float32", "before") == "finished"
    assert run("float64", "whole") == "finished"
    assert run("float64", "pieces", stop=Once()) == "stopped"
    assert run("float64", "pieces") == "finished"
    assert run("float32", "after") == "finished"
    assert jnp.zeros(()).dtype == jnp.float32
    for one, other in (("before", "after"), ("whole", "pieces")):
        a, b = (read_run(tmp_path / name).metrics for name in (one, other))
        pd.testing.assert_frame_equal(a, b, check_exact=True)
    single, double = (read_run(tmp_path / name).metrics for name in ("before", "whole"))
    pd.testing.assert_frame_equal(single, double, rtol=1e-5)
    assert (double.loss != double.loss.astype(np.float32)).any()

    # The trained network is read, and answers, as it was computed.
    network = load(tmp_path / "whole")
    data = small(network.spec)
    logits = logits_of(network, CPU, data.test.images, data.mean)
    assert logits.dtype == np.float64
    losses = -scipy.special.log_softmax(logits, axis=1)[np.arange(16), data.test.labels]
    recorded = double.query("split == 'test' and step == 3").loss.item()
    assert losses.mean() == pytest.approx(recorded, rel=1e-14)
    # And written and read.
    export(network, tmp_path / "w.safetensors")
    again = load(None, tmp_path / "w.safetensors")
    for a, b in zip(*(jax.tree.leaves(n.parameters) for n in (network, again)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert b.dtype == np.float64


def test_a_program_of_chunks_has_one_type_throughout() -> None:
    """What an accelerator runs, traced; a loop whose state changed its type would be refused."""
    spec = spec_of(**{"data.augmentation": "crop-flip"})
    with arithmetic("float64"):
        data = small(spec)
        program = Chunked(spec, data, CPU)
        state = initial_state(spec, shape_of(data), keys_of(0).initialization)
        numbers = (np.int32(0), np.int32(0), np.zeros(programs.CAPACITY), np.int32(1))
        traced = jax.eval_shape(
            program.programs.with_probes, state, program.data, *program.keys, *numbers
        )
        sums = jax.eval_shape(
            program.programs.evaluation,
            state.parameters,
            state.statistics,
            program.data,
            *numbers[:2],
        )
    assert {leaf.dtype.name for leaf in jax.tree.leaves((traced[1], sums))} == {"float64"}


def test_it_is_another_run_and_takes_the_kernels_of_xla(tmp_path: Path) -> None:
    assert spec_of("float64").run_id != spec_of("float32").run_id
    spec = spec_of()
    with pytest.raises(UserError, match="--kernels=native: they compute in float32, not in float"):
        train(spec, small(spec), tmp_path, Options(execution=Execution("native")))
    assert loop.devices.choose(Execution(), spec).kernels == "xla"
