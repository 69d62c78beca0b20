"""Run folders as training leaves them, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from resnet_study.records import (
    PROBES,
    RunWriter,
    metrics_frame,
    summarize_errors,
)
from resnet_study.spec import RunSpec


def finished_run(runs: Path, spec: RunSpec, **summary: Any) -> Path:
    """A finished run of which the first iteration and the last are recorded."""
    writer = RunWriter(runs / spec.run_id, spec, {})
    iterations = int(spec.schedule.iterations)
    for step in (0, iterations):
        for split in ("train", "test"):
            writer.log_metrics(step, 0.0, split, loss=1.0, error=5.0, learning_rate=0.1)
        writer.log_layers(step, [("head", 4, 0)], {name: np.ones(1) for name in PROBES})
    writer.finish({"status": "finished", "iterations": iterations, **summary})
    return runs / spec.run_id


def write_run(runs: Path, spec: RunSpec) -> Path:
    """A finished run that was never trained."""
    writer = RunWriter(runs / spec.run_id, spec, {})
    layers = [("stem", 0, 0), *[("conv", 1, 1)] * (spec.model.depth - 2), ("head", 4, 0)]
    for step in range(0, int(spec.schedule.iterations) + 1, 10):
        for split in ("train", "train_clean", "val", "test"):
            error = 90.0 / (step + 1) + spec.seed
            writer.log_metrics(step, 0.0, split, loss=1.0, error=error, learning_rate=0.1)
        writer.log_layers(step, layers, {name: np.ones(len(layers)) for name in PROBES})
    summary = summarize_errors(metrics_frame(writer.metrics))
    writer.finish({"status": "finished", "images_per_second": 100.0, **summary})
    return writer.folder
