"""Which iterations are computed together: pure arithmetic, nothing is computed here.

A chunk is what the host hands to the device at once, and what comes back at once. It ends
where something is due that needs the state or completes a row, and where the program changes.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import cast

from resnet_study.datasets import DatasetShape
from resnet_study.probes import recorded_steps
from resnet_study.spec import RunSpec

CAPACITY = 512
"""Most iterations of a chunk; a chunk program has room for the metrics of so many."""

SEPARATE_FROM = 2**25
"""Pixels of training images whose probes cost about twice a compilation; see `separate`."""


@dataclass(frozen=True)
class Chunk:
    """Iterations from `start` up to, not including, `stop`.

    Attributes:
        probes: whether they are computed by the program with per-layer statistics.
    """

    start: int
    stop: int
    probes: bool

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Plan:
    """What decides where chunks end. Follows from the spec and the data alone.

    Attributes:
        iterations: length of the run.
        log_every, evaluate_every: iterations between rows.
        recorded: iterations whose layers are recorded; may hold `iterations` itself, for
            one more pass at the end.
        separate: whether the others are computed by a program of their own, without probes.
    """

    iterations: int
    log_every: int
    evaluate_every: int
    recorded: Set[int]
    separate: bool

    def probes(self, step: int) -> bool:
        """Whether the program with probes computes this iteration."""
        return step in self.recorded if self.separate else bool(self.recorded)

    def logs(self, taken: int) -> bool:
        """Whether a row of training metrics is due after so many iterations."""
        return taken % self.log_every == 0 or taken == self.iterations

    def evaluates(self, taken: int) -> bool:
        """Whether an evaluation is due after so many iterations."""
        return taken % self.evaluate_every == 0 or taken == self.iterations


def plan_of(spec: RunSpec, shape: DatasetShape) -> Plan:
    """The plan of a run."""
    iterations = cast(int, spec.schedule.iterations)
    recorded = frozenset(recorded_steps(iterations, cast(int, spec.probes.layers_every)))
    return Plan(
        iterations=iterations,
        log_every=cast(int, spec.probes.log_every),
        evaluate_every=cast(int, spec.probes.evaluate_every),
        recorded=recorded,
        separate=separate(spec, shape, iterations - len(recorded)),
    )


def separate(spec: RunSpec, shape: DatasetShape, unrecorded: int) -> bool:
    """Whether iterations that record nothing get a program without probes.

    On a CPU a second program takes about as long to compile per layer as the probes of 15
    million pixels of training images do, 5-13 % of an iteration: 2,000 iterations of 8x8
    images, 130 of 32x32. Both grow with the depth, which therefore does not count. A run must
    have twice as much to save. The rule depends on the spec alone, not on the device or its
    speed, so that a resumed run computes each iteration by the program that did it before.

    Args:
        spec: the run.
        shape: of its images.
        unrecorded: iterations that record no layers.
    """
    pixels = spec.data.batch_size * shape.height * shape.width
    return unrecorded * pixels * spec.model.width / 16 >= SEPARATE_FROM


def next_chunk(plan: Plan, start: int, longest: int) -> Chunk:
    """The chunk that begins at an iteration.

    Args:
        plan: of the run.
        start: from 0 to below ``plan.iterations``.
        longest: most iterations, at least 1.
    """
    probes = plan.probes(start)
    stop = start + 1
    while (
        stop < min(start + longest, plan.iterations)
        and not plan.logs(stop)
        and not plan.evaluates(stop)
        and plan.probes(stop) == probes
    ):
        stop += 1
    return Chunk(start, stop, probes)
