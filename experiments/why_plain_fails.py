"""Why does plain-56 not learn, although a signal reaches its first layers? On real digits.

Question: He et al. 2015 (arXiv 1512.03385), section 4.1, find gradients of healthy norm in plain
networks that do not learn. Three answers are held apart: early layers do not turn; the forward map
is chaotic, so that responses say nothing of the image; gradients hold no information that another
mini-batch shares.

    resnet-study reproduce why_plain_fails

The networks and the length are those of `quick`; three probes are recorded beside the built-in ones
(`resnet_study.phenomena.information.probes`), each from passes of its own.

Fixed before these runs, from two pilots of the same length (seeds 100 and 101): the four primary
claims and their borders. In the pilots the correlation of copies at the last convolution of
plain-56 was 0.34 and 0.37 at initialisation and 0.97 and 0.99 after ten iterations; the contrast of
classes after ten iterations was 0.01 and 0.03 in plain-56, 0.50 and 0.48 in plain-20; the gradients
of the first layers agreed by 0.07 and 0.03 (0.15 in plain-20, but 0.05 in residual-20, which
learns). So chaos is expected to be no reason; whether gradients without information are one, the
pilots leave open; and what the claims can show of the classes is that they are lost, not why. Seven
new seeds decide four claims (docs/claims.md).
"""

from resnet_study.phenomena.degradation import claims as degradation_claims
from resnet_study.phenomena.degradation import figures as degradation_figures
from resnet_study.phenomena.gradients import claims as gradients_claims
from resnet_study.phenomena.gradients import figures as gradients_figures
from resnet_study.phenomena.information import claims as information_claims
from resnet_study.phenomena.information import figures as information_figures
from resnet_study.phenomena.information.probes import PROBES
from resnet_study.studies.study import Study

SEEDS = (12, 13, 14, 15, 16, 17, 18)

STUDY = Study(
    name="why_plain_fails",
    title="Why a deep plain network does not learn",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.1, find gradients of healthy norm in plain "
        "networks that do not learn. Do their early layers not turn, is their forward map chaotic, "
        "or do their gradients hold no information? On 1,797 real 8x8 digits, 400 iterations."
    ),
    # Not a file of `sweeps/`: its runs would lack the probes.
    sweeps=(
        {
            "method": "grid",
            "parameters": {
                "seed": {"values": list(SEEDS)},
                "model.depth": {"values": [20, 56]},
                "model.residual": {"values": [False, True]},
                "data.name": {"value": "digits"},
                "schedule.iterations": {"value": 400},
                "probes.log_every": {"value": 10},
                "probes.evaluate_every": {"value": 200},
                "probes.layers_every": {"value": 100},
            },
        },
    ),
    figures=(
        gradients_figures.signal_and_turn,
        information_figures.information,
        degradation_figures.training_curves,
    ),
    claims=(
        *information_claims.CLAIMS,
        degradation_claims.DEEPER_PLAIN_HIGHER_TRAINING_ERROR,
        gradients_claims.SIGNAL_HEALTHY_AFTER_100,
        gradients_claims.TURN_VANISHED_AFTER_100,
    ),
    primary=information_claims.CLAIMS,
    seeds=SEEDS,
    cost="28 runs; 42 min on two cores that did other work beside",
    probes=PROBES,
)
