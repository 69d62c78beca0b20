"""One run on several devices: the same numbers, and refusals in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from resnet_study.data import load_dataset
from resnet_study.errors import UserError
from resnet_study.files import write_json
from resnet_study.records import read_run
from resnet_study.spec import RunSpec, from_flat
from resnet_study.training import devices
from resnet_study.training.devices import Devices, begun_with, choose
from resnet_study.training.loop import train
from resnet_study.training.options import Execution, Host

BASE = {
    "model.depth": 8,
    "data.name": "synthetic",
    "data.batch_size": 32,
    "schedule.iterations": 2,
    "probes.log_every": 1,
    "probes.evaluate_every": 2,
    "probes.layers_every": 1,
}


def spec_of(**values: Any) -> RunSpec:
    return from_flat({**BASE, **values})


ON_EIGHT = """
import json, re, sys
from resnet_study import runtime
runtime.prepare()
import jax, numpy as np
from resnet_study.data import load_dataset
from resnet_study.spec import (from_flat)
from resnet_study.training.chunks import Chunk
from resnet_study.training.devices import choose
from resnet_study.training.options import Execution
from resnet_study.training.programs import Chunked, Stepwise, keys_of, shape_of
from resnet_study.training.step import initial_state

assert len(jax.devices()) == 8
spec = from_flat(json.loads(sys.argv[1]))
data = load_dataset(spec.data, spec.seed)
found = []
for count, make in json.loads(sys.argv[2]):
    devices = choose(Execution("xla", count), spec)
    program = {"Stepwise": Stepwise, "Chunked": Chunked}[make](spec, data, devices)
    state = initial_state(spec, shape_of(data), keys_of(spec.seed).initialization)
    state, metrics = program.train(devices.replicate(state), Chunk(0, 2, True))
    metrics = metrics()
    evaluated = program.evaluate(state, "test")()
    leaves = jax.tree.leaves(state)
    assert all(leaf.sharding.device_set == set(devices.members) for leaf in leaves)
    shapes = ""
    if make == "Stepwise" and count > 1:
        text = program.programs.with_probes.lower(state, program.batch(2)).compile().as_text()
        shapes = sorted(set(re.findall(r"f32\\[(\\d+),8,8,16\\]", text)))
    found.append({
        "loss": metrics.loss.tolist(),
        "layers": {k: v.tolist() for k, v in metrics.layers.items()},
        "leaves": [np.asarray(leaf, float).ravel().tolist() for leaf in leaves],
        "evaluated": evaluated,
        "images": shapes,
    })
print(json.dumps(found))
"""


def on_eight(spec: RunSpec, *ways: tuple[int, str]) -> list[dict[str, Any]]:
    """Two steps and an evaluation, in a process that has eight virtual devices."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [sys.executable, "-c", ON_EIGHT, json.dumps(spec.flat()), json.dumps(ways)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def assert_close(one: dict[str, Any], other: dict[str, Any], rel: float = 1e-4) -> None:
    """Losses, every layer's gradients, the trained state and the evaluation."""
    assert other["loss"] == pytest.approx(one["loss"], rel=rel)
    assert other["evaluated"] == pytest.approx(one["evaluated"], rel=rel)
    assert set(one["layers"]) == set(other["layers"])
    for name, values in one["layers"].items():
        for mine, yours in zip(values, other["layers"][name], strict=True):
            assert yours == pytest.approx(mine, rel=10 * rel, abs=1e-6, nan_ok=True), name
    for mine, yours in zip(one["leaves"], other["leaves"], strict=True):
        assert yours == pytest.approx(mine, rel=10 * rel, abs=2e-5)


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one() -> None:
    """Batch normalisation over the global batch, augmentation and dropout included; and the work is
    divided: no device holds a map of the whole batch."""
    random = {"data.augmentation": "crop-flip", "data.crop_padding": 2}
    spec = spec_of(**random, **{"model.shortcut_scaling": "dropout"})
    one, eight = on_eight(spec, (1, "Stepwise"), (8, "Stepwise"))
    assert_close(one, eight)
    assert eight["images"] == ["4"]


@pytest.mark.slow
@pytest.mark.parametrize("images", [2, 16])
def test_groups_of_batch_normalisation_may_lie_across_devices(images: int) -> None:
    """With 8 devices of 4 images each: groups within a device, and over 4 of them."""
    spec = spec_of(**{"model.batch_norm_images": images})
    one, eight = on_eight(spec, (1, "Stepwise"), (8, "Stepwise"))
    assert_close(one, eight)


@pytest.mark.slow
def test_the_program_for_chunks_on_eight_devices_gives_the_numbers_of_one() -> None:
    spec = spec_of(**{"data.augmentation": "crop-flip", "data.crop_padding": 2})
    one, chunked = on_eight(spec, (1, "Stepwise"), (8, "Chunked"))
    assert_close(one, chunked)


def test_what_is_not_there_or_does_not_divide_is_refused() -> None:
    spec = spec_of()
    count = len(jax.devices())
    for execution, words in (
        (Execution(devices=count + 31), "does not|there"),
        (Execution(devices=2 * count), "here"),
    ):
        with pytest.raises(UserError, match=words) as error:
            choose(execution, spec)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="at least 1"):
        Execution(devices=0)


def fake(monkeypatch: pytest.MonkeyPatch, count: int, platform: str, **more: Any) -> None:
    """As if jax had these devices."""
    known = {"device_kind": f"some {platform}", "memory_stats": lambda: None}
    device = SimpleNamespace(platform=platform, **known, **more)
    monkeypatch.setattr(jax, "devices", lambda: [device] * count)


def test_a_batch_that_devices_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, 8, "gpu")
    with pytest.raises(UserError, match=r"--devices=5: does not divide data.batch_size=32"):
        choose(Execution(devices=5), spec_of())
    assert len(choose(Execution(devices=4), spec_of()).members) == 4


@pytest.mark.parametrize(
    ("platform", "capability", "fine"),
    [("cpu", None, False), ("tpu", None, False), ("gpu", "7.5", False), ("gpu", "9.0", True)],
)
def test_tf32_and_float64_need_hardware_that_has_them(
    monkeypatch: pytest.MonkeyPatch, platform: str, capability: str | None, fine: bool
) -> None:
    fake(monkeypatch, 1, platform, compute_capability=capability)
    spec = spec_of(**{"model.precision": "tf32"})
    if fine:
        choose(Execution(), spec)
        return
    double = spec_of(**{"model.precision": "float64"})
    if platform == "tpu":
        with pytest.raises(UserError, match=r"model.precision=float64: some \w+ has none"):
            choose(Execution(), double)
    else:
        choose(Execution(), double)
    with pytest.raises(UserError, match=r"model.precision=tf32: some \w+ has none") as error:
        choose(Execution(), spec)
    assert "\n" not in str(error.value)


def test_kernels_that_do_not_fit_are_refused_and_auto_avoids_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "resolve", lambda c: "native" if c == "auto" else c)
    low, high = (spec_of(**{"model.precision": p}) for p in ("bfloat16", "float64"))
    for spec, count, platform, reason in (
        (spec_of(), 1, "gpu", "for CPUs"),
        (spec_of(), 2, "cpu", "on one device"),
        (low, 1, "cpu", "not in bfloat16"),
        (high, 1, "cpu", "not in float64"),
    ):
        fake(monkeypatch, 2, platform)
        assert choose(Execution("auto", count), spec).kernels == "xla"
        with pytest.raises(UserError, match=reason):
            choose(Execution("native", count), spec)
    assert choose(Execution("auto", 1), spec_of()).kernels == "native"
    # What a run began with is what it goes on with.
    begun = choose(Execution("xla"), spec_of()).record()
    assert choose(Execution("auto"), spec_of(), begun).kernels == "xla"
    with pytest.raises(UserError, match=r"1 cpu device and xla kernels.*native"):
        choose(Execution("native"), spec_of(), begun)


def test_native_kernels_that_are_gone_are_missed_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(choice: str) -> str:
        if choice == "native":
            raise UserError("--kernels=native: no library")
        return "xla"

    begun = {**choose(Execution("xla"), spec_of()).record(), "kernels": "native"}
    monkeypatch.setattr(devices, "resolve", gone)
    with pytest.raises(UserError, match=r"was begun with native kernels.*no library"):
        choose(Execution(), spec_of(), begun)
    with pytest.raises(UserError, match=r"native kernels, and would not continue.* xla kernels"):
        choose(Execution("xla"), spec_of(), begun)


def test_a_run_is_continued_with_what_it_was_begun_with_or_refused(tmp_path: Path) -> None:
    spec = spec_of(**{"schedule.iterations": 8})
    data = load_dataset(spec.data, spec.seed)
    stop = SimpleNamespace(requested=True)
    assert train(spec, data, tmp_path, host=Host(stop=stop))["status"] == "stopped"  # type: ignore[arg-type]
    environment = read_run(tmp_path).environment
    assert environment["execution"] == {
        "kernels": environment["execution"]["kernels"],
        "devices": 1,
        "processes": 1,
        "platform": "cpu",
    }
    for changed in ({"devices": 2}, {"platform": "gpu"}, {"processes": 2, "devices": 2}):
        other = {**environment, "execution": {**environment["execution"], **changed}}
        write_json(tmp_path / "environment.json", other)
        with pytest.raises(UserError, match="would not continue exactly") as error:
            train(spec, data, tmp_path)
        assert "\n" not in str(error.value)
    write_json(tmp_path / "environment.json", environment)
    assert train(spec, data, tmp_path)["status"] == "finished"


def test_runs_of_versions_that_recorded_no_execution() -> None:
    begun = begun_with({"device": {"platform": "cpu", "count": 4}})
    assert begun == {"kernels": "xla", "devices": 1, "processes": 1, "platform": "cpu"}
    assert begun == Devices("xla", (jax.devices()[0],)).record()


def test_a_run_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    spec = from_flat({"data.name": "synthetic", "model.depth": 8, "model.precision": "tf32"})
    dataset = load_dataset(spec.data, spec.seed)
    with pytest.raises(UserError, match="tf32"):
        train(spec, dataset, tmp_path / "runs" / spec.run_id)
    assert not list((tmp_path / "runs").iterdir())
    kept = tmp_path / "runs" / spec.run_id / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(UserError, match="tf32"):
        train(spec, dataset, kept.parent)
    assert kept.read_text() == "mine"
