"""Thinned records lose steps and never a digit, and say what they lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_study.architecture import ModelSpec
from resnet_study.errors import UserError
from resnet_study.files import write_json
from resnet_study.judging.judge import judge
from resnet_study.judging.selections import SPREAD
from resnet_study.phenomena.convergence.claims import RESIDUAL_CONVERGES_FASTER
from resnet_study.phenomena.degradation.table6 import paper_table, paper_table_text
from resnet_study.phenomena.gradients.claims import GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN
from resnet_study.probes import recorded_steps
from resnet_study.records import (
    PROBES,
    RunWriter,
    find_runs,
    read_frames,
    read_run,
    write_initialization,
)
from resnet_study.spec import DataSpec, RunSpec, ScheduleSpec
from resnet_study.studies.publish import publish, without_paths
from tests.planted_initialization import planted_initialization
from tests.recorded import finished_run

ITERATIONS = 6400


def write_run(study: Path, seed: int, residual: bool, until: int = ITERATIONS) -> RunSpec:
    """Records of the paper's schedule at a tenth, to an iteration, as training leaves them."""
    spec = RunSpec(
        ModelSpec(depth=20, residual=residual),
        DataSpec(name="cifar10"),
        schedule=ScheduleSpec(iterations=ITERATIONS),
        seed=seed,
    )
    random = np.random.default_rng(seed)
    writer = RunWriter(study / "runs" / spec.run_id, spec, {"data": "CIFAR-10 (JPEG)"})
    layers = [(f"layer{i}", 1, i) for i in range(20)]
    for step in recorded_steps(ITERATIONS, int(spec.probes.layers_every)):
        if step <= until:
            values = random.lognormal(size=(len(PROBES), 20)).astype(np.float32)
            writer.log_layers(step, layers, dict(zip(PROBES, values.astype(float), strict=True)))
    for step in range(0, until + 1, 64):
        for split in ("train", "test"):
            error = 90 - 80 * step / ITERATIONS + (0 if residual else 3) + random.normal()
            writer.log_metrics(step, 0.0, split, loss=1.0, error=error, learning_rate=0.1)
    writer.flush()
    if until == ITERATIONS:
        errors = {f"{s}_error_last": 8.0 + seed for s in ("train", "test")}
        writer.finish({"status": "finished", "parameters": 269_722, **errors})
    return spec


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two seeds of both families; one run was killed half way."""
    folder = tmp_path / "cifar10"
    for seed in (0, 1, 2):
        for residual in (False, True):
            killed = (seed, residual) == (2, False)
            write_run(folder, seed, residual, ITERATIONS // 2 if killed else ITERATIONS)
    run = find_runs([folder])[0]
    (run / "checkpoints" / "6400").mkdir(parents=True)
    (run / "checkpoints" / "6400" / "weights").write_bytes(bytes(1_000_000))
    return folder


def test_without_need_nothing_but_checkpoints_is_left_out(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    text = publish(study, copy)
    assert (copy / "README.md").read_text() == text
    assert "every recorded step" in text
    assert "resnet-study report cifar10 FOLDER" in text
    study.rename(study.with_name("of_my_own"))
    study = study.with_name("of_my_own")
    assert "resnet-study report STUDY FOLDER" in publish(study, tmp_path / "other")
    for folder in find_runs([study]):
        before, after = read_run(folder), read_run(copy / "runs" / folder.name)
        pd.testing.assert_frame_equal(before.layers, after.layers, check_exact=True)
        pd.testing.assert_frame_equal(before.metrics, after.metrics, check_exact=True)
        assert (before.spec, before.environment) == (after.spec, after.environment)
    assert not list(copy.rglob("checkpoints"))
    size = [sum(f.stat().st_size for f in d.rglob("layers.parquet")) for d in (study, copy)]
    # A float32 in a float64 column costs about half.
    assert size[1] < 0.7 * size[0]


def test_regular_steps_are_thinned_until_it_fits(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    everything = publish(study, copy)
    whole = sum(file.stat().st_size for file in (copy / "runs").rglob("*") if file.is_file())
    limit = 0.6 * whole / 1e6
    text = publish(study, copy, limit)
    assert sum(f.stat().st_size for f in copy.rglob("*") if f.is_file()) <= limit * 1e6 + 3000
    assert text != everything
    every = int(text.partition("by every ")[2].partition("th")[0])
    for folder in find_runs([copy]):
        after, before = read_run(folder), read_run(study / "runs" / folder.name)
        steps, all_steps = (sorted(set(run.layers.step)) for run in (after, before))
        cadence = int(after.spec.probes.layers_every)
        early = [s for s in all_steps if s % cadence or s <= 100]
        assert set(early) | {0, all_steps[-1]} <= set(steps) < set(all_steps)
        regular = [s for s in steps if s % cadence == 0 and 100 < s < all_steps[-1]]
        assert all(s % (cadence * every) == 0 for s in regular)
        kept = before.layers[before.layers.step.isin(steps)].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, after.layers, check_exact=True)
    with pytest.raises(UserError, match=r"--megabytes=0.001: .* allow more"):
        publish(study, copy, 0.001)


def test_the_unfinished_are_labelled_and_left_out_of_the_end(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    text = publish(study, copy)
    killed = next(f for f in find_runs([study]) if not read_run(f).summary.get("parameters"))
    assert f"- `{killed.name}`: 3,200 of 6,400 iterations" in text
    assert text.count("of 6,400 iterations") == 1
    summary = json.loads((copy / "runs" / killed.name / "summary.json").read_text())
    assert summary == {"status": "stopped", "iterations": ITERATIONS, "step": 3200}
    end, start = judge(
        [RESIDUAL_CONVERGES_FASTER, GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN],
        read_frames([copy]),
    )
    assert end.numbers["not_ended"] == 1
    assert "2" in end.n
    assert "3" in start.n  # at initialisation every run has its say


def test_the_table_stands_beside_the_paper_and_counts_only_the_ended(study: Path) -> None:
    table = paper_table(read_frames([study])).set_index("network")
    assert table.loc["plain-20", "n"] == 2
    assert table.loc["plain-20", "test_error_last"]["median"] == 8.5
    assert table.loc["ResNet-20", ["n", "table6"]].tolist() == [3, 8.75]
    last = dict(table.loc["ResNet-20", "test_error_last"])
    assert {name: last[name] for name in SPREAD} == {"median": 9, "low": 8, "high": 10, "n": 3}
    assert "8.51 ± 0.22 (nabla0001/resnet, n = 5, last)" in table.loc["ResNet-20", "reproductions"]
    text = paper_table_text(table.reset_index())
    first = "| ResNet-20 | CIFAR-10 (JPEG) | 6,400 | – | 269,722 "
    assert first + "| 9.00 (8.00 to 10.00; 3) | 9.00 (8.00 to 10.00; 3) | – " in text
    assert "nan" not in text


def test_networks_measured_at_initialisation_are_copied_and_read_alike(tmp_path: Path) -> None:
    measured, copy = tmp_path / "measured" / "initialization", tmp_path / "copy"
    table = planted_initialization(depths=(8,), seeds=2).initialization
    write_initialization(measured / "plain-8.parquet", table)
    write_json(measured / "environment.json", {"command": "measure /home/someone/images"})
    (copy / "initialization").mkdir(parents=True)
    (copy / "initialization" / "of_before.parquet").touch()
    assert "1 network measured at initialisation" in publish(measured.parent, copy)
    one, other = (read_frames([folder]).initialization for folder in (copy, measured.parent))
    pd.testing.assert_frame_equal(one, other)
    assert "someone" not in (copy / "initialization" / "environment.json").read_text()
    assert not (copy / "initialization" / "of_before.parquet").exists()


def test_other_data_have_no_such_table(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", RunSpec())
    assert paper_table(read_frames([tmp_path])).empty


def test_a_study_is_not_thinned_onto_itself(study: Path) -> None:
    with pytest.raises(UserError, match="give another one"):
        publish(study, study / ".." / study.name)
    assert len(find_runs([study])) == 6


def test_no_folder_of_a_machine_is_published() -> None:
    command = "resnet-study reproduce x --cifar10=/home/me/data '/a b' ~/c --results=results/x"
    found = without_paths({"command": command, "previous": [{"command": "train --a=/b"}]})
    assert found["command"] == (
        "resnet-study reproduce x --cifar10=PATH 'PATH b' PATH --results=results/x"
    )
    assert found["previous"] == [{"command": "train --a=PATH"}]
