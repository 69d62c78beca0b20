"""How often verdicts are false and true, by kind of claim, distribution and number of seeds.

    python benchmarks/verdicts.py                    # about a minute of one core
    python benchmarks/verdicts.py --studies=100000

Every cell simulates studies of one claim. *False*: its truth lies on the border, half of all seeds
on either side, where errors are commonest; the more frequent of the two decided verdicts, each of
which may be wrong in 5 % of the studies. *True*: the median lies 1.5 interquartile ranges inside
the claimed side (band: at its centre, whose half-width that is); how often it is called reproduced.
The rules that were not taken stand below for the same studies: t intervals at 95 % (Welch's for two
arms; they are of means, which skew parts from medians), and one-sided tests of ranks at 5 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from resnet_study.judging.statistics import holm, sign_test

ALPHA = 0.05
SEEDS = (2, 3, 5, 10, 20)
INSIDE = 1.5

DEPTHS = np.array([8, 20, 32, 44, 56, 110])

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def fails(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal, but one seed in five fails: it ends 40 standard deviations higher."""
    return rng.normal(size=shape) + 40 * (rng.random(shape) < 0.2)


DISTRIBUTIONS: dict[str, tuple[Draw, Draw]] = {
    "normal": (lambda r, s: r.normal(size=s),) * 2,
    "heavy tails (t, 3)": (lambda r, s: r.standard_t(3, size=s),) * 2,
    "skew (lognormal)": (lambda r, s: r.lognormal(size=s), lambda r, s: -r.lognormal(size=s)),
    "one in five fails": (fails, lambda r, s: r.normal(size=s)),
    "unequal spread": (lambda r, s: 10 * r.normal(size=s), lambda r, s: 0 * r.normal(size=s)),
}
"""Noise of the first arm, or the only one, and of the second."""

KINDS = ("difference", "bound", "ratio", "band", "share")
"""First arm above the second; at most 1 above it, with arms that share what a seed brings; log10
of a ratio below -1; exponent of depth within 1 ± 0.25; more than half of the seeds succeed."""


class Cell(NamedTuple):
    """Studies of one claim: arms (studies, n), or one and None, and the threshold."""

    first: np.ndarray
    second: np.ndarray | None
    side: str
    threshold: float

    @property
    def effect(self) -> np.ndarray:
        return self.first if self.second is None else self.first - self.second

    def holds(self) -> np.ndarray:
        """Seeds on the claimed side, by study."""
        effect = np.abs(self.effect) if self.side == "within" else self.effect
        on_side = effect > self.threshold if self.side == "above" else effect < self.threshold
        return np.sum(on_side, axis=1)


def simulate(
    kind: str, distribution: str, n: int, studies: int, true: bool, rng: np.random.Generator
) -> Cell:
    """Studies whose claim is true by far, or has its truth on the border."""
    if kind == "share":
        values = (rng.random((studies, n)) < (0.95 if true else 0.5)).astype(float)
        return Cell(values, None, "above", 0.5)
    noise = DISTRIBUTIONS[distribution]

    def draw(many: int, seeds: int) -> tuple[np.ndarray, np.ndarray | None]:
        if kind == "band":
            points = noise[0](rng, (many, seeds, len(DEPTHS)))
            x = np.log(DEPTHS) - np.log(DEPTHS).mean()
            return points @ x / (x @ x), None
        first = noise[0](rng, (many, seeds))
        if kind == "ratio":
            return first, None
        seed = rng.normal(size=(many, seeds)) if kind == "bound" else 0.0
        return first + seed, noise[1](rng, (many, seeds)) + seed

    first, second = draw(100_000, 1)
    low, middle, high = np.quantile(first if second is None else first - second, [0.25, 0.5, 0.75])
    spread = high - low
    first, second = draw(studies, n)
    side, threshold = {
        "difference": ("above", 0.0),
        "bound": ("below", 1.0),
        "ratio": ("below", -1.0),
        "band": ("within", 0.25),
    }[kind]
    first = first - middle
    if kind == "band":
        first = first * threshold / (INSIDE * spread)
        return Cell(first + (0 if true else threshold), None, side, threshold)
    inside = INSIDE * spread * (1 if side == "above" else -1)
    return Cell(first + threshold + (inside if true else 0), second, side, threshold)


def exact(cell: Cell, alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
    """Whether each study is reproduced, and whether it is not reproduced, by the rule in use."""
    holds, n = cell.holds(), cell.first.shape[1]
    return sign_test(holds, n) <= alpha, sign_test(n - holds, n) <= alpha


def t_interval(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """The same by a two-sided t interval at 95 %."""
    n = cell.first.shape[1]
    arms = [cell.first] if cell.second is None else [cell.first, cell.second]
    errors = np.array([arm.var(axis=1, ddof=1) / n for arm in arms])
    error, square = np.sqrt(errors.sum(axis=0)), np.sum(errors**2, axis=0)
    freedom = (n - 1) * error**4 / np.where(square > 0, square, np.inf)
    half = error * stats.t.isf(ALPHA / 2, freedom)
    # Equal numbers give no interval.
    half = np.where(error > 0, half, np.inf)
    middle = cell.effect.mean(axis=1)
    return _sides(cell, middle - half, middle + half)


def signed_ranks(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """The same by Wilcoxon's signed ranks of the differences from the threshold."""
    return _sides(cell, *_walsh_limits(cell.effect))


def rank_sums(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """The same by Mann and Whitney's test of two arms (of one: signed ranks)."""
    if cell.second is None:
        return signed_ranks(cell)
    n = cell.first.shape[1]
    pairs = np.sort((cell.first[:, :, None] - cell.second[:, None, :]).reshape(-1, n * n), axis=1)
    sizes = np.zeros((n + 1, n * n + 1))
    sizes[0, 0] = 1
    # Number of ways in which n of 2n ranks have each sum.
    for item in range(2 * n):
        for taken in range(n - 1, -1, -1):
            low = item - taken
            if 0 <= low <= n:
                sizes[taken + 1, low:] += sizes[taken, : n * n + 1 - low]
    rank = int(np.sum(np.cumsum(sizes[n]) / sizes[n].sum() <= ALPHA))
    return _sides(cell, *_order_statistics(pairs, rank))


RULES = {
    "sign test (in use)": exact,
    "t interval, Welch": t_interval,
    "Wilcoxon signed rank": signed_ranks,
    "Mann-Whitney": rank_sums,
}


def _walsh_limits(effect: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the centre of symmetry, from the means of all pairs."""
    n = effect.shape[1]
    first, second = np.triu_indices(n)
    means = np.sort((effect[:, first] + effect[:, second]) / 2, axis=1)
    ways = np.ones(1)
    for rank in range(1, n + 1):
        ways = np.convolve(ways, np.eye(1, rank + 1, rank)[0] + np.eye(1, rank + 1)[0])
    return _order_statistics(means, int(np.sum(np.cumsum(ways) / ways.sum() <= ALPHA)))


def _order_statistics(ordered: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    if not rank:
        nothing = np.full(len(ordered), np.inf)
        return -nothing, nothing
    return ordered[:, rank - 1], ordered[:, -rank]


def _sides(cell: Cell, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether intervals lie wholly on the claimed side, and wholly on the other."""
    if cell.side == "within":
        inside = (low > -cell.threshold) & (high < cell.threshold)
        return inside, (low > cell.threshold) | (high < -cell.threshold)
    above, below = low > cell.threshold, high < cell.threshold
    return (above, below) if cell.side == "above" else (below, above)


class Rates(NamedTuple):
    """Of one rule in one cell; `false` is that of the commoner wrong verdict."""

    kind: str
    distribution: str
    n: int
    rule: str
    false: float
    true: float


def rates(studies: int, rng: np.random.Generator) -> Iterator[Rates]:
    """Every rule in every cell."""
    for kind in KINDS:
        for distribution in DISTRIBUTIONS if kind != "share" else ("half of all seeds",):
            for n in SEEDS:
                border, inside = (
                    simulate(kind, distribution, n, studies, true, rng) for true in (False, True)
                )
                for name, rule in RULES.items():
                    false = max(float(np.mean(wrong)) for wrong in rule(border))
                    true = float(np.mean(rule(inside)[0]))
                    yield Rates(kind, distribution, n, name, false, true)


def family_rate(claims: int, n: int, shared: bool, studies: int, rng: np.random.Generator) -> float:
    """How often any of several primary claims, all on the border, is wrongly called reproduced."""
    wrong = 0
    for _ in range(studies):
        holds = np.full(claims, rng.binomial(n, 0.5)) if shared else rng.binomial(n, 0.5, claims)
        wrong += min(holm(dict(enumerate(sign_test(holds, n)))).values()) <= ALPHA
    return wrong / studies


def looking_rate(declared: int | None, studies: int, rng: np.random.Generator) -> float:
    """How often a claim on the border is wrongly reproduced at any number of seeds up to 20.

    Args:
        declared: seeds that count from the start, those to come against the verdict; None: only
            those that are there, as if each number of seeds had been planned.
    """
    there = np.arange(1, 21)
    holds = np.cumsum(rng.random((studies, 20)) < 0.5, axis=1)
    return float(np.mean(np.any(sign_test(holds, declared or there) <= ALPHA, axis=1)))


def report(found: list[Rates]) -> str:
    """The tables, in Markdown."""
    head = f"| n = {' | '.join(map(str, SEEDS))} |\n|---|---" + "|---" * len(SEEDS) + "|"
    by_cell = {(r.kind, r.distribution, r.rule, r.n): r for r in found}
    used = next(iter(RULES))
    lines = [f"| claim | distribution {head}"]
    for kind, distribution in dict.fromkeys((r.kind, r.distribution) for r in found):
        cells = (by_cell[kind, distribution, used, n] for n in SEEDS)
        texts = [f"{100 * c.false:.1f} / {100 * c.true:.0f}" for c in cells]
        lines.append(f"| {kind} | {distribution} | {' | '.join(texts)} |")
    lines += ["", f"| rule | worst case of {head}"]
    for rule in RULES:
        for name in ("false, any distribution", "false, normal", "true, normal"):
            field, _, which = name.partition(", ")
            pick = [
                r for r in found if r.rule == rule and which in ("any distribution", r.distribution)
            ]
            worst = [
                (max if field == "false" else min)(getattr(r, field) for r in pick if r.n == n)
                for n in SEEDS
            ]
            lines.append(f"| {rule} | {name} | {' | '.join(f'{100 * w:.1f}' for w in worst)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=20_000, help="in a cell")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    noise = 100 * np.sqrt(ALPHA * (1 - ALPHA) / options.studies)
    print(f"Percent of {options.studies:,} studies, false / true; standard error {noise:.2f}\n")
    print(report(list(rates(options.studies, rng))))
    some = max(1, options.studies // 4)
    print("\nAny of four primary claims wrongly reproduced, percent:")
    for shared in (False, True):
        found = [f"n = {n}: {100 * family_rate(4, n, shared, some, rng):.1f}" for n in (7, 10, 20)]
        print(f"  {'the same runs' if shared else 'independent'}: {', '.join(found)}")
    print("Looking after every seed, up to 20, percent:")
    for name, declared in (("20 seeds declared", 20), ("as if each number was planned", None)):
        print(f"  {name}: {100 * looking_rate(declared, options.studies, rng):.1f}")


if __name__ == "__main__":
    main()
