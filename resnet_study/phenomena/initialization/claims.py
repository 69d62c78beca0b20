"""Claims about networks at initialisation, each a prediction of theory with its formula.

What each measures is in `gradient_measures` (by layer) and `block_measures` (blocks and paths).
Margins were fixed before anything was measured.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from resnet_study.judging.claim import Claim
from resnet_study.judging.measurement import Measurement, Missing
from resnet_study.phenomena.gradients import theory
from resnet_study.phenomena.initialization import (
    block_measures,
    gradient_measures,
    size_measures,
    templates,
)
from resnet_study.phenomena.initialization.arms import BATCH, BATCHES, SIZES_DEPTH, WIDTHS
from resnet_study.phenomena.initialization.fits import BN_PLAIN, PREACTIVATED, UNNORMALIZED

_YANG = "Yang et al. 2019, arXiv 1902.08129"
_GLOROT = "Glorot & Bengio 2010, AISTATS, and He et al. 2015, arXiv 1502.01852, section 2.2"
_DE_SMITH = "De & Smith 2020, arXiv 2002.10444"
_BROCK = "Brock et al. 2021, arXiv 2101.08692"
_BALDUZZI = "Balduzzi et al. 2017, arXiv 1702.08591"
_VEIT = "Veit et al. 2016, arXiv 1605.06431, of a trained network"

_AT_START = "networks at initialisation, no training, at least 5 seeds"


_claim = partial(Claim, quote=None, of_initialization=True)


def _plain_factor(initialization: str, activation: str, formula: str) -> tuple[Claim, Claim]:
    factor = theory.growth_toward_input("none", initialization, activation)
    sides = gradient_measures.SIDES
    return _factor(
        f"{initialization}_{activation}",
        "without normalisation, the activation-gradient norm of a plain network of 56 layers is "
        f"multiplied by √(n·Var w·E[φ′²]) = {formula} = {factor:.3f} per layer toward the input, "
        f"times what zero padding takes on maps of {sides[0]}, {sides[1]} and {sides[2]} pixels' "
        "side",
        _GLOROT,
        partial(
            gradient_measures.growth_deviation,
            network=gradient_measures.without_normalization("plain", initialization, activation),
            formula=formula,
            predicted=factor,
        ),
        # These draws differ by √2 per layer, which a homogeneous network hands through as it is.
        fact=activation if initialization in ("he", "lecun") else "",
    )


def _factor(
    name: str, statement: str, source: str, measure: partial[Measurement | Missing], fact: str = ""
) -> tuple[Claim, Claim]:
    """The claim of a factor per layer, and the same of as many as the network has."""
    per_layer = _claim(
        f"initial_factor_{name}",
        f"At initialisation, {statement}, within {gradient_measures.FACTOR_MARGIN:g} %.",
        source,
        measure=measure,
        runs=f"plain {_AT_START}",
        words=templates.FACTOR,
        fact=fact and f"factor, {fact}",
    )
    together = replace(
        per_layer,
        name=f"initial_ratio_{name}",
        statement=f"At initialisation, {statement}; the factor per layer within stages, to the "
        f"power of as many layers, is within a factor of {gradient_measures.RATIO_FACTOR:g} of "
        "what that makes.",
        measure=partial(measure, whole=True),
        fact=fact and f"ratio, {fact}",
    )
    return per_layer, together


EXPONENTIAL_IN_DEPTH = _claim(
    "initial_growth_plain_exponential",
    "At initialisation the first/last activation-gradient ratio of plain networks with batch "
    "normalisation follows an exponential in depth rather than a power of it.",
    f"{_YANG}, abstract",
    measure=partial(
        gradient_measures.ratio_law, family="plain", better="exponential", worse="power"
    ),
    runs=f"plain {_AT_START}, {gradient_measures.LEAST_DEPTHS} depths or more",
    words=templates.LAW,
    answer=templates.LAW_ANSWER,
    quote="gradient signals grow exponentially in depth",
)


CLAIMS = (
    *_factor(
        "bn_plain",
        "the activation-gradient norm of a plain network of 56 layers with batch normalisation and "
        f"ReLU grows by √(π/(π−1)) = {theory.BN_RELU_GROWTH:.3f} per layer toward the input",
        f"{_YANG}, for infinitely wide layers and large batches",
        partial(
            gradient_measures.growth_deviation,
            network=BN_PLAIN,
            formula="√(π/(π−1))",
            predicted=theory.BN_RELU_GROWTH,
        ),
    ),
    _claim(
        "initial_factor_bn_plain_wide",
        f"At initialisation, the activation-gradient norm of a plain network of {SIZES_DEPTH} "
        f"layers with batch normalisation, ReLU and {WIDTHS[-1]} filters in the first stage grows "
        "per layer toward the input as the mean field with zero padding around its maps has it, "
        f"within {size_measures.SIZE_MARGIN:g} %.",
        f"{_YANG}, carried over to convolutions with zero padding by this project",
        measure=size_measures.wide_growth,
        runs=f"plain {_AT_START}",
        words=templates.WIDE,
    ),
    _claim(
        "initial_factor_bn_plain_images",
        "At initialisation, the factor per layer by which the activation-gradient norm of a plain "
        f"network of {SIZES_DEPTH} layers with batch normalisation and ReLU grows changes by less "
        f"than {size_measures.SIZE_MARGIN:g} % when the mini-batch has {BATCHES[-1]} images in "
        f"place of {BATCH}: the finite mini-batch does not explain what the factor lacks.",
        f"hypothesis of this project, on {_YANG}",
        measure=size_measures.growth_with_images,
        runs=f"plain {_AT_START}",
        words=templates.IMAGES,
    ),
    EXPONENTIAL_IN_DEPTH,
    _claim(
        "initial_growth_residual_power",
        "At initialisation the first/last activation-gradient ratio of residual networks with "
        "batch normalisation follows a power of depth rather than an exponential in it.",
        f"hypothesis of this project, the counterpart of {_YANG}",
        measure=partial(
            gradient_measures.ratio_law, family="residual", better="power", worse="exponential"
        ),
        runs=f"residual {_AT_START}, {gradient_measures.LEAST_DEPTHS} depths or more",
        words=templates.LAW,
    ),
    _claim(
        "initial_growth_residual_linear",
        "At initialisation the first/last activation-gradient ratio of residual networks with "
        "batch normalisation grows in proportion to depth: the exponent of depth is 1, within "
        f"{gradient_measures.EXPONENT_MARGIN:g}.",
        f"hypothesis of this project, the counterpart of {_YANG}",
        measure=gradient_measures.ratio_exponent,
        runs=f"residual {_AT_START}, {gradient_measures.LEAST_DEPTHS} depths or more",
        words=templates.EXPONENT,
    ),
    *_plain_factor("he", "relu", "√(2·½)"),
    *_plain_factor("lecun", "relu", "√(1·½)"),
    *_plain_factor("uniform", "linear", "√(⅓·1)"),
    *_plain_factor("uniform", "relu", "√(⅓·½)"),
    _claim(
        "sigmoid_vanishes_faster_than_relu",
        "At initialisation, without normalisation and with weights uniform within ±1/√fan_in, the "
        "activation gradient of a plain network falls faster per layer toward the input with "
        "sigmoids, which pass at most 1/4 of it each, than with ReLU.",
        _GLOROT,
        measure=partial(
            gradient_measures.slower_than,
            network=gradient_measures.without_normalization("plain", "uniform", "sigmoid"),
            other=gradient_measures.without_normalization("plain", "uniform"),
        ),
        runs=f"plain {_AT_START}",
        words=templates.SLOWER,
    ),
    _claim(
        "gradients_vanish_without_bn_plain",
        "At initialisation, without normalisation and under LeCun initialisation, the activation "
        "gradient of a plain network of 56 layers is less than a tenth at the first 3x3 layer of "
        "what it is at the last one.",
        _GLOROT,
        measure=partial(gradient_measures.vanished_ratio, family="plain"),
        runs=f"plain {_AT_START}",
        words=templates.VANISHED,
    ),
    _claim(
        "gradients_do_not_vanish_without_bn_residual",
        "At initialisation, without normalisation and under LeCun initialisation, the activation "
        "gradient of a residual network of 56 layers is more than a tenth at the first 3x3 layer "
        "of what it is at the last one.",
        "hypothesis of this project: the shortcut passes the gradient on",
        measure=partial(gradient_measures.vanished_ratio, family="residual"),
        runs=f"residual {_AT_START}",
        words=templates.VANISHED,
    ),
    _claim(
        "branch_variance_falls_as_one_over_block",
        "At initialisation Var(branch)/Var(skip) of a fully pre-activated residual network with "
        "batch normalisation falls as 1/l with block l: within a stage every block adds 1 to its "
        f"inverse, within {block_measures.SLOPE_MARGIN:g}.",
        _DE_SMITH,
        measure=block_measures.variance_ratio_slope,
        runs=f"fully pre-activated residual {_AT_START}, best 110 layers",
        words=templates.BRANCH_SHARE,
    ),
    _claim(
        "variance_grows_linearly_with_bn",
        "At initialisation the channel variance of a fully pre-activated residual network with "
        "batch normalisation grows linearly rather than exponentially with the block, within a "
        "stage.",
        _BROCK,
        measure=partial(
            block_measures.variance_law,
            networks=(PREACTIVATED,),
            better="linear",
            worse="exponential",
        ),
        runs=f"fully pre-activated residual {_AT_START}, best 110 layers",
        words=templates.VARIANCE_LAW,
    ),
    _claim(
        "variance_grows_exponentially_without_bn",
        "At initialisation the channel variance of a residual network without normalisation grows "
        "exponentially rather than linearly with the block, within a stage.",
        _BROCK,
        measure=partial(
            block_measures.variance_law,
            networks=UNNORMALIZED,
            better="exponential",
            worse="linear",
        ),
        runs=f"residual {_AT_START}, best 110 layers",
        words=templates.VARIANCE_LAW,
    ),
    _claim(
        "variance_reset_at_transitions",
        "At initialisation the channel variance of a fully pre-activated residual network with "
        "batch normalisation falls where a stage begins.",
        _BROCK,
        measure=block_measures.variance_reset,
        runs=f"fully pre-activated residual {_AT_START}, best 110 layers",
        words=templates.RESET,
    ),
    _claim(
        "residual_gradients_less_shattered",
        "At initialisation, at 56 layers with batch normalisation, input gradients at neighbouring "
        "points between two images correlate more in the residual than in the plain network.",
        _BALDUZZI,
        measure=block_measures.correlation_difference,
        runs=f"plain and residual {_AT_START}",
        words=templates.CORRELATIONS,
    ),
    _claim(
        "residual_gradients_shatter_slower",
        "At initialisation this correlation falls more slowly with depth in residual than in plain "
        "networks with batch normalisation, as a power of depth.",
        _BALDUZZI,
        measure=block_measures.correlation_decay,
        runs=f"plain and residual {_AT_START}, {block_measures.LEAST_DEPTHS} depths or more",
        words=templates.CORRELATION_DECAY,
    ),
    _claim(
        "path_gradient_exponential",
        "At initialisation the gradient along a path through a residual network follows an "
        "exponential in the number of branches on it rather than a power.",
        _VEIT,
        measure=block_measures.path_gradient_law,
        runs=f"residual {_AT_START}, best 110 layers",
        words=templates.PATH_LAW,
    ),
    _claim(
        "few_short_paths_carry_gradient",
        "At initialisation the path lengths that carry 95 % of the gradient of a residual network "
        f"hold less than {100 * block_measures.SHORT_PATHS:g} % of its paths.",
        _VEIT,
        measure=block_measures.gradient_path_share,
        runs=f"residual {_AT_START}, best 110 layers",
        words=templates.PATH_SHARE,
    ),
    _claim(
        "norm_preserved_better_with_more_blocks",
        "At initialisation the ratio of the gradient norms at input and output of a residual block "
        "deviates less from 1 the more blocks there are: mean |ln ratio| falls with depth.",
        "Zaeemzadeh et al. 2018, arXiv 1805.07477",
        measure=block_measures.norm_preservation_slope,
        runs=f"residual {_AT_START}, {block_measures.LEAST_DEPTHS} depths or more",
        words=templates.NORM_PRESERVATION,
    ),
)
