"""Reference results on CIFAR-10: the paper's recipe, full length, every layer recorded.

Question: He et al. 2015 (arXiv 1512.03385), section 4.2, and the same networks without batch
normalisation. The runs that decide most come first, one seed after the other, so that a study that
was cut short says as much as it can:

    resnet-study reproduce cifar10 --cifar10=PATH
    resnet-study piece cifar10 --minutes=9 --cifar10=PATH --state=cifar10.tar

The second does as much as fits into some minutes and leaves all that another machine needs to go
on (docs/gpu.md). `experiments/degradation.py` has more depths; what the paper leaves open is listed
there.
"""

from experiments.degradation import STUDY as DEGRADATION
from resnet_study.study import Study

STUDY = Study(
    name="cifar10",
    title="Plain and residual networks on CIFAR-10",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.2, Figures 6 and 7 and Table 6: deeper plain "
        "networks have a higher training error, residual ones a lower test error. The paper's "
        "recipe of 64,000 iterations at 20, 56, 110 (with its warm-up), 44 and 32 layers, then 20 "
        "and 56 layers without batch normalisation under LeCun's and He's initialisation. What "
        "happens to gradients, weights and responses in every layer meanwhile?"
    ),
    sweeps=("cifar10.yaml", "cifar10_110.yaml", "cifar10_between.yaml", "cifar10_no_bn.yaml"),
    figures=DEGRADATION.figures,
    claims=DEGRADATION.claims,
    cost="90 runs of 64,000 iterations, 18 for each seed, on an NVIDIA GPU; docs/gpu.md has speeds",
    expected=DEGRADATION.expected,
    order="seed",
)
