"""What is claimed of gradients through the layers: He et al. 2015, Yang et al. 2019."""

from __future__ import annotations

from functools import partial

from resnet_study.judging.claim import Claim
from resnet_study.phenomena.depths import MINIMUM_DEEP
from resnet_study.phenomena.gradients import measures

_HE = "He et al. 2015, arXiv 1512.03385"
_YANG = "Yang et al. 2019, arXiv 1902.08129"

_SEEDS = "2 seeds or more each"
_DEEP_PLAIN = (
    f"plain runs of depth 56 (or the deepest, of at least {MINIMUM_DEEP}) with layer records"
)
_PAIR = f"runs of depth 20 and 56 (or one from {MINIMUM_DEEP} to 110), {_SEEDS}"

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
