"""Why does a deep plain network not learn? Three answers, each as claims that can fail.

Beside them stands that early layers do not turn (`resnet_study.phenomena.gradients.claims`).
"""

from __future__ import annotations

import math
from functools import partial

from resnet_study.judging.claim import BATCH_NORMALIZATION, Claim
from resnet_study.phenomena.depths import MINIMUM_DEEP
from resnet_study.phenomena.information import measures

_OURS = "hypothesis of this project"
_SCHOENHOLZ = (
    "hypothesis of this project; chaotic and ordered as in Schoenholz et al. 2017, arXiv 1611.01232"
)
_DEEP = f"plain network of 56 layers (without it: the deepest from {MINIMUM_DEEP})"
_RUNS = (
    f"plain runs of depth 56 (or the deepest from {MINIMUM_DEEP}) with the probe {{}} recorded, "
    "5 seeds or more"
)
_MEDIANS = """ (medians) in plain networks {{ plain }}{% if residual %}, in residual ones
{{ residual }}{% endif %}. Judged: depth {{ depth }}."""
_CORRELATED = """At the last convolution of plain-{{ depth }} an image and its copy with a little
noise have responses that correlate by {{ plain[depth] }}"""
_KEPT = """After {{ steps|join(" or ") }} iterations two images of one class correlate at the
last convolution by {{ plain[depth] }} more than two of different classes in
plain-{{ depth }}, and by {{ plain[20] }} more in plain-20."""
_AGREE = """In the early layers of plain-{{ depth }} the gradients of two halves of a mini-batch
agree by a cosine of {{ plain[depth] }}."""

_claim = partial(Claim, where=BATCH_NORMALIZATION)

CHAOTIC, ORDERED = 0.5, 0.9
"""Correlation of the responses to an image and its copy; that of the two images is 1/√1.01."""

CHAOTIC_AT_INITIALIZATION = _claim(
    "forward_map_chaotic_at_initialization",
    f"At initialisation the last convolution of a {_DEEP} with batch normalisation takes an image "
    "and the same image with noise of a tenth of its norm to responses whose correlation is below "
    f"{CHAOTIC}: the forward map is chaotic.",
    _SCHOENHOLZ,
    None,
    partial(measures.correlation_of_copies, iteration=0, threshold=CHAOTIC, claimed="below"),
    _RUNS.format("copy_correlation"),
    words="Correlation at the last convolution at initialisation" + _MEDIANS,
    answer=_CORRELATED + " at initialisation.",
)

ORDERED_AFTER_10 = _claim(
    "forward_map_ordered_after_10_steps",
    f"After 10 iterations the same correlation is above {ORDERED} in a {_DEEP}, of images that "
    f"themselves correlate by {1 / math.sqrt(1.01):.3f}: chaos does not last, and is no reason for "
    "what follows.",
    f"{_SCHOENHOLZ}; this border lies below the images' own correlation, so copies may move apart",
    None,
    partial(measures.correlation_of_copies, iteration=10, threshold=ORDERED, claimed="above"),
    _RUNS.format("copy_correlation"),
    words="Correlation at the last convolution near iteration 10" + _MEDIANS,
    answer=_CORRELATED + ' after {{ steps|join(" or ") }} iterations.',
)

CLASSES_LOST_AFTER_10 = _claim(
    "classes_lost_after_10_steps",
    f"After 10 iterations the responses of the last convolution of a {_DEEP} hardly tell classes "
    "apart: the correlation of two images of one class minus that of two classes is less than a "
    "fifth of that in a plain network of 20 layers.",
    _OURS,
    None,
    partial(measures.contrast_lost, iteration=10, part=0.2),
    "plain runs of depth 20 and 56 (or the deepest "
    f"from {MINIMUM_DEEP}) with the probe class_contrast recorded, 5 seeds or more each",
    words="Contrast at the last convolution near iteration 10" + _MEDIANS,
    answer=_KEPT,
)

GRADIENTS_AGREE_EARLY = _claim(
    "gradients_agree_early",
    "The gradients that two halves of a mini-batch have for the weights of layers 2 to "
    f"{measures.EARLY_LAYERS} of a {_DEEP} agree: their cosine, mean over these layers and the "
    "recorded iterations from 10 to 100, is above 0, where it lies without shared information.",
    _OURS,
    None,
    partial(measures.early_agreement, threshold=0.0),
    _RUNS.format("gradient_agreement"),
    words="Mean cosine of the gradients of two halves" + _MEDIANS,
    answer=_AGREE,
)

CLAIMS = (
    CHAOTIC_AT_INITIALIZATION,
    ORDERED_AFTER_10,
    CLASSES_LOST_AFTER_10,
    GRADIENTS_AGREE_EARLY,
)
