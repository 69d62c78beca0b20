"""Degradation and gradients in ten minutes on a laptop CPU, on real digits.

Question: do the findings of He et al. 2015 (arXiv 1512.03385), section 4.2, show on a data
set small enough for a CPU? Deeper plain networks train worse, residual ones do not; and
what do the gradients do meanwhile?

    resnet-study reproduce quick

The networks are the paper's; what differs from its recipe is in `Study.question`.
"""

from resnet_study.phenomena.convergence import claims as convergence_claims
from resnet_study.phenomena.degradation import claims as degradation_claims
from resnet_study.phenomena.degradation import figures as degradation_figures
from resnet_study.phenomena.gradients import claims as gradients_claims
from resnet_study.phenomena.gradients import figures as gradients_figures
from resnet_study.phenomena.responses import claims as responses_claims
from resnet_study.phenomena.responses import figures as responses_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="quick",
    title="Plain and residual networks on digits",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.2: deeper plain networks have a higher "
        "training error, residual ones do not. Does that show on 1,797 real 8x8 digits, and do "
        "gradients vanish or explode while it happens? The paper's networks and optimiser; "
        "other than in the paper: digits instead of CIFAR-10, no augmentation, 300 iterations "
        "instead of 64,000 with the learning rate divided at the same fractions, and no warm-up "
        "at depth 110."
    ),
    sweeps=("quick.yaml", "quick_seeds.yaml"),
    figures=(
        degradation_figures.error_against_depth,
        degradation_figures.training_curves,
        gradients_figures.gradient_profile,
        gradients_figures.gradient_ratio,
        gradients_figures.gradient_heatmap,
        gradients_figures.update_heatmap,
        responses_figures.response_std,
    ),
    claims=(
        degradation_claims.DEEPER_PLAIN_HIGHER_TRAINING_ERROR,
        degradation_claims.RESIDUAL_NO_DEGRADATION,
        convergence_claims.RESIDUAL_CONVERGES_FASTER,
        responses_claims.RESIDUAL_RESPONSES_SMALLER,
        gradients_claims.GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN,
        gradients_claims.GRADIENTS_AT_INITIALIZATION_RESIDUAL_MILD,
        gradients_claims.GRADIENTS_VANISH_AFTER_1_STEP,
        gradients_claims.GRADIENTS_VANISH_AFTER_10_STEPS,
        gradients_claims.GRADIENTS_VANISH_AFTER_100_STEPS,
    ),
    # Five seeds can decide one claim (docs/claims.md).
    primary=(degradation_claims.DEEPER_PLAIN_HIGHER_TRAINING_ERROR,),
    seeds=(0, 1, 2, 3, 4),
    cost="32 runs, about ten minutes on two cores",
)
