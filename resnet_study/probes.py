"""What is recorded of every layer: each probe is one entry here, or in a study of one's own.

Definitions. L is the mean cross-entropy over the mini-batch; layer l has the output z_l
(convolution or classifier, before normalisation) and the response y_l (after normalisation, before
the nonlinearity and the addition; He et al. 2015, section 4.2, "Analysis of layer responses";
y_l = z_l where there is no normalisation). Norms are Euclidean, over all entries of the tensor and
the whole mini-batch. What is undefined (a direction of zero length, γ without a normalisation) is
NaN.

Three gradients answer three questions, for a layer followed by batch normalisation:

- the raw ‖∂L/∂z_l‖ is what theory at initialisation speaks of. ∂L/∂z = (γ/σ_l) P ∂L/∂y with P a
  projection and σ_l in proportion to ‖w_l‖, so it changes with the scale of the weights;
- ‖w_l‖·‖∂L/∂w_l‖, the sensitivity of the loss to a relative change, says whether the signal
  arrives; no scale of pixels, weights or γ changes it;
- `angular_step` says whether the layer learns. ‖Δw‖/‖w‖ does not: where gradients are small,
  weight decay alone gives ηλ/(1−μ), which shrinks the weights and turns nothing.

The columns of ``layers.parquet``, what a step computes and the table in docs/records.md follow from
`BUILT_IN`. Imports no jax, for what reads records has none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul, truediv
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_study.errors import UserError, told
from resnet_study.names import nearest_hint

if TYPE_CHECKING:
    from jax import Array


@dataclass(frozen=True)
class Observed:
    """What a training step knows of the network before its update, layer by layer.

    Sequences have one entry for each of the depth weighted layers, in forward order.
    """

    weights: Sequence[Array]
    gradients: Sequence[Array]
    """∂L/∂w_l of the loss alone, weight decay not mixed in."""
    velocity: Sequence[Array]
    """Of the optimiser, before this step."""
    scales: Sequence[Array | None]
    """γ_l, (channels,)."""
    shifts: Sequence[Array | None]
    """β_l, (channels,)."""
    output_gradient_norms: Array
    """‖∂L/∂z_l‖, (depth,)."""
    response_gradient_norms: Array
    """‖∂L/∂y_l‖, (depth,)."""
    response_means: Array
    response_stds: Array
    inactive: Array
    weight_gradient_norms: Array
    """‖∂L/∂w_l‖, (depth,)."""
    weight_norms: Array
    update_norms: Array
    angular_steps: Array
    """`resnet_study.tensors.angular_step` of the update, in radians."""
    velocity_cosines: Array
    """`resnet_study.tensors.tangent_cosine` of gradient and velocity."""
    norms: Callable[[Sequence[Array]], Array]
    """Euclidean norm of each tensor."""
    rms: Callable[[Sequence[Array | None]], Array]
    """Root mean square of each; NaN where there is none."""
    by_layer: Callable[..., Any]
    """`resnet_study.tensors.by_layer`: a function of one layer's tensors for all layers."""
    make_updates: Callable[[], Sequence[Array]]
    """What `updates` are made by."""

    @functools.cached_property
    def updates(self) -> Sequence[Array]:
        """Δw_l of this step, learning rate included; traced, which takes a while, if asked for."""
        return self.make_updates()


class Passes(NamedTuple):
    """Passes through the network before its update, beside the step's own.

    They normalise with the statistics of the images that they are given, have the expectation of
    dropout in place of its masks, and change nothing.
    """

    images: Array
    """Of the step, (N, H, W, C): augmented, mean subtracted."""
    labels: Array
    """(N,)."""
    key: Array
    """A random key of this step."""
    gradients: Callable[[Array, Array], Sequence[Array]]
    """From images and labels to ∂L/∂w_l, one tensor per layer in forward order."""
    responses: Callable[[Array, Callable[[Array], Array]], Array]
    """From images and a function of one layer's response to its values, (depth,)."""
    by_layer: Callable[..., Any]
    """As `Observed.by_layer`."""


@dataclass(frozen=True)
class Probe:
    """A number per layer and recorded step.

    Attributes:
        name: the column of ``layers.parquet``.
        definition: formula or sentence.
        unit: of the number; empty for none.
        function: computes it, (depth,), inside the jitted step.
        of_response: instead, a function of one layer's response, (N, H, W, C) or (N, classes), to
            a scalar. The native kernels never write a response, so a step with such a probe is
            computed by XLA.
        of_passes: instead, a function of further passes through the network to (depth,). Each pass
            takes about as long as the step's own, and compiling it too.
        label: what an axis says; the name where there is none.
        linear: whether differences of it are what one looks at, not ratios: its axis is linear.

    Raises:
        UserError: unless there is exactly one function and a name that can be a column.
    """

    name: str
    definition: str
    unit: str = ""
    function: Callable[[Observed], Array] | None = None
    of_response: Callable[[Array], Array] | None = None
    of_passes: Callable[[Passes], Array] | None = None
    label: str = ""
    linear: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise UserError(f"probe {self.name!r}: a name is made of letters, digits and _")
        given = [f for f in (self.function, self.of_response, self.of_passes) if f is not None]
        for one in given:
            if not callable(one):
                raise UserError(f"probe {self.name}: {one!r} is no function")
        if len(given) != 1:
            raise UserError(
                f"probe {self.name}: give one of function, of_response and of_passes, "
                f"not {len(given)}"
            )


BUILT_IN: tuple[Probe, ...] = (
    Probe(
        "activation_gradient_norm",
        "‖∂L/∂z_l‖ (Yang et al. 2019, arXiv 1902.08129)",
        function=lambda o: o.output_gradient_norms,
        label="raw gradient ‖∂L/∂z‖",
    ),
    Probe(
        "response_gradient_norm",
        "‖∂L/∂y_l‖",
        function=lambda o: o.response_gradient_norms,
        label="gradient of the response ‖∂L/∂y‖",
    ),
    Probe(
        "weight_gradient_norm",
        "‖∂L/∂w_l‖ of the loss alone, weight decay not mixed in",
        function=lambda o: o.weight_gradient_norms,
        label="gradient of the weights ‖∂L/∂w‖",
    ),
    Probe(
        "weight_norm",
        "‖w_l‖ before the update",
        function=lambda o: o.weight_norms,
        label="weights ‖w‖",
    ),
    Probe(
        "update_norm",
        "‖Δw_l‖ of this step, learning rate included",
        function=lambda o: o.update_norms,
        label="update ‖Δw‖",
    ),
    Probe(
        "angular_step",
        "angle between w_l before and after this step",
        "rad",
        function=lambda o: o.angular_steps,
        label="turn of the weights",
    ),
    Probe(
        "gradient_velocity_cosine",
        "cosine of the angle between ∂L/∂w_l and the velocity before this step, both projected "
        "orthogonally to w_l, which leaves weight decay out; undefined at step 0",
        function=lambda o: o.velocity_cosines,
        label="cosine of gradient and velocity",
        linear=True,
    ),
    Probe(
        "scale_rms",
        "root mean square of γ_l of the layer's normalisation",
        function=lambda o: o.rms(o.scales),
        label="scale γ, root mean square",
    ),
    Probe(
        "shift_rms",
        "root mean square of β_l",
        function=lambda o: o.rms(o.shifts),
        label="shift β, root mean square",
    ),
    Probe(
        "response_mean",
        "mean over all entries of y_l",
        function=lambda o: o.response_means,
        label="mean of the response",
        linear=True,
    ),
    Probe(
        "response_std",
        "standard deviation, likewise",
        function=lambda o: o.response_stds,
        label="standard deviation of the response",
    ),
    Probe(
        "inactive_fraction",
        "zeros after the nonlinearity that follows the layer (for the last layer of a residual "
        "block: after the addition); undefined for the classifier",
        function=lambda o: o.inactive,
        label="inactive fraction",
        linear=True,
    ),
)

FIRST = 2
"""The layer behind the stem. The stem's own gradient changes with the unit of the pixels."""

DERIVED: Mapping[str, tuple[str, str, Callable[[Any, Any], Any]]] = {
    "relative_update": ("update_norm", "weight_norm", truediv),
    "signal": ("weight_norm", "weight_gradient_norm", mul),
}
"""Layer quantities that follow from two probes: ‖Δw‖/‖w‖, and the sensitivity ‖w‖·‖∂L/∂w‖ of the
loss to a relative change of the weights."""

GRADIENTS = {"raw": "activation_gradient_norm", "signal": "signal", "turn": "angular_step"}
"""Which layer quantity each of the three gradients is: a probe, or one of `DERIVED`."""

_extra: dict[str, Probe] = {}


def known() -> Mapping[str, Probe]:
    """The built-in probes and those of studies that this process has loaded, by name."""
    return {probe.name: probe for probe in BUILT_IN} | _extra


def register(probes: Iterable[Probe]) -> None:
    """Make probes of one's own known to this process; the same name again replaces.

    Raises:
        UserError: for the name of a built-in probe.
    """
    built_in = {probe.name for probe in BUILT_IN}
    for probe in probes:
        if probe.name in built_in:
            raise UserError(f"probe {probe.name}: is built in; give it another name")
        _extra[probe.name] = probe


def chosen(extra: str) -> tuple[Probe, ...]:
    """The built-in probes and those that a spec names.

    Args:
        extra: names, comma-separated, of `ProbeSpec.extra`.

    Raises:
        UserError: for a name that this process does not know.
    """
    names = [name for name in extra.split(",") if name]
    for name in names:
        if name not in _extra:
            known = f"; {nearest_hint(name, _extra)}" if _extra else ""
            raise UserError(
                f"probes.extra={extra}: no probe {name} is known{known}; it is defined by a study: "
                "run that with `resnet-study reproduce FILE`"
            )
    return (*BUILT_IN, *(_extra[name] for name in names))


def table(probes: Iterable[Probe] = BUILT_IN) -> str:
    """The probes as a Markdown table, for the documentation."""
    rows = ("| column | unit | definition |", "|---|---|---|")
    return "\n".join((*rows, *(f"| `{p.name}` | {p.unit} | {p.definition} |" for p in probes)))


def check_shapes(values: Mapping[str, Array], depth: int) -> None:
    """Refuse a probe that does not give a real number per layer.

    Raises:
        UserError: naming it.
    """
    for name, value in values.items():
        if getattr(value, "shape", None) != (depth,):
            shape = getattr(value, "shape", type(value).__name__)
            raise UserError(f"probe {name}: gives {shape}, not one number per layer ({depth},)")
        if value.dtype.kind == "c":
            raise UserError(f"probe {name}: gives complex numbers; record their size or real part")


def guarded(
    name: str, function: Callable[[Any], Any], scalar: bool = False
) -> Callable[[Any], Any]:
    """A function of a probe that names the probe where it fails, or gives no `scalar`."""

    def call(known: Any) -> Any:
        try:
            value = function(known)
        except Exception as error:  # one of one's own can raise anything
            raise UserError(f"probe {name}: fails ({told(error)})") from error
        number = isinstance(value, int | float)
        if scalar and not number and (shape := getattr(value, "shape", type(value).__name__)) != ():
            raise UserError(f"probe {name}: gives {shape}, not one number")
        return value

    return call


def fibonacci(limit: int) -> list[int]:
    """1, 2, 3, 5, 8, 13, ... up to and including limit."""
    numbers, following = [], (1, 2)
    while following[0] <= limit:
        numbers.append(following[0])
        following = (following[1], following[0] + following[1])
    return numbers


def geometric_steps(limit: int) -> list[int]:
    """0, 1, 2, 3, 5, 8, 13, ... (Fibonacci) and 10, 30, 100, ..., up to and including limit."""
    round_ones = (lead * 10**power for power in range(1, len(str(limit))) for lead in (1, 3))
    return sorted({0, *fibonacci(limit), *(step for step in round_ones if step <= limit)})


def recorded_steps(iterations: int, every: int) -> list[int]:
    """Steps at which layers are recorded: geometric, every `every`, and the last; sorted.

    Args:
        iterations: length of the run.
        every: regular cadence; 0 records nothing at all.
    """
    if every == 0:
        return []
    regular = range(0, iterations + 1, every)
    return sorted({*geometric_steps(iterations), *regular, iterations})
