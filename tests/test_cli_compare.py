"""What `compare` prints, writes and draws."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.called import call

QUICK = Path(__file__).resolve().parent.parent / "results" / "reference" / "quick"


def test_compare_prints_and_draws(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = study / "made" / "here" / "error.svg"
    words = ("--split=train", "--where", "family=plain", f"--plot={plot}")
    assert call("compare", "error", study, *words) == 0
    output = capsys.readouterr().out
    assert "plain" in output
    assert "residual" not in output
    # 90 / 41 + seed, over seeds 0 and 1.
    assert f"{90 / 41 + 0.5:.5g}" in output
    assert str(plot) in output
    assert plot.read_text().rstrip().endswith("</svg>")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_number_of_a_comparison_is_cut(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("compare", "error,signal_ratio,gradient_ratio", QUICK, "--where=depth>20")
    assert call(*words, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    monkeypatch.setenv("COLUMNS", str(width))
    assert call(*words) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    for row in rows:
        for name in ("median", "low", "high"):
            assert f" {row[name]:.5g} " in printed
    # The warm-up of depth 110 follows from the depth and tells nothing apart.
    assert not [name for name in rows[0] if "warmup" in name]


def test_folders_are_told_apart_beside_fields(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    assert call("compare", "error", study, copy, "--by=folder,family", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["folder"] for row in rows} == {str(study), str(copy)}
    assert call("compare", "error", study, "--by=run,family") == 2
    assert "run takes all runs together" in capsys.readouterr().err


def test_compare_says_what_its_numbers_are(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", "error,signal", study, "--split=train", "--at_step=19") == 0
    title = " ".join(capsys.readouterr().out.partition("┏")[0].split())
    assert title.startswith("training error (%), signal. At the recorded iteration nearest to 19: ")
    assert title.endswith("Of signal the mean over the convolutions.")
    assert call("compare", "signal,turn_ratio", study, "--split=train") == 2
    assert "--split=train: signal has no splits" in capsys.readouterr().err


def test_compare_of_several_quantities_and_of_differences(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot, csv = tmp_path / "both.pdf", tmp_path / "both.csv"
    words = ("--difference=family", "--where", "seed<2", f"--plot={plot}", f"--csv={csv}")
    assert call("compare", "error,loss", study, *words) == 0
    assert capsys.readouterr().err == ""
    table = pd.read_csv(csv)
    assert set(table["quantity"]) == {"error", "loss"}
    assert set(table["difference"]) == {"residual - plain"}
    assert plot.read_bytes().startswith(b"%PDF")


def test_values_of_repeated_list_flags_add_up_and_others_are_refused(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    together = ("--where", "family=plain", "seed=1")
    apart = ("--where=family=plain", "--json", "--where", "seed=1")
    tables = []
    for words in ((*together, "--json"), apart):
        assert call("compare", "error", study, *words) == 0
        tables.append(json.loads(capsys.readouterr().out))
    assert tables[0] == tables[1]
    assert {row["family"] for row in tables[0]} == {"plain"}
    assert {row["n"] for row in tables[0]} == {1}
    for words in (("--split=train", "--split=test"), ("--at-step", "1", "--at_step=2")):
        assert call("compare", "error", study, *words) == 2
        assert "is given twice" in capsys.readouterr().err


def test_folders_with_the_same_runs_are_told_apart(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    csv = tmp_path / "new" / "table.csv"
    assert call("compare", "error", study, copy, "--by=folder", "--json", f"--csv={csv}") == 0
    output = capsys.readouterr()
    rows, table = pd.DataFrame(json.loads(output.out)), pd.read_csv(csv)
    pd.testing.assert_frame_equal(rows, table)
    assert list(rows["folder"].unique()) == [str(study), str(copy)]
    one, other = (part.drop(columns="folder") for _, part in rows.groupby("folder"))
    pd.testing.assert_frame_equal(one, other.set_axis(one.index))
    # Taken together each run counts once, and it is said which.
    assert call("compare", "error", study, copy, "--json") == 0
    output = capsys.readouterr()
    together = pd.DataFrame(json.loads(output.out))
    pd.testing.assert_frame_equal(together, one.reset_index(drop=True))
    assert "runs lie in several folders and count once" in output.err
    assert str(copy) in output.err
    assert call("compare", "error", study, study, "--by=folder") == 2
    assert "is named twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--by=family", "--by=depth"], ["--by", "family", "--by", "depth"]], ids=str
)
def test_a_flag_with_commas_may_be_given_again(
    words: list[str], study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", "error", study, "--by=family,depth") == 0
    joined = capsys.readouterr().out
    # What follows is no further value of it.
    assert call("compare", "error", *words, study) == 0
    assert capsys.readouterr().out == joined
