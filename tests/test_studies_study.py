"""What a study declares: what is none is refused when it is made, or before training."""

from typing import Any

import numpy as np
import pytest

from resnet_study.errors import UserError
from resnet_study.judging.claim import Claim
from resnet_study.judging.measurement import Missing
from resnet_study.probes import Probe
from resnet_study.studies.find import load_study, specs_of, studies
from resnet_study.studies.study import Study


def claim(measured: Missing, name: str = "planted") -> Claim:
    return Claim(name, "It is so.", "nobody", None, lambda _: measured, "runs of any depth")


def test_a_study_refuses_primary_claims_that_it_does_not_make() -> None:
    with pytest.raises(UserError, match="primary=a: not among its claims"):
        Study("s", "S", "?", primary=(claim(Missing(), "a"),), seeds=(0,))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "../up"}, "its name is that of a folder"),
        ({"name": ""}, "its name is that of a folder"),
        ({"name": None}, "its name is that of a folder"),
        ({"claims": claim(Missing())}, "s: claims: give a tuple"),
        ({"claims": ("planted",)}, "s: claims: planted is no Claim"),
        ({"figures": (len,)}, "s: figures: len is none; make it one by @figure"),
        ({"figures": None}, "s: figures: give a tuple"),
        ({"probes": (len,)}, "s: probes: .* is no Probe"),
        ({"sweeps": {"method": "grid"}}, "s: sweeps: give a tuple"),
        ({"sweeps": (5,)}, "s: sweeps: 5 is no"),
        ({"seeds": ("0",)}, "s: seeds: 0 is no int"),
        ({"seeds": (0, 0)}, "s: seeds: name each seed"),
        ({"claims": (claim(Missing()),), "primary": (claim(Missing()),)}, "s: seeds: name"),
        ({"title": None}, "s: title"),
        *(
            ({"probes": (Probe(name, "", function=lambda o: o.weight_norms),)}, f"probe {name}")
            for name in (
                *("layer", "step", "run_id", "seed", "block", "signal", "error", "activation"),
                *("index", "images", "width", "quantity", "weight_norm", "images_per_second"),
                *("parameters", "test_error_last", "selected_step", "gradient_ratio"),
            )
        ),
    ],
)
def test_what_is_no_study_is_refused_when_it_is_made(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        Study(**{"name": "s", "title": "S", "question": "?", **wrong})
    assert "\n" not in str(error.value)


def test_what_a_study_needs_is_checked_before_training() -> None:
    study = Study("s", "S", "?", seeds=(0, 7))
    with pytest.raises(UserError, match="s: seeds: no sweep trains 7"):
        study.check({0, 1})
    with pytest.raises(UserError, match="s: has no runs; give sweeps"):
        study.check(set())


@pytest.mark.parametrize("name", studies())
def test_committed_studies_train_the_seeds_that_they_declare(name: str) -> None:
    study = load_study(name)
    study.check({spec.seed for spec in specs_of(study)})


def test_a_study_refuses_two_of_one_name_and_an_order_that_is_none() -> None:
    twice = (claim(Missing(), "x"), claim(Missing(), "x"))
    with pytest.raises(UserError, match="s: claims: x twice"):
        Study("s", "S", "?", claims=twice)
    with pytest.raises(UserError, match=r's: order="seeds": valid are longest, sweeps, seed'):
        Study("s", "S", "?", order="seeds")  # type: ignore[arg-type]


def test_seeds_may_be_a_range_or_of_numpy() -> None:
    for seeds in (range(3), [*np.arange(3)], tuple(np.arange(3, dtype=np.uint8))):
        study = Study("s", "S", "?", seeds=seeds)  # type: ignore[arg-type]
        assert study.seeds == (0, 1, 2)
        assert {type(seed) for seed in study.seeds} == {int}
