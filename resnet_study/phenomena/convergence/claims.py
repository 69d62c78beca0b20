"""What He et al. 2015, section 4.1, claims of the speed of training."""

from __future__ import annotations

from functools import partial

from resnet_study.judging.claim import BATCH_NORMALIZATION, Claim
from resnet_study.judging.selections import LENGTH_FIELDS
from resnet_study.phenomena.convergence import measures
from resnet_study.phenomena.depths import FAMILIES_ELSEWHERE, MINIMUM_DEEP, PAIR

_HE = "He et al. 2015, arXiv 1512.03385"

_claim = partial(Claim, where=BATCH_NORMALIZATION)

_EARLY = (
    """Mean training error over the first quarter of the run at depth {{ depth }}, medians: plain
{{ plain }} %, residual {{ residual }} %."""
    + FAMILIES_ELSEWHERE
)
_ITERATIONS = """Iterations until the training error of plain networks stays at or below
{{ level|number("g") }} %, medians over seeds:
{{ iterations|number(",.0f") }}. {% if never_reached %} Never reached by
{{ never_reached|number("", " of %d runs"|format(seeds)) }}: these count as later than the end of
the schedule, wherever that is.{% endif %} Root mean square miss in ln(iterations): {{ misses }}
(a factor {{ factor_per_layer|number(".4g") }} per layer). {% if misses_where_all_reached %} At
the {{ depths_all_reached }} depths that every run reached:
{{ misses_where_all_reached }}.{% endif %} {% if left_out %} Depths without all {{ seeds }}
seeds, left out: {{ left_out|join(", ") }}.{% endif %} In the paper (CIFAR-10, one run each,
Figure 6): {{ paper.iterations|number(",.0f") }}; 110 is not displayed, above 60 % at the end,
and counts as not reached in 64,000. By the same measure {{ paper.misses }}; without 110,
{{ paper.misses_without_110 }}. {% if diverged_plain %} Of the runs {{ diverged_plain }}
diverged; one that had reached it before counts with that.{% endif %}"""
_LONGER = """After {{ short.iterations|number(",") }} iterations plain-{{ deep }} ends at
{{ short.errors[deep] }} % training error as trained and plain-{{ shallow }} at
{{ short.errors[shallow] }} % (difference {{ short.gap|number("+.3g") }}; {{ short.runs[deep] }}
and {{ short.runs[shallow] }} runs); after {{ long.iterations|number(",") }} iterations, judged,
at {{ long.errors[deep] }} and {{ long.errors[shallow] }} % (difference
{{ long.gap|number("+.3g") }}). The paper's statement is of plain-34 on ImageNet."""
_STILL = """After {{ long.iterations|number(",") }} iterations plain-{{ deep }} still ends
{{ effect|abs }} percentage points {{ "below" if effect < 0 else "above" }} plain-{{ shallow }} in
training error; after {{ short.iterations|number(",") }} it was {{ short.gap|number("+.3g") }}."""

RESIDUAL_CONVERGES_FASTER = _claim(
    "residual_converges_faster",
    "At depth 20 (without it: the shallowest that both have) the mean training error over the "
    "first quarter of the run is higher for the plain than for the residual network.",
    f"{_HE}, section 4.1, of the 18-layer networks on ImageNet",
    "the ResNet eases the optimization by providing faster convergence at the early stage.",
    measures.early_error_difference,
    "finished plain and residual runs of one depth, best 20, 5 seeds or more each",
    words=_EARLY,
)

CONVERGENCE_EXPONENTIALLY_SLOW = _claim(
    "convergence_exponentially_slow",
    "The iterations that plain networks need to bring the training error to "
    f"{measures.LEVEL:g} % and keep it there grow exponentially with depth rather than "
    "linearly: an exponential law misses them by less.",
    f"{_HE}, section 4.1",
    "We conjecture that the deep plain nets may have exponentially low convergence rates",
    measures.iterations_against_depth,
    f"finished plain runs of at least {measures.LEAST_DEPTHS} depths with the same seeds, "
    f"{measures.LEAST_REACHED} of which reach {measures.LEVEL:g} % training error, "
    "5 seeds or more",
    words=_ITERATIONS,
)

LONGER_SCHEDULE_NO_CURE = _claim(
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
    f"finished plain {PAIR}, and as many with a schedule {measures.LONGER} times as long",
    LENGTH_FIELDS,
    words=_LONGER,
    answer=_STILL,
)

CLAIMS = (
    RESIDUAL_CONVERGES_FASTER,
    CONVERGENCE_EXPONENTIALLY_SLOW,
    LONGER_SCHEDULE_NO_CURE,
)
