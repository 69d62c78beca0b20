"""Which networks train at which learning rate? A grid of rates and depths, on digits.

resnet-study reproduce rate_and_depth
resnet-study compare train_error_last results/rate_and_depth --against=optimizer.learning_rate

The random search of `learning_rate` tries the rate at two depths, for as much or as little time as
there is.
"""

from resnet_study.phenomena.degradation import figures as degradation_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="rate_and_depth",
    title="Plain and residual networks over learning rates and depths, on digits",
    question=(
        "He et al. 2015 (arXiv 1512.03385), Figures 1 and 6, train every depth at one learning "
        "rate, 0.1. Is there a rate from 0.001 to 0.3 at which a plain network of 56 layers ends "
        "with as low a training error as one of 20, and how far up does each family train? 300 "
        "iterations on 1,797 real 8x8 digits. Exploratory: nothing is claimed."
    ),
    sweeps=("rate_and_depth.yaml",),
    figures=(degradation_figures.rate_and_depth,),
    cost="144 runs of 300 iterations, 31 minutes on two cores that did other work too",
)
