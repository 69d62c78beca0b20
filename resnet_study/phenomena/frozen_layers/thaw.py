"""Layers that their own first steps freeze, and the weight decay that thaws them.

*Hypothesis* (of this project, unproven). The exploding gradient of a deep plain network with
batch normalisation inflates the weights of its early layers within some ten iterations. Such a
layer is a function of the direction of its weights alone, so that ∂L/∂w is orthogonal to w and
falls as 1/‖w‖: inflated by a factor G, it turns G² times more slowly. Only weight decay brings the
norm back, which takes τ ln G iterations.

*Theory.* Momentum μ, rate η, weight decay λ, a layer that does not depend on the scale of w:

- time constant of free decay τ = (1−μ)/(ηλ): without a gradient of the loss ‖w‖ falls as
  exp(−t/τ) (to first order in ηλ; at μ = 0.9 and ηλ = 5e-4 the exact rate is 5 % higher);
- effective step e = η‖∂L/∂w‖ / (√(1−μ²)‖w‖): the angle per iteration by which the gradient of the
  loss turns the layer, for gradients that are independent of each other. The recorded update
  would not do: it holds the shrinking by weight decay too, 1/τ of the norm per iteration, which
  turns nothing;
- equilibrium: growth by the gradient and weight decay balance where e* = √(2ηλ/(1+μ))
  (Wan et al. 2020, arXiv 2006.08419; that there is such an equilibrium: van Laarhoven 2017,
  arXiv 1706.05350).

*Definitions*, fixed before any run of the study was made. (A feasibility run with a seed outside of
the study had been seen; no threshold was changed after it, but `LATE` took the place of the last
three records, the median of three was centred, and learning without any thaw became a claim of
its own.) All are about convolutions in runs with weight decay, while the learning rate is the one
of the spec: nothing after its first drop counts, and no run with a warm-up.

- early: the recorded iteration t₀ nearest to `EARLY`; the growth G is ‖w(t₀)‖/‖w(0)‖, the early
  effective step e₀ the geometric mean over the records after t₀/2 up to t₀;
- frozen: e₀ below `FROZEN` e*. Inflated: G of at least `INFLATED`. Judged are layers that are
  both: a layer whose weights did not grow is none of the hypothesis;
- thaw: the first record after t₀ at which e is at least `MOVING` e*, as the median of this record
  and its two neighbours;
- predicted from the weights, t₀ + τ ln G: it moves again once its norm is back where it began;
- predicted from the effective step, t₀ + (τ/2) ln(`MOVING` e*/e₀): e grows as 1/‖w‖² while the
  norm decays, if the gradient at given norm stays as it is at t₀. Without weight decay both say:
  never;
- the effect is log₂(measured/predicted), its median over the judged layers of a run; the
  prediction holds if it lies within ±`BAND`, a factor of two. The seed is the unit.

*Censoring.* A layer that has not thawed by the last record is not left out but enters as the bound
that it is: the median of a run lies between the one with these bounds and the one with infinity in
their place. Where the two differ, a claim is decided only by the less favourable of them, and
asks for longer runs if that cannot decide.

*With and without weight decay.* Without it there is no equilibrium to be measured by. Where arms
with different decays meet, a layer counts as frozen if its effective step is below `FROZEN` of
the median over the last quarter of the convolutions at the same iteration, as the median over the
last `LATE` of the iterations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy

from resnet_study.judging.keeping import per_group
from resnet_study.judging.selections import conv_layers, of_run, per_run, step_nearest
from resnet_study.records import KEYS as RUN
from resnet_study.records import Frames

EARLY = 50
FROZEN = 0.1
MOVING = 0.5
INFLATED = math.e
LATE = 0.2
BAND = 1.0

RATE, MOMENTUM, DECAY = (
    f"optimizer.{name}" for name in ("learning_rate", "momentum", "weight_decay")
)
KEYS = [*RUN, "weight_decay"]
THAW_COLUMNS = [
    *KEYS,
    "layer",
    "start",
    "growth",
    "early",
    "fall",
    "judged",
    "from_growth",
    "from_step",
    "thaw",
    "end",
]
MOTION_COLUMNS = [*RUN, "step", "layer", "rate", "growth", "effective", "relative"]

_TINY = float(np.finfo(np.float32).tiny)


def time_constant(rate: float, momentum: float, decay: float) -> float:
    """Iterations in which the norm of a layer without gradient falls by a factor e; may be inf."""
    return (1 - momentum) / (rate * decay) if decay > 0 else math.inf


def equilibrium_step(rate: float, momentum: float, decay: float) -> float:
    """Effective step at which growth and weight decay balance; radians per iteration."""
    return math.sqrt(2 * rate * decay / (1 + momentum))


@per_group
def layer_motion(frames: Frames) -> pd.DataFrame:
    """How far the loss turns every convolution in each recorded iteration, and its weights' growth.

    Returns:
        ``run_id, family, depth, seed, step, layer, rate`` (of this iteration), ``growth``
        (‖w‖ over that at iteration 0), ``effective`` (radians per iteration) and ``relative``
        (to the median over the last quarter of the convolutions at this iteration). Rows whose
        norms are not finite are left out.
    """
    norms = ["weight_norm", "weight_gradient_norm"]
    rows = conv_layers(frames.layers_with(*norms))
    if not len(rows) or not set(norms) <= set(rows.columns):
        return pd.DataFrame(columns=MOTION_COLUMNS)
    table = rows[[*RUN, "step", "layer"]].assign(rate=_rates(frames, rows))
    weight, gradient = (rows[name].astype(float) for name in norms)
    start = weight.where(rows["step"] == 0)
    table["growth"] = weight / start.groupby(_keys(rows, "layer"), observed=True).transform("max")
    momentum = of_run(table, frames.runs[MOMENTUM])
    table["effective"] = table["rate"] * gradient / weight / np.sqrt(1 - momentum**2)
    table = table[np.isfinite(table["growth"]) & np.isfinite(table["effective"])]
    late = table["effective"].where(4 * table["layer"] > 3 * (table["depth"] - 1))
    by_step = late.groupby(_keys(table, "step"), observed=True).transform("median")
    return table.assign(relative=table["effective"] / np.maximum(by_step, _TINY))


@per_group
def thaw_table(frames: Frames) -> pd.DataFrame:
    """When every convolution was predicted to thaw and when it did.

    Returns:
        One row per run with weight decay, without warm-up, and layer: ``run_id, family, depth,
        seed, weight_decay, layer, start`` (t₀), ``growth``, ``early`` (e₀), ``fall`` (natural
        logarithm of the factor by which e fell from iteration 0 to t₀), ``judged``,
        ``from_growth`` and ``from_step`` (predicted iterations), ``thaw`` (measured; NaN if it
        was not seen), ``end`` (a thaw up to here would have been seen).
    """
    motion = layer_motion(frames)
    places = motion.groupby("run_id", observed=True).indices
    columns = {name: motion[name].to_numpy() for name in MOTION_COLUMNS[4:9]}
    runs = frames.runs[frames.runs[DECAY] > 0]
    parts = []
    for run_id, *run in runs[[*KEYS[1:4], RATE, MOMENTUM, DECAY]].itertuples():
        if run_id in places:
            own = {name: values[places[run_id]] for name, values in columns.items()}
            if found := _thaw_of_run(own, *map(float, run[3:])):
                length = len(found["layer"])
                keys = zip(KEYS, [run_id, *run[:3], run[-1]], strict=True)
                parts.append(found | {name: np.repeat(value, length) for name, value in keys})
    if not parts:
        return pd.DataFrame(columns=THAW_COLUMNS)
    return pd.DataFrame({n: np.concatenate([part[n] for part in parts]) for n in THAW_COLUMNS})


def thaw_ratios(table: pd.DataFrame, predicted: str) -> pd.DataFrame:
    """Median over the judged layers of a run of log₂(measured/predicted).

    Predicted ``from_growth`` or ``from_step`` in the `thaw_table`.

    Returns:
        Indexed by run: ``family, depth, seed, weight_decay, low, high`` (equal where the median
        is exact; ``high`` is infinite where censored layers leave it open), ``layers`` (judged),
        ``thawed`` (of them), ``rank`` (Spearman's correlation over layers of prediction and
        measurement; NaN where either is constant). Runs without a judged layer are left out.
    """
    rows = []
    for run_id, part in table[table["judged"].astype(bool)].groupby("run_id"):
        thaw, prediction = part["thaw"].astype(float), part[predicted].astype(float)
        bound = np.log2((thaw.fillna(part["end"]) / prediction).to_numpy(float))
        order = thaw.fillna(np.inf)
        varied = order.nunique() > 1 and prediction.nunique() > 1
        rows.append(
            {
                "run_id": run_id,
                **part.iloc[0][KEYS[1:]],
                "low": float(np.median(bound)),
                "high": float(np.median(np.where(thaw.notna(), bound, np.inf))),
                "layers": len(part),
                "thawed": int(thaw.notna().sum()),
                "rank": scipy.stats.spearmanr(prediction, order)[0] if varied else math.nan,
            }
        )
    columns = [*KEYS, "low", "high", "layers", "thawed", "rank"]
    return pd.DataFrame(rows, columns=columns).set_index("run_id")


def last_thaw(table: pd.DataFrame) -> pd.DataFrame:
    """When the slowest judged layer of each run of a `thaw_table` thawed.

    Returns:
        Indexed by run: ``family, depth, seed, weight_decay, iteration`` and ``seen``; where a
        judged layer was not seen to thaw, the iteration is the last at which it would have been.
    """
    judged = table[table["judged"].astype(bool)]
    runs = judged.drop_duplicates("run_id").set_index("run_id")[KEYS[1:]]
    by_run = judged.set_index("run_id").groupby(level=0)
    seen = by_run["thaw"].count() == by_run["thaw"].size()
    last = by_run["thaw"].max().where(seen, by_run["end"].max()).astype(float)
    return runs.assign(iteration=last.reindex(runs.index), seen=seen.reindex(runs.index))


def peak_growth(frames: Frames) -> pd.Series:
    """Largest ‖w‖/‖w(0)‖ of any convolution at any recorded iteration, by run."""
    return per_run(layer_motion(frames).groupby("run_id", observed=True)["growth"].max()).astype(
        float
    )


def late_motion(frames: Frames, step: int) -> pd.DataFrame:
    """How the layers that were inflated early move in the last `LATE` of the iterations to a step.

    Returns:
        Indexed by run: ``layers`` (inflated), ``frozen`` (share of them, in [0, 1], whose median
        effective step relative to the late layers is below `FROZEN`) and ``effective`` (geometric
        mean over them). Runs without an inflated layer are left out.
    """
    rows = {}
    for run_id, motion in layer_motion(frames).groupby("run_id", observed=True):
        start = step_nearest(motion["step"], EARLY)
        growth = motion[motion["step"] == start].set_index("layer")["growth"]
        inflated = growth.index[growth >= INFLATED]
        last = (motion["step"] > (1 - LATE) * step) & (motion["step"] <= step)
        late = motion[last & motion["layer"].isin(inflated)]
        if len(late):
            frozen = late.groupby("layer")["relative"].median() < FROZEN
            logs = np.log(late["effective"].clip(lower=_TINY))
            rows[run_id] = (len(frozen), float(frozen.mean()), math.exp(logs.mean()))
    columns = ["layers", "frozen", "effective"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _keys(rows: pd.DataFrame, name: str) -> list[pd.Series]:
    return [rows["run_id"], rows[name]]


def _rates(frames: Frames, rows: pd.DataFrame) -> np.ndarray:
    """Learning rate of the iteration that follows each recorded step.

    From the first row of training metrics beyond it; after the last one, that row's own.
    """
    train = frames.metrics[frames.metrics["split"] == "train"].sort_values("step")
    rates, steps = of_run(rows, frames.runs[RATE]).to_numpy(copy=True), rows["step"].to_numpy()
    places = rows.groupby("run_id", observed=True).indices
    for run_id, curve in train.groupby("run_id", observed=True):
        own = places.get(run_id, [])
        following = np.searchsorted(curve["step"], steps[own], side="right")
        recorded = curve["learning_rate"].to_numpy(float)
        rates[own] = recorded[np.minimum(following, len(curve) - 1)]
    return rates


def _thaw_of_run(
    motion: Mapping[str, np.ndarray], rate: float, momentum: float, decay: float
) -> dict[str, np.ndarray]:
    """Columns of `thaw_table` for one run; none if it warms up or was not recorded early.

    In plain arrays: pandas takes many times as long for so small tables.
    """
    tau, balance = time_constant(rate, momentum, decay), equilibrium_step(rate, momentum, decay)
    changed = motion["step"][~np.isclose(motion["rate"], rate)]
    first = motion["step"] < (changed.min() if len(changed) else math.inf)
    motion = {name: values[first] for name, values in motion.items()}
    steps, rows = np.unique(motion["step"], return_inverse=True)
    layers, columns = np.unique(motion["layer"], return_inverse=True)
    start = step_nearest(steps.tolist(), EARLY)
    if start is None or steps[0] != 0:
        return {}
    effective, growths = np.full((2, len(steps), len(layers)), np.nan)
    effective[rows, columns], growths[rows, columns] = motion["effective"], motion["growth"]
    growth = growths[steps == start][0]
    seen = steps[1:-1][steps[1:-1] > start]
    if not len(seen):
        return {}
    # An exact 0 is a float32 norm that underflowed.
    logs = np.log(np.maximum(effective, _TINY))
    window = logs[(steps > start / 2) & (steps <= start)]
    with np.errstate(invalid="ignore", divide="ignore"):
        early = np.exp(np.nansum(window, axis=0) / np.sum(~np.isnan(window), axis=0))
        predicted = start + tau * np.log(growth), start + tau / 2 * np.log(MOVING * balance / early)
    three = np.sort([effective[:-2], effective[1:-1], effective[2:]], axis=0)
    # What is undefined is sorted last.
    median = np.where(np.isnan(three[2]), np.nan, three[1])[steps[1:-1] > start]
    moving = median >= MOVING * balance
    return {
        "layer": layers,
        "start": np.full(len(layers), start),
        "growth": growth,
        "early": early,
        "fall": np.log(np.maximum(effective[0], _TINY) / early),
        "judged": (growth >= INFLATED) & (early < FROZEN * balance),
        "from_growth": predicted[0],
        "from_step": predicted[1],
        "thaw": np.where(moving.any(axis=0), seen[moving.argmax(axis=0)].astype(float), np.nan),
        "end": np.full(len(layers), float(seen[-1])),
    }
