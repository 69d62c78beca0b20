"""Networks from checkpoints, and what computes them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from resnet_study.errors import UserError
from resnet_study.inspection.inspected import batches, images_of, load, logits_of, on_devices
from resnet_study.spec import from_flat
from resnet_study.training.options import Execution
from resnet_study.training.programs import keys_of, program_of, shape_of
from resnet_study.training.step import initial_state
from tests.inspected import CPU, data_of, network_of, run_of, spec_of, state_of


def same(one: object, other: object) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_the_newest_checkpoint_or_a_chosen_one_is_read(tmp_path: Path) -> None:
    spec = spec_of()
    run, state = run_of(spec, tmp_path), state_of(spec)
    for step in (None, 7):
        found = load(run, step=step)
        assert (found.step, found.spec, found.name) == (7, spec, "residual-8")
        assert same(found.parameters, state.parameters)
        assert same(found.statistics, state.statistics)


def test_step_0_is_the_network_that_training_starts_from(tmp_path: Path) -> None:
    spec = spec_of()
    first = initial_state(spec, shape_of(data_of(spec)), keys_of(spec.seed).initialization)
    found = load(run_of(spec, tmp_path), step=0)
    assert found.step == 0
    assert same(found.parameters, first.parameters)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    run = run_of(spec_of(), tmp_path)
    with pytest.raises(UserError, match=r"--step=5: .* there are 0 \(as initialised\), 7"):
        load(run, step=5)
    with pytest.raises(UserError, match="--step=-1: "):
        load(run, step=-1)
    with pytest.raises(UserError, match="leave it or --weights out"):
        load(run, Path("some.safetensors"), 7)
    with pytest.raises(UserError, match="name a run folder, or a file of weights"):
        load(None)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a run folder"):
        load(tmp_path)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="has no checkpoint; give --step=0"):
        load(run)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    spec = spec_of()
    state = state_of(spec)
    state.parameters["head"]["bias"] = state.parameters["head"]["bias"].at[0].set(np.nan)
    with pytest.raises(UserError, match=r"step 7: head.bias has numbers that are not finite"):
        load(run_of(spec, tmp_path, state))


def test_answers_are_those_of_the_evaluation_in_training() -> None:
    spec = spec_of()
    network, dataset = network_of(spec), data_of(spec)
    state = state_of(spec)
    for split, name in (("test", "test"), ("val", "val"), ("train", "train_clean")):
        images = images_of(dataset, name)
        logits = logits_of(network, CPU, images.images, dataset.mean)
        error = 100 * np.sum(logits.argmax(axis=1) != images.labels) / len(images)
        loss, recorded = program_of(spec, dataset, CPU).evaluate(state, split)()  # type: ignore
        assert error == recorded
        logs = logits - np.log(np.exp(logits.astype(float)).sum(axis=1, keepdims=True))
        assert loss == pytest.approx(-logs[np.arange(len(images)), images.labels].mean(), rel=1e-5)


def test_tf32_is_computed_in_float32_where_there_is_none() -> None:
    spec = spec_of(precision="tf32")
    network = network_of(spec)
    here, where, note = on_devices(network, Execution())
    assert here.model == replace(spec.model, precision="float32")
    assert here.spec == spec
    assert where.platform == "cpu"
    assert "no TF32" in note
    assert on_devices(network_of(spec_of()), Execution())[2] == ""


@pytest.mark.parametrize(
    ("computed", "told"),
    [({"platform": "gpu"}, "1 gpu device"), ({"devices": 4}, "4 cpu devices"), ({}, "")],
)
def test_what_did_not_compute_the_run_is_said(
    computed: dict[str, object], told: str, tmp_path: Path
) -> None:
    folder = run_of(spec_of(), tmp_path)
    here = {"kernels": "xla", "devices": 1, "processes": 1, "platform": "cpu"}
    (folder / "environment.json").write_text(json.dumps({"execution": here | computed}))
    note = on_devices(load(folder, step=0), Execution())[2]
    assert told in note
    assert note.startswith("computed by 1 cpu device" if told else "")
    assert bool(note) == bool(told)


def test_batches_cover_every_image_once() -> None:
    covered = np.concatenate([positions[:count] for positions, count in batches(300, CPU)])
    assert covered.tolist() == list(range(300))


def test_a_split_without_images_is_refused() -> None:
    spec = from_flat({"data.name": "synthetic", "data.validation": 0.0})
    with pytest.raises(UserError, match="--split=val: has no images"):
        images_of(data_of(spec), "val")
    with pytest.raises(UserError, match="--split=train: valid are train_clean, val, test"):
        images_of(data_of(spec), "train")
