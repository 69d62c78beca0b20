"""What explodes and what vanishes, with and without batch normalisation, at the start of training.

resnet-study reproduce gradient_flow
"""

from resnet_study.phenomena.gradients import claims as gradients_claims
from resnet_study.phenomena.gradients import figures as gradients_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="gradient_flow",
    title="Gradients of the first hundred steps, on digits",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.1, hold vanishing gradients unlikely where "
        "batch normalisation keeps them healthy. With it and without it, under He's and LeCun's "
        "initialisation, plain and residual, at 8, 20 and 56 layers: 100 iterations on 1,797 real "
        "8x8 digits."
    ),
    sweeps=("gradient_flow.yaml",),
    figures=gradients_figures.FIGURES,
    claims=gradients_claims.CLAIMS,
    cost="72 runs, 15 minutes on two cores of an x86 machine that was also doing other work",
)
