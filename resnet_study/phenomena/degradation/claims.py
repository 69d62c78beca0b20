"""What He et al. 2015, section 4.2, claims of errors against depth."""

from __future__ import annotations

from functools import partial

from resnet_study.judging.claim import BATCH_NORMALIZATION, Claim
from resnet_study.phenomena.degradation import measures
from resnet_study.phenomena.depths import PAIR, WARMUP_FIELDS, with_one_warmup

_HE = "He et al. 2015, arXiv 1512.03385"

_claim = partial(Claim, where=BATCH_NORMALIZATION)

_SEEDS = "5 seeds or more each"

_TRAINING_ERRORS = """{{ family }}-{{ deep }} ends at {{ errors[deep] }} % training error as
trained, {{ family }}-{{ shallow }} at {{ errors[shallow] }} % {%- if clean_errors %} (images as
they are, running statistics: {{ clean_errors[deep] }} and {{ clean_errors[shallow] }}
%){% endif %}. {% if above_shallow_elsewhere %} Minus {{ family }}-{{ shallow }} at other depths:
{{ above_shallow_elsewhere|number("+.3g") }}.{% endif %} {% if paper %} In the paper (CIFAR-10,
one run each, Figure 6): {{ paper[deep]|number(".2f") }} and {{ paper[shallow]|number(".2f") }}
%.{% endif %}"""
_DEEPER = """{{ family|capitalized }}-{{ deep }} ends {{ effect|abs }} percentage points
{{ "below" if effect < 0 else "above" }} {{ family }}-{{ shallow }} in training error
(medians {{ errors[deep]|number(".3g") }} and {{ errors[shallow]|number(".3g") }} %)."""
_TEST_ERRORS = """Test error of residual networks at the end (last, not best):
{{ errors|number(".3g", " %") }}. {% if train_errors %} Training error as trained:
{{ train_errors|number(".3g", " %") }}.{% endif %}
{% if paper %} In the paper (CIFAR-10, Table 6):
{% for depth, row in paper.items() %}{{ ", " if not loop.first -}} {{ row.error|number(".2f") }}
% at {{ depth }}{% if row.runs > 1 %} (best of {{ row.runs }} runs on the test set; mean
{{ row.mean|number(".2f") }} ± {{ row.sd|number(".2f") }} %){% endif %}{% endfor %}.{% endif %}
{% if reproductions %} Public reproductions:
{% for row in reproductions %}{{ "; " if not loop.first -}} {{ row.source }}
{% for error in row.errors.values() %}{{ " and " if not loop.first -}}
{{ error|number(".2f") }}{% endfor %} ({{ "best on test" if row.best else "last" }})
{%- endfor %}.{% endif %}"""
_FITTED = """residual-1202 ends at {{ error }} % training error as trained
{%- if clean_error is not none %}, {{ clean_error }} % on the images as they are{% endif %}.
{% if errors_elsewhere %} Other depths: {{ errors_elsewhere|number(".3g", " %") }}.{% endif %}"""

_NO_DEGRADATION = partial(
    measures.training_error_difference,
    family="residual",
    threshold=measures.MARGIN,
    claimed="below",
)

DEEPER_PLAIN_HIGHER_TRAINING_ERROR = _claim(
    "deeper_plain_higher_training_error",
    "A plain network of 56 layers (without it: the deepest from 44 to 110) ends with a higher "
    "training error than one of 20.",
    f"{_HE}, section 4.2 and Figure 6 left",
    "The deep plain nets suffer from increased depth, and exhibit higher training error "
    "when going deeper.",
    partial(measures.training_error_difference, family="plain", threshold=0.0, claimed="above"),
    f"finished plain {PAIR}",
    words=_TRAINING_ERRORS,
    answer=_DEEPER,
)

RESIDUAL_NO_DEGRADATION = _claim(
    "residual_no_degradation",
    "A residual network of 56 layers (without it: the deepest from 44 to 110) does not end "
    "with a higher training error than one of 20, within a margin of "
    f"{measures.MARGIN:g} percentage point.",
    f"{_HE}, section 4.2 and Figure 6 middle",
    "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
    "gains when the depth increases.",
    _NO_DEGRADATION,
    f"finished residual {PAIR}",
    words=_TRAINING_ERRORS,
    answer=_DEEPER,
)

RESIDUAL_NO_DEGRADATION_TO_110 = _claim(
    "residual_no_degradation_to_110",
    "A residual network of 110 layers does not end with a higher training error than one of "
    f"20, within a margin of {measures.MARGIN:g} percentage point.",
    f"{_HE}, section 4.2 and Figure 6 middle",
    "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
    "gains when the depth increases.",
    with_one_warmup(partial(_NO_DEGRADATION, pair=(20, 110))),
    f"finished residual runs of depth 20 and 110, {_SEEDS}; those of depth 110 may warm up",
    WARMUP_FIELDS,
    words=_TRAINING_ERRORS,
    answer=_DEEPER,
)

RESIDUAL_GAINS_ACCURACY_TO_110 = _claim(
    "residual_gains_accuracy_to_110",
    "A residual network of 110 layers ends with a lower test error than one of 20.",
    f"{_HE}, section 4.2 and Table 6",
    "our ResNets manage to overcome the optimization difficulty and demonstrate accuracy "
    "gains when the depth increases.",
    with_one_warmup(partial(measures.test_error_difference, pair=(20, 110), claimed="below")),
    f"finished residual runs of depth 20 and 110, {_SEEDS}; those of depth 110 may warm up",
    WARMUP_FIELDS,
    words=_TEST_ERRORS,
)

DEEPEST_FITS_TRAINING_SET = _claim(
    "deepest_fits_training_set",
    f"A residual network of 1202 layers ends with a training error below {measures.FITTED:g} %.",
    f"{_HE}, section 4.2, of ResNet-1202",
    "<0.1% training error",
    with_one_warmup(measures.deepest_training_error),
    "finished residual runs of depth 1202, 5 seeds or more",
    WARMUP_FIELDS,
    words=_FITTED,
)

DEEPEST_OVERFITS = _claim(
    "deepest_overfits",
    "A residual network of 1202 layers ends with a higher test error than one of 110. (That "
    "it fits the training set, which makes this overfitting, is deepest_fits_training_set.)",
    f"{_HE}, section 4.2 and Table 6",
    "overfitting",
    with_one_warmup(partial(measures.test_error_difference, pair=(110, 1202), claimed="above")),
    f"finished residual runs of depth 110 and 1202, {_SEEDS}; either may warm up",
    WARMUP_FIELDS,
    words=_TEST_ERRORS,
)

CLAIMS = (
    DEEPER_PLAIN_HIGHER_TRAINING_ERROR,
    RESIDUAL_NO_DEGRADATION,
    RESIDUAL_NO_DEGRADATION_TO_110,
    RESIDUAL_GAINS_ACCURACY_TO_110,
    DEEPEST_FITS_TRAINING_SET,
    DEEPEST_OVERFITS,
)
