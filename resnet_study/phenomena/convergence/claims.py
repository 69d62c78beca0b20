"""What He et al. 2015, section 4.1, claims of the speed of measures."""

from __future__ import annotations

from resnet_study.judging.claim import Claim
from resnet_study.phenomena.convergence import measures
from resnet_study.phenomena.depths import MINIMUM_DEEP

_HE = "He et al. 2015, arXiv 1512.03385"
_YANG = "Yang et al. 2019, arXiv 1902.08129"

_SEEDS = "2 seeds or more each"
_DEEP_PLAIN = (
    f"plain runs of depth 56 (or the deepest, of at least {MINIMUM_DEEP}) with layer records"
)
_PAIR = f"runs of depth 20 and 56 (or one from {MINIMUM_DEEP} to 110), {_SEEDS}"


RESIDUAL_CONVERGES_FASTER = Claim(
    "residual_converges_faster",
    "At depth 20 (without it: the shallowest that both have) the mean training error over the "
    "first quarter of the run is higher for the plain than for the residual network.",
    f"{_HE}, section 4.1, of the 18-layer networks on ImageNet",
    "the ResNet eases the optimization by providing faster convergence at the early stage.",
    measures.early_error_difference,
    f"finished plain and residual runs of one depth, best 20, {_SEEDS}",
)

CONVERGENCE_EXPONENTIALLY_SLOW = Claim(
    "convergence_exponentially_slow",
    "The iterations that plain networks need to bring the training error to "
    f"{measures.LEVEL:g} % and keep it there grow exponentially with depth rather than "
    "linearly: an exponential law misses them by less.",
    f"{_HE}, section 4.1",
    "We conjecture that the deep plain nets may have exponentially low convergence rates",
    measures.iterations_against_depth,
    f"finished plain runs of at least {measures.LEAST_DEPTHS} depths with the same seeds, "
    f"{measures.LEAST_REACHED} of which reach {measures.LEVEL:g} % training error, "
    "2 seeds or more",
)

LONGER_SCHEDULE_NO_CURE = Claim(
    "longer_schedule_no_cure",
    f"With a schedule at least {measures.LONGER} times as long and of the same shape, a "
    "plain network of 56 layers (without it: the deepest from "
    f"{MINIMUM_DEEP} to 110) still ends with a higher training error than one "
    "of 20.",
    f"{_HE}, footnote of section 4.1, of plain networks on ImageNet",
    "We have experimented with more training iterations (3×) and still observed the "
    "degradation problem, suggesting that this problem cannot be feasibly addressed by simply "
    "using more iterations.",
    measures.longer_schedule_training_error,
    f"finished plain {_PAIR}, and as many with a schedule {measures.LONGER} times as long",
    measures.LENGTH_FIELDS,
)

CLAIMS = (
    RESIDUAL_CONVERGES_FASTER,
    CONVERGENCE_EXPONENTIALLY_SLOW,
    LONGER_SCHEDULE_NO_CURE,
)
