"""The claims of the study of frozen layers: hypotheses of this project, from a pilot.

What each measures is in `measures`, the hypothesis and its theory in `thaw`.
"""

from __future__ import annotations

from collections.abc import Callable

from resnet_study.judging.claim import Claim
from resnet_study.judging.measurement import Measurement, Missing
from resnet_study.phenomena.depths import MINIMUM_DEEP
from resnet_study.phenomena.frozen_layers import measures
from resnet_study.records import Frames

_SEEDS = "2 seeds or more each"
_FROZEN = "hypothesis of this project, from a pilot"
_DEEP_ONE = f"plain runs of one depth from {MINIMUM_DEEP} on"
_FROZEN_RUNS = (
    f"{_DEEP_ONE} with weight decay, without warm-up, with layer records from iteration 0, long "
    "enough for layers to thaw, 2 seeds or more"
)
_DECAY_RUNS = f"{_DEEP_ONE} with and without weight decay, with layer records, {_SEEDS}"


def _gentler(
    arm: str,
    how: str,
    growth: Callable[[Frames], Measurement | Missing],
    error: Callable[[Frames], Measurement | Missing],
) -> tuple[Claim, Claim]:
    runs = (
        f"finished {_DEEP_ONE} at the full rate from the start and {how}, with equal weight decay "
        f"and layer records, {_SEEDS}"
    )
    return (
        Claim(
            f"{arm}_reduces_weight_growth",
            "In a deep plain network at the full rate from the start the weights of the layer that "
            f"grows most grow by a larger factor than {how}.",
            _FROZEN,
            None,
            growth,
            runs,
            measures.GENTLE_FIELDS,
        ),
        Claim(
            f"{arm}_lowers_training_error",
            "A deep plain network at the full rate from the start ends with a higher training "
            f"error than {how}, after equally many iterations.",
            _FROZEN,
            None,
            error,
            runs,
            measures.GENTLE_FIELDS,
        ),
    )


THAW_AS_WEIGHTS_SHRINK = Claim(
    "frozen_layers_thaw_as_weights_shrink",
    "Layers of a deep plain network that the first steps froze, by inflating their weights by "
    "a factor G, move again after (1−μ)/(ηλ)·ln G iterations, in which weight decay brings the "
    "norm back: within a factor of two, as the median over the layers of a run.",
    _FROZEN,
    None,
    measures.thaw_from_growth,
    _FROZEN_RUNS,
    measures.DECAY_FIELDS,
)

CLAIMS = (
    THAW_AS_WEIGHTS_SHRINK,
    Claim(
        "frozen_layers_thaw_as_steps_grow",
        "Layers of a deep plain network that the first steps froze move again when predicted from "
        "their effective step after 50 iterations, which rises as 1/‖w‖² while weight decay "
        "shrinks the weights: within a factor of two, as the median over the layers of a run.",
        f"{_FROZEN}; the equilibrium that ends it: Wan et al. 2020, arXiv 2006.08419",
        None,
        measures.thaw_from_step,
        _FROZEN_RUNS,
        measures.DECAY_FIELDS,
    ),
    Claim(
        "training_error_falls_with_thaw",
        "The training error of a deep plain network first falls below "
        f"{measures.HALF:g} % when its slowest frozen layer thaws, within a factor of two "
        "in iterations.",
        _FROZEN,
        None,
        measures.error_at_thaw,
        _FROZEN_RUNS,
        measures.DECAY_FIELDS,
    ),
    Claim(
        "training_error_falls_later_without_thaw",
        "The training error of a deep plain network first falls below "
        f"{measures.HALF:g} % later without weight decay, where nothing thaws its frozen "
        "layers, than with it.",
        _FROZEN,
        None,
        measures.error_without_thaw,
        _DECAY_RUNS,
        measures.DECAY_FIELDS,
    ),
    Claim(
        "layers_stay_frozen_without_weight_decay",
        "Of the layers whose weights the first steps inflated more are still frozen, compared with "
        "the last quarter of the layers, without weight decay than with it after equally many "
        "iterations.",
        _FROZEN,
        None,
        measures.frozen_without_decay,
        _DECAY_RUNS,
        measures.DECAY_FIELDS,
    ),
    *_gentler(
        "warmup",
        "with a warm-up",
        measures.growth_without_warmup,
        measures.error_without_warmup,
    ),
    *_gentler(
        "low_rate",
        "at a low rate",
        measures.growth_at_full_rate,
        measures.error_at_full_rate,
    ),
)
