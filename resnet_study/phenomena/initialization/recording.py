"""Networks at initialisation into the records, arm by arm. Imports no jax until it measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resnet_study import files, records, runtime
from resnet_study.environment import describe
from resnet_study.phenomena.initialization.arms import InitializationArm, seeded_arms
from resnet_study.progress import count_progress


def record_initialization(
    folder: Path, command: str, arms: Sequence[InitializationArm], seeds: Sequence[int]
) -> None:
    """Measure networks at initialisation; those that are there are kept.

    Args:
        folder: gets one parquet file per arm, and ``environment.json``. Files of other arms
            are removed: they are of another version's grid.
        command: command line for ``environment.json``.
        arms, seeds: the grid.

    Raises:
        UserError: as `seeded_arms`.
    """
    wanted = {f"{arm.name}.parquet": arm for arm in seeded_arms(arms, seeds)}
    folder.mkdir(parents=True, exist_ok=True)
    present = {file.name for file in folder.glob("*.parquet")}
    for name in present - wanted.keys():
        (folder / name).unlink()
    missing = [name for name in wanted if name not in present]
    if not missing:
        return
    runtime.prepare()
    from resnet_study.phenomena.initialization.measuring import measure_arm

    files.write_json(folder / "environment.json", describe(command, "digits"))
    with count_progress("measuring at initialisation", "networks") as progress:
        for done, name in enumerate(missing):
            progress(len(present & wanted.keys()) + done, len(wanted))
            records.write_initialization(folder / name, measure_arm(wanted[name]))
