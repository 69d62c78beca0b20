"""What is claimed of gradients through the layers: He et al. 2015, Yang et al. 2019."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from resnet_study.judging.claim import BATCH_NORMALIZATION, Claim
from resnet_study.judging.measurement import Side
from resnet_study.phenomena.depths import MINIMUM_DEEP
from resnet_study.phenomena.gradients import measures

_HE = "He et al. 2015, arXiv 1512.03385"
_YANG = "Yang et al. 2019, arXiv 1902.08129"

_claim = partial(Claim, where=BATCH_NORMALIZATION)

_DEEP_PLAIN = (
    f"plain runs of depth 56 (or the deepest, of at least {MINIMUM_DEEP}) with layer records"
)
_GROWTH = """plain-{{ depth }} at initialisation: the norm grows by a factor
{{ factor|number(".4g") }} per layer toward the input ({{ factor_within_stages|number(".4g") }}
within stages of equal width). {% if factors_elsewhere %} Other depths:
{{ factors_elsewhere|number(".4g") }}.{% endif %}"""
_RESIDUAL_RATIO = """Layer 2 over the last convolution, activation-gradient norm at initialisation,
medians over seeds, residual networks: {{ residual }}.{% if plain %} Plain networks:
{{ plain }}.{% endif %} Judged: log10(ratio/depth) at depth {{ depth }}; below 0 the ratio is
smaller than the depth."""
_IN_TRAINING = """plain-{{ depth }} {% if iteration is none %} at the end {% else %} near iteration
{{ iteration }} {% endif %} (recorded at {{ steps|join(", ") or "no step" }}): the {{ quantity }} at
layer 2 is {{ ratio }} of that at the last convolution (median). Within a factor of
{{ border|number("g") }} is healthy: {{ states.healthy }} healthy, {{ states.vanished }} vanished,
{{ states.exploded }} exploded.
{% if lowest %} Of all layers from 2 on it is lowest at layer {{ lowest.layer }}:
{{ lowest.ratio }} of that at the last convolution (medians).{% endif %}
{% if plain_elsewhere %} Plain networks of other depths: {{ plain_elsewhere }}.{% endif %}
{% if residual %} Residual networks: {{ residual }}.{% endif %}
{% if without_finite_ratio %} Runs without a finite ratio, counted as exploded:
{{ without_finite_ratio }}.{% endif %}"""
_LAYER_2 = """The {{ quantity }} at layer 2 of plain-{{ depth }} is {{ ratio }} times that at the
last convolution {% if iteration is none %}at the end{% else %}after
{{ steps|join(" or ") or iteration }} iteration{{ "s" if steps != [1] }}{% endif %}
{%- if lowest and 2 < lowest.layer < depth - 1 %}, and lowest at layer {{ lowest.layer }},
{{ lowest.ratio }} times{% endif %}."""

_MEANING = {
    "signal": "signal (norm of the weights times that of their gradient)",
    "turn": "turn (angle by which an iteration turns the weights)",
}
_STATES: Mapping[str, tuple[Side, str]] = {
    "healthy": ("within", "is within a factor of {:g} of"),
    "vanished": ("below", "is less than 1/{:g} of"),
}


def _in_training(
    quantity: str, state: str, iterations: int | None, depth: int | None = None
) -> Claim:
    """Signal or turn of a deep plain network, healthy or vanished, after so many iterations."""
    if iterations is None:
        name, when, records = "at_end", "at the end of training", "at the end"
    else:
        name = f"after_{iterations}_step{'s' if iterations > 1 else ''}"
        when = name.replace("_", " ")
        records = f"near iteration {iterations}"
    claimed, relation = _STATES[state]
    network = (
        f"{depth} layers" if depth else f"56 layers (without it: the deepest from {MINIMUM_DEEP})"
    )
    deep = f"plain runs of depth {depth} with layer records" if depth else _DEEP_PLAIN
    series = f"{quantity}_{state}{f'_plain_{depth}' if depth else ''}"
    common = (
        f"In a plain network of {network} with batch normalisation the {_MEANING[quantity]} at "
        f"layer 2 {relation.format(measures.BORDERS[quantity])} that at the last convolution"
    )
    return _claim(
        f"{series}_{name}",
        f"{common} {when}.",
        f"{_HE}, section 4.1, of plain-34 on ImageNet; quantity and factor are this project's",
        "We also verify that the backward propagated gradients exhibit healthy norms with BN.",
        partial(
            measures.in_training,
            quantity=quantity,
            iterations=iterations,
            claimed=claimed,
            depth=depth,
        ),
        f"{deep} {records}, 5 seeds or more",
        words=_IN_TRAINING,
        answer=_LAYER_2,
        series=series,
        common=f"{common}.",
    )


GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN = _claim(
    "gradients_explode_at_initialization_plain_bn",
    "At initialisation the activation gradient of a plain network of 56 layers (without it: "
    "the deepest) with batch normalisation grows toward the input, by a factor above 1 per "
    "layer.",
    f"{_YANG}, abstract",
    "gradient signals grow exponentially in depth",
    measures.plain_growth_at_initialization,
    "plain runs, best of depth 56, with layer records at iteration 0, 5 seeds or more",
    words=_GROWTH,
)

GRADIENTS_AT_INITIALIZATION_RESIDUAL_MILD = _claim(
    "gradients_at_initialization_residual_mild",
    "At initialisation the activation gradient of a residual network of 56 layers (without "
    f"it: the deepest, of at least {MINIMUM_DEEP}) with batch normalisation is "
    "larger at layer 2 than at the last convolution by a factor smaller than the depth: "
    "no exponential growth.",
    f"hypothesis of this project, the counterpart of {_YANG}",
    None,
    measures.residual_ratio_at_initialization,
    "residual runs of depth 56 (or the deepest, of at least "
    f"{MINIMUM_DEEP}) with layer records at iteration 0, 5 seeds or more",
    words=_RESIDUAL_RATIO,
)

TIMES = (1, 10, 100, 1000, None)
"""Iterations at which signal and turn are judged; None: the end."""

SIGNAL_HEALTHY = tuple(_in_training("signal", "healthy", after) for after in TIMES)
TURN_VANISHED = tuple(_in_training("turn", "vanished", after) for after in TIMES)
SIGNAL_HEALTHY_AFTER_100 = SIGNAL_HEALTHY[TIMES.index(100)]
TURN_VANISHED_AFTER_100 = TURN_VANISHED[TIMES.index(100)]
SIGNAL_VANISHED_110 = tuple(_in_training("signal", "vanished", after, 110) for after in TIMES)

CLAIMS = (
    GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN,
    GRADIENTS_AT_INITIALIZATION_RESIDUAL_MILD,
    *SIGNAL_HEALTHY,
    *TURN_VANISHED,
    *SIGNAL_VANISHED_110,
)
