"""Bounds of memory are below what a run takes, and numbers beyond them are refused at once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import jax
import pytest

from resnet_study import runtime
from resnet_study.datasets import DATASETS
from resnet_study.errors import UserError
from resnet_study.models import parameter_count
from resnet_study.spec import RunSpec, from_flat
from resnet_study.training import memory
from resnet_study.training.memory import Need, check, gigabytes, need_of
from resnet_study.training.options import Execution
from resnet_study.training.programs import keys_of
from resnet_study.training.step import initial_state

SYNTHETIC = DATASETS["synthetic"]


def spec_of(**values: Any) -> RunSpec:
    return from_flat({"data.name": "synthetic", "model.depth": 8, "data.batch_size": 4, **values})


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("width", [8, 16])
def test_weights_are_bounded_from_below(block: str, blocks: int, width: int) -> None:
    depth = {"basic": 6, "bottleneck": 9}[block] * blocks + 2
    spec = spec_of(**{"model.depth": depth, "model.width": width, "model.block": block})
    key = keys_of(0).initialization
    state = jax.eval_shape(lambda: initial_state(spec, SYNTHETIC, key))
    bound = need_of(spec, SYNTHETIC).weights / (2 * 4)
    assert 0 < bound <= parameter_count(state.parameters)
    assert bound >= 0.6 * parameter_count(state.parameters)


def test_maps_and_margins_are_those_of_a_batch() -> None:
    one, two = (need_of(spec_of(**{"data.batch_size": n}), SYNTHETIC) for n in (1, 2))
    # Two layers per stage.
    block = 2 * (8 * 8 * 16 + 4 * 4 * 32 + 2 * 2 * 64)
    assert (one.maps, two.maps) == (4 * block, 2 * 4 * block)
    deeper = need_of(spec_of(**{"model.depth": 14, "data.batch_size": 1}), SYNTHETIC)
    assert deeper.maps == 2 * one.maps
    assert one.padded == 0
    crops = {"data.augmentation": "crop", "data.crop_padding": 3, "data.batch_size": 1}
    assert need_of(spec_of(**crops), SYNTHETIC).padded == 4 * 14 * 14 * 3
    double = need_of(spec_of(**{**crops, "model.precision": "float64"}), SYNTHETIC)
    assert double == Need(2 * one.weights, 2 * one.maps, 8 * 14 * 14 * 3)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"model.width": 2**20}, "model.width=1048576"),
        ({"model.width": 2 * 10**9}, "model.width=2000000000"),
        ({"model.depth": 18 * 10**8 + 2}, "model.depth=1800000002"),
        ({"data.augmentation": "crop", "data.crop_padding": 10**6}, "data.crop_padding=1000000"),
        ({"data.name": "cifar10", "data.batch_size": 40_000, "model.depth": 1202}, "data.batch"),
    ],
)
def test_what_no_machine_holds_is_refused_before_it_is_taken(
    values: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a machine that may well be larger.
    monkeypatch.setattr(memory, "_memory_of", lambda members: 64 * 10**9)
    spec = spec_of(**values)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as refused:
            check(spec, jax.devices()[:1])
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
    text = str(refused.value)
    assert text.startswith(field)
    assert "and there are 64 GB; choose a smaller one" in text
    assert len(text) < 300


def test_a_run_and_an_inspection_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from resnet_study.inspection import inspected
    from resnet_study.training import devices

    monkeypatch.setattr(memory, "_memory_of", lambda members: 1000)
    with pytest.raises(UserError, match="takes at least"):
        devices.choose(Execution(), spec_of())
    with pytest.raises(UserError, match="takes at least"):
        inspected._initial(spec_of())


def test_a_container_and_a_device_tell_their_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = jax.devices()[:1]
    monkeypatch.setattr(runtime, "CGROUP", tmp_path / "memory.max")
    whole = memory._memory_of(cpu)
    assert whole is not None
    assert whole > 10**8
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._memory_of(cpu) == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory._memory_of(cpu) == 1_000_000

    class Accelerator:
        platform = "gpu"

        def __init__(self, stats: dict[str, int] | None) -> None:
            self.memory_stats = lambda: stats

    told = [Accelerator({"bytes_limit": 10}), Accelerator({"bytes_limit": 20})]
    assert memory._memory_of(told) == 30  # type: ignore[arg-type]
    assert memory._memory_of([*told, Accelerator(None)]) is None  # type: ignore[arg-type]


def test_any_number_is_said_in_few_digits() -> None:
    assert gigabytes(1_500_000) == "0.0015 GB"
    assert gigabytes(64 * 10**9) == "64 GB"
    assert gigabytes(10**5000) == "over 1,000,000 GB"


@pytest.mark.parametrize(
    "values", [{"model.width": 10**400}, {"model.depth": 6 * 10**9 + 2}, {"data.batch_size": 2**31}]
)
def test_what_no_counter_holds_is_refused_with_the_spec(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="a number below 2,147,483,648") as refused:
        spec_of(**values)
    assert len(str(refused.value)) < 200
