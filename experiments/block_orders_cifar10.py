"""The orders of `experiments/block_orders.py` at depth 110 on CIFAR-10, as in the paper.

resnet-study reproduce block_orders_cifar10 --cifar10=PATH
resnet-study compare error results/block_orders_cifar10
"""

from resnet_study.phenomena.degradation import figures as degradation_figures
from resnet_study.phenomena.gradients import figures as gradients_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="block_orders_cifar10",
    title="Five orders of a residual block, on CIFAR-10",
    question=(
        "He et al. 2016 (arXiv 1603.05027), Figure 4 and Table 2: a clean identity path trains "
        "best. Five orders of normalisation, nonlinearity and addition at depth 110, the "
        "paper's recipe with warm-up. Exploratory: nothing is claimed."
    ),
    sweeps=("block_orders_cifar10.yaml",),
    figures=(degradation_figures.training_curves, gradients_figures.gradient_profile),
    cost="25 runs of 64,000 iterations at depth 110: several GPUs",
)
