"""Reference results on CIFAR-10: the paper's recipe, full length, every layer recorded.

Question: He et al. 2015 (arXiv 1512.03385), section 4.2, and the same networks without batch
normalisation. The runs that decide most come first, one seed after the other, so that a study that
was cut short says as much as it can:

    resnet-study reproduce cifar10 --cifar10=PATH
    resnet-study slice cifar10 --minutes=9 --cifar10=PATH --state=cifar10.tar

The second does as much as fits into some minutes and leaves all that another machine needs to go
on (docs/gpu.md). `experiments/degradation.py` has more depths; what the paper leaves open is listed
there.
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
    name="cifar10",
    title="Plain and residual networks on CIFAR-10",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.2, Figures 6 and 7 and Table 6: deeper plain "
        "networks have a higher training error, residual ones a lower test error. The paper's "
        "recipe of 64,000 iterations at 20, 56, 110 (with its warm-up), 44 and 32 layers, then 20 "
        "and 56 layers without batch normalisation under LeCun's and He's initialisation. What "
        "happens to gradients, weights and responses in every layer meanwhile?"
    ),
    sweeps=("cifar10.yaml", "cifar10_110.yaml", "cifar10_between.yaml", "cifar10_no_bn.yaml"),
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
        degradation_claims.RESIDUAL_NO_DEGRADATION_TO_110,
        degradation_claims.RESIDUAL_GAINS_ACCURACY_TO_110,
        convergence_claims.RESIDUAL_CONVERGES_FASTER,
        responses_claims.RESIDUAL_RESPONSES_SMALLER,
        responses_claims.RESPONSES_SMALLER_WITH_DEPTH,
        gradients_claims.GRADIENTS_EXPLODE_AT_INITIALIZATION_PLAIN_BN,
        *gradients_claims.SIGNAL_HEALTHY,
        *gradients_claims.TURN_VANISHED,
        *gradients_claims.SIGNAL_VANISHED_110,
        convergence_claims.CONVERGENCE_EXPONENTIALLY_SLOW,
    ),
    # Five seeds can decide one claim (docs/claims.md).
    primary=(degradation_claims.DEEPER_PLAIN_HIGHER_TRAINING_ERROR,),
    seeds=(0, 1, 2, 3, 4),
    cost="90 runs of 64,000 iterations, 18 for each seed, on an NVIDIA GPU; docs/gpu.md has speeds",
    order="seed",
)
