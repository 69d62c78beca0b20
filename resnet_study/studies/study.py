"""What a study declares: its question, runs, claims, figures and probes, as objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from resnet_study.errors import UserError, require
from resnet_study.judging.claim import Claim, Finding
from resnet_study.judging.judge import judge
from resnet_study.probes import Probe
from resnet_study.records import Frames

if TYPE_CHECKING:
    # Claims are judged without anything that draws.
    from resnet_study.drawing.render import FigureDefinition

Sweep = str | Path | Mapping[str, Any]

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
    primary: tuple[Claim, ...] = ()
    seeds: tuple[int, ...] = ()
    cost: str = ""
    initialization: bool = False
    order: Order = "longest"
    probes: tuple[Probe, ...] = ()
    folder: Path | None = None

    def __post_init__(self) -> None:
        strange = [claim.name for claim in self.primary if claim not in self.claims]
        if strange:
            raise UserError(f"{self.name}: primary={', '.join(strange)}: not among its claims")
        orders = get_args(Order)
        require(
            self.order in orders,
            f"{self.name}: order",
            self.order,
            f"valid are {', '.join(orders)}",
        )
        for kind in ("claims", "figures", "probes"):
            names = [one.name for one in getattr(self, kind)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise UserError(
                    f"{self.name}: {kind}: {', '.join(twice)} twice; give one another name"
                )

    def check(self) -> None:
        """Refuse before anything is trained what would fail after it (`Claim.check`)."""
        for claim in self.claims:
            claim.check()

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
