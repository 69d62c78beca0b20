"""The questions of `experiments/frozen_layers.py` on CIFAR-10, at the paper's batch and length.

resnet-study reproduce frozen_layers_cifar10 --cifar10=PATH
"""

from resnet_study.phenomena.frozen_layers import claims as frozen_layers_claims
from resnet_study.phenomena.frozen_layers import figures as frozen_layers_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="frozen_layers_cifar10",
    title="Frozen layers and weight decay on CIFAR-10",
    question=(
        "A plain network of 56 layers with batch normalisation inflates its early weights by a "
        "factor G in the first steps at a rate of 0.1. Do these layers thaw after (1−μ)/(ηλ)·ln G "
        "iterations, 10,000 ln G at the paper's weight decay (He et al. 2015, arXiv 1512.03385, "
        "section 4.2) and 1,000 ln G at ten times as much, and never without? Do a warm-up and a "
        "low rate prevent it? The rate is never divided."
    ),
    sweeps=("frozen_layers_cifar10.yaml", "frozen_layers_cifar10_gentle.yaml"),
    figures=frozen_layers_figures.FIGURES,
    claims=frozen_layers_claims.CLAIMS,
    cost="27 runs of 64,000 iterations of plain-56: a GPU; --dry_run of its sweeps estimates it",
)
