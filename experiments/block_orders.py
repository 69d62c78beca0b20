"""Where a residual block normalises and activates: He et al. 2016 (arXiv 1603.05027), Table 2.

resnet-study reproduce block_orders
resnet-study compare train_error_last results/block_orders
"""

from resnet_study.phenomena.degradation import figures as degradation_figures
from resnet_study.phenomena.gradients import figures as gradients_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="block_orders",
    title="Five orders of a residual block, on digits",
    question=(
        "He et al. 2016 (arXiv 1603.05027), Figure 4 and Table 2: a clean identity path trains "
        "best. Five orders of normalisation, nonlinearity and addition at depth 56, 300 "
        "iterations on 1,797 real 8x8 digits. Exploratory: nothing is claimed."
    ),
    sweeps=("block_orders.yaml",),
    figures=(degradation_figures.training_curves, gradients_figures.gradient_profile),
    cost="25 runs; --dry_run estimates 7:29 min with two workers on two cores",
)
