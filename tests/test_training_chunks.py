"""Where chunks are cut: at everything that is due, and nowhere that changes a number."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from resnet_study.datasets import DATASETS
from resnet_study.probes import recorded_steps
from resnet_study.spec import from_flat
from resnet_study.training.chunks import Chunk, Plan, next_chunk, plan_of, separate


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    iterations = draw(st.integers(1, 300))
    every = st.integers(1, 400)
    layers = draw(st.integers(0, 100))
    return Plan(
        iterations,
        draw(every),
        draw(every),
        frozenset(recorded_steps(iterations, layers)),
        draw(st.booleans()),
    )


def cut(plan: Plan, start: int, longest: int) -> list[Chunk]:
    chunks: list[Chunk] = []
    while start < plan.iterations:
        chunks.append(next_chunk(plan, start, longest))
        start = chunks[-1].stop
    return chunks


@given(plans(), st.data())
def test_chunks_cover_every_iteration_once_and_end_where_something_is_due(
    plan: Plan, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, plan.iterations - 1))
    longest = data.draw(st.integers(1, 200))
    chunks = cut(plan, start, longest)
    covered = [step for chunk in chunks for step in range(chunk.start, chunk.stop)]
    assert covered == list(range(start, plan.iterations))
    for chunk in chunks:
        assert 1 <= len(chunk) <= longest
        inside = range(chunk.start + 1, chunk.stop)
        assert not any(step % plan.log_every == 0 for step in inside)
        assert not any(step % plan.evaluate_every == 0 for step in inside)


@given(plans(), st.data())
def test_the_program_of_an_iteration_does_not_depend_on_the_cuts(
    plan: Plan, data: st.DataObject
) -> None:
    """Wherever a run is resumed and however long chunks are."""
    programs: dict[int, set[bool]] = {}
    for _ in range(3):
        start = data.draw(st.integers(0, plan.iterations - 1))
        for chunk in cut(plan, start, data.draw(st.integers(1, 200))):
            for step in range(chunk.start, chunk.stop):
                programs.setdefault(step, set()).add(chunk.probes)
    for step, chosen in programs.items():
        assert len(chosen) == 1
        if step in plan.recorded:
            assert chosen == {True}
        elif plan.separate or not plan.recorded:
            assert chosen == {False}


@given(plans(), st.integers(1, 200))
def test_no_chunk_could_be_longer(plan: Plan, longest: int) -> None:
    """Few dispatches: a chunk ends at its largest length, the end, a row, or another program."""
    for chunk in cut(plan, 0, longest):
        assert (
            len(chunk) == longest
            or plan.logs(chunk.stop)
            or plan.evaluates(chunk.stop)
            or plan.probes(chunk.stop) != chunk.probes
        )


def test_a_second_program_is_for_runs_that_pay_for_it() -> None:
    digits, cifar = DATASETS["digits"], DATASETS["cifar10"]
    short = from_flat({"schedule.iterations": "30ep"})
    assert not plan_of(short, digits).separate
    paper = from_flat({"data.name": "cifar10"})
    assert plan_of(paper, cifar).separate
    # By the default cadence, about one iteration in fifty then has probes.
    plan = plan_of(paper, cifar)
    assert sum(map(plan.probes, range(64_000))) / 64_000 < 0.002
    # Depth, seed and rate decide nothing; work without probes does.
    deep = replace(short, model=replace(short.model, depth=110), seed=7)
    for unrecorded in (100, 4_095, 4_096, 10_000):
        assert separate(short, digits, unrecorded) == separate(deep, digits, unrecorded)
        assert separate(short, digits, unrecorded) == (unrecorded >= 4_096)


def test_a_run_that_records_no_layers_has_no_probes() -> None:
    plan = plan_of(from_flat({"probes.layers_every": 0}), DATASETS["digits"])
    assert not any(map(plan.probes, range(plan.iterations)))
