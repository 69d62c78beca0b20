"""The whole path in a minute: sweep, runs, figures, claims, report. Its numbers mean nothing.

resnet-study reproduce smoke
"""

from dataclasses import replace

from resnet_study.studies.find import load_study

STUDY = replace(
    load_study("quick"),
    name="smoke",
    title="Smoke test",
    question=(
        "Does the whole path work on this machine? Depths 8 and 20 on digits, one seed, 40 "
        "iterations: too short for any conclusion about networks."
    ),
    sweeps=("smoke.yaml",),
    seeds=(0,),
    cost="4 runs, about a minute on two cores",
)
