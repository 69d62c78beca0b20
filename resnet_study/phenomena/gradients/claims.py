"""What is claimed of gradients through the layers: He et al. 2015, Yang et al. 2019."""

from __future__ import annotations

from functools import partial

from resnet_study.judging.claim import Claim
from resnet_study.phenomena.depths import MINIMUM_DEEP
from resnet_study.phenomena.gradients import measures

_HE = "He et al. 2015, arXiv 1512.03385"
_YANG = "Yang et al. 2019, arXiv 1902.08129"

_DEEP_PLAIN = (
    f"plain runs of depth 56 (or the deepest, of at least {MINIMUM_DEEP}) with layer records"
)
_GROWTH = """plain-{{ depth }} at initialisation: the norm grows by a factor
{{ factor|number(".4g") }} per layer toward the input ({{ factor_within_stages|number(".4g") }}
within stages of equal width). {% if factors_elsewhere %} Other depths:
{{ factors_elsewhere|number(".4g") }}.{% endif %}"""
_RESIDUAL_RATIO = """First/last ratio of the activation-gradient norm at initialisation,
geometric mean over seeds, residual networks: {{ residual }}.{% if plain %} Plain networks:
{{ plain }}.{% endif %} Judged: log10(ratio/depth) at depth {{ depth }}; below 0 the ratio is
smaller than the depth."""
_RATIO_AFTER = """plain-{{ depth }} after {{ steps|join(", ") }}
{{ "iteration" if steps == [1] else "iterations" }} (the recorded one nearest to {{ wanted }}):
first/last ratio {{ ratio }} of ∂L/∂z (before normalisation, judged)
{% if response_ratio is not none %} and {{ response_ratio }} of ∂L/∂y (after it){% endif %}
{%- if ratio_at_initialization is not none %}; of ∂L/∂z at initialisation
{{ ratio_at_initialization }}{% endif %}. {% if grown is defined %} Since initialisation the
weight norm grew most in layer {{ grown }}, by a factor {{ growth }}.{% endif %} ∂L/∂z is the raw
gradient, which theory at initialisation speaks of; behind normalisation it falls as 1/‖w‖ when
weights grow. Whether the signal reaches a layer is said by ‖w‖·‖∂L/∂w‖, whether the layer learns
by the angle by which a step turns its weights. The paper (section 4.1, of plain-34 on ImageNet)
reports healthy norms. {% if without_finite_gradients %} Runs without finite gradients, left out:
{{ without_finite_gradients }}.{% endif %}"""
_HEALTHY = """First/last ratio of ∂L/∂z (before normalisation) in plain networks at
{{ "the end" if iteration is none else "iteration %d"|format(iteration) }}, geometric mean over
seeds: {{ ratios }}. Judged: its log10 at depth {{ depth }} (recorded at
{{ steps|join(", ") or "no step" }}), healthy within ±{{ healthy|number("g") }}.
{% if response_ratio is not none %} Of ∂L/∂y (after it): {{ response_ratio }}.{% endif %}
{% if without_finite_gradients %} Runs without finite gradients, counted as unhealthy:
{{ without_finite_gradients }}.{% endif %}"""

_VANISH_SOURCE = (
    f"{_HE}, section 4.1, says the opposite, in the quoted words; that gradients vanish is the "
    "common explanation of degradation"
)


def _gradients_vanish(iterations: int) -> Claim:
    steps = f"{iterations}_step" if iterations == 1 else f"{iterations}_steps"
    return Claim(
        f"gradients_vanish_after_{steps}",
        "In a plain network of 56 layers (without it: the deepest, of at least "
        f"{MINIMUM_DEEP}) with batch normalisation the activation gradient at the "
        "first 3x3 layer is less than a tenth of that at the last one after "
        f"{steps.replace('_', ' ')}.",
        _VANISH_SOURCE,
        "We also verify that the backward propagated gradients exhibit healthy norms with BN.",
        partial(measures.plain_ratio_after, iterations=iterations),
        f"{_DEEP_PLAIN} near iteration {iterations}, 2 seeds or more",
        words=_RATIO_AFTER,
    )


def _gradients_healthy(iterations: int | None) -> Claim:
    if iterations is None:
        name, when, records = "at_end", "at the end of training", "at the end"
    elif iterations == 0:
        name, when, records = "at_initialization", "at initialisation", "at iteration 0"
    else:
        steps = "1 step" if iterations == 1 else f"{iterations} steps"
        name, when, records = (
            f"after_{steps.replace(' ', '_')}",
            f"after {steps}",
            f"near iteration {iterations}",
        )
    return Claim(
        f"gradients_healthy_{name}",
        "In a plain network of 56 layers (without it: the deepest, of at least "
        f"{MINIMUM_DEEP}) with batch normalisation the activation gradients at the "
        "first and the last 3x3 layer are within a factor of "
        f"{10**measures.HEALTHY:g} of each other {when}.",
        f"{_HE}, section 4.1, of plain-34 on ImageNet; the factor is this project's",
        "We also verify that the backward propagated gradients exhibit healthy norms with BN.",
        partial(measures.healthy_norms, iterations=iterations),
        f"{_DEEP_PLAIN} {records}, 2 seeds or more",
        words=_HEALTHY,
    )


GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN = Claim(
    "gradients_explode_at_initialization_plain_bn",
    "At initialisation the activation gradient of a plain network of 56 layers (without it: "
    "the deepest) with batch normalisation grows toward the input, by a factor above 1 per "
    "layer.",
    f"{_YANG}, abstract",
    "gradient signals grow exponentially in depth",
    measures.plain_growth_at_initialization,
    "plain runs, best of depth 56, with layer records at iteration 0, 2 seeds or more",
    words=_GROWTH,
)

GRADIENTS_AT_INITIALIZATION_RESIDUAL_MILD = Claim(
    "gradients_at_initialization_residual_mild",
    "At initialisation the activation gradient of a residual network of 56 layers (without "
    f"it: the deepest, of at least {MINIMUM_DEEP}) with batch normalisation is "
    "larger at the first 3x3 layer than at the last one by a factor smaller than the depth: "
    "no exponential growth.",
    f"hypothesis of this project, the counterpart of {_YANG}",
    None,
    measures.residual_ratio_at_initialization,
    "residual runs of depth 56 (or the deepest, of at least "
    f"{MINIMUM_DEEP}) with layer records at iteration 0, 2 seeds or more",
    words=_RESIDUAL_RATIO,
)

(
    GRADIENTS_VANISH_AFTER_1_STEP,
    GRADIENTS_VANISH_AFTER_10_STEPS,
    GRADIENTS_VANISH_AFTER_100_STEPS,
) = (_gradients_vanish(iterations) for iterations in (1, 10, 100))

(
    GRADIENTS_HEALTHY_AT_INITIALIZATION,
    GRADIENTS_HEALTHY_AFTER_1_STEP,
    GRADIENTS_HEALTHY_AFTER_10_STEPS,
    GRADIENTS_HEALTHY_AFTER_100_STEPS,
    GRADIENTS_HEALTHY_AT_END,
) = (_gradients_healthy(iterations) for iterations in (0, 1, 10, 100, None))

CLAIMS = (
    GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN,
    GRADIENTS_AT_INITIALIZATION_RESIDUAL_MILD,
    GRADIENTS_VANISH_AFTER_1_STEP,
    GRADIENTS_VANISH_AFTER_10_STEPS,
    GRADIENTS_VANISH_AFTER_100_STEPS,
    GRADIENTS_HEALTHY_AT_INITIALIZATION,
    GRADIENTS_HEALTHY_AFTER_1_STEP,
    GRADIENTS_HEALTHY_AFTER_10_STEPS,
    GRADIENTS_HEALTHY_AFTER_100_STEPS,
    GRADIENTS_HEALTHY_AT_END,
)
