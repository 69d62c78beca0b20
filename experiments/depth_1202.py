"""More than a thousand layers on CIFAR-10: He et al. 2015 (arXiv 1512.03385), section 4.2.

resnet-study reproduce depth_1202 --cifar10=PATH
"""

from resnet_study.phenomena.degradation import claims as degradation_claims
from resnet_study.phenomena.degradation import figures as degradation_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="depth_1202",
    title="More than a thousand layers on CIFAR-10",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.2, Figure 6 right and Table 6: a residual "
        "network of 1202 layers trains as well as one of 110 and tests worse, which the paper "
        "calls overfitting. The paper's recipe, warm-up included, at both depths."
    ),
    sweeps=("depth_110.yaml", "depth_1202.yaml"),
    figures=(degradation_figures.error_against_depth, degradation_figures.training_curves),
    claims=(
        degradation_claims.DEEPEST_FITS_TRAINING_SET,
        degradation_claims.DEEPEST_OVERFITS,
    ),
    cost="12 runs of 64,000 iterations, those at 1202 layers eleven times one at 110: several GPUs",
)
