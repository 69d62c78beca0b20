"""What a study declares: its question, runs, claims, figures and probes, as objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resnet_study.drawing.render import FigureDefinition
from resnet_study.judging.claim import Claim
from resnet_study.probes import Probe

Sweep = str | Path | Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """One study; a module holds it as ``STUDY``, in `experiments/` or anywhere else.

    Attributes:
        name: folder under ``results/`` and, in `experiments/`, of the module.
        title: heading of the report.
        question: what is asked, in one or two sentences, with its source.
        sweeps: definitions of the grids in wandb's schema: files, of `sweeps/` or beside the
            module, or what would stand in one.
        figures: in the order of the report.
        claims: judged together, in the order of the report.
        cost: what a run of the whole study takes, and on what.
        initialization: whether networks are measured at initialisation, without training
            (`resnet_study.phenomena.initialization.arms`), instead of or beside the sweeps.
        order: which runs are begun first: the `longest`; those of the first of the `sweeps`, in
            each one seed after the other; or all of the first `seed`, in each sweep by sweep.
        probes: recorded in every run beside the built-in ones. They are part of the runs' ids.
        folder: of the module, for the files in `sweeps`; filled in when it is loaded.
    """

    name: str
    title: str
    question: str
    sweeps: tuple[Sweep, ...] = ()
    figures: tuple[FigureDefinition, ...] = ()
    claims: tuple[Claim, ...] = ()
    cost: str = ""
    initialization: bool = False
    order: Literal["longest", "sweeps", "seed"] = "longest"
    probes: tuple[Probe, ...] = ()
    folder: Path | None = None
