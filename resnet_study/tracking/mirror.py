"""The process that shows runs in wandb: reads lines of JSON from `resnet_study.tracking.tracker`.

One row per iteration, against `iteration`, with the numbers of `resnet_study.tracking.scalars`; in
the first iterations and with every evaluation one table of all probes and a picture of the gradient
in all layers, rather than a chart for each layer. What the records of a run hold and wandb has not
comes first: a run that is continued, or one that ended long ago, lacks nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from resnet_study.probes import geometric_steps
from resnet_study.records import SPLITS
from resnet_study.spec import flatten
from resnet_study.tracking.lock import alone
from resnet_study.tracking.scalars import RATIOS, layer_scalars

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
        mirror.lock.close()
        # wandb's exit hooks would wait for a server that may never answer.
        os._exit(0)


class _Mirror:
    """At most one wandb run, and its row that is not complete yet."""

    def __init__(self) -> None:
        self.run: Any = None
        self.lock = contextlib.ExitStack()
        self.row: dict[str, Any] = {}
        self.evaluated = False
        self.layers: dict[str, Any] | None = None
        self.weights: Sequence[float | None] | None = None
        self.shown_until = -1
        self.artifact: tuple[str, Path] | None = None
        self.began, self.drawing = time.monotonic(), DRAWING_SECONDS

    def take(self, message: dict[str, Any]) -> None:
        getattr(self, message.pop("kind"))(**message)

    def start(
        self,
        record: dict[str, Any],
        names: dict[str, Any],
        config: dict[str, Any],
        command: str,
        directory: str,
        folder: str,
        recorded: int | None,
        artifact: bool,
    ) -> None:
        """Begin a run, with what its records hold up to some iteration, if there are any."""
        self.begin(record, names, command, directory)
        self.run.config.update(own_config(config, dict(self.run.config)), allow_val_change=True)
        self.run.define_metric("iteration")
        self.run.define_metric("*", step_metric="iteration")
        for key in RATIOS:
            self.run.define_metric(key, step_metric="iteration", summary="min,max,last")
        self.artifact = (names["name"], Path(folder)) if artifact else None
        self.row, self.evaluated, self.layers, self.weights = {}, False, None, None
        # After a kill the records go back to the checkpoint, or to the start, and those rows come
        # again. The summary of wandb's server may lag behind its history.
        self.shown_until = self.run.starting_step - 1 if self.run.resumed else -1
        self.began, self.drawing = time.monotonic(), DRAWING_SECONDS
        if recorded is not None:
            # Only here: pandas takes long to import.
            from resnet_study.tracking.replay import messages

            for message in messages(Path(folder), recorded):
                self.take(message)

    def begin(
        self, record: dict[str, Any], names: dict[str, Any], command: str, directory: str
    ) -> None:
        # wandb takes the command of this process for that of the run.
        sys.argv = shlex.split(command) or sys.argv[:1]
        import wandb

        self.end(1)
        online = record["mode"] == "online"
        # The mirror of a process that was killed sends its last rows while the run may already be
        # resumed, and wandb must have them before it is asked where the history ends.
        self.lock.enter_context(alone(f"{directory} {record['id']}", ORPHAN_SECONDS))
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            **names,
            project=record["project"],
            id=record["id"],
            # Also where training starts afresh: without it wandb appends to the history of an
            # earlier attempt that was killed before its first checkpoint (wandb issue 6216).
            resume="allow" if online else None,
            mode=record["mode"],
            dir=directory,
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=INIT_SECONDS, program=sys.argv[0]
            ),
        )

    def page(self, file: str, **run: Any) -> None:
        """Show a page in a run of its own, in the place of an earlier one."""
        self.begin(**run)
        import wandb

        self.run.log({"explorer": wandb.Html(file, inject=False)})
        self.end(0)

    def metrics(self, step: int, epoch: float, split: str, values: dict[str, float]) -> None:
        if not self.begin_row(step):
            return
        self.row |= {"epoch": epoch}
        for name, value in values.items():
            self.row[name if name == "learning_rate" else f"{split}/{name}"] = value
        self.evaluated |= split != "train"

    def probes(self, step: int, layers: list[Any], probes: dict[str, list[float]]) -> None:
        if step == 0:
            self.weights = probes.get("weight_norm")
        if not self.begin_row(step):
            return
        self.row |= layer_scalars(probes, self.weights)
        self.layers = {"step": step, "layers": layers, "probes": probes}

    def begin_row(self, step: int) -> bool:
        """Log the row before; whether this iteration is to be shown."""
        if self.row and self.row["iteration"] < step:
            self.flush()
        if step <= self.shown_until:
            return False
        self.row |= {"iteration": step}
        return True

    def flush(self, last: bool = False) -> None:
        """Log the collected row, with the layers if they are early or it holds an evaluation."""
        row, self.row = self.row, {}
        evaluated, self.evaluated = self.evaluated, False
        if not row:
            return
        step = self.shown_until = row["iteration"]
        layers = self.layers
        if layers is not None and (evaluated or last or step in geometric_steps(step)):
            row |= self.show(last, **layers)
            self.layers = None
        self.run.log(row, step=step)

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

    def finish(self, summary: dict[str, Any]) -> None:
        if summary["status"] == "stopped" and self.row.get("iteration") == summary.get("step"):
            # The layers of this iteration come when the run goes on, in one row with the rest.
            self.row = {}
        self.flush(last=True)
        self.run.summary.update({k: v for k, v in summary.items() if not isinstance(v, dict)})
        for split in SPLITS:
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
        self.lock.close()


def own_config(config: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What is to be added to the config that a sweep or an earlier attempt has given.

    A field that stands there in its group, as nested parameters do, is not added beside it.
    """
    grouped = {name for name, _ in flatten(given)} - set(given)
    return {name: value for name, value in config.items() if name not in grouped}


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
