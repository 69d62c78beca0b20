"""A night on a laptop: the paper's networks, data and recipe on CIFAR-10, a sixteenth as long.

Question: do the findings of He et al. 2015 (arXiv 1512.03385), section 4.2, show in 4,000
iterations instead of 64,000, with the drops of the rate at the same fractions?

    resnet-study reproduce cifar10_night --cifar10=PATH --workers=1

Interrupted, the same command continues. Depths 20 and 56 with three seeds come first, then 32 and
44, then 110 with the paper's warm-up, then 56 without weight decay on scales and shifts.

Fixed before the first of these runs ended, primary claims first:

1. `deeper_plain_higher_training_error`: plain-56 ends with a higher training error than plain-20.
2. `residual_no_degradation`: residual-56 ends at most 1 point above residual-20. In so short a run
   the deeper network may simply need longer, so *not reproduced* is a likely verdict.
3. Of three gradients at layer 2 over the last convolution in plain-56 (first measured in
   `docs/results.md`): the signal ‖w‖·‖∂L/∂w‖ stays within a factor of 30 after 10, 100 and 1,000
   iterations and at the end; the turn (`angular_step`) is below 1/10 after 100 and 1,000. (Since
   then the claims `signal_healthy_…` and `turn_vanished_…`; exploratory.)

Known when this was written: one pilot of seed 0 with 1,000 iterations (training error plain-20
42.8 %, residual-20 34.1, plain-56 72.1, residual-56 52.7), and the runs of seed 0 at full length in
`results/reference/cifar10`.
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
    name="cifar10_night",
    title="A night on CIFAR-10",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.2: deeper plain networks have a higher "
        "training error, residual ones do not. The paper's networks, data and recipe, with 4,000 "
        "iterations instead of 64,000 and the rate divided at the same fractions. What happens to "
        "gradients, weights and responses in every layer meanwhile?"
    ),
    sweeps=(
        "cifar10_night.yaml",
        "cifar10_night_between.yaml",
        "cifar10_night_110.yaml",
        "cifar10_night_undecayed.yaml",
    ),
    figures=(
        gradients_figures.signal_and_turn,
        degradation_figures.error_against_depth,
        degradation_figures.training_curves,
        degradation_figures.curves_beside_paper,
        gradients_figures.gradient_profile,
        gradients_figures.gradient_ratio,
        gradients_figures.gradient_heatmap,
        gradients_figures.update_heatmap,
        responses_figures.response_std,
        responses_figures.responses_beside_paper,
    ),
    claims=(
        degradation_claims.DEEPER_PLAIN_HIGHER_TRAINING_ERROR,
        degradation_claims.RESIDUAL_NO_DEGRADATION,
        convergence_claims.RESIDUAL_CONVERGES_FASTER,
        responses_claims.RESIDUAL_RESPONSES_SMALLER,
        responses_claims.RESPONSES_SMALLER_WITH_DEPTH,
        gradients_claims.GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN,
        *gradients_claims.SIGNAL_HEALTHY,
        *gradients_claims.TURN_VANISHED,
        *gradients_claims.SIGNAL_VANISHED_110,
    ),
    # Named before the runs; three seeds decide none, whatever they show (docs/claims.md).
    primary=(
        degradation_claims.DEEPER_PLAIN_HIGHER_TRAINING_ERROR,
        degradation_claims.RESIDUAL_NO_DEGRADATION,
    ),
    seeds=(0, 1, 2),
    cost="36 runs of 4,000 iterations, about 29 hours of two cores; the first twelve seven hours",
    order="sweeps",
)
