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
3. Of three gradients at layer 2 over the last 3x3 layer in plain-56 (`docs/gpu.md` has the first
   measurement): the signal ‖w‖·‖∂L/∂w‖ stays within a factor of 30 after 10, 100 and 1,000
   iterations and at the end; the turn (`angular_step`) is below 1/10 after 100 and 1,000.

Known when this was written: one pilot of seed 0 with 1,000 iterations (training error plain-20
42.8 %, residual-20 34.1, plain-56 72.1, residual-56 52.7), and the runs of seed 0 at full length in
`results/reference/cifar10`.
"""

from resnet_study.study import Study

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
        "responses_smaller_with_depth",
        "gradients_explode_at_initialization_plain_bn",
    ),
    cost="36 runs of 4,000 iterations, about 29 hours of two cores; the first twelve seven hours",
    expected=(
        "from a pilot of 1,000 iterations, seed 0: training error plain-20 42.8 %, residual-20 "
        "34.1 %, plain-56 72.1 %, residual-56 52.7 %; of 4,000 iterations nothing is known yet"
    ),
    order="sweeps",
)
