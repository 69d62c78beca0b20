"""What the claims about frozen layers measure; the definitions are those of `thaw`.

All are about plain networks of at least 44 layers: residual ones explode little, shallow ones not
enough. Judged are the depth and the weight decay with most seeds; of equals the deeper network,
then the smaller decay. What the other arms gave stands beside.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from resnet_study.judging.keeping import per_group
from resnet_study.judging.measurement import (
    Arm,
    Measurement,
    Missing,
    ended_counts,
    finite,
)
from resnet_study.judging.selections import (
    LENGTH_FIELDS,
    ended,
    final_error,
    per_run,
    select,
    warm_up,
)
from resnet_study.judging.statistics import sign_test
from resnet_study.phenomena.depths import MINIMUM_DEEP, WARMUP_FIELDS
from resnet_study.phenomena.frozen_layers.thaw import (
    BAND,
    DECAY,
    EARLY,
    FROZEN,
    INFLATED,
    MOMENTUM,
    RATE,
    last_thaw,
    late_motion,
    peak_growth,
    thaw_ratios,
    thaw_table,
    time_constant,
)
from resnet_study.records import DONE, Frames

HALF = 50.0
"""Training error in percent below which a network has begun to learn."""

ALPHA = 0.05
"""Level at which some runs decide without the others; that of a claim by itself."""

DECAY_FIELDS = ("optimizer.weight_decay", *LENGTH_FIELDS)
"""Spec fields in which runs with different weight decays may differ: a thaw takes longer."""

SCHEDULE = LENGTH_FIELDS[:3]
"""Length and drops of the rate; how often something is recorded tells no runs apart."""

GENTLE_FIELDS = (RATE, *WARMUP_FIELDS)
"""Spec fields in which runs that begin at the full rate or more gently may differ."""

Gentle = Literal["warm-up", "low rate"]


class Chosen(NamedTuple):
    """The arm that is judged."""

    depth: int
    weight_decay: float


def thaw_time(group: Frames, predicted: str) -> Measurement | Missing:
    """log₂ of measured over predicted iterations until layers thaw, one median per run.

    Predicted ``from_growth`` or ``from_step`` (`thaw_table`), of runs that differ in depth, family,
    seed and `DECAY_FIELDS`, as in all measures of weight decay.
    """
    table = thaw_table(_deep_plain(group))
    ratios = thaw_ratios(table, predicted)
    chosen = _most_seeds(table)
    if chosen is None or not len(own := _of_arm(ratios, chosen)):
        return Missing("runs with weight decay and a layer that froze")
    judged = table[table["judged"].astype(bool) & table["run_id"].isin(own.index)]
    seen = judged["thaw"].dropna()
    by_weights = 2 * np.log(judged["growth"].to_numpy(float)) / judged["fall"].to_numpy(float)
    numbers = {
        **chosen._asdict(),
        "runs": len(own),
        "layers": len(judged),
        "thawed": len(seen),
        "thaw": float(seen.median()) if len(seen) else None,
        "predicted": float(judged[predicted].astype(float).median()),
        "rank_correlation": finite(own["rank"].median()),
        "percent_by_weight_growth": float(100 * np.median(by_weights)),
        "open_runs": int((own["low"] != own["high"]).sum()),
        "median_between": [finite(own[side].median()) for side in ("low", "high")],
        "other_arms": _other_arms(ratios, chosen),
    }
    return _within_band(own, "layers have not thawed by the end of the runs", numbers)


def error_at_thaw(group: Frames) -> Measurement | Missing:
    """log₂ of the iteration of the first training error below `HALF` over that of the last thaw.

    The last thaw is that of the slowest judged layer of a run.
    """
    plain = _deep_plain(group)
    table = thaw_table(plain)
    thaws = last_thaw(table)
    chosen = _most_seeds(table)
    if chosen is None or not len(own := _of_arm(thaws, chosen)):
        return Missing("runs with weight decay and a layer that froze")
    errors = first_below(plain, HALF).reindex(own.index)
    ratio = np.log2((errors["iteration"] / own["iteration"]).to_numpy(float))
    bounds = pd.DataFrame(
        {
            "low": np.where(own["seen"], ratio, -np.inf),
            "high": np.where(errors["seen"], ratio, np.inf),
            "seed": own["seed"],
        }
    )
    numbers = {
        **chosen._asdict(),
        "runs": len(own),
        "level": HALF,
        "learns": float(errors["iteration"].median()),
        "learns_unseen": int((~errors["seen"]).sum()),
        "thaws": float(own["iteration"].median()),
        "thaws_unseen": int((~own["seen"]).sum()),
        "without_decay": _first_below_without_decay(plain, chosen),
    }
    return _within_band(bounds, "one of the two has not happened by the end of a run", numbers)


def error_without_thaw(group: Frames) -> Measurement | Missing:
    """log₂ of the iteration of the first error below `HALF`: without weight decay minus with it.

    If the frozen layers keep the network from learning, it learns later where nothing thaws
    them, or never. What is not seen by the end counts with the end of the run, which is less than
    the truth, and decides only what the truth would decide too.
    """
    plain = _deep_plain(group)
    chosen = _most_seeds(thaw_table(plain))
    if chosen is None:
        return Missing("runs with weight decay")
    runs = plain.runs[plain.runs["depth"] == chosen.depth]
    without, with_decay = (
        first_below(select(plain, runs.index[runs[DECAY] == decay]), HALF)
        for decay in (0.0, chosen.weight_decay)
    )
    if not len(without) or not len(with_decay):
        return Missing("runs of equal depth with and without weight decay")
    arms = tuple(
        pd.Series(np.log2(table["iteration"]).to_numpy(), index=plain.runs.loc[table.index, "seed"])
        for table in (without, with_decay)
    )
    numbers = {**chosen._asdict(), "level": HALF}
    for name, table in (("with_decay", with_decay), ("without_decay", without)):
        unseen = int((~table["seen"]).sum())
        median = float(table["iteration"].median())
        numbers[name] = {"iteration": median, "unseen": unseen, "runs": len(table)}
    effect = arms[0].median() - arms[1].median()
    # The arm that is open is even later: that must not be what the verdict would turn on.
    if (effect <= 0 and not without["seen"].all()) or (
        effect >= 0 and not with_decay["seen"].all()
    ):
        return Missing("longer runs, because the error has not fallen", numbers)
    return Measurement(arms, 0.0, "above", "log2 of the ratio", numbers)


def frozen_without_decay(group: Frames) -> Measurement | Missing:
    """Share of inflated layers that are still frozen: without weight decay minus with it."""
    plain = _deep_plain(group)
    runs = plain.runs.assign(weight_decay=plain.runs[DECAY]).reset_index()
    chosen = _most_seeds(runs[runs["weight_decay"] > 0])
    if chosen is None:
        return Missing("runs with weight decay")
    arms, ends = [], []
    for decay in (0.0, chosen.weight_decay):
        of_arm = runs["run_id"][(runs["depth"] == chosen.depth) & (runs["weight_decay"] == decay)]
        arms.append(select(plain, of_arm))
        ends.append(arms[-1].layers_with().groupby("run_id", observed=True)["step"].max().min())
    if not np.isfinite(ends).all():
        return Missing("runs of equal depth with and without weight decay, with layer records")
    step = int(min(ends))
    without, with_decay = (late_motion(arm, step) for arm in arms)
    if not len(without) or not len(with_decay):
        return Missing("runs in which the weights of a layer grew")
    run = arms[1].runs.iloc[0]
    tau = time_constant(float(run[RATE]), float(run[MOMENTUM]), chosen.weight_decay)
    numbers = {
        **chosen._asdict(),
        "iteration": step,
        "time_constants": step / tau,
        "inflated": INFLATED,
        "early": EARLY,
        "frozen_below": FROZEN,
    }
    for name, table in (("with_decay", with_decay), ("without_decay", without)):
        percent = float(100 * table["frozen"].median())
        turn = float(table["effective"].median())
        numbers[name] = {"percent_frozen": percent, "radians_per_iteration": turn}
    shares = tuple(
        table["frozen"].set_axis(plain.runs.loc[table.index, "seed"])
        for table in (without, with_decay)
    )
    return Measurement(shares, 0.0, "above", "share of layers", numbers)


def growth_difference(group: Frames, gentle: Gentle) -> Measurement | Missing:
    """ln of the largest weight growth: at the full rate from the start minus the gentler arm.

    That one warms up, or keeps to the lowest rate there is; the runs differ in depth, family, seed
    and `GENTLE_FIELDS`.
    """
    found = _gentler(group, gentle, np.log(peak_growth(_deep_plain(ended(group)))))
    if found is None:
        return Missing("both arms at one depth")
    arms, numbers = found
    factors = {name: math.exp(arm.median()) for name, arm in arms.items()}
    numbers = {**numbers, "factors": factors}
    return Measurement((arms["full"], arms["gentle"]), 0.0, "above", "ln G", numbers)


def error_difference(group: Frames, gentle: Gentle) -> Measurement | Missing:
    """Final training error at the full rate from the start minus that of the gentler arm."""
    found = _gentler(group, gentle, final_error(_deep_plain(group), "train")["error"])
    if found is None:
        return Missing("both arms at one depth")
    arms, numbers = found
    errors = {name: float(arm.median()) for name, arm in arms.items()}
    numbers = {**numbers, "errors": errors, **ended_counts(group)}
    return Measurement((arms["full"], arms["gentle"]), 0.0, "above", "percentage points", numbers)


def first_below(frames: Frames, level: float) -> pd.DataFrame:
    """First recorded iteration with a training error below a level.

    Returns:
        Indexed by run: ``iteration`` (the last one recorded if there is none), ``seen`` and
        ``last`` (recorded).
    """
    rows = frames.metrics[frames.metrics["split"] == "train"]
    last = per_run(rows.groupby("run_id", observed=True)["step"].max())
    below = rows[rows["error"] < level].groupby("run_id", observed=True)["step"].min()
    first = per_run(below).reindex(last.index)
    table = {"iteration": first.fillna(last).astype(float), "seen": first.notna(), "last": last}
    return pd.DataFrame(table)


@per_group
def _deep_plain(group: Frames) -> Frames:
    """The deep plain runs; of several lengths of one network and decay the one of most seeds.

    Of seeds whose runs ended, then of all; of equals the longest: a pilot is no second measurement
    of a seed, and a longer run that has begun takes no result away.
    """
    runs = group.runs
    runs = runs[(runs["family"] == "plain") & (runs["depth"] >= MINIMUM_DEEP)]
    best: dict[Any, tuple[tuple[Any, ...], pd.Index]] = {}
    for (depth, decay, *schedule), own in runs.groupby(["depth", DECAY, *SCHEDULE]):
        ended_seeds = own.loc[own["status"].isin(DONE), "seed"].nunique()
        found = (ended_seeds, own["seed"].nunique(), *schedule), own.index
        best[depth, decay] = max(best.get((depth, decay), found), found, key=lambda one: one[0])
    chosen = {run for _, index in best.values() for run in index}
    return select(group, [run for run in runs.index if run in chosen])


def _most_seeds(table: pd.DataFrame) -> Chosen | None:
    """See the module; ``table`` has a row or more per run."""
    if not len(table):
        return None
    counts = table.groupby(["depth", "weight_decay"])["seed"].nunique()
    arms = [Chosen(int(depth), float(decay)) for depth, decay in counts.index.tolist()]
    return max(arms, key=lambda arm: (counts[tuple(arm)], arm.depth, -arm.weight_decay))


def _of_arm(table: pd.DataFrame, arm: Chosen) -> pd.DataFrame:
    own = (table["depth"] == arm.depth) & (table["weight_decay"] == arm.weight_decay)
    return table[own]


def _within_band(bounds: pd.DataFrame, why: str, numbers: dict[str, Any]) -> Measurement | Missing:
    """Judge what lies between ``low`` and ``high`` of each run, as far as these decide it.

    Where they differ a run counts with the bound that decides: outside of the band the nearer one,
    inside of it the farther. Where neither does it lies on the border, on no side; runs are missing
    if the others do not decide by themselves.
    """
    bounds = bounds.set_index("seed")[["low", "high"]].astype(float).dropna()
    low, high = bounds["low"], bounds["high"]
    inside = (low >= -BAND) & (high <= BAND)
    farther = low.where(low.abs() > high.abs(), high)
    border = pd.Series(np.where(high < BAND, -BAND, BAND), low.index)
    beyond = low.where(low > BAND, high.where(high < -BAND, border))
    undecided = ~inside & (low <= BAND) & (high >= -BAND)
    sides = [int(inside.sum()), int((~inside & ~undecided).sum())]
    if not len(low) or (undecided.any() and min(sign_test(sides, len(low))) > ALPHA):
        return Missing(f"longer runs, because {why}", numbers)
    values = farther.where(inside, beyond)
    if not np.isfinite(values).all():
        return Missing(f"longer runs, because {why}", numbers)
    return Measurement((values,), BAND, "within", "log2 of the ratio", numbers)


def _other_arms(ratios: pd.DataFrame, judged: Chosen) -> list[dict[str, Any]]:
    """The arms that are not judged: median ``ratio``, ``runs``, and whether it is a lower bound."""
    pairs = zip(ratios["depth"], ratios["weight_decay"], strict=True)
    arms = {Chosen(int(depth), float(decay)) for depth, decay in pairs}
    return [
        {
            **arm._asdict(),
            "ratio": float(own["low"].median()),
            "runs": len(own),
            "bound": bool((own["low"] != own["high"]).any()),
        }
        for arm in sorted(arms - {judged})
        if len(own := _of_arm(ratios, arm))
    ]


def _first_below_without_decay(plain: Frames, chosen: Chosen) -> dict[str, Any]:
    """When the training error fell without weight decay, where nothing is predicted to thaw."""
    runs = plain.runs
    own = runs.index[(runs["depth"] == chosen.depth) & (runs[DECAY] == 0)]
    errors = first_below(select(plain, own), HALF)
    if not len(errors):
        return {}
    early = errors["iteration"][errors["seen"]]
    return {
        "runs": len(errors),
        "fell": len(early),
        "iteration": float(early.median()) if len(early) else None,
        "last": int(errors["last"].min()),
    }


def _gentler(
    group: Frames, gentle: Gentle, values: pd.Series
) -> tuple[dict[str, Arm], dict[str, Any]] | None:
    """Values of the arms ``full`` and ``gentle``, and ``depth`` and ``rates``; None without both.

    At the depth with most seeds in the smaller one; of equals the deeper. A warm-up at the rate of
    the run itself is none.
    """
    runs = group.runs[group.runs.index.isin(values.index[np.isfinite(values)])]
    warms = warm_up(runs) & (runs["schedule.warmup_learning_rate"] != runs[RATE])
    best, result = (0, 0), None
    for depth in sorted(runs["depth"].unique()):
        part = runs[runs["depth"] == depth]
        warm = warms[part.index]
        high, low = part[RATE].max(), part[RATE].min()
        full = part[~warm & (part[RATE] == high)]
        if gentle == "low rate":
            other = part[~warm & (part[RATE] == low) & (low < high)]
        else:
            other = part[warm & (part[RATE] == high)]
            if len(other):
                # Of several warm-ups the one with most seeds.
                settings = other[list(WARMUP_FIELDS)].apply(tuple, axis=1)
                other = other[settings == settings.value_counts().idxmax()]
        size = (min(full["seed"].nunique(), other["seed"].nunique()), int(depth))
        if size[0] and size > best:
            best = size
            arms = {"full": full, "gentle": other}
            by_seed = {name: values[a.index].set_axis(a["seed"]) for name, a in arms.items()}
            rates = [high, low] if gentle == "low rate" else [high]
            result = by_seed, {"depth": int(depth), "rates": rates}
    return result
