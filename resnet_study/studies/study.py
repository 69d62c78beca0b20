"""What a study declares: its question, runs, claims, figures and probes, as objects."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resnet_study.errors import UserError, require, shown
from resnet_study.files import strict
from resnet_study.judging.claim import Claim, Finding
from resnet_study.judging.compare import RUN_STEP_QUANTITIES
from resnet_study.judging.judge import judge
from resnet_study.phenomena.initialization.arms import SEEDS, InitializationArm, seeded_arms
from resnet_study.probes import DERIVED, Probe
from resnet_study.records import (
    INITIALIZATION_COLUMNS,
    KEYS,
    LAYER_COLUMNS,
    METRIC_COLUMNS,
    PROBES,
    SUMMARY_COUNTS,
    SUMMARY_NUMBERS,
    Frames,
)
from resnet_study.spec import check_type

if TYPE_CHECKING:
    # Claims are judged without anything that draws.
    from resnet_study.drawing.render import FigureDefinition

Sweep = str | Path | Mapping[str, Any]

_TAKEN = {
    *(*KEYS, *LAYER_COLUMNS, *METRIC_COLUMNS, *INITIALIZATION_COLUMNS),
    *(*SUMMARY_COUNTS, *SUMMARY_NUMBERS, *PROBES, *DERIVED, *RUN_STEP_QUANTITIES),
}
"""Columns and quantities that no probe may be called."""

_PARTS: Mapping[str, tuple[type, ...]] = {
    "sweeps": (str, Path, Mapping),
    "figures": (object,),
    "claims": (Claim,),
    "primary": (Claim,),
    "seeds": (int,),
    "initialization": (InitializationArm,),
    "probes": (Probe,),
}
"""Fields that hold several, and of what kind."""

Order = Literal["longest", "sweeps", "seed"]


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
        claims: in the order of the report; those that are not primary are exploratory.
        primary: the few of the claims that were named before the study ran, with the seeds, and
            share its error rate (`resnet_study.judging.verdict`).
        seeds: by which they are judged, all of them; further ones make a verdict sequential. How
            many seeds can decide how many claims: docs/claims.md.
        cost: what a run of the whole study takes, and on what.
        initialization: what is measured at initialisation, without training, instead of or
            beside the sweeps; with the seeds above, or five.
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
    primary: tuple[Claim, ...] = ()
    seeds: tuple[int, ...] = ()
    cost: str = ""
    initialization: tuple[InitializationArm, ...] = ()
    order: Order = "longest"
    probes: tuple[Probe, ...] = ()
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and re.fullmatch(r"\w[\w.-]{0,99}", self.name)):
            raise UserError(
                f"study {shown(self.name)!r}: its name is that of a folder; give at most 100 "
                "letters, digits, _, - and ., such as signs"
            )
        for part in ("title", "question", "cost"):
            text = getattr(self, part)
            require(isinstance(text, str), f"{self.name}: {part}", text, "give a text")
        for part, kind in _PARTS.items():
            values = getattr(self, part)
            if not isinstance(values, tuple | list | range):
                raise UserError(f"{self.name}: {part}: give a tuple, such as {part}=(...,)")
            if part == "seeds":
                values = strict([*values])  # of NumPy too
            object.__setattr__(self, part, tuple(values))
            for value in values:
                if not isinstance(value, kind) or isinstance(value, bool):
                    names = " or ".join(one.__name__ for one in kind)
                    raise UserError(f"{self.name}: {part}: {shown(value)} is no {names}")
        for figure in self.figures:
            if not hasattr(figure, "caption"):
                name = getattr(figure, "__name__", shown(figure))
                raise UserError(f"{self.name}: figures: {name} is none; make it one by @figure")
        for probe in self.probes:
            if probe.name in _TAKEN:
                raise UserError(f"{self.name}: probe {probe.name}: records have that; rename it")
        if len(set(self.seeds)) < len(self.seeds) or (self.primary and not self.seeds):
            raise UserError(f"{self.name}: seeds: name each seed of the primary claims once")
        strange = [claim.name for claim in self.primary if claim not in self.claims]
        if strange:
            raise UserError(f"{self.name}: primary={', '.join(strange)}: not among its claims")
        check_type(f"{self.name}: order", self.order, Order)
        for several in ("claims", "figures", "probes"):
            every = [one.name for one in getattr(self, several)]
            twice = sorted({name for name in every if every.count(name) > 1})
            if twice:
                raise UserError(
                    f"{self.name}: {several}: {', '.join(twice)} twice; give one another name"
                )

    def check(self, trained: Collection[int]) -> None:
        """Refuse before anything is trained what would fail or mislead after it.

        Args:
            trained: seeds of the runs of the study.

        Raises:
            UserError: see `Claim.check` and `seeded_arms`; also if nothing is to be measured, or
                declared seeds are not trained.
        """
        if not trained and not self.initialization:
            raise UserError(f"{self.name}: has no runs; give sweeps")
        strange = sorted(set(self.seeds) - set(trained)) if trained else []
        if strange:
            told = ", ".join(map(str, strange))
            raise UserError(f"{self.name}: seeds: no sweep trains {told}")
        if self.initialization:
            seeded_arms(self.initialization, self.measured_seeds)
        for claim in self.claims:
            claim.check()

    @property
    def measured_seeds(self) -> tuple[int, ...]:
        """Seeds of what is measured at initialisation."""
        return self.seeds or SEEDS

    def judge(
        self, frames: Frames, claims: Sequence[Claim] = (), confidence: float = 0.95
    ) -> list[Finding]:
        """Judge claims on records of this study.

        Args:
            frames: the records.
            claims: by default all of the study.
            confidence: as of `judge`.
        """
        return judge(claims or self.claims, frames, self.primary, self.seeds, confidence)
