"""What He et al. 2015, section 4.2, claims of layer responses (Figure 7)."""

from __future__ import annotations

from resnet_study.judging.claim import Claim
from resnet_study.phenomena.depths import MINIMUM_DEEP, WARMUP_FIELDS
from resnet_study.phenomena.responses import measures

_HE = "He et al. 2015, arXiv 1512.03385"
_YANG = "Yang et al. 2019, arXiv 1902.08129"

_SEEDS = "2 seeds or more each"
_DEEP_PLAIN = (
    f"plain runs of depth 56 (or the deepest, of at least {MINIMUM_DEEP}) with layer records"
)
_PAIR = f"runs of depth 20 and 56 (or one from {MINIMUM_DEEP} to 110), {_SEEDS}"


RESIDUAL_RESPONSES_SMALLER = Claim(
    "residual_responses_smaller",
    "At depth 20 (without it: the shallowest that both have) the responses of the 3x3 layers "
    "after training have a larger standard deviation in the plain than in the residual "
    "network.",
    f"{_HE}, section 4.2 and Figure 7",
    "ResNets have generally smaller responses than their plain counterparts.",
    measures.response_difference,
    "finished plain and residual runs of one depth, best 20, with layer records, " + _SEEDS,
)

RESPONSES_SMALLER_WITH_DEPTH = Claim(
    "responses_smaller_with_depth",
    "The responses of the 3x3 layers after training have a smaller standard deviation in a "
    f"residual network of 110 layers (without it: the deepest from {MINIMUM_DEEP}"
    ") than in one of 20.",
    f"{_HE}, section 4.2 and Figure 7",
    "We also notice that the deeper ResNet has smaller magnitudes of responses",
    measures.responses_against_depth,
    "finished residual runs of depth 20 and 110 (or the deepest from "
    f"{MINIMUM_DEEP}) with layer records, {_SEEDS}; deep ones may warm up",
    WARMUP_FIELDS,
)

CLAIMS = (
    RESIDUAL_RESPONSES_SMALLER,
    RESPONSES_SMALLER_WITH_DEPTH,
)
