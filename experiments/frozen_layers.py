"""Do the first steps freeze the early layers of deep plain networks, and does decay thaw them?

Question: the gradient of a deep plain network with batch normalisation explodes toward the input
at initialisation. Does the step that it makes inflate the early weights by a factor G, freeze
these layers, and does weight decay thaw them after about (1−μ)/(ηλ)·ln G iterations? It would
explain why such networks learn so slowly (He et al. 2015, arXiv 1512.03385, section 4.1).

    resnet-study reproduce frozen_layers

What counts as frozen, the predictions and how censored layers enter were fixed before any run:
`resnet_study.phenomena.frozen_layers.thaw`. On CIFAR-10: `sweeps/frozen_layers_cifar10.yaml`.
"""

from resnet_study.phenomena.frozen_layers import claims as frozen_layers_claims
from resnet_study.phenomena.frozen_layers import figures as frozen_layers_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="frozen_layers",
    title="Frozen layers and weight decay on digits",
    question=(
        "A pilot of this project: at a rate of 0.1 the exploding first steps of a deep plain "
        "network with batch normalisation inflate its early weights by a factor G. Such a layer "
        "depends on the direction of its weights alone and then hardly turns; weight decay should "
        "thaw it after (1−μ)/(ηλ)·ln G iterations, and nothing should without it. Is the thaw "
        "predicted by the first 50 iterations, layer by layer? Does the training error fall when "
        "it comes? Do a warm-up and a low rate prevent it? On 1,797 real 8x8 digits at a batch of "
        "64; weight decay 0, 0.001 and 0.005, so that a thaw falls inside short runs (at the "
        "paper's 0.0001 it would take some 40,000 iterations); the rate is never divided."
    ),
    sweeps=(
        "frozen_layers.yaml",
        "frozen_layers_gentle.yaml",
        "frozen_layers_depth.yaml",
        "frozen_layers_slow.yaml",
    ),
    figures=(
        frozen_layers_figures.weight_growth,
        frozen_layers_figures.thaw_times,
        frozen_layers_figures.thaw_curves,
    ),
    claims=frozen_layers_claims.CLAIMS,
    # Five seeds can decide one claim (docs/claims.md).
    primary=(frozen_layers_claims.THAW_AS_WEIGHTS_SHRINK,),
    seeds=(0, 1, 2, 3, 4),
    cost="26 runs; 49 minutes on two cores that did much other work beside",
)
