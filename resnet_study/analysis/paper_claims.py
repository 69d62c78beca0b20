"""The claims of He et al. 2015, and of Yang et al. 2019 about the same networks.

What each measures is in `measurements`, `deep_residual` and `convergence`.
"""

from __future__ import annotations

from functools import partial

from resnet_study.analysis import convergence, deep_residual, measurements
from resnet_study.analysis.verdicts import Claim

_HE = "He et al. 2015, arXiv 1512.03385"
_YANG = "Yang et al. 2019, arXiv 1902.08129"

_SEEDS = "2 seeds or more each"
_DEEP_PLAIN = (
    f"plain runs of depth 56 (or the deepest, of at least {measurements.MINIMUM_DEEP}) with layer "
    "records"
)
_PAIR = f"runs of depth 20 and 56 (or one from {measurements.MINIMUM_DEEP} to 110), {_SEEDS}"

_VANISH_SOURCE = (
    f"{_HE}, section 4.1, says the opposite, in the quoted words; that gradients vanish is the "
    "common explanation of degradation"
)


def _gradients_vanish(iterations: int) -> Claim:
    steps = f"{iterations}_step" if iterations == 1 else f"{iterations}_steps"
    return Claim(
        f"gradients_vanish_after_{steps}",
        "In a plain network of 56 layers (without it: the deepest, of at least "
        f"{measurements.MINIMUM_DEEP}) with batch normalisation the activation gradient at the "
        "first 3x3 layer is less than a tenth of that at the last one after "
        f"{steps.replace('_', ' ')}.",
        _VANISH_SOURCE,
        "We also verify that the backward propagated gradients exhibit healthy norms with BN.",
        partial(measurements.plain_ratio_after, iterations=iterations),
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
        f"{measurements.MINIMUM_DEEP}) with batch normalisation the activation gradients at the "
        "first and the last 3x3 layer are within a factor of "
        f"{10**measurements.HEALTHY:g} of each other {when}.",
        f"{_HE}, section 4.1, of plain-34 on ImageNet; the factor is this project's",
        "We also verify that the backward propagated gradients exhibit healthy norms with BN.",
        partial(measurements.healthy_norms, iterations=iterations),
        f"{_DEEP_PLAIN} {records}, 2 seeds or more",
    )


PAPER_CLAIMS = (
    Claim(
        "deeper_plain_higher_training_error",
        "A plain network of 56 layers (without it: the deepest from 44 to 110) ends with a higher "
        "training error than one of 20.",
        f"{_HE}, section 4.2 and Figure 6 left",
        "The deep plain nets suffer from increased depth, and exhibit higher training error "
        "when going deeper.",
        measurements.deeper_plain_training_error,
        f"finished plain {_PAIR}",
    ),
    Claim(
        "residual_no_degradation",
        "A residual network of 56 layers (without it: the deepest from 44 to 110) does not end "
        "with a higher training error than one of 20, within a margin of "
        f"{measurements.MARGIN:g} percentage point.",
        f"{_HE}, section 4.2 and Figure 6 middle",
        "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
        "gains when the depth increases.",
        measurements.deeper_residual_training_error,
        f"finished residual {_PAIR}",
    ),
    Claim(
        "residual_converges_faster",
        "At depth 20 (without it: the shallowest that both have) the mean training error over the "
        "first quarter of the run is higher for the plain than for the residual network.",
        f"{_HE}, section 4.1, of the 18-layer networks on ImageNet",
        "the ResNet eases the optimization by providing faster convergence at the early stage.",
        measurements.early_error_difference,
        f"finished plain and residual runs of one depth, best 20, {_SEEDS}",
    ),
    Claim(
        "residual_responses_smaller",
        "At depth 20 (without it: the shallowest that both have) the responses of the 3x3 layers "
        "after training have a larger standard deviation in the plain than in the residual "
        "network.",
        f"{_HE}, section 4.2 and Figure 7",
        "ResNets have generally smaller responses than their plain counterparts.",
        measurements.response_difference,
        "finished plain and residual runs of one depth, best 20, with layer records, " + _SEEDS,
    ),
    Claim(
        "gradients_explode_at_initialization_plain_bn",
        "At initialisation the activation gradient of a plain network of 56 layers (without it: "
        "the deepest) with batch normalisation grows toward the input, by a factor above 1 per "
        "layer.",
        f"{_YANG}, abstract",
        "gradient signals grow exponentially in depth",
        measurements.plain_growth_at_initialization,
        "plain runs, best of depth 56, with layer records at iteration 0, 2 seeds or more",
    ),
    Claim(
        "gradients_at_initialization_residual_mild",
        "At initialisation the activation gradient of a residual network of 56 layers (without "
        f"it: the deepest, of at least {measurements.MINIMUM_DEEP}) with batch normalisation is "
        "larger at the first 3x3 layer than at the last one by a factor smaller than the depth: "
        "no exponential growth.",
        f"hypothesis of this project, the counterpart of {_YANG}",
        None,
        measurements.residual_ratio_at_initialization,
        "residual runs of depth 56 (or the deepest, of at least "
        f"{measurements.MINIMUM_DEEP}) with layer records at iteration 0, 2 seeds or more",
    ),
    *(_gradients_vanish(iterations) for iterations in (1, 10, 100)),
    Claim(
        "residual_no_degradation_to_110",
        "A residual network of 110 layers does not end with a higher training error than one of "
        f"20, within a margin of {measurements.MARGIN:g} percentage point.",
        f"{_HE}, section 4.2 and Figure 6 middle",
        "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
        "gains when the depth increases.",
        deep_residual.training_error_to_110,
        f"finished residual runs of depth 20 and 110, {_SEEDS}; those of depth 110 may warm up",
        deep_residual.WARMUP_FIELDS,
    ),
    Claim(
        "residual_gains_accuracy_to_110",
        "A residual network of 110 layers ends with a lower test error than one of 20.",
        f"{_HE}, section 4.2 and Table 6",
        "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
        "gains when the depth increases.",
        deep_residual.accuracy_gain_to_110,
        f"finished residual runs of depth 20 and 110, {_SEEDS}; those of depth 110 may warm up",
        deep_residual.WARMUP_FIELDS,
    ),
    Claim(
        "responses_smaller_with_depth",
        "The responses of the 3x3 layers after training have a smaller standard deviation in a "
        f"residual network of 110 layers (without it: the deepest from {measurements.MINIMUM_DEEP}"
        ") than in one of 20.",
        f"{_HE}, section 4.2 and Figure 7",
        "We also notice that the deeper ResNet has smaller magnitudes of responses",
        deep_residual.responses_against_depth,
        "finished residual runs of depth 20 and 110 (or the deepest from "
        f"{measurements.MINIMUM_DEEP}) with layer records, {_SEEDS}; deep ones may warm up",
        deep_residual.WARMUP_FIELDS,
    ),
    Claim(
        "deepest_fits_training_set",
        "A residual network of 1202 layers ends with a training error below "
        f"{deep_residual.FITTED:g} %.",
        f"{_HE}, section 4.2, of ResNet-1202",
        "<0.1% training error",
        deep_residual.deepest_training_error,
        "finished residual runs of depth 1202, 2 seeds or more",
        deep_residual.WARMUP_FIELDS,
    ),
    Claim(
        "deepest_overfits",
        "A residual network of 1202 layers ends with a higher test error than one of 110. (That "
        "it fits the training set, which makes this overfitting, is deepest_fits_training_set.)",
        f"{_HE}, section 4.2 and Table 6",
        "overfitting",
        deep_residual.deepest_test_error,
        f"finished residual runs of depth 110 and 1202, {_SEEDS}; either may warm up",
        deep_residual.WARMUP_FIELDS,
    ),
    *(_gradients_healthy(iterations) for iterations in (0, 1, 10, 100, None)),
    Claim(
        "convergence_exponentially_slow",
        "The iterations that plain networks need to bring the training error to "
        f"{convergence.LEVEL:g} % and keep it there grow exponentially with depth rather than "
        "linearly: an exponential law misses them by less.",
        f"{_HE}, section 4.1",
        "We conjecture that the deep plain nets may have exponentially low convergence rates",
        convergence.iterations_against_depth,
        f"finished plain runs of at least {convergence.LEAST_DEPTHS} depths with the same seeds, "
        f"{convergence.LEAST_REACHED} of which reach {convergence.LEVEL:g} % training error, "
        "2 seeds or more",
    ),
    Claim(
        "longer_schedule_no_cure",
        f"With a schedule at least {convergence.LONGER} times as long and of the same shape, a "
        "plain network of 56 layers (without it: the deepest from "
        f"{measurements.MINIMUM_DEEP} to 110) still ends with a higher training error than one "
        "of 20.",
        f"{_HE}, footnote of section 4.1, of plain networks on ImageNet",
        "We have experimented with more training iterations (3×) and still observed the "
        "degradation problem, suggesting that this problem cannot be feasibly addressed by simply "
        "using more iterations.",
        convergence.longer_schedule_training_error,
        f"finished plain {_PAIR}, and as many with a schedule {convergence.LONGER} times as long",
        convergence.LENGTH_FIELDS,
    ),
)
