"""Plain and residual networks of He et al. 2015, section 4.2, as Flax NNX modules."""

from resnet_study.models.blocks import Recorder, Responses
from resnet_study.models.network import (
    Layer,
    Network,
    layers_of,
    normalizations_of,
    parameter_count,
    weights_of,
)

__all__ = [
    "Layer",
    "Network",
    "Recorder",
    "Responses",
    "layers_of",
    "normalizations_of",
    "parameter_count",
    "weights_of",
]
