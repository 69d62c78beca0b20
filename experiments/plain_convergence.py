"""How long plain networks need, on digits: does training longer help, and how does it scale?

Question: He et al. 2015 (arXiv 1512.03385), section 4.1, conjecture that deep plain networks
have exponentially low convergence rates, report that three times the iterations do not cure
degradation, and that gradients have healthy norms. On digits, in minutes:

    resnet-study reproduce plain_convergence
"""

from resnet_study.phenomena.convergence import claims as convergence_claims
from resnet_study.phenomena.degradation import figures as degradation_figures
from resnet_study.phenomena.gradients import claims as gradients_claims
from resnet_study.phenomena.gradients import figures as gradients_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="plain_convergence",
    title="How long plain networks need",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.1, of plain networks: do three times the "
        "iterations cure degradation, do the iterations to a fixed training error grow "
        "exponentially with depth, and are gradients healthy meanwhile? The paper's networks and "
        "optimiser on 1,797 real 8x8 digits, without augmentation: 300 against 900 iterations at "
        "depths 20 and 56 with the rate divided at the same fractions, and 600 iterations at a "
        "constant rate at six depths."
    ),
    sweeps=("longer_schedule.yaml", "convergence.yaml"),
    figures=(
        degradation_figures.error_against_depth,
        degradation_figures.training_curves,
        gradients_figures.gradient_ratio,
        gradients_figures.update_heatmap,
    ),
    claims=(
        convergence_claims.LONGER_SCHEDULE_NO_CURE,
        convergence_claims.CONVERGENCE_EXPONENTIALLY_SLOW,
        *gradients_claims.SIGNAL_HEALTHY,
        *gradients_claims.TURN_VANISHED,
    ),
    # Five seeds can decide one claim (docs/claims.md).
    primary=(convergence_claims.LONGER_SCHEDULE_NO_CURE,),
    seeds=(0, 1, 2, 3, 4),
    cost="50 runs; 22 minutes on two cores that did other work beside",
)
