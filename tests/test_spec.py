"""A spec is the identity of a run: what goes in comes back, and every field counts."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from resnet_study.architecture import ModelSpec
from resnet_study.datasets import DATASETS
from resnet_study.durations import to_iterations
from resnet_study.errors import UserError
from resnet_study.spec import (
    DataSpec,
    OptimizerSpec,
    ProbeSpec,
    RunSpec,
    ScheduleSpec,
    canonical_json,
    epoch_of,
    from_flat,
    from_json,
    parameter_types,
    split_sizes,
    to_json,
)

PERCENT = st.integers(0, 100).map(lambda percent: f"{percent}%")
EPOCHS = st.floats(0.1, 200).map(lambda epochs: f"{epochs}ep")


@st.composite
def specs(draw: st.DrawFn) -> RunSpec:
    """Any valid spec."""
    residual = draw(st.booleans())
    name: Any = draw(st.sampled_from(sorted(DATASETS)))
    validation = draw(st.floats(0, 0.5))
    images = split_sizes(DataSpec(name=name, validation=validation))[0]
    drops = sorted(draw(st.tuples(st.integers(0, 100), st.integers(0, 100))))
    return RunSpec(
        ModelSpec(
            depth=6 * draw(st.integers(1, 200)) + 2,
            residual=residual,
            shortcut=draw(st.sampled_from("ABC")) if residual else "A",
            width=draw(st.integers(1, 256)),
            normalization=draw(st.sampled_from(("batch", "none"))),
            initialization=draw(st.sampled_from(("he", "lecun"))),
        ),
        DataSpec(
            name=name,
            validation=validation,
            batch_size=draw(st.integers(1, images)),
            augmentation=draw(st.sampled_from(("auto", "none", "crop", "crop-flip"))),
            crop_padding=draw(st.integers(0, 8)),
        ),
        OptimizerSpec(
            learning_rate=draw(st.floats(1e-6, 10)),
            momentum=draw(st.floats(0, 0.999)),
            weight_decay=draw(st.floats(0, 1)),
            weight_decay_on=draw(st.sampled_from(("all", "weights"))),
            nesterov=draw(st.booleans()),
        ),
        ScheduleSpec(
            iterations=draw(st.one_of(st.integers(1, 10**6), EPOCHS)),
            first_drop=f"{drops[0]}%",
            second_drop=f"{drops[1]}%",
            drop_factor=draw(st.floats(1e-3, 1)),
            warmup_iterations=draw(st.integers(0, 100)) * (warm := draw(st.booleans())),
            warmup_error=0.0 if warm else draw(st.floats(0, 99)),
        ),
        ProbeSpec(
            log_every=draw(st.one_of(st.integers(1, 1000), PERCENT.filter("0%".__ne__))),
            evaluate_every=draw(st.one_of(st.integers(1, 1000), EPOCHS)),
            layers_every=draw(st.one_of(st.integers(0, 1000), PERCENT)),
        ),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


@given(specs())
def test_a_spec_survives_json_and_dotted_names(spec: RunSpec) -> None:
    for again in (from_json(to_json(spec)), from_flat(spec.flat())):
        assert again == spec
        assert again.run_id == spec.run_id
        assert hash(again) == hash(spec)


@given(specs())
def test_a_finished_spec_holds_whole_iterations_only(spec: RunSpec) -> None:
    durations = [*dataclasses.astuple(spec.probes)[:3], *dataclasses.astuple(spec.schedule)[:3]]
    assert all(type(value) is int for value in durations)
    assert int(spec.schedule.first_drop) <= int(spec.schedule.second_drop)
    assert spec.data.augmentation != "auto"


@given(specs())
def test_the_hashed_text_is_sorted_and_compact(spec: RunSpec) -> None:
    """The run id is that of this text alone, so nothing about it may depend on order."""
    text = canonical_json(spec)
    names = re.findall(r'"([\w.]+)":', text)
    assert names == sorted(names)
    assert " " not in text
    assert spec.run_id.endswith("_" + hashlib.sha256(text.encode()).hexdigest()[:10])


@given(specs(), specs())
def test_specs_share_a_run_id_only_if_they_are_equal(one: RunSpec, other: RunSpec) -> None:
    assert (one.run_id == other.run_id) == (one == other)


BASE = {"data.name": "synthetic", "data.augmentation": "crop", "schedule.iterations": 1000}

OTHER = {
    "model.depth": 56,
    "model.residual": False,
    "model.block": "bottleneck",
    "model.shortcut": "C",
    "model.width": 17,
    "model.subsampling": "average",
    "model.pooling": "max",
    "model.normalization": "none",
    "model.batch_norm_images": 64,
    "model.initialization": "lecun",
    "model.activation": "tanh",
    "model.block_order": "full-preactivation",
    "model.branch_scaling": "rezero",
    "model.shortcut_scaling": "constant",
    "model.gate_bias": 0.0,
    "model.dropout_ratio": 0.1,
    "model.precision": "bfloat16",
    "data.name": "digits",
    "data.validation": 0.2,
    "data.batch_size": 64,
    "data.augmentation": "crop-flip",
    "data.crop_padding": 2,
    "data.subset": True,
    "optimizer.learning_rate": 0.05,
    "optimizer.momentum": 0.8,
    "optimizer.weight_decay": 0.0,
    "optimizer.weight_decay_on": "weights",
    "optimizer.nesterov": True,
    "schedule.iterations": 1001,
    "schedule.first_drop": 400,
    "schedule.second_drop": 800,
    "schedule.drop_factor": 0.2,
    "schedule.warmup_learning_rate": 0.02,
    "schedule.warmup_iterations": 30,
    "schedule.warmup_error": 80.0,
    "probes.log_every": 7,
    "probes.evaluate_every": 7,
    "probes.layers_every": 7,
    "probes.extra": "mine",
    "seed": 1,
}


COMPATIBLE = {
    "model.residual": True,
    "model.subsampling": "stride",
    "model.normalization": "batch",
    "model.shortcut_scaling": "none",
    "model.gate_bias": -6.0,
    "model.dropout_ratio": 0.5,
    "schedule.warmup_error": 0.0,
    "data.name": "cifar10",
}
"""With these, the values of `OTHER` describe one network."""


BESIDE = {
    "data.subset": {"data.name": "cifar10"},
    "model.gate_bias": {"model.shortcut_scaling": "exclusive-gating"},
    "model.dropout_ratio": {"model.shortcut_scaling": "dropout"},
}
"""What some values of `OTHER` mean nothing without."""


def test_every_field_changes_the_run_id() -> None:
    assert set(OTHER) == set(RunSpec().flat())
    bases = {name: {**BASE, **beside} for name, beside in BESIDE.items()}
    ids = [from_flat(base).run_id for base in (BASE, *bases.values())]
    ids += [from_flat({**bases.get(k, BASE), k: v}).run_id for k, v in OTHER.items()]
    assert len(set(ids)) == len(ids)


def test_the_run_id_is_the_same_in_another_process() -> None:
    values = {**BASE, **OTHER, **COMPATIBLE}
    program = (
        "import json, sys; from resnet_study.spec import from_flat;"
        "print(from_flat(json.loads(sys.argv[1])).run_id)"
    )
    ids = {
        subprocess.run(
            [sys.executable, "-c", program, json.dumps(dict(sorted(values.items(), reverse=back)))],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed, back in (("1", False), ("2", True))
    }
    assert ids == {from_flat(values).run_id}


def test_the_run_id_names_family_depth_data_and_seed() -> None:
    spec = from_flat({"model.depth": 56, "model.residual": False, "seed": 3})
    assert spec.run_id.startswith("plain-56_digits_seed3_")
    assert spec.family == "plain"


def test_defaults_are_left_out_of_the_hashed_text() -> None:
    hashed = json.loads(canonical_json(RunSpec()))
    resolved = {
        "data.augmentation",
        "schedule.first_drop",
        "schedule.second_drop",
        "probes.log_every",
        "probes.evaluate_every",
        "probes.layers_every",
    }
    assert set(hashed) == {"schema", *resolved}
    changed = json.loads(canonical_json(from_flat({"model.depth": 56})))
    assert changed == {**hashed, "model.depth": 56}


def test_three_forms_of_a_duration_agree() -> None:
    # 1437 digits less 10 % are 1293; 1293 images per batch are one iteration per epoch.
    def run(iterations: Any, drop: Any, every: Any) -> RunSpec:
        return RunSpec(
            data=DataSpec(batch_size=431),
            schedule=ScheduleSpec(iterations=iterations, first_drop=drop, second_drop=drop),
            probes=ProbeSpec(log_every=every, evaluate_every=every, layers_every=every),
        )

    assert run(300, 150, 3) == run("100ep", "50%", "1%") == run("300", "50ep", "1ep")


@given(st.integers(1, 10**6), st.floats(0, 100))
def test_percent_is_a_share_of_the_run(total: int, percent: float) -> None:
    steps = to_iterations(f"{percent}%", epoch_of(DataSpec()), total, "x")
    assert abs(steps - total * percent / 100) <= (0.5 if steps != 1 else 1)
    assert (steps == 0) == (percent == 0)


@given(st.floats(0.01, 300), st.sampled_from([1, 128, 461]))
def test_epochs_count_the_images_after_the_split(epochs: float, batch_size: int) -> None:
    data = DataSpec(name="synthetic", batch_size=batch_size)
    assert split_sizes(data) == (461, 51)
    steps = to_iterations(f"{epochs}ep", epoch_of(data), None, "x")
    assume(steps > 1)
    assert abs(steps * batch_size / 461 - epochs) <= 0.5001 * batch_size / 461


def test_epochs_of_a_subset_are_refused() -> None:
    """Its size is not known before it is read, so an epoch would have a wrong length."""
    base = {"data.name": "cifar10", "data.subset": True}
    assert from_flat({**base, "schedule.iterations": 400}).schedule.first_drop == 200
    for name in ("schedule.iterations", "schedule.second_drop", "probes.evaluate_every"):
        with pytest.raises(UserError, match=rf"{name}.*an epoch of a subset.*give iterations"):
            from_flat({**base, "schedule.iterations": 400, name: "1ep"})


def test_whether_a_set_may_be_incomplete_leaves_earlier_run_ids_alone() -> None:
    spec = from_flat({"data.name": "cifar10"})
    assert "subset" not in canonical_json(spec)
    assert from_flat({"data.name": "cifar10", "data.subset": True}).run_id != spec.run_id


def test_the_paper_recipe_has_its_numbers() -> None:
    spec = from_flat({"data.name": "cifar10"})
    assert split_sizes(spec.data) == (45_000, 5_000)
    assert spec.schedule == ScheduleSpec(64_000, 32_000, 48_000, 0.1)
    assert spec.data.augmentation == "crop-flip"
    assert (spec.optimizer.learning_rate, spec.data.batch_size) == (0.1, 128)


def test_a_share_of_a_short_run_may_have_a_fraction() -> None:
    # 100 iterations make a percent one iteration, and 461 images one epoch.
    assert to_iterations("12.6%", epoch_of(DataSpec()), 100, "x") == 13
    whole = DataSpec(name="synthetic", batch_size=461)
    assert to_iterations("2.4ep", epoch_of(whole), None, "x") == 2


def test_specs_are_frozen() -> None:
    spec = RunSpec()
    for part in (spec, spec.model, spec.data, spec.optimizer, spec.schedule, spec.probes):
        for field in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field.name, 1)


def test_every_field_has_a_type_and_a_default() -> None:
    assert set(parameter_types()) == set(RunSpec().flat())
    assert parameter_types()["optimizer.learning_rate"] is float
