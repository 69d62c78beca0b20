"""The process that shows runs in wandb: reads lines of JSON from `resnet_study.tracking.tracker`.

One row per iteration, against `iteration`; with every evaluation one picture of the
gradient in all layers and one table of all probes, rather than a chart for each layer.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXIT_CODES = {"finished": 0, "diverged": 0, "stopped": 130}
RUN_FILES = ("spec.json", "environment.json", "metrics.parquet", "layers.parquet", "summary.json")
PICTURE_SHARE = 0.01
"""Most of the time that pictures may take; those beyond it are left out, but not the last."""
DRAWING_SECONDS = 0.1
"""What the first picture is taken to cost."""
ORPHAN_SECONDS = 120.0
INIT_SECONDS = 90.0


def main() -> None:
    """Serve messages until the training process closes the pipe or is gone."""
    replies = os.fdopen(os.dup(1), "w")
    # wandb's own output would only disturb the progress display.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    mirror = _Mirror()
    try:
        for line in sys.stdin.buffer:
            mirror.take(json.loads(line))
        # Nobody waits any more, so this process must not stay for ever.
        timer = threading.Timer(ORPHAN_SECONDS, os._exit, (1,))
        timer.daemon = True
        timer.start()
        mirror.end(1)
    except Exception as error:
        words = " ".join(str(error).split()) or "no reason given"
        with contextlib.suppress(OSError):
            print(f"{type(error).__name__}: {words}", file=replies, flush=True)
        # wandb's exit hooks would wait for a server that may never answer.
        os._exit(0)


class _Mirror:
    """At most one wandb run, and its row that is not complete yet."""

    def __init__(self) -> None:
        self.run: Any = None
        self.lock = -1
        self.row: dict[str, Any] = {}
        self.evaluated = False
        self.layers: dict[str, Any] | None = None
        self.shown_until = -1
        self.artifact: tuple[str, Path] | None = None
        self.began, self.drawing = time.monotonic(), DRAWING_SECONDS

    def take(self, message: dict[str, Any]) -> None:
        kind = message.pop("kind")
        if kind == "start":
            self.start(message)
        elif kind == "metrics":
            self.metrics(**message)
        else:
            self.finish(**message)

    def start(self, message: dict[str, Any]) -> None:
        import wandb

        self.end(1)
        self.lock = _sole_mirror(Path(message["directory"]), message["id"])
        self.run = wandb.init(
            project=message["project"],
            id=message["id"],
            name=message["run_id"],
            group=None if message["sweep"] else message["group"],
            config=message["config"],
            # Also where training starts afresh: without it wandb appends to the history of an
            # earlier attempt that was killed before its first checkpoint (wandb issue 6216).
            resume="allow" if message["mode"] == "online" else None,
            mode=message["mode"],
            dir=message["directory"],
            settings=wandb.Settings(silent=True, console="off", init_timeout=INIT_SECONDS),
        )
        self.run.define_metric("iteration")
        self.run.define_metric("*", step_metric="iteration")
        self.artifact = (
            (message["run_id"], Path(message["folder"])) if message["artifact"] else None
        )
        self.row, self.evaluated, self.layers = {}, False, None
        # After a kill the records go back to the checkpoint, or to the start, and those rows come
        # again. wandb starts after the last step of the history that its server has; its summary
        # may lag.
        self.shown_until = self.run.step - 1 if self.run.resumed else -1
        self.began, self.drawing = time.monotonic(), DRAWING_SECONDS

    def metrics(
        self,
        step: int,
        epoch: float,
        split: str,
        values: dict[str, float],
        layers: dict[str, Any] | None,
    ) -> None:
        if self.row and self.row["iteration"] != step:
            self.flush()
        self.layers = layers or self.layers
        self.row |= {"iteration": step, "epoch": epoch}
        for name, value in values.items():
            self.row[name if name == "learning_rate" else f"{split}/{name}"] = value
        self.evaluated |= split != "train"

    def flush(self, last: bool = False) -> None:
        """Log the collected row, with the layers if it holds an evaluation."""
        row, self.row = self.row, {}
        evaluated, self.evaluated = self.evaluated, False
        if not row or row["iteration"] <= self.shown_until:
            return
        if evaluated and self.layers is not None:
            row |= self.show(last, **self.layers)
            self.layers = None
        self.run.log(row, step=row["iteration"])

    def show(
        self, last: bool, step: int, layers: list[Any], probes: dict[str, list[float]]
    ) -> dict[str, Any]:
        """One table of every probe, and one picture if there is time for it."""
        import wandb

        names: list[str | int] = ["step", "layer", "name", "stage", "block", *probes]
        rows: list[Iterable[Any]] = [
            [step, number, *layer, *values]
            for number, (layer, *values) in enumerate(
                zip(layers, *probes.values(), strict=True), start=1
            )
        ]
        shown: dict[str, Any] = {"layers": wandb.Table(columns=names, data=rows)}
        begin = time.monotonic()
        if last or self.drawing <= PICTURE_SHARE * (begin - self.began):
            picture = gradient_picture(step, probes["activation_gradient_norm"])
            shown["gradient_profile"] = wandb.Image(picture)
            self.drawing += time.monotonic() - begin
        return shown

    def finish(self, summary: dict[str, Any], layers: dict[str, Any] | None) -> None:
        self.layers = layers or self.layers
        self.flush(last=True)
        self.run.summary.update({k: v for k, v in summary.items() if not isinstance(v, dict)})
        for split in ("train", "train_clean", "val", "test"):
            if (error := summary.get(f"{split}_error_last")) is not None:
                self.run.summary[f"{split}/error"] = error
        if self.artifact is not None:
            self.run.log_artifact(_artifact(*self.artifact))
        if summary["status"] == "stopped" and self.run.sweep_id and not self.run.offline:
            # wandb then gives the run to the next agent, where it resumes.
            self.run.mark_preempting()
        self.end(EXIT_CODES.get(summary["status"], 1))

    def end(self, code: int) -> None:
        if self.run is not None:
            self.flush()
            self.run.finish(exit_code=code)
            self.run = None
            os.close(self.lock)


def _sole_mirror(directory: Path, run_id: str) -> int:
    """Wait until no mirror of an earlier attempt sends this run; returns the lock, to close.

    The mirror of a process that was killed sends its last rows while the run may already be
    resumed, and wandb must have them before it is asked where the history ends.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory / f".wandb-{run_id}.lock", os.O_RDWR | os.O_CREAT)
    end = time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        time.sleep(0.1)
    return lock


def gradient_picture(step: int, norms: list[float]) -> Any:
    """Activation-gradient norm of every layer on a log axis, as a PIL image."""
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(5.6, 3.0))
    # Fixed margins: finding them takes longer than drawing.
    axes = figure.add_axes((0.12, 0.16, 0.85, 0.74))
    shown = [norm if norm and norm > 0 else float("nan") for norm in norms]
    axes.plot(range(1, len(shown) + 1), shown, marker=".")
    if any(norm == norm for norm in shown):
        axes.set_yscale("log")
    axes.set_xlabel("layer")
    axes.set_ylabel("‖∂L/∂z‖")
    axes.set_title(f"Gradient norm by layer, iteration {step}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer)


def _artifact(run_id: str, folder: Path) -> Any:
    import wandb

    artifact = wandb.Artifact(run_id, type="run")
    for name in RUN_FILES:
        if (folder / name).exists():
            artifact.add_file(str(folder / name))
    return artifact


if __name__ == "__main__":
    main()
