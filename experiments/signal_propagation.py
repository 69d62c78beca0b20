"""Theory at initialisation, without training: what signal and gradient do in every layer.

Question: which predictions about networks at initialisation hold for these, which are neither
wide nor infinitely deep? Minutes on a CPU:

    resnet-study reproduce signal_propagation
"""

from resnet_study.phenomena.initialization import claims as initialization_claims
from resnet_study.phenomena.initialization import figures as initialization_figures
from resnet_study.phenomena.initialization.arms import ARMS, SEEDS
from resnet_study.studies.study import Study

STUDY = Study(
    name="signal_propagation",
    title="Signal propagation at initialisation",
    question=(
        "How do gradients and signals change from layer to layer before any training, in plain and "
        "residual networks of 8 to 110 layers, and do they follow theory? Batch normalisation "
        "(Yang et al. 2019, arXiv 1902.08129), initialisations (Glorot & Bengio 2010; He et al. "
        "2015, arXiv 1502.01852), branch against skip variance (De & Smith 2020, arXiv "
        "2002.10444), signal-propagation plots (Brock et al. 2021, arXiv 2101.08692), shattered "
        "gradients (Balduzzi et al. 2017, arXiv 1702.08591), path lengths (Veit et al. 2016, arXiv "
        "1605.06431), norm preservation (Zaeemzadeh et al. 2018, arXiv 1805.07477). Mini-batches "
        "of real digits."
    ),
    sweeps=(),
    figures=initialization_figures.FIGURES,
    claims=initialization_claims.CLAIMS,
    # Five seeds can decide one claim (docs/claims.md).
    primary=(initialization_claims.EXPONENTIAL_IN_DEPTH,),
    seeds=SEEDS,
    cost=(
        "96 networks with five seeds each, no training; 11 minutes on two cores that did other "
        "work beside"
    ),
    initialization=ARMS,
)
