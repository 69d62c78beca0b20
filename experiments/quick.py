"""Degradation and gradients in twelve minutes on a laptop CPU, on real digits.

Question: do the findings of He et al. 2015 (arXiv 1512.03385), section 4.2, show on a data
set small enough for a CPU? Deeper plain networks train worse, residual ones do not; and
what do the gradients do meanwhile?

    resnet-study reproduce quick

The networks are the paper's; what differs from its recipe is in `Study.question`.

Fixed before these runs, from four pilots of 600 iterations (seeds 100 to 103) and from the results
of an earlier version with 300 iterations (seeds 0 to 4), which are not repeated:

- 400 iterations: with 300 only two residual-56 of five ended within a point of residual-20; the
  four pilots were below 6 % training error at iteration 200, before the rate fell, and ended
  below 0.2 %. 400 was to fit into ten minutes beside seven seeds. Plain-56 of the pilots ended at
  31 to 88 %.
- Seven new seeds, the same in all four cells of the primary claims, for that many decide four.
- The primary claims: the two of the paper, and two about plain-56 after 100 iterations, when the
  signal of the pilots was within a factor of 6 of that of the last layer and the turn below 1/250.
- Depth 110 with the paper's warm-up, and depths 8 and 32, one seed each: for the curves, not for
  verdicts.
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
        "other than in the paper: digits instead of CIFAR-10, no augmentation, 400 iterations "
        "instead of 64,000 with the learning rate divided at the same fractions."
    ),
    sweeps=("quick.yaml", "quick_depths.yaml", "quick_110.yaml"),
    figures=(
        gradients_figures.signal_and_turn,
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
        *gradients_claims.SIGNAL_HEALTHY,
        *gradients_claims.TURN_VANISHED,
        *gradients_claims.SIGNAL_VANISHED_110,
    ),
    primary=(
        degradation_claims.DEEPER_PLAIN_HIGHER_TRAINING_ERROR,
        degradation_claims.RESIDUAL_NO_DEGRADATION,
        gradients_claims.SIGNAL_HEALTHY_AFTER_100,
        gradients_claims.TURN_VANISHED_AFTER_100,
    ),
    seeds=(5, 6, 7, 8, 9, 10, 11),
    cost="34 runs, 11 minutes on two cores with nothing cached",
)
