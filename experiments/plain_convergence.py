"""How long plain networks need, on digits: does training longer help, and how does it scale?

Question: He et al. 2015 (arXiv 1512.03385), section 4.1, conjecture that deep plain networks
have exponentially low convergence rates, report that three times the iterations do not cure
degradation, and that gradients have healthy norms. On digits, in minutes:

    resnet-study reproduce plain_convergence
"""

from resnet_study.study import Study

STUDY = Study(
    name="plain_convergence",
    title="How long plain networks need",
    question=(
        "He et al. 2015 (arXiv 1512.03385), section 4.1, of plain networks: do three times the "
        "iterations cure degradation, do the iterations to a fixed training error grow "
        "exponentially with depth, and are gradients healthy meanwhile? The paper's networks and "
        "optimiser on 1,797 real 8x8 digits, without augmentation: 300 against 900 iterations at "
        "depths 20 and 56 with the rate divided at the same fractions, and 600 iterations at a "
        "constant rate at six depths."
    ),
    sweeps=("longer_schedule.yaml", "convergence.yaml"),
    figures=("error_against_depth", "training_curves", "gradient_ratio", "update_heatmap"),
    claims=(
        "longer_schedule_no_cure",
        "convergence_exponentially_slow",
        "gradients_healthy_at_initialization",
        "gradients_healthy_after_1_step",
        "gradients_healthy_after_10_steps",
        "gradients_healthy_after_100_steps",
        "gradients_healthy_at_end",
    ),
    cost="50 runs, MEASURE on two cores",
    expected="MEASURE",
)
