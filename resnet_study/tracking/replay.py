"""The rows of a recorded run, as they came when it was trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from resnet_study.records import LAYER_COLUMNS, read_run


def messages(folder: Path, until: int) -> Iterator[dict[str, Any]]:
    """Those of `resnet_study.tracking.tracker` that tell of metrics and layers, by iteration.

    Args:
        folder: of the run.
        until: the last iteration, of which there are metrics only: a run that is continued there
            records its layers.
    """
    run = read_run(folder)
    metrics = run.metrics[run.metrics["step"] <= until]
    layers = run.layers[run.layers["step"] < until].sort_values("layer")
    rows_of, layers_of = _positions(metrics), _positions(layers)
    probes = [name for name in layers.columns if name not in LAYER_COLUMNS]
    for step in sorted({*rows_of, *layers_of}):
        for row in metrics.iloc[rows_of[step]].to_dict("records"):
            content = {"step": step, "epoch": row["epoch"], "split": row["split"]}
            values = {name: row[name] for name in ("loss", "error", "learning_rate")}
            yield {"kind": "metrics", **content, "values": values}
        if rows := layers_of[step]:
            table = layers.iloc[rows]
            named = table[["name", "stage", "block"]].to_numpy().tolist()
            values = {name: table[name].tolist() for name in probes}
            yield {"kind": "probes", "step": step, "layers": named, "probes": values}


def _positions(table: pd.DataFrame) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for position, step in enumerate(table["step"].tolist()):
        found[int(step)].append(position)
    return found
