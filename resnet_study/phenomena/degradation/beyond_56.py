"""What the claims about residual networks of 110 and 1202 layers measure.

The paper warms up at depth 110 with a rate of 0.01 and trains shallower networks without
(section 4.2), so that a comparison by its recipe joins runs that differ in the warm-up too.
Such a group holds one warm-up per depth (`one_warmup_per_depth`); everything else is equal, as
everywhere. Depths are fixed here, before any number is seen: 110 against 20, and 1202 against
110, without substitutes, because the paper's statements are about these; only the responses
take the deepest from 44 to 110 where there is no 110.
"""

from __future__ import annotations

from collections.abc import Mapping

from resnet_study import reference
from resnet_study.judging.measurement import (
    Arm,
    Measurement,
    Missing,
    Side,
    arms_by_depth,
    ended_note,
    listed,
)
from resnet_study.judging.selections import (
    final_error,
)
from resnet_study.phenomena.degradation.measures import MARGIN, training_error_difference
from resnet_study.phenomena.depths import noted, one_warmup_per_depth
from resnet_study.records import Frames

FITTED = 0.1
"""Training error in percent below which the training set is fitted: the paper's "<0.1%"."""


def training_error_to_110(group: Frames) -> Measurement | Missing:
    """Final training error of residual-110 minus that of residual-20, to lie below `MARGIN`."""
    runs, note = one_warmup_per_depth(group)

    def pair(arms: Mapping[int, Arm]) -> tuple[int, int] | None:
        return (20, 110) if {20, 110} <= set(arms) else None

    result = training_error_difference(runs, "residual", MARGIN, "below", pair)
    return noted(result, note)


def accuracy_gain_to_110(group: Frames) -> Measurement | Missing:
    """Final test error of residual-110 minus that of residual-20, to lie below 0."""
    return _test_error_difference(group, (20, 110), "below")


def deepest_training_error(group: Frames) -> Measurement | Missing:
    """Final training error of residual-1202, to lie below `FITTED`."""
    runs, note = one_warmup_per_depth(group)
    arms = arms_by_depth(final_error(runs, "train"), "residual", "error")
    if 1202 not in arms:
        return Missing()
    clean = arms_by_depth(final_error(runs, "train_clean"), "residual", "error")
    others = listed({d: f"{a.mean():.3g} %" for d, a in arms.items() if d != 1202})
    detail = (
        f"residual-1202 ends at {arms[1202].mean():.3g} % training error as trained"
        f"{f', {clean[1202].mean():.3g} % on the images as they are' if 1202 in clean else ''}."
        f"{f' Other depths: {others}.' if others else ''}{ended_note(runs)}"
    )
    result = Measurement((arms[1202],), FITTED, "below", "percent training error", detail)
    return noted(result, note)


def deepest_test_error(group: Frames) -> Measurement | Missing:
    """Final test error of residual-1202 minus that of residual-110, to lie above 0."""
    return _test_error_difference(group, (110, 1202), "above")


def _test_error_difference(
    group: Frames, pair: tuple[int, int], claimed: Side
) -> Measurement | Missing:
    """Final test error of the deeper minus that of the shallower network."""
    runs, note = one_warmup_per_depth(group)
    arms = arms_by_depth(final_error(runs, "test"), "residual", "error")
    if not set(pair) <= set(arms):
        return Missing()
    shallow, deep = pair
    train = arms_by_depth(final_error(runs, "train"), "residual", "error")
    trained = listed({d: f"{train[d].mean():.3g} %" for d in pair if d in train})
    ours = listed({d: f"{a.mean():.3g} %" for d, a in arms.items()})
    detail = (
        f"Test error of residual networks at the end (last, not best): {ours}."
        f"{f' Training error as trained: {trained}.' if trained else ''}"
        f"{published_test_errors(pair)}{ended_note(runs)}"
    )
    arm = (arms[deep], arms[shallow])
    result = Measurement(arm, 0.0, claimed, "percentage points", detail)
    return noted(result, note)


def published_test_errors(depths: tuple[int, int]) -> str:
    """Sentences on the residual networks' test errors in Table 6 and in reproductions."""
    table = reference.table6().set_index("depth")
    parts = []
    for depth in depths:
        row = table.loc[depth]
        spread = (
            f" (best of {row['runs']} runs on the test set; mean {row['mean_percent']:.2f} ± "
            f"{row['std_percent']:.2f} %)"
            if row["runs"] > 1
            else ""
        )
        parts.append(f"{row['test_error_percent']:.2f} % at {depth}{spread}")
    others = reference.reproductions()
    others = others[(others["family"] == "residual") & others["depth"].isin(depths)]
    lines = []
    for source, rows in others.groupby("source", sort=False):
        errors = rows.set_index("depth")["test_error_percent"]
        if set(errors.index) == set(depths):
            chosen = "best on test" if "best-on-test" in set(rows["selection"]) else "last"
            numbers = " and ".join(f"{errors[depth]:.2f}" for depth in depths)
            lines.append(f"{source} {numbers} ({chosen})")
    found = f" Public reproductions: {'; '.join(lines)}." if lines else ""
    return f" In the paper (CIFAR-10, Table 6): {', '.join(parts)}.{found}"
