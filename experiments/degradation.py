"""Degradation on CIFAR-10: He et al. 2015 (arXiv 1512.03385), section 4.2, to the letter.

Question: do deeper plain networks train worse, and residual ones better, down to 110 layers?

    resnet-study reproduce degradation --cifar10=PATH

Days on one GPU; interrupted, it continues where it was. The recipe is that of the paper: batch
128, SGD with momentum 0.9 and weight decay 1e-4, rate 0.1 divided by 10 at 32,000 and 48,000 of
64,000 iterations, 45,000 training images, random crops and flips; depth 110 starts at 0.01 until
the training error is below 80 % (sweeps/depth_110.yaml). What the paper leaves open has these
defaults, each a flag: batch statistics over all 128 images (`--model.batch_norm_images=64` for the
paper's two GPUs), weight decay on every parameter (`--optimizer.weight_decay_on=weights`), every
second pixel in option A (`--model.subsampling=average`), no Nesterov momentum
(`--optimizer.nesterov=true`), 5,000 images held out (`--data.validation=0` trains on all 50,000).
Training errors are recorded both as trained (`train`) and on the clean images (`train_clean`).
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
    name="degradation",
    title="Degradation on CIFAR-10",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.2, Figure 6 and Table 6: deeper plain "
        "networks have a higher training error, residual ones a lower test error, to 110 layers. "
        "The paper's recipe and depths, two shallower ones, five seeds where it has one."
    ),
    sweeps=("depth_curves.yaml", "depth_110.yaml"),
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
    cost="80 runs of 64,000 iterations: a GPU, or several; --dry_run of its sweeps estimates it",
)
