"""Is degradation a matter of one learning rate? A random search over the rate, on digits.

resnet-study reproduce learning_rate
resnet-study compare train_error_last results/learning_rate
"""

from resnet_study.studies.study import Study

STUDY = Study(
    name="learning_rate",
    title="Degradation over learning rates, on digits",
    question=(
        "Does the training error of a plain network of 56 layers stay above that of one of 20 "
        "(He et al. 2015, arXiv 1512.03385, Figure 1) at every learning rate from 0.001 to 1? 300 "
        "iterations on 1,797 real 8x8 digits. Exploratory: nothing is claimed."
    ),
    sweeps=("learning_rate.yaml",),
    cost="24 runs of 300 iterations, 6 minutes with two workers on two cores of an x86 machine",
)
