"""Does a larger mini-batch help a plain network of 20 layers? An example of a study in one file.

resnet-study reproduce batch_sizes
"""

from resnet_study.phenomena.degradation import figures as degradation_figures
from resnet_study.studies.study import Study

STUDY = Study(
    name="batch_sizes",
    title="Plain networks and the size of the mini-batch, on digits",
    question="Does a plain network of 20 layers learn faster with more images per iteration?",
    sweeps=(
        {
            "method": "grid",
            "parameters": {
                "model.depth": {"value": 20},
                "model.residual": {"value": False},
                "data.name": {"value": "digits"},
                "data.batch_size": {"values": [32, 128]},
                "schedule.iterations": {"value": 100},
            },
        },
    ),
    figures=(degradation_figures.training_curves,),
    cost="2 runs of 100 iterations",
)
