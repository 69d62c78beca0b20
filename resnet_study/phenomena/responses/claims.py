"""What He et al. 2015, section 4.2, claims of layer responses (Figure 7)."""

from __future__ import annotations

from functools import partial

from resnet_study.judging.claim import BATCH_NORMALIZATION, Claim
from resnet_study.phenomena.depths import FAMILIES_ELSEWHERE, MINIMUM_DEEP, WARMUP_FIELDS
from resnet_study.phenomena.responses import measures

_HE = "He et al. 2015, arXiv 1512.03385"

_claim = partial(Claim, where=BATCH_NORMALIZATION)

_SEEDS = "5 seeds or more each"
_AT_ONE_DEPTH = (
    """Response standard deviation after training, mean over the convolutions, at depth
{{ depth }}: plain {{ plain }}, residual {{ residual }}."""
    + FAMILIES_ELSEWHERE
    + """ {% if paper %} In the paper (CIFAR-10, Figure 7): {{ paper.plain }} and
{{ paper.residual }}.{% endif %} Finished runs only."""
)
_AGAINST_DEPTH = """Response standard deviation after training, mean over the convolutions, of
residual networks: {{ responses }}. Judged: {{ deep }} minus 20. In the paper (CIFAR-10, Figure
7): {{ paper }}. Finished runs only."""

RESIDUAL_RESPONSES_SMALLER = _claim(
    "residual_responses_smaller",
    "At depth 20 (without it: the shallowest that both have) the responses of the convolutions "
    "after training have a larger standard deviation in the plain than in the residual "
    "network.",
    f"{_HE}, section 4.2 and Figure 7",
    "ResNets have generally smaller responses than their plain counterparts.",
    measures.response_difference,
    "finished plain and residual runs of one depth, best 20, with layer records, " + _SEEDS,
    words=_AT_ONE_DEPTH,
)

RESPONSES_SMALLER_WITH_DEPTH = _claim(
    "responses_smaller_with_depth",
    "The responses of the convolutions after training have a smaller standard deviation in a "
    f"residual network of 110 layers (without it: the deepest from {MINIMUM_DEEP}"
    ") than in one of 20.",
    f"{_HE}, section 4.2 and Figure 7",
    "We also notice that the deeper ResNet has smaller magnitudes of responses",
    measures.responses_against_depth,
    "finished residual runs of depth 20 and 110 (or the deepest from "
    f"{MINIMUM_DEEP}) with layer records, {_SEEDS}; deep ones may warm up",
    WARMUP_FIELDS,
    words=_AGAINST_DEPTH,
)

CLAIMS = (
    RESIDUAL_RESPONSES_SMALLER,
    RESPONSES_SMALLER_WITH_DEPTH,
)
