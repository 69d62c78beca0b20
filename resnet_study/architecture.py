"""The description of a network: plain or residual, and the arms that separate explanations.

Every field is a switch with the choice of He et al. 2015 (arXiv 1512.03385) as its default.
Combinations that make no sense are refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from resnet_study.errors import UserError, require

Precision = Literal["float32", "tf32", "bfloat16", "float64"]

GROUPS = 8
"""Groups of channels of group normalisation (Wu & He 2018, arXiv 1803.08494)."""


GATED = ("exclusive-gating", "shortcut-only-gating")
"""Shortcut scalings that have a gate."""

LAYERS_PER_BLOCK = {"basic": 2, "bottleneck": 3}

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Filters that a block puts out, over those of its 3x3 layers."""

DEPTHS = {
    "basic": "8, 14, 20, 26, 32, 44, 56, 110, 1202",
    "bottleneck": "11, 20, 29, 38, 47, 56, 110, 164, 1001",
}
"""Some valid depths, for messages."""


@dataclass(frozen=True)
class ModelSpec:
    """A network of He et al. 2015, section 4.2."""

    depth: int = 20
    """Weighted layers, 6n+2: 8, 14, 20, ..., 56, 110, 1202; with bottleneck blocks 9n+2: 11, 20,
    29, ..., 164, 1001."""
    residual: bool = True
    """Shortcuts around every block (true), or a plain network of the same layers (false)."""
    block: Literal["basic", "bottleneck"] = "basic"
    """Two 3x3 layers; or 1x1, 3x3, and 1x1 to four times the filters (He et al. 2015, section
    4.1; on CIFAR-10 He et al. 2016)."""
    shortcut: Literal["A", "B", "C"] = "A"
    """A: identity, zero-padded where the width grows (the paper's choice on CIFAR-10);
    B: projection where the shape changes; C: projection everywhere."""
    width: int = 16
    """Filters of the stem and the 3x3 layers of the first stage; those of the second and third
    have two and four times as many."""
    subsampling: Literal["stride", "average", "max"] = "stride"
    """How shortcut A halves a map: every second pixel, or the mean or maximum of 2x2 pixels."""
    pooling: Literal["average", "max"] = "average"
    """Of all pixels of the last map, before the classifier: the mean (the paper's) or maximum."""
    normalization: Literal["batch", "none", "layer", "group"] = "batch"
    """Over batch and pixels; none (convolutions then have a bias); over each image; or over
    each image and each of 8 groups of channels."""
    batch_norm_images: int = 0
    """Images that batch normalisation takes its statistics over; 0: the whole batch. The
    paper's two GPUs had 64 each."""
    initialization: Literal[
        "he", "lecun", "glorot", "uniform", "orthogonal", "delta-orthogonal"
    ] = "he"
    """Variance 2/fan_in (He), 1/fan_in (LeCun), 2/(fan_in + fan_out) (Glorot, uniform),
    uniform within 1/sqrt(fan_in), or orthogonal, as a whole or in the kernel's centre alone."""
    activation: Literal["relu", "tanh", "sigmoid", "linear"] = "relu"
    """Nonlinearity; linear has none."""
    block_order: Literal[
        "original",
        "norm-after-addition",
        "activation-before-addition",
        "activation-only-preactivation",
        "full-preactivation",
    ] = "original"
    """Where a residual block normalises and activates (He et al. 2016, Figure 4 a to e)."""
    branch_scaling: Literal["none", "skipinit", "rezero", "fixup"] = "none"
    """What replaces or helps normalisation in a residual branch: a factor that starts at 0
    (SkipInit without normalisation, ReZero beside it), or Fixup."""
    shortcut_scaling: Literal[
        "none", "constant", "exclusive-gating", "shortcut-only-gating", "dropout"
    ] = "none"
    """What multiplies shortcut and branch (He et al. 2016, section 3.1): nothing; 0.5 both;
    1 - g and g, or 1 - g and nothing, g the sigmoid of a 1x1 convolution of the block's input; or
    dropout and nothing."""
    gate_bias: float = -6.0
    """Start of the bias of that convolution; the lower, the more of the shortcut is open."""
    dropout_ratio: float = 0.5
    """Part of a shortcut's values that dropout sets to 0 in each step of training."""
    precision: Precision = "float32"
    """Of the convolutions: float32 everywhere; tf32, the matrix units of an NVIDIA GPU (10 bits
    of the fraction); bfloat16 inputs, weights and outputs. Sums, normalisation, classifier,
    state and probes are float32. Or float64, then of everything; weights and data start from
    the numbers that float32 has."""

    @property
    def family(self) -> str:
        """`residual` or `plain`."""
        return "residual" if self.residual else "plain"

    @property
    def name(self) -> str:
        """Such as residual-56."""
        return f"{self.family}-{self.depth}"

    @property
    def layers_per_block(self) -> int:
        """Weighted layers of a block."""
        return LAYERS_PER_BLOCK[self.block]

    @property
    def blocks_per_stage(self) -> int:
        """The n of a depth of 6n+2 or 9n+2."""
        return (self.depth - 2) // (3 * self.layers_per_block)

    @property
    def expansion(self) -> int:
        """Filters that a block puts out, over those of its 3x3 layers."""
        return EXPANSION[self.block]


CHOSEN_OR_OPEN = ("depth", "residual", "subsampling", "batch_norm_images", "precision")
"""Fields that the paper varies or does not tell; in all others its networks have the defaults."""

NOT_THE_PAPERS = {"subsampling": ("max",)}
"""Choices among these fields that no reading of the paper allows."""


def is_the_papers(model: ModelSpec) -> bool:
    """Whether a network is one of He et al. 2015, section 4.2, as far as the paper tells."""
    own = ModelSpec()
    if any(getattr(model, name) in choices for name, choices in NOT_THE_PAPERS.items()):
        return False
    return all(
        getattr(model, field.name) == getattr(own, field.name)
        for field in fields(ModelSpec)
        if field.name not in CHOSEN_OR_OPEN
    )


RESIDUAL_ONLY = {
    "shortcut": "shortcuts",
    "subsampling": "shortcuts",
    "block_order": "addition to place around",
    "branch_scaling": "branches",
    "shortcut_scaling": "shortcuts",
}
"""Fields that a plain network has at their defaults, and what it lacks for another choice."""


def plain_of(model: ModelSpec) -> ModelSpec:
    """The plain network of the same layers."""
    names = (*RESIDUAL_ONLY, "gate_bias", "dropout_ratio")
    defaults: dict[str, Any] = {name: getattr(ModelSpec, name) for name in names}
    return replace(model, residual=False, **defaults)


def check_model(model: ModelSpec) -> None:
    """Refuse what is no network, and combinations without meaning.

    Raises:
        UserError: naming the field, its value, and what is valid or why it makes no sense.
    """
    depth, step = model.depth, 3 * model.layers_per_block
    if depth < step + 2 or (depth - 2) % step:
        nearest = max(step + 2, step * round((depth - 2) / step) + 2)
        raise UserError(
            f"model.depth={depth}: depth is {step}n+2 weighted layers with block={model.block} "
            f"({DEPTHS[model.block]}, ...); the nearest is {nearest}"
        )
    require(model.width >= 1, "model.width", model.width, "at least one filter is needed")
    if not model.residual:
        for name, reason in RESIDUAL_ONLY.items():
            _only_default(model, name, f"a plain network has no {reason}")
    if model.shortcut != "A":
        _only_default(model, "subsampling", "only shortcut A subsamples; B and C project")
    _check_normalization(model)
    if model.activation == "linear" and model.block_order in (
        "activation-before-addition",
        "activation-only-preactivation",
    ):
        _only_default(model, "block_order", "a linear network has no activation to move")
    _check_branch_scaling(model)
    _check_shortcut_scaling(model)


def _check_normalization(model: ModelSpec) -> None:
    images = model.batch_norm_images
    require(
        images == 0 or images >= 2,
        "model.batch_norm_images",
        images,
        "statistics need at least 2 images; 0 takes the whole batch",
    )
    if model.normalization != "batch":
        _only_default(model, "batch_norm_images", "it groups images for batch normalisation")
    require(
        model.normalization != "group" or model.width % GROUPS == 0,
        "model.width",
        model.width,
        f"group normalisation has {GROUPS} groups; a multiple of {GROUPS} is needed",
    )
    if model.normalization == "none":
        require(
            model.block_order != "norm-after-addition",
            "model.block_order",
            model.block_order,
            "without normalisation it is the original order; use that",
        )
        require(
            model.block_order != "activation-only-preactivation",
            "model.block_order",
            model.block_order,
            "without normalisation both pre-activations are one; use full-preactivation",
        )


def _check_branch_scaling(model: ModelSpec) -> None:
    scaling = model.branch_scaling
    if scaling == "none":
        return
    where = "model.branch_scaling"
    normalized = model.normalization != "none"
    require(
        scaling != "skipinit" or not normalized,
        where,
        scaling,
        "SkipInit replaces normalisation; set model.normalization=none, or use rezero beside it",
    )
    require(
        scaling != "rezero" or normalized,
        where,
        scaling,
        "without normalisation this is SkipInit; use skipinit",
    )
    require(
        model.block_order not in ("norm-after-addition", "activation-before-addition"),
        where,
        scaling,
        f"the factor at the end of a branch has no place in the order {model.block_order}",
    )
    if scaling == "fixup":
        require(
            (model.normalization, model.initialization, model.activation) == ("none", "he", "relu")
            and (model.block_order, model.shortcut) == ("original", "A"),
            where,
            scaling,
            "Fixup is defined for normalization=none, initialization=he, activation=relu, "
            "block_order=original and shortcut=A",
        )


def _check_shortcut_scaling(model: ModelSpec) -> None:
    scaling = model.shortcut_scaling
    if scaling not in GATED:
        _only_default(model, "gate_bias", f"there is no gate with shortcut_scaling={scaling}")
    if scaling != "dropout":
        reason = f"there is no dropout with shortcut_scaling={scaling}"
        _only_default(model, "dropout_ratio", reason)
    ratio = model.dropout_ratio
    require(0 < ratio < 1, "model.dropout_ratio", ratio, "valid are above 0 to below 1")
    if scaling == "none":
        return
    for applies, reason in (
        (model.shortcut == "C", "it multiplies identities, and option C has none; use A or B"),
        (
            model.block_order != "original",
            f"it is defined for the original order, not for {model.block_order}",
        ),
        (
            model.branch_scaling != "none",
            f"branch_scaling={model.branch_scaling} has factors of its own; use one of them",
        ),
    ):
        require(not applies, "model.shortcut_scaling", scaling, reason)


def _only_default(model: ModelSpec, name: str, reason: str) -> None:
    value, default = getattr(model, name), getattr(ModelSpec, name)
    require(value == default, f"model.{name}", value, f"{reason}; leave it at {default}")
