"""Whether two implementations train the same network: same loss, gradients, updates.

Both sides load the same weights and take the same two training steps with one batch, the
first at rate 0. What they write (an .npz file each) holds, by parameter name:

- ``loss1``, ``loss2``: before each step; equal, since a step at rate 0 changes no weight;
- ``before``, ``after``: parameters before the first step and after the second;
- ``velocity1``: g + λ w, so that the gradient g of the loss follows;
- ``velocity2``: (1 + μ)(g + λ w), which shows the momentum;
- ``running``: running statistics of batch normalisation after both steps.

The reference is PyTorch in float64. This project's step in float64 (XLA kernels) must agree
with it to `EXACT` in everything: that is the same network and the same update rule. What is
timed computes in float32 (or TF32) and is compared with the reference once more: loss and running
statistics to `LOSS` and `FORWARD`, gradients per tensor to `BACKWARD`, or to three times what
rounding does there, if that is more.

What rounding does is measured, as the error of eager PyTorch in that precision. In gradients it is
large because a ReLU whose input lies within rounding of zero may take either side, which moves
the gradients of every layer before it: one of the 32,768 units of the smallest layer by 0.6 %,
and more where a deep plain network amplifies it, beyond `BACKWARD` at one in ten weights of
plain-56 on 8×8 images, with whatever kernels. So all is done from `TRIALS` weights: a step that is
wrong is wrong from each of them, while a unit at the kink is chance. Loss and running statistics,
which no kink moves, must agree from each, and everything in float64; gradients, velocities and
updates of what is timed from most, so their median counts. An error that shows from a minority of
weights alone passes as such a unit would, but is printed.

Freshly initialised deep plain networks amplify rounding as they amplify gradients, by 1.2 per
layer: at depth 110 two correct float32 implementations have nothing in common. So the
comparison is made at weights of the same size where batch normalisation has other scales and
shifts, see `conditioned`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

EXACT = 1e-8
FORWARD = 1e-4
BACKWARD = 5e-2
LOSS = 1e-5
NOISE_FACTOR = 3
TRIALS = 3
"""Weights from which every comparison is made; odd, so that a median is one of the errors."""
MEANINGLESS = 0.3
"""Tolerance of gradients above which a comparison in float32 says little."""
WEIGHT_DECAY = 1e-4
BACKWARD_KINDS = ("gradient", "velocity2", "update")
KINDS = ("loss", "running", *BACKWARD_KINDS)

Arrays = Mapping[str, np.ndarray]


def save(path: str, arrays: Arrays) -> None:
    """Write arrays by name, for `numpy.load`."""
    np.savez(path, **arrays)  # type: ignore[arg-type]


def conditioned(parameters: Arrays, seed: int = 0) -> dict[str, np.ndarray]:
    """The parameters with random scales, shifts of 1 to 2 and every fourth of -1 to -2.

    Most units are then on and some are off whatever the image, few are near the kink, and
    signals pass a deep plain network without exploding or vanishing.
    """
    rng = np.random.default_rng(seed)
    changed = {}
    for name, value in sorted(parameters.items()):
        draw = value
        if name.endswith("norm.scale"):
            draw = rng.uniform(0.5, 1, value.shape)
        elif name.endswith("norm.bias"):
            sign = np.where(np.arange(len(value)) % 4, 1, -1)
            draw = sign * rng.uniform(1, 2, value.shape)
        elif name == "head.bias":
            draw = rng.uniform(-1, 1, value.shape)
        changed[name] = draw.astype(np.float32)
    return changed


def batch_of(
    size: int, channels: int, images: int, *, two_valued: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random images with features of several sizes, labels, and a pixel mean.

    Under white noise all images of a batch would look alike after the pooling, and hardly any
    gradient would reach the first layers.

    Args:
        size: side of the images in pixels.
        channels: of the images.
        images: how many.
        two_valued: only 0 and 255, which a division by 255 in float32 leaves exact.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.normal(128, 50, (images, 1, 1, channels)) + rng.normal(
        0, 40, (images, 2, 2, channels)
    ).repeat(size // 2, 1).repeat(size // 2, 2)
    fine = rng.normal(0, 30, (images, size, size, channels))
    values = np.clip(coarse + fine, 0, 255)
    return {
        "images": (np.where(values > 128, 255, 0) if two_valued else values).astype(np.uint8),
        "labels": rng.integers(0, 10, images, np.int32),
        "mean": np.full((size, size, channels), 0.5, np.float32),
    }


def worst_errors(found: Arrays, reference: Arrays) -> dict[str, tuple[float, str]]:
    """Largest relative error of each kind, and the tensor that has it.

    Kinds are loss, running, gradient, velocity2 and update. Errors are Euclidean norms of the
    difference over those of the reference; that of an update is freed of the rounding of the
    weight that it was added to.

    Raises:
        ValueError: if the two do not hold the same tensors.
    """
    if set(found) != set(reference):
        raise ValueError(f"different tensors: {sorted(set(found) ^ set(reference))[:4]}")
    worst: dict[str, tuple[float, str]] = {}
    for name, value in reference.items():
        ours, theirs = np.asarray(found[name], np.float64), np.asarray(value, np.float64)
        if ours.shape != theirs.shape:
            raise ValueError(f"{name}: shapes {ours.shape} and {theirs.shape}")
        kind, _, tensor = name.partition(".")
        rounding = 0.0
        if kind == "before":
            continue
        if kind == "velocity1":
            kind = "gradient"
            ours = ours - WEIGHT_DECAY * np.asarray(found[f"before.{tensor}"], np.float64)
            theirs = theirs - WEIGHT_DECAY * np.asarray(reference[f"before.{tensor}"], np.float64)
        if kind == "after":
            kind = "update"
            before = np.asarray(reference[f"before.{tensor}"], np.float64)
            ours, theirs = ours - before, theirs - before
            kept = found[name].dtype
            rounding = 2 * float(np.finfo(kept).eps) * float(np.linalg.norm(before))
        kind = kind.rstrip("12") if kind.startswith("loss") else kind
        difference = max(float(np.linalg.norm(ours - theirs)) - rounding, 0.0)
        size = float(np.linalg.norm(theirs))
        error = difference / size if size else (np.inf if difference else 0.0)
        # A comparison that is not a number is a difference.
        error = np.inf if np.isnan(error) else error
        if kind not in worst or error > worst[kind][0]:
            worst[kind] = (error, tensor or name)
    return worst


def tolerances(*, exact: bool, noise: Mapping[str, float] | None = None) -> dict[str, float]:
    """Allowed errors by kind.

    Args:
        exact: for float64; else for what is timed.
        noise: errors that rounding alone makes, by kind, see `noise_of`.
    """
    if exact:
        return dict.fromkeys(KINDS, EXACT)
    least = {"loss": LOSS, "running": FORWARD}
    return {
        kind: max(least.get(kind, BACKWARD), NOISE_FACTOR * (noise or {}).get(kind, 0.0))
        for kind in KINDS
    }


def errors_over_trials(
    found: Sequence[Arrays], reference: Sequence[Arrays], *, exact: bool
) -> dict[str, tuple[float, str]]:
    """The error of each kind that counts over all trials, and the tensor that has it.

    The largest; where not `exact`, for gradients, velocities and updates the median.

    Raises:
        ValueError: if the two do not hold the same trials and tensors.
    """
    trials = [worst_errors(ours, theirs) for ours, theirs in zip(found, reference, strict=True)]
    pick = {kind: max if exact else statistics.median_high for kind in BACKWARD_KINDS}
    return {kind: pick.get(kind, max)(errors[kind] for errors in trials) for kind in trials[0]}


def noise_of(found: Sequence[Arrays], reference: Sequence[Arrays]) -> dict[str, float]:
    """The error of each kind over all trials; gradients, velocities and updates share theirs."""
    counted = errors_over_trials(found, reference, exact=False)
    errors = {kind: error for kind, (error, _) in counted.items()}
    backward = max(errors[kind] for kind in BACKWARD_KINDS)
    return {**errors, **dict.fromkeys(BACKWARD_KINDS, backward)}


def differences(
    found: Sequence[Arrays],
    reference: Sequence[Arrays],
    *,
    exact: bool,
    noise: Mapping[str, float] | None = None,
) -> list[str]:
    """What is not equal within the tolerances, one line per kind; empty if all is equal."""
    allowed = tolerances(exact=exact, noise=noise)
    return [
        f"{kind} of {tensor} differs by {error:.1e} (allowed {allowed[kind]:.0e})"
        for kind, (error, tensor) in errors_over_trials(found, reference, exact=exact).items()
        if error > allowed[kind]
    ]


def exceptions(
    found: Sequence[Arrays], reference: Sequence[Arrays], noise: Mapping[str, float]
) -> list[str]:
    """Trials that lie beyond the tolerances of what is timed, one line each."""
    lines = (
        differences([ours], [theirs], exact=False, noise=noise)
        for ours, theirs in zip(found, reference, strict=True)
    )
    return ["; ".join(wrong) for wrong in lines if wrong]
