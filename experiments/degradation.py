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

from resnet_study.study import Study

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
        "residual_no_degradation_to_110",
        "residual_gains_accuracy_to_110",
        "residual_converges_faster",
        "residual_responses_smaller",
        "responses_smaller_with_depth",
        "gradients_explode_at_initialization_plain_bn",
        "gradients_healthy_at_initialization",
        "gradients_healthy_after_1_step",
        "gradients_healthy_after_10_steps",
        "gradients_healthy_after_100_steps",
        "gradients_healthy_at_end",
        "convergence_exponentially_slow",
    ),
    cost="80 runs of 64,000 iterations: a GPU, or several; --dry_run of its sweeps estimates it",
    expected=(
        "from the paper: test error of residual networks 8.75 % (20), 7.51 % (32), 7.17 % (44), "
        "6.97 % (56), 6.61 ± 0.16 % (110, five runs); training error of plain networks 1.4 % (20), "
        "1.4 % (32), 2.7 % (44), 5.7 % (56). Not yet measured here"
    ),
)
