"""Run folders: written crash-safely while training, read back as tidy frames. Knows no jax.

One folder per run, ``results/<study>/runs/<run_id>/``:

===================== ======================================================================
``spec.json``         the full `RunSpec` and the schema version
``environment.json``  versions, device, git revision, command line
``metrics.parquet``   one row per (``step``, ``split``), columns `METRIC_COLUMNS`
``layers.parquet``    one row per (``step``, ``layer``), columns `LAYER_COLUMNS` and one per probe
``summary.json``      status, final errors side by side, wall time, images per second
``checkpoints/``      for exact resumption
===================== ======================================================================

What is measured at initialisation, without training, lies in
``results/<study>/initialization/`` (``signals/`` in earlier versions): one parquet file per arm
with the columns `INITIALIZATION_COLUMNS`, and ``environment.json``.

``step`` counts the optimiser steps taken: a row at step k describes the network after k
updates, so step 0 is initialisation. Every file is replaced atomically, so that what was
written before a kill is readable after it; a resumed run drops rows beyond its checkpoint
and holds each step exactly once.
"""

from __future__ import annotations

from resnet_study.records.checking import read_environment, read_summary
from resnet_study.records.columns import (
    DONE,
    EARLIER_INITIALIZATION,
    INITIALIZATION_COLUMNS,
    INITIALIZATION_FOLDERS,
    KEYS,
    LAYER_COLUMNS,
    METRIC_COLUMNS,
    PROBES,
    SPLITS,
    STATUSES,
    SUMMARY_COUNTS,
    SUMMARY_NUMBERS,
)
from resnet_study.records.reading import (
    Frames,
    Run,
    copies_of,
    find_runs,
    frames_of,
    read_frames,
    read_run,
    read_spec,
    read_whole,
)
from resnet_study.records.writing import (
    RunWriter,
    check_spec,
    metrics_frame,
    summarize_errors,
    write_initialization,
    write_spec,
    write_summary,
)

__all__ = [
    "DONE",
    "EARLIER_INITIALIZATION",
    "INITIALIZATION_COLUMNS",
    "INITIALIZATION_FOLDERS",
    "KEYS",
    "LAYER_COLUMNS",
    "METRIC_COLUMNS",
    "PROBES",
    "SPLITS",
    "STATUSES",
    "SUMMARY_COUNTS",
    "SUMMARY_NUMBERS",
    "Frames",
    "Run",
    "RunWriter",
    "check_spec",
    "copies_of",
    "find_runs",
    "frames_of",
    "metrics_frame",
    "read_environment",
    "read_frames",
    "read_run",
    "read_spec",
    "read_summary",
    "read_whole",
    "summarize_errors",
    "write_initialization",
    "write_spec",
    "write_summary",
]
