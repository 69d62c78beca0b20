"""Run folders as training leaves them, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from resnet_study.records import PROBES, RunWriter
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
