"""What is measured at initialisation, on which networks. Imports no jax.

`seeded_arms` cuts a grid into parts that take seconds each; `measuring.measure_arm` measures one.

=========================== ================================================================
activation_gradient_norm    ‖∂L/∂z_l‖ at the output z_l of 3x3 layer l before normalisation;
                            index l = 1..depth-1 in forward order, the stem is 1
block_gradient_norm         ‖∂L/∂x_b‖; index b = 1..3n: at the input x_b of block b, so that
                            value b over value b+1 is the factor of Zaeemzadeh et al. 2018
                            (arXiv 1805.07477); index 3n+1: at the output of the last block
branch_variance,            channel variance of the two paths at the addition of block
skip_variance               b = 1..3n, mean over channels (De & Smith 2020, arXiv 2002.10444).
                            Where the width grows, the channels that shortcut A pads with
                            zeros count with their variance of 0
channel_mean_square,        squared channel mean and channel variance, mean over channels
channel_variance            (Brock et al. 2021, arXiv 2101.08692, section 3); index 0: after
                            the stem and its nonlinearity; b = 1..3n: output of block b
gradient_autocorrelation    of the gradient of the first logit with respect to the image, at
                            `GRID` points between two images (Balduzzi et al. 2017, arXiv
                            1702.08591); index = lag 0..`LAGS` in steps of 1/(`GRID` - 1) of
                            the way; 1 at lag 0; see `shattering`
path_gradient_norm          ‖∂L/∂x_1‖ of what comes back along single paths that go through k
                            branches and 3n - k shortcuts (Veit et al. 2016, arXiv 1605.06431),
                            arithmetic mean over `PATHS` random ones; index k = 0..3n; see
                            `resnet_study.phenomena.initialization.paths`
=========================== ================================================================

L is the mean cross-entropy of the first mini-batch of digits, of `BATCH` images unless ``images``
says otherwise; weights are those before the first step, both exactly as training with the same seed
has them. All but single paths is computed from them in float64; normalisation uses the statistics
of the batch; norms are Euclidean over the whole batch; n = (depth - 2)/6. ``stage`` is that of the
layer or of block b: 0 for the stem, 3 for the output of the last block, and 0 where it has no
meaning (lags, path lengths). A plain network has pairs of layers for blocks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resnet_study.architecture import ModelSpec, check_model
from resnet_study.errors import UserError, require

BATCH = 128
"""Images of the mini-batch."""
GRID = 128
"""Equally spaced points from one image to another, both included; they are the mini-batch."""
LAGS = 64
"""Largest lag of the autocorrelation, half of the way."""
LINES = 2
"""Pairs of images per seed; autocorrelations are averaged over them."""
PATHS = 10
"""Random paths of each length per seed."""
PATH_BATCH = 32
"""Images of the mini-batch for paths: the first ones of the others' batch."""

GRADIENTS = ("activation_gradient_norm", "block_gradient_norm")
MOMENTS = ("channel_mean_square", "channel_variance")
VARIANCES = ("branch_variance", "skip_variance")
SHATTERING = ("gradient_autocorrelation",)
PATH_LENGTHS = ("path_gradient_norm",)
QUANTITIES = GRADIENTS + VARIANCES + MOMENTS + SHATTERING + PATH_LENGTHS

MODEL_COLUMNS = (
    "depth",
    "normalization",
    "initialization",
    "activation",
    "block_order",
    "width",
)
RECIPE = 2
"""Raised whenever a definition above changes; with the numbers above in the names of files."""

DEPTHS = (8, 20, 32, 44, 56, 110)
PATH_DEPTH = 110
SEEDS = (0, 1, 2, 3, 4)

SIZES_DEPTH = 32
WIDTHS, BATCHES = (32, 64, 128), (16, 64, 512)
"""Other widths, and other numbers of images, of the plain network with batch normalisation."""


@dataclass(frozen=True)
class InitializationArm:
    """One network and what is measured on it, with a mini-batch of so many images.

    Raises:
        UserError: if it is no network, a quantity is unknown or has no meaning for it, or it
            differs from its defaults in a switch for which the frame has no column.
    """

    model: ModelSpec
    quantities: tuple[str, ...]
    images: int = BATCH

    def __post_init__(self) -> None:
        check_model(self.model)
        require(self.images >= 2, "images", self.images, "statistics of a batch need at least 2")
        require(len(self.quantities) > 0, "quantities", "", "name at least one")
        for name in self.quantities:
            require(name in QUANTITIES, "quantities", name, f"valid are {', '.join(QUANTITIES)}")
            require(
                self.model.residual or name not in (*VARIANCES, *PATH_LENGTHS),
                "quantities",
                name,
                "a plain network has no shortcuts; leave it out",
            )
        for field in dataclasses.fields(ModelSpec):
            value = getattr(self.model, field.name)
            require(
                field.name in ("residual", *MODEL_COLUMNS) or value == field.default,
                f"model.{field.name}",
                value,
                f"the records have no column for it; leave it at {field.default}",
            )


@dataclass(frozen=True)
class SeededArm:
    """A part of the measurement that is made and stored as one: an arm with its seeds."""

    arm: InitializationArm
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Readable prefix and a hash of all that decides the numbers; a file name."""
        model = self.arm.model
        recipe = [RECIPE, BATCH, GRID, LAGS, LINES, PATHS, PATH_BATCH]
        arm = [dataclasses.asdict(model), self.arm.images, sorted(self.arm.quantities)]
        content = [recipe, *arm, self.seeds]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
        settings = [str(getattr(model, name)) for name in MODEL_COLUMNS[1:]]
        named = "_".join([*settings, str(self.arm.images)])
        return f"{model.name}_{named}_{digest}"


def seeded_arms(arms: Iterable[InitializationArm], seeds: Sequence[int]) -> list[SeededArm]:
    """The arms of a measurement, each with these seeds.

    Raises:
        UserError: if a seed is repeated or none, or an arm is.
    """
    require(len(seeds) > 0, "seeds", "", "at least one is needed")
    for seed in seeds:
        require(0 <= seed < 2**32, "seed", seed, f"valid are 0 to {2**32 - 1}")
        require(list(seeds).count(seed) == 1, "seeds", seed, "name each seed once")
    made = [SeededArm(arm, tuple(seeds)) for arm in arms]
    networks = [(one.arm.model, one.arm.images) for one in made]
    repeated = [one for one, own in zip(made, networks, strict=True) if networks.count(own) > 1]
    if repeated:
        raise UserError(f"{repeated[0].name}: more than one arm has this network; merge them")
    return made


def _arms() -> list[InitializationArm]:
    """The default grid: every setting at every depth, and one network in other sizes.

    With batch normalisation: plain and residual with autocorrelations, and residual in the
    pre-activated order; paths at one depth. Without: the initialisations whose factor per layer
    theory gives, beside plain networks residual ones where the signal needs rescue; that of He in
    the pre-activated order too.
    """
    everywhere = GRADIENTS + MOMENTS
    residual = everywhere + VARIANCES
    settings: list[tuple[dict[str, object], tuple[str, ...]]] = [
        ({"residual": False}, everywhere + SHATTERING),
        ({"residual": True}, residual + SHATTERING),
        ({"residual": True, "block_order": "full-preactivation"}, residual),
    ]
    for initialization, activation, beside in (
        ("he", "relu", True),
        ("lecun", "relu", True),
        ("uniform", "relu", True),
        ("uniform", "linear", False),
        ("glorot", "linear", False),
        ("uniform", "sigmoid", True),
        ("glorot", "sigmoid", False),
    ):
        free: dict[str, object] = {
            "normalization": "none",
            "initialization": initialization,
            "activation": activation,
        }
        settings.append(({"residual": False, **free}, everywhere))
        if beside:
            settings.append(({"residual": True, **free}, residual))
    settings.append(({"normalization": "none", "block_order": "full-preactivation"}, residual))
    made = []
    for switches, quantities in settings:
        for depth in DEPTHS:
            model = ModelSpec(depth=depth, **switches)  # type: ignore[arg-type]
            paths = model == ModelSpec(depth=PATH_DEPTH)
            made.append(InitializationArm(model, quantities + (PATH_LENGTHS if paths else ())))
    sizes = [(width, BATCH) for width in WIDTHS] + [(ModelSpec.width, n) for n in BATCHES]
    for width, images in sizes:
        model = ModelSpec(depth=SIZES_DEPTH, residual=False, width=width)
        made.append(InitializationArm(model, GRADIENTS, images))
    return made


ARMS = tuple(_arms())
"""The default grid."""
