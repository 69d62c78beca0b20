"""The subcommand that sends recorded runs to wandb, and the explorer of a study for its end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from resnet_study.cli.commands import Runs, refuse_nothing
from resnet_study.errors import UserError
from resnet_study.tracking.tracker import ALL_RECORDS, Tracking, WandbTracker


def mirror(
    runs: Runs,
    wandb: Literal["online", "offline"] = "online",
    wandb_artifact: bool = False,
    wandb_seconds: float = 600.0,
) -> int:
    """Send recorded runs to wandb, after an outage or afterwards, and the explorer of a study.

    What wandb has already is not sent again, so the command may be repeated. Runs that are being
    trained are left out.

    Args:
        runs: Study folders (results/quick) or run folders.
        wandb: online, or offline for wandb sync.
        wandb_artifact: Store the run folder there too, without checkpoints, as an artifact.
        wandb_seconds: Longest wait for a run.
    """
    from resnet_study import lease, records

    refuse_nothing(runs)
    sent = "sent" if wandb == "online" else "written"
    tracking = Tracking(wandb, wandb_artifact, wandb_seconds)
    folders = records.find_runs(runs)
    for number, folder in enumerate(folders, start=1):
        where = f"{number}/{len(folders)} {folder}"
        if lease.is_held(folder):
            print(f"{where}: is being trained, left out")
            continue
        run = records.read_run(folder)
        # A process each, so that it is known of each run whether wandb has it.
        tracker = WandbTracker(tracking, lambda line: None)
        tracker.start(run.spec, folder, run.environment, ALL_RECORDS)
        tracker.finish({"status": "running", **run.summary})
        tracker.close()
        if tracker.problem is not None:
            raise UserError(f"{folder}: wandb: {tracker.problem}; the same command goes on")
        print(f"{where}: {sent}")
    for study in [folder for folder in runs if (folder / "runs").is_dir()]:
        if problem := send_explorer(study, tracking):
            raise UserError(f"{study}: the explorer was not {sent} ({problem})")
        print(f"{study}: explorer {sent}")
    if wandb == "offline":
        from resnet_study.cli.commands import sync_line

        for study in sorted({folder.parent.parent for folder in folders}):
            print(sync_line(study))
    return 0


def send_explorer(study: Path, tracking: Tracking) -> str | None:
    """Show all layers of a study in wandb, in a run of its own; returns why not, if it failed."""
    from resnet_study.cli.commands import command_line
    from resnet_study.records import read_frames
    from resnet_study.report.explorer import explorer_page

    tracker = WandbTracker(tracking, lambda line: None)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "explorer.html"
        try:
            content = explorer_page(study.resolve().name, read_frames([study]))
            page.write_text(content, encoding="utf-8")
        except UserError as error:
            return str(error)
        tracker.show_page(study, page, command_line())
        tracker.close()
    return tracker.problem
