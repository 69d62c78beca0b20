"""The description of one run: everything that can change its numbers, and nothing else.

A `RunSpec` is frozen, validated when it is made, readable and writable as JSON, and
hashed into a run id that is the same on every machine. Paths, workers, tracking and
kernels cannot change the numbers and are no part of it.

Durations are given in iterations (``400``), epochs (``"30ep"``) or percent of the
run (``"50%"``); `RunSpec` converts all of them to iterations with `to_iterations`, so
a finished spec holds integers only. The percent form lets a shortened schedule keep
the shape of the paper's (He et al. 2015, section 4.2: the learning rate is divided by
10 at 32k and 48k of 64k iterations, that is at 50 % and 75 %).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from resnet_study.architecture import ModelSpec, check_model
from resnet_study.datasets import DATASETS, ENTRIES, IN_FILES, DatasetName
from resnet_study.durations import Duration, to_iterations
from resnet_study.errors import UserError, is_number, require
from resnet_study.files import json_object
from resnet_study.names import nearest_hint

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class DataSpec:
    """What is trained on, and how it is split and augmented."""

    name: DatasetName = "digits"
    """digits: 1,797 real 8x8 images bundled with scikit-learn; cifar10, cifar100 (its 100 fine
    classes): see `resnet-study data --help`; synthetic: deterministic images for tests."""
    validation: float = 0.1
    """Fraction of the training images held out (0.1 is the paper's 45k/5k; 0 keeps all)."""
    batch_size: int = 128
    """Images per iteration."""
    augmentation: Literal["auto", "none", "crop", "crop-flip"] = "auto"
    """Random crop of the zero-padded image, with or without horizontal flip; auto:
    crop-flip for cifar10 and cifar100, none elsewhere."""
    crop_padding: int = 4
    """Pixels of zero padding on each side before the random crop."""
    subset: bool = False
    """Accept fewer images than cifar10 or cifar100 have; durations then need iterations or
    percent, for the length of an epoch is not known before the images are."""


@dataclass(frozen=True)
class OptimizerSpec:
    """Stochastic gradient descent with momentum and weight decay."""

    learning_rate: float = 0.1
    """Rate before the first drop."""
    momentum: float = 0.9
    """Decay of the velocity; 0 is plain gradient descent."""
    weight_decay: float = 1e-4
    """Added to the gradient as decay x weight after the loss gradient is recorded."""
    weight_decay_on: Literal["all", "weights"] = "all"
    """Every parameter, or the weights of convolutions and classifier alone: no biases and no
    scales and shifts of a normalisation."""
    nesterov: bool = False
    """Nesterov's momentum."""


@dataclass(frozen=True)
class ScheduleSpec:
    """Length of the run, the two drops of the learning rate, and a warm-up.

    The paper warms up at depth 110: a rate of 0.01 until the training error is below 80 %
    (warmup_error=80). A warm-up ends after a fixed time or at an error, never both.
    """

    iterations: Duration = 64_000
    """Optimiser steps, or epochs such as 30ep."""
    first_drop: Duration = "50%"
    """When the learning rate is first multiplied by drop_factor."""
    second_drop: Duration = "75%"
    """When it is multiplied by drop_factor again."""
    drop_factor: float = 0.1
    """Factor of each drop."""
    warmup_learning_rate: float = 0.01
    """Rate during the warm-up."""
    warmup_iterations: Duration = 0
    """Length of a warm-up of fixed time; 0: none."""
    warmup_error: float = 0.0
    """Training error in percent, a mean over the last 50 mini-batches, that ends a warm-up once
    and for all; 0: none."""


@dataclass(frozen=True)
class ProbeSpec:
    """When scalars and per-layer statistics are recorded.

    Layers are recorded at iterations 0, 1, 2, 3, 5, 8, 13, ... and at a regular cadence.
    """

    log_every: Duration = "1%"
    """Between rows of training loss and error."""
    evaluate_every: Duration = "2%"
    """Between evaluations on the training, validation and test images."""
    layers_every: Duration = "2%"
    """Between rows of per-layer statistics, beside the geometric ones; 0 records no layers."""
    extra: str = ""
    """Names of a study's own probes, comma-separated; a study fills it in."""


@dataclass(frozen=True)
class RunSpec:
    """One training run."""

    model: ModelSpec = field(default_factory=ModelSpec)
    data: DataSpec = field(default_factory=DataSpec)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    probes: ProbeSpec = field(default_factory=ProbeSpec)
    seed: int = 0
    """Seed of initialisation, data order and augmentation; a different split of the
    validation images needs a different seed too."""

    def __post_init__(self) -> None:
        _check_types(self)
        check_model(self.model)
        data = _resolve_data(self.data)
        group = self.model.batch_norm_images
        require(
            group == 0 or data.batch_size % group == 0,
            "model.batch_norm_images",
            group,
            f"a divisor of data.batch_size={data.batch_size}, such as {data.batch_size // 2}",
        )
        _check_optimizer(self.optimizer)
        # jax keeps 32 bits of a seed; a larger one would silently repeat another run.
        require(0 <= self.seed < 2**32, "seed", self.seed, f"valid are 0 to {2**32 - 1}")
        schedule = _resolve_schedule(self.schedule, epoch_of(data))
        total = typing.cast(int, schedule.iterations)
        cadences: dict[str, typing.Any] = {
            name: to_iterations(getattr(self.probes, name), epoch_of(data), total, f"probes.{name}")
            for name in ("log_every", "evaluate_every", "layers_every")
        }
        probes = replace(self.probes, **cadences)
        for name in ("log_every", "evaluate_every"):
            every = getattr(probes, name)
            require(every >= 1, f"probes.{name}", every, "at least one iteration")
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "schedule", schedule)
        object.__setattr__(self, "probes", probes)

    @property
    def family(self) -> str:
        """`residual` or `plain`."""
        return self.model.family

    @functools.cached_property
    def run_id(self) -> str:
        """Readable prefix and a hash of the canonical JSON; equal on every machine."""
        digest = hashlib.sha256(canonical_json(self).encode()).hexdigest()[:10]
        return f"{self.model.name}_{self.data.name}_seed{self.seed}_{digest}"

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionary of every field."""
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """Every field under its dotted name, such as ``model.depth``."""
        parts = ((section, name, getattr(self, section)) for section, name in _leaves())
        flat = {f"{section}.{name}": getattr(part, name) for section, name, part in parts}
        return {**flat, "seed": self.seed}


_SECTIONS: dict[str, Any] = {
    "model": ModelSpec,
    "data": DataSpec,
    "optimizer": OptimizerSpec,
    "schedule": ScheduleSpec,
    "probes": ProbeSpec,
}


def split_sizes(data: DataSpec, train_examples: int | None = None) -> tuple[int, int]:
    """Numbers of training and validation images.

    Args:
        data: the data specification.
        train_examples: images before the split; by default those of the full data set.
    """
    examples = DATASETS[data.name].train_examples if train_examples is None else train_examples
    held_out = round(examples * data.validation)
    return examples - held_out, held_out


def epoch_of(data: DataSpec) -> float | None:
    """Iterations of an epoch; None for a subset, whose size the spec does not say."""
    return None if data.subset else split_sizes(data)[0] / data.batch_size


def canonical_json(spec: RunSpec) -> str:
    """JSON of the fields that differ from their defaults, sorted; the text that is hashed.

    Leaving defaults out keeps the run ids when a later version adds a switch whose
    default is what earlier versions did. The four durations that default to a percentage
    are resolved first and therefore always present.
    """
    defaults = _raw_defaults()
    changed = {name: value for name, value in spec.flat().items() if value != defaults[name]}
    return json.dumps({"schema": SCHEMA_VERSION, **changed}, sort_keys=True, separators=(",", ":"))


def to_json(spec: RunSpec) -> str:
    """The content of `spec.json`: every field, and the schema version."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **spec.to_dict()}, indent=2) + "\n"


def from_json(text: str, where: str = "spec") -> RunSpec:
    """Read what `to_json` wrote.

    Raises:
        UserError: if the text is no JSON, has another schema, or describes no valid run.
    """
    content = json_object(text, where)
    version = content.pop("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{where}: schema_version {version} cannot be read; this version reads {SCHEMA_VERSION}"
        )
    return from_flat(dict(flatten(content)), where)


def from_flat(values: Mapping[str, Any], where: str = "spec") -> RunSpec:
    """Build a spec from dotted names; what is not named keeps its default.

    Raises:
        UserError: for an unknown name (with the nearest known one) or an invalid value.
    """
    known = _raw_defaults()
    parts: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise UserError(f"{where}: unknown parameter {name}; {nearest_hint(name, known)}")
        section, _, key = name.partition(".")
        if key:
            parts.setdefault(section, {})[key] = value
        else:
            top[section] = value
    try:
        built = {name: cls(**parts.get(name, {})) for name, cls in _SECTIONS.items()}
        return RunSpec(**built, **top)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def parameter_types() -> dict[str, Any]:
    """Declared type of every field under its dotted name, such as ``model.depth``."""
    return {f"{s}.{name}": _types(s)[name] for s, name in _leaves()} | {"seed": int}


# A sweep makes thousands of specs; what is the same for all of them is found once.
@functools.cache
def _types(section: str) -> dict[str, Any]:
    return typing.get_type_hints(_SECTIONS[section])


@functools.cache
def _leaves() -> tuple[tuple[str, str], ...]:
    """Section and name of every field but the seed."""
    return tuple((section, part.name) for section, cls in _SECTIONS.items() for part in fields(cls))


@functools.cache
def _raw_defaults() -> Mapping[str, Any]:
    """Defaults as written in the classes, before durations are resolved, by dotted name."""
    default = {section: cls() for section, cls in _SECTIONS.items()}
    return {"seed": 0} | {f"{s}.{name}": getattr(default[s], name) for s, name in _leaves()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> typing.Iterator[tuple[str, Any]]:
    """Leaves of nested mappings by dotted name."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_types(spec: RunSpec) -> None:
    """Every leaf has its declared type; integers are accepted where a float is declared."""
    require(type(spec.seed) is int, "seed", spec.seed, "a value of type int")
    for section in _SECTIONS:
        part = getattr(spec, section)
        for name, hint in _types(section).items():
            value = getattr(part, name)
            check_type(f"{section}.{name}", value, hint)
            if hint is float:
                object.__setattr__(part, name, float(value))


def check_type(where: str, value: Any, hint: Any) -> None:
    """Refuse a value that a field of this type (`parameter_types`) cannot have."""
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        require(value in choices, where, value, f"valid are {', '.join(choices)}")
    elif hint is float:
        require(is_number(value), where, value, "a finite number is needed")
    elif isinstance(hint, types.UnionType):
        ok = type(value) in typing.get_args(hint)
        require(ok, where, value, "a duration is iterations (400), epochs (30ep) or 50%")
    else:
        require(type(value) is hint, where, value, f"a value of type {hint.__name__}")
        if hint is int:
            # More neither fits a machine nor what counts there.
            require(abs(value) < 2**31, where, value, "a number below 2,147,483,648")


def _resolve_data(data: DataSpec) -> DataSpec:
    require(
        0 <= data.validation <= 0.5,
        "data.validation",
        data.validation,
        "the held-out fraction lies between 0 and 0.5",
    )
    require(
        not data.subset or data.name in IN_FILES,
        "data.subset",
        data.subset,
        f"{data.name} is always whole; only {' and '.join(IN_FILES)} can have fewer images",
    )
    require(data.crop_padding >= 0, "data.crop_padding", data.crop_padding, "at least 0 pixels")
    check_batch(data, split_sizes(data)[0])
    if data.augmentation == "auto":
        data = replace(data, augmentation=ENTRIES[data.name].augmentation)
    return data


def check_batch(data: DataSpec, train_examples: int) -> None:
    """Refuse a batch that is empty or larger than the training images.

    Raises:
        UserError: saying which batch sizes are valid.
    """
    require(
        1 <= data.batch_size <= train_examples,
        "data.batch_size",
        data.batch_size,
        f"{data.name} has {train_examples} training images after the split; "
        f"valid are 1 to {train_examples}",
    )


def _check_optimizer(optimizer: OptimizerSpec) -> None:
    rate, momentum, decay = optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay
    require(rate > 0, "optimizer.learning_rate", rate, "a rate is greater than 0")
    require(0 <= momentum < 1, "optimizer.momentum", momentum, "valid are 0 to below 1")
    require(decay >= 0, "optimizer.weight_decay", decay, "a decay is at least 0")


def _resolve_schedule(schedule: ScheduleSpec, epoch: float | None) -> ScheduleSpec:
    total = to_iterations(schedule.iterations, epoch, None, "schedule.iterations")
    require(total >= 1, "schedule.iterations", schedule.iterations, "at least one iteration")
    first = to_iterations(schedule.first_drop, epoch, total, "schedule.first_drop")
    second = to_iterations(schedule.second_drop, epoch, total, "schedule.second_drop")
    require(
        first <= second,
        "schedule.first_drop",
        schedule.first_drop,
        f"the first drop (iteration {first}) comes after the second ({second})",
    )
    factor = schedule.drop_factor
    require(0 < factor <= 1, "schedule.drop_factor", factor, "valid are above 0 to 1")
    rate, error = schedule.warmup_learning_rate, schedule.warmup_error
    require(rate > 0, "schedule.warmup_learning_rate", rate, "a rate is greater than 0")
    warmup = to_iterations(schedule.warmup_iterations, epoch, total, "schedule.warmup_iterations")
    require(0 <= error < 100, "schedule.warmup_error", error, "valid are 0 (none) to below 100")
    require(
        error == 0 or warmup == 0,
        "schedule.warmup_error",
        error,
        "a warm-up ends at an error or after warmup_iterations, not both",
    )
    return replace(
        schedule,
        iterations=total,
        first_drop=first,
        second_drop=second,
        warmup_iterations=warmup,
    )
