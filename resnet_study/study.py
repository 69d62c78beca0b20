"""What a study in `experiments/` declares: which runs, figures and claims belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Study:
    """One study; a module of `experiments/` holds it as ``STUDY``.

    Attributes:
        name: folder under ``results/`` and argument of ``resnet-study reproduce``.
        title: heading of the report.
        question: what is asked, in one or two sentences, with its source.
        sweeps: file names in ``sweeps/``, the only definition of the grids.
        figures: names of `resnet_study.figures.FIGURES`.
        claims: names of `resnet_study.analysis.claims.CLAIMS`.
        cost: what a run of the whole study takes, and on what.
        expected: the numbers to expect, each with where it was measured.
        signals: whether networks are measured at initialisation, without training
            (`resnet_study.signals.ARMS`), instead of or beside the sweeps.
        order: which runs are begun first: the `longest`; those of the first of the `sweeps`, in
            each one seed after the other; or all of the first `seed`, in each sweep by sweep.
    """

    name: str
    title: str
    question: str
    sweeps: tuple[str, ...]
    figures: tuple[str, ...]
    claims: tuple[str, ...]
    cost: str
    expected: str
    signals: bool = False
    order: Literal["longest", "sweeps", "seed"] = "longest"
