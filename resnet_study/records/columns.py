"""The columns of the tables, and the words for how a run stands."""

from __future__ import annotations

from resnet_study.probes import BUILT_IN

KEYS = ("run_id", "family", "depth", "seed")
"""Columns in front of every row that tell its run."""

SPLITS = ("train", "train_clean", "val", "test")
"""What errors are recorded of; see `METRIC_COLUMNS`."""

METRIC_COLUMNS = ("step", "epoch", "split", "loss", "error", "learning_rate")
"""``epoch`` = images seen / training images; ``error`` in percent; ``split`` is

- ``train``: mean over the mini-batches since the previous row, as trained (augmented,
  batch statistics);
- ``train_clean``: all training images, not augmented, running statistics;
- ``val``, ``test``: held-out and test images, running statistics.
"""

LAYER_COLUMNS = ("step", "layer", "name", "stage", "block")
"""``layer`` = 1..depth in forward order; ``name`` such as stem, stage2.block1.conv2, head;
``stage`` 0 (stem), 1-3, 4 (head); ``block`` = 1..n within the stage, 0 for stem and head."""

PROBES = tuple(probe.name for probe in BUILT_IN)
"""Columns of ``layers.parquet`` that every run has; a study may add its own."""

MEASURED = frozenset({"epoch", "loss", "error", "learning_rate", *PROBES})
"""Columns of numbers that may be NaN."""

INITIALIZATION_COLUMNS = (
    "quantity",
    "family",
    "depth",
    "normalization",
    "initialization",
    "activation",
    "block_order",
    "width",
    "images",
    "seed",
    "index",
    "stage",
    "value",
)
"""``quantity`` as in `resnet_study.phenomena.initialization.arms`, which says what ``index`` counts
for each; ``stage`` 0 where it has no meaning."""

INITIALIZATION_FOLDERS = ("initialization", "signals")
"""Of a study, with what is measured without training: today's name, and an earlier one."""

EARLIER_INITIALIZATION = {"width": 16, "images": 128}
"""What records of earlier versions, which have no columns for it, were measured with."""

SUMMARY_COUNTS = ("iterations", "step", "diverged_at", "parameters", "selected_step")
"""Integers of ``summary.json``."""

SUMMARY_NUMBERS = (
    *("wall_seconds", "images_per_second", "error", "loss", "test_error_selected"),
    *(f"{split}_error_{which}" for split in SPLITS for which in ("last", "best")),
)
"""Its other numbers."""

STATUSES = ("running", "finished", "diverged", "failed", "stopped")

DONE = ("finished", "diverged")
"""Statuses after which there is nothing left to train."""
