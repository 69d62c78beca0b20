"""A run of seconds, and what is asked of its folder."""

from pathlib import Path
from typing import Any

from resnet_study import lease
from resnet_study.records import read_run
from resnet_study.spec import RunSpec, from_flat

TINY: dict[str, Any] = {
    "model.depth": 8,
    "data.name": "synthetic",
    "data.batch_size": 16,
    "schedule.iterations": 12,
    "probes.log_every": 4,
    "probes.evaluate_every": 12,
    "probes.layers_every": 6,
}
"""One network for every test, so that it is compiled once."""


def tiny(**changes: Any) -> RunSpec:
    return from_flat({**TINY, **{name.replace("__", "."): v for name, v in changes.items()}})


def check_complete(folder: Path, attempts: int = 1) -> None:
    """The run is finished and holds every step once, after this many attempts."""
    run = read_run(folder)
    total = int(run.spec.schedule.iterations)
    assert run.summary["status"] == "finished"
    assert not run.metrics.duplicated(["step", "split"]).any()
    assert not run.layers.duplicated(["step", "layer"]).any()
    train = run.metrics[run.metrics.split == "train"]
    every = int(run.spec.probes.log_every)
    assert train.step.tolist() == list(range(every, total + 1, every))
    assert set(run.metrics[run.metrics.split == "test"].step) == {0, total}
    assert set(run.layers.groupby("step").size()) == {8}
    assert {0, 1, 2, 3, 5, 8, total} <= set(run.layers.step)
    assert len(run.environment["previous"]) == attempts - 1
    assert not (folder / lease.FILE_NAME).exists()
    assert not (folder / "error.txt").exists()


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints; one that is being written has a longer name."""
    names = [path.name for path in (folder / "checkpoints").glob("*")]
    return [int(name) for name in names if name.isdigit()]
