"""The claims of the study of frozen layers: hypotheses of this project, from a pilot.

What each measures is in `measures`, the hypothesis and its theory in `thaw`.
"""

from __future__ import annotations

from functools import partial

from resnet_study.judging.claim import BATCH_NORMALIZATION, Claim
from resnet_study.phenomena.depths import MINIMUM_DEEP
from resnet_study.phenomena.frozen_layers import measures

_SEEDS = "5 seeds or more each"
_FROZEN = "hypothesis of this project, from a pilot"
_DEEP_ONE = f"plain runs of one depth from {MINIMUM_DEEP} on"
_FROZEN_RUNS = (
    f"{_DEEP_ONE} with weight decay, without warm-up, with layer records from iteration 0, long "
    "enough for layers to thaw, 5 seeds or more"
)
_DECAY_RUNS = f"{_DEEP_ONE} with and without weight decay, with layer records, {_SEEDS}"

_THAW = """plain-{{ depth }} with weight decay {{ weight_decay|number("g") }}, {{ runs }} runs:
{{ layers }} frozen and inflated layers, of which {{ thawed }} were seen to thaw. Thaw
{% if thaw is none %}not seen{% else %}at iteration {{ thaw|number(".0f") }} (median of those
seen){% endif %}, predicted {{ predicted|number(".0f") }} (median of all)
{%- if rank_correlation is not none %}; rank correlation over
the layers of a run {{ rank_correlation|number(".2f") }}{% endif %}. Weight growth accounts for
{{ percent_by_weight_growth|number(".0f") }} % of the fall of the effective step since
initialisation (median over layers, in logarithms), a smaller gradient at equal norm for the
rest. {% if open_runs %} In {{ open_runs }} runs layers that have not thawed leave the median
open, {% if median_between[1] is none %}from {{ median_between[0]|number(".2f") }} on{% else %}
between {{ median_between[0]|number(".2f") }} and {{ median_between[1]|number(".2f") }}{% endif %}
(medians over runs). {% endif %} {% if other_arms %} log2(measured/predicted) of other arms:
{% for arm in other_arms %}
{{- ", " if not loop.first }}{{ "≥ " if arm.bound }}{{ arm.ratio|number(".2f") }} for
plain-{{ arm.depth }} with weight decay {{ arm.weight_decay|number("g") }} (n = {{ arm.runs }})
{%- endfor %}.{% endif %}"""
_THAWED = """Frozen layers of plain-{{ depth }}
{% if thawed %}move again{% else %}have not moved again{% endif %} after
{{ (2**effect)|number(".2f") }} times as many iterations as weight decay takes to shrink their
weights back (weight decay {{ weight_decay|number("g") }}
{%- if open_runs and thawed %}; a bound: in {{ open_runs }} of {{ runs }} runs some had not by the
end{% endif %})."""
_AT_THAW = """plain-{{ depth }} with weight decay {{ weight_decay|number("g") }}, {{ runs }}
runs: the training error first falls below {{ level|number("g") }} % at iteration
{{ learns|number(".0f") }}, the slowest frozen layer thaws at {{ thaws|number(".0f") }} (medians
over runs; the end of the run where it was not seen, the error in {{ learns_unseen }} runs, the
thaw in {{ thaws_unseen }}). Below 0 the network learns before its frozen layers move.
{% if without_decay %} Without weight decay it falls below in {{ without_decay.fell }} of
{{ without_decay.runs }} runs{% if without_decay.fell %} at iteration
{{ without_decay.iteration|number(".0f") }} (median){% endif %}, by iteration
{{ without_decay.last }}.{% endif %}"""
_WITHOUT_THAW = """plain-{{ depth }} with weight decay {{ weight_decay|number("g") }} and
without: the training error first falls below {{ level|number("g") }} % at iteration
{{ with_decay.iteration|number(".0f") }} with weight decay and
{{ without_decay.iteration|number(".0f") }} without (medians over runs; the end of the run where
it does not, in {{ with_decay.unseen }} of {{ with_decay.runs }} and {{ without_decay.unseen }}
of {{ without_decay.runs }} runs)."""
_STILL_FROZEN = """plain-{{ depth }} with weight decay {{ weight_decay|number("g") }} and
without, at iteration {{ iteration }}, {{ time_constants }} time constants of the decay: of the
layers whose weights had grown by a factor of {{ inflated }} or more by iteration {{ early }},
{{ without_decay.percent_frozen|number(".0f") }} % are frozen without weight decay and
{{ with_decay.percent_frozen|number(".0f") }} % with it (an effective step below
{{ frozen_below|number("g") }} of that of the last quarter of the layers). They turn by
{{ without_decay.radians_per_iteration|number(".2g") }} and
{{ with_decay.radians_per_iteration|number(".2g") }} radians per iteration."""
_GROWTH = """plain-{{ depth }} at a rate of {{ rates[0]|number("g") }}
{% if rates|length > 1 %}and {{ rates[1]|number("g") }}{% else %}without and with
warm-up{% endif %}: the weights of the layer that grew most grew by a factor of
{{ factors.full }} and {{ factors.gentle }} (medians over runs, at any recorded
iteration)."""
_ERRORS = """plain-{{ depth }} at a rate of {{ rates[0]|number("g") }}
{% if rates|length > 1 %}and {{ rates[1]|number("g") }}{% else %}without and with
warm-up{% endif %}: training error at the end {{ errors.full }} and {{ errors.gentle }} %, after
equally many iterations."""


_claim = partial(
    Claim,
    source=_FROZEN,
    quote=None,
    where=BATCH_NORMALIZATION,
    may_differ=measures.DECAY_FIELDS,
)


def _gentler(arm: str, how: str, gentle: measures.Gentle) -> tuple[Claim, Claim]:
    runs = (
        f"finished {_DEEP_ONE} at the full rate from the start and {how}, with equal weight decay "
        f"and layer records, {_SEEDS}"
    )
    return (
        _claim(
            f"{arm}_reduces_weight_growth",
            "In a deep plain network at the full rate from the start the weights of the layer that "
            f"grows most grow by a larger factor than {how}.",
            measure=partial(measures.growth_difference, gentle=gentle),
            runs=runs,
            words=_GROWTH,
            may_differ=measures.GENTLE_FIELDS,
        ),
        _claim(
            f"{arm}_lowers_training_error",
            "A deep plain network at the full rate from the start ends with a higher training "
            f"error than {how}, after equally many iterations.",
            measure=partial(measures.error_difference, gentle=gentle),
            runs=runs,
            words=_ERRORS,
            may_differ=measures.GENTLE_FIELDS,
        ),
    )


THAW_AS_WEIGHTS_SHRINK = _claim(
    "frozen_layers_thaw_as_weights_shrink",
    "Layers of a deep plain network that the first steps froze, by inflating their weights by "
    "a factor G, move again after (1−μ)/(ηλ)·ln G iterations, in which weight decay brings the "
    "norm back: within a factor of two, as the median over the layers of a run.",
    measure=partial(measures.thaw_time, predicted="from_growth"),
    runs=_FROZEN_RUNS,
    words=_THAW,
    answer=_THAWED,
)

CLAIMS = (
    THAW_AS_WEIGHTS_SHRINK,
    _claim(
        "frozen_layers_thaw_as_steps_grow",
        "Layers of a deep plain network that the first steps froze move again when predicted from "
        "their effective step after 50 iterations, which rises as 1/‖w‖² while weight decay "
        "shrinks the weights: within a factor of two, as the median over the layers of a run.",
        measure=partial(measures.thaw_time, predicted="from_step"),
        runs=_FROZEN_RUNS,
        words=_THAW,
        source=f"{_FROZEN}; the equilibrium that ends it: Wan et al. 2020, arXiv 2006.08419",
    ),
    _claim(
        "training_error_falls_with_thaw",
        "The training error of a deep plain network first falls below "
        f"{measures.HALF:g} % when its slowest frozen layer thaws, within a factor of two "
        "in iterations.",
        measure=measures.error_at_thaw,
        runs=_FROZEN_RUNS,
        words=_AT_THAW,
    ),
    _claim(
        "training_error_falls_later_without_thaw",
        "The training error of a deep plain network first falls below "
        f"{measures.HALF:g} % later without weight decay, where nothing thaws its frozen "
        "layers, than with it.",
        measure=measures.error_without_thaw,
        runs=_DECAY_RUNS,
        words=_WITHOUT_THAW,
    ),
    _claim(
        "layers_stay_frozen_without_weight_decay",
        "Of the layers whose weights the first steps inflated more are still frozen, compared with "
        "the last quarter of the layers, without weight decay than with it after equally many "
        "iterations.",
        measure=measures.frozen_without_decay,
        runs=_DECAY_RUNS,
        words=_STILL_FROZEN,
    ),
    *_gentler("warmup", "with a warm-up", "warm-up"),
    *_gentler("low_rate", "at a low rate", "low rate"),
)
