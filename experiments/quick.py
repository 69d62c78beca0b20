"""Degradation and gradients in ten minutes on a laptop CPU, on real digits.

Question: do the findings of He et al. 2015 (arXiv 1512.03385), section 4.2, show on a data
set small enough for a CPU? Deeper plain networks train worse, residual ones do not; and
what do the gradients do meanwhile?

    resnet-study reproduce quick

The networks are the paper's; what differs from its recipe is in `Study.question`.
"""

from resnet_study.study import Study

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
        "error_against_depth",
        "training_curves",
        "gradient_profile",
        "gradient_ratio",
        "gradient_heatmap",
        "update_heatmap",
        "response_std",
    ),
    claims=(
        "deeper_plain_higher_training_error",
        "residual_no_degradation",
        "residual_converges_faster",
        "residual_responses_smaller",
        "gradients_explode_at_initialization_plain_bn",
        "gradients_at_initialization_residual_mild",
        "gradients_vanish_after_1_step",
        "gradients_vanish_after_10_steps",
        "gradients_vanish_after_100_steps",
    ),
    cost="32 runs, about ten minutes on two cores",
    expected=(
        "training error (results/reference/quick): plain-20 0 %, plain-56 74 ± 17 % (5 seeds), "
        "residual-56 11 ± 24 % (5 seeds), plain-110 at chance, residual-110 2 and 82 %; first/last "
        "gradient ratio of plain-56 at initialisation some thousands, of residual-56 some tens. "
        "Rounding differs between machines and kernels, and so do single deep runs"
    ),
)
