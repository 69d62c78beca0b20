"""What He et al. 2015, section 4.2, claims of errors against depth."""

from __future__ import annotations

from resnet_study.judging.claim import Claim
from resnet_study.phenomena.degradation import beyond_56, measures
from resnet_study.phenomena.depths import MINIMUM_DEEP, WARMUP_FIELDS

_HE = "He et al. 2015, arXiv 1512.03385"
_YANG = "Yang et al. 2019, arXiv 1902.08129"

_SEEDS = "2 seeds or more each"
_DEEP_PLAIN = (
    f"plain runs of depth 56 (or the deepest, of at least {MINIMUM_DEEP}) with layer records"
)
_PAIR = f"runs of depth 20 and 56 (or one from {MINIMUM_DEEP} to 110), {_SEEDS}"


DEEPER_PLAIN_HIGHER_TRAINING_ERROR = Claim(
    "deeper_plain_higher_training_error",
    "A plain network of 56 layers (without it: the deepest from 44 to 110) ends with a higher "
    "training error than one of 20.",
    f"{_HE}, section 4.2 and Figure 6 left",
    "The deep plain nets suffer from increased depth, and exhibit higher training error "
    "when going deeper.",
    measures.deeper_plain_training_error,
    f"finished plain {_PAIR}",
)

RESIDUAL_NO_DEGRADATION = Claim(
    "residual_no_degradation",
    "A residual network of 56 layers (without it: the deepest from 44 to 110) does not end "
    "with a higher training error than one of 20, within a margin of "
    f"{measures.MARGIN:g} percentage point.",
    f"{_HE}, section 4.2 and Figure 6 middle",
    "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
    "gains when the depth increases.",
    measures.deeper_residual_training_error,
    f"finished residual {_PAIR}",
)

RESIDUAL_NO_DEGRADATION_TO_110 = Claim(
    "residual_no_degradation_to_110",
    "A residual network of 110 layers does not end with a higher training error than one of "
    f"20, within a margin of {measures.MARGIN:g} percentage point.",
    f"{_HE}, section 4.2 and Figure 6 middle",
    "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
    "gains when the depth increases.",
    beyond_56.training_error_to_110,
    f"finished residual runs of depth 20 and 110, {_SEEDS}; those of depth 110 may warm up",
    WARMUP_FIELDS,
)

RESIDUAL_GAINS_ACCURACY_TO_110 = Claim(
    "residual_gains_accuracy_to_110",
    "A residual network of 110 layers ends with a lower test error than one of 20.",
    f"{_HE}, section 4.2 and Table 6",
    "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
    "gains when the depth increases.",
    beyond_56.accuracy_gain_to_110,
    f"finished residual runs of depth 20 and 110, {_SEEDS}; those of depth 110 may warm up",
    WARMUP_FIELDS,
)

DEEPEST_FITS_TRAINING_SET = Claim(
    "deepest_fits_training_set",
    f"A residual network of 1202 layers ends with a training error below {beyond_56.FITTED:g} %.",
    f"{_HE}, section 4.2, of ResNet-1202",
    "<0.1% training error",
    beyond_56.deepest_training_error,
    "finished residual runs of depth 1202, 2 seeds or more",
    WARMUP_FIELDS,
)

DEEPEST_OVERFITS = Claim(
    "deepest_overfits",
    "A residual network of 1202 layers ends with a higher test error than one of 110. (That "
    "it fits the training set, which makes this overfitting, is deepest_fits_training_set.)",
    f"{_HE}, section 4.2 and Table 6",
    "overfitting",
    beyond_56.deepest_test_error,
    f"finished residual runs of depth 110 and 1202, {_SEEDS}; either may warm up",
    WARMUP_FIELDS,
)

CLAIMS = (
    DEEPER_PLAIN_HIGHER_TRAINING_ERROR,
    RESIDUAL_NO_DEGRADATION,
    RESIDUAL_NO_DEGRADATION_TO_110,
    RESIDUAL_GAINS_ACCURACY_TO_110,
    DEEPEST_FITS_TRAINING_SET,
    DEEPEST_OVERFITS,
)
