"""Networks at initialisation are measured once, and those of a study of one's own too."""

import json
from pathlib import Path

import pandas as pd
import pytest

from resnet_study.architecture import ModelSpec
from resnet_study.errors import UserError
from resnet_study.phenomena.initialization import measuring
from resnet_study.phenomena.initialization.arms import (
    ARMS,
    InitializationArm,
    SeededArm,
    seeded_arms,
)
from resnet_study.phenomena.initialization.recording import record_initialization
from resnet_study.records import read_frames
from resnet_study.studies.study import Study
from tests.planted_initialization import few_arms
from tests.test_end_to_end import command

OWN = """
from resnet_study.architecture import ModelSpec
from resnet_study.phenomena.initialization.arms import InitializationArm
from resnet_study.phenomena.initialization.figures import FIGURES
from resnet_study.studies.study import Study

ARM = InitializationArm(ModelSpec(depth=14, activation="tanh"), ("block_gradient_norm",), images=16)
STUDY = Study("mine", "Mine", "How large?", figures=FIGURES, seeds=(3, 4), initialization=(ARM,))
"""


@pytest.mark.slow
def test_measuring_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def measure(arm: SeededArm) -> pd.DataFrame:
        if len(measured) == 1:
            measured.append("interrupted")
            raise KeyboardInterrupt
        measured.append(arm.name)
        return real(arm)

    real, arms = measuring.measure_arm, few_arms()
    monkeypatch.setattr(measuring, "measure_arm", measure)
    folder = tmp_path / "initialization"
    folder.mkdir()
    (folder / "of_an_older_grid.parquet").write_bytes(b"")
    with pytest.raises(KeyboardInterrupt):
        record_initialization(folder, "a command", arms, (0, 1))
    assert len(list(folder.glob("*.parquet"))) == 1
    record_initialization(folder, "a command", arms, (0, 1))
    record_initialization(folder, "a command", arms, (0, 1))
    names = [arm.name for arm in seeded_arms(arms, (0, 1))]
    assert sorted(name for name in measured if name != "interrupted") == sorted(names)
    assert json.loads((folder / "environment.json").read_text())["command"] == "a command"


@pytest.mark.slow
def test_a_study_in_one_file_measures_networks_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    done = command("reproduce", "mine.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = read_frames([tmp_path / "results" / "mine" / "initialization"]).initialization
    assert table["seed"].unique().tolist() == [3, 4]
    assert (table["depth"] == 14).all()
    assert (table["activation"] == "tanh").all()
    assert table["index"].nunique() == 7
    assert (table["value"] > 0).all()
    assert (tmp_path / "results" / "mine" / "report.html").is_file()


def test_a_study_that_asks_twice_for_one_network_is_refused_before_it_measures() -> None:
    twice = (
        InitializationArm(ModelSpec(), ("block_gradient_norm",)),
        InitializationArm(ModelSpec(), ("activation_gradient_norm",)),
    )
    with pytest.raises(UserError, match="merge them"):
        Study("s", "S", "?", initialization=twice).check(())


def test_what_is_no_arm_is_refused() -> None:
    with pytest.raises(UserError, match="s: initialization: give a tuple"):
        Study("s", "S", "?", initialization=True)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"s: initialization: .* is no InitializationArm"):
        Study("s", "S", "?", initialization=(ModelSpec(),))  # type: ignore[arg-type]
    assert Study("s", "S", "?", initialization=ARMS).measured_seeds == (0, 1, 2, 3, 4)
