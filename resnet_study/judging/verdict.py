"""From one number per seed to a verdict: counting the seeds on the claimed side.

*What a claim says.* That its effect lies on the claimed side of the threshold in more than half of
all seeds, which for a claim of "above" or "below" is a statement about the median. Two arms are
subtracted seed by seed. A verdict needs the exact binomial test (`statistics.sign_test`), and that
needs seeds:

- ``reproduced``: so many seeds lie on the claimed side that at most half of all seeds doing so is
  refuted at the level;
- ``not reproduced``: so many lie on the other side;
- ``indicated``: neither, since the seeds are too few, but all of them lie on the claimed side;
- ``undecided``: neither, or runs are missing; ``needed`` says what would decide.

*Several claims.* The primary claims of a study, named with its seeds before it runs, share the
level, each direction by Holm's procedure (`judge.judge`). All others are exploratory: judged one by
one, in words that differ (`EXPLORATORY`). So is a primary claim for which seeds beyond the declared
ones were run, because adding seeds until a verdict falls makes it fall too often; it says
``sequential``. A seed on the border, and a declared one that is missing, count against both: what
is decided early would be decided whatever the rest shows, and looking early changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from resnet_study.judging.measurement import Measurement
from resnet_study.judging.statistics import seeds_needed, share_limits, sign_test

Role = Literal["primary", "exploratory", "sequential"]

VERDICTS = ("reproduced", "indicated", "not reproduced", "undecided")
"""Of primary claims, in the order of every summary."""

EXPLORATORY = {"reproduced": "supported", "not reproduced": "contradicted"}
"""What stands for these where a claim does not share the level of its study's primary ones."""


class Tally(NamedTuple):
    """How the seeds of one claim fall.

    Attributes:
        effects: one number per seed, of the seeds that have it in every arm.
        holds, fails: seeds on the claimed side and on the other; one on the border is on neither.
        seeds: those that the test is of: the declared ones, or more if there are more.
        beyond: whether there are seeds that were not declared.
    """

    effects: np.ndarray
    holds: int
    fails: int
    seeds: int
    beyond: bool

    @property
    def p_values(self) -> tuple[float, float]:
        """Against the claim being false, and against its being true."""
        holds, fails = sign_test([self.holds, self.fails], self.seeds)
        return float(holds), float(fails)

    @property
    def text(self) -> str:
        """``4 of 5 seeds``, those on the claimed side."""
        there = len(self.effects)
        missing = f", {self.seeds} declared" if self.seeds > there else ""
        return f"{self.holds} of {there} seed{'' if there == 1 else 's'}{missing}"


def tally(m: Measurement, declared: Collection[int] = ()) -> Tally:
    """Count the seeds of a measurement on either side of its threshold.

    ``declared`` are those that the claim was to be judged by; none: those that are there.
    """
    effect = effects(m)
    values = effect.to_numpy(float)
    beside = (np.abs(values) if m.claimed == "within" else values) - m.threshold
    if m.claimed != "above":
        beside = -beside
    beyond = bool(declared) and not set(effect.index) <= set(declared)
    seeds = max(len(values), len(declared))
    return Tally(values, int(np.sum(beside > 0)), int(np.sum(beside < 0)), seeds, beyond)


def effects(m: Measurement) -> pd.Series:
    """One number per seed: the arm, or first − second, seed by seed where they share seeds.

    A seed with several runs in an arm counts once, with their median. Arms without a common seed
    are paired in order of their seeds.
    """
    arms = [pd.Series(arm, dtype=float).dropna() for arm in m.arms]
    arms = [arm.groupby(level=0).median() for arm in arms]
    if len(arms) == 1:
        return arms[0]
    first, second = arms
    if not set(first.index) & set(second.index):
        pairs = min(len(first), len(second))
        first, second = first.iloc[:pairs], second.iloc[:pairs].set_axis(first.index[:pairs])
    return (first - second).dropna()


def verdict(found: Tally, p_values: tuple[float, float], role: Role, alpha: float) -> str:
    """The verdict in words.

    Args:
        found: the seeds.
        p_values: as `Tally.p_values`, but adjusted for several claims.
        role, alpha: of the claim in its study; the level, for each direction.
    """
    if p_values[0] <= alpha:
        word = "reproduced"
    elif p_values[1] <= alpha:
        word = "not reproduced"
    else:
        word = "indicated" if found.holds == len(found.effects) else "undecided"
    return word if role == "primary" else f"{role}: {EXPLORATORY.get(word, word)}"


def needed(found: Tally, alpha: float) -> str:
    """What would decide, at the level that the claim has by itself or as the first of several."""
    there, agree = len(found.effects), max(found.holds, found.fails)
    if agree == there:
        side = "for" if found.holds == there else "against"
        return f"{seeds_needed(1.0, alpha)} seeds, if all of them fall {side} it as these do"
    if not agree:
        return "effects that do not lie on the threshold, as all of these do"
    seeds = seeds_needed(agree / there, alpha)
    if seeds is None:
        return "more than 1000 seeds, if they fall as evenly on both sides as these do"
    side = "claimed" if found.holds == agree else "other"
    # So few seeds may look enough only because these happened to fall so.
    return (
        f"about {max(seeds, there + 1)} seeds for a power of 80 %, if "
        f"{100 * agree / there:.0f} % of all seeds lie on the {side} side"
    )


def share_text(found: Tally, p_values: tuple[float, float], family: int, alpha: float) -> str:
    """Sentence on the count that decides, with what it says of all seeds."""
    low, high = share_limits(found.holds, len(found.effects), alpha)
    p, adjusted = min(zip(found.p_values, p_values, strict=True))
    shared = (
        f", {adjusted:.2g} when the {family} primary claims share the level by Holm's procedure, "
        f"which keeps studies that are wrong about any of them to {100 * alpha:.3g} % a direction"
    )
    return (
        f" It holds in {found.text}; of all seeds in {100 * low:.0f} to {100 * high:.0f} % (exact, "
        f"{100 * (1 - 2 * alpha):.4g} %); one-sided p = {p:.2g}{shared if family > 1 else ''}."
    )
