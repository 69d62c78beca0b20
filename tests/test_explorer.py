"""The explorer shows what was recorded, says what it leaves out, and stays in its page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_study import probes
from resnet_study.cli import main
from resnet_study.drawing.style import FAMILIES
from resnet_study.errors import UserError
from resnet_study.judging.selections import select
from resnet_study.phenomena.gradients import theory
from resnet_study.records import Frames, read_frames
from resnet_study.report.explorer import charts, explorer_page, page, records, reducing
from tests.planted import join, planted_frames

ROOT = Path(__file__).resolve().parent.parent
QUICK = ROOT / "results" / "reference" / "quick"
HOSTILE = "</script><script>alert(1)</script><!-- & \u2028 ' \""

FRAMES = planted_frames((8, 20), 2, 60)


@pytest.fixture(scope="module")
def quick() -> Frames:
    return read_frames([QUICK])


def in_page(html: str) -> dict[str, Any]:
    """The records of a page, as a browser reads them."""
    found = re.findall(r'<script type="application/json" id="records"[^>]*>(.*?)</script>', html)
    assert len(found) == 1
    content: dict[str, Any] = json.loads(found[0])
    return content


def recorded(frames: Frames, run: dict[str, Any], column: str) -> np.ndarray:
    """The same from the frames, shape (steps, convolutions)."""
    layers = frames.layers
    own = layers[(layers.family == run["family"]) & (layers.depth == run["depth"])]
    own = own[(own.seed == run["seed"]) & (own.layer < own.depth)]
    return own.pivot(index="step", columns="layer", values=column).to_numpy(float)


@pytest.mark.parametrize(("depths", "error"), [((20, 56), 0.0), ((8, 20, 32, 56, 110), 2**-16)])
def test_every_value_of_the_quick_study_is_in_the_page(
    depths: tuple[int, ...], error: float, quick: Frames
) -> None:
    frames = select(quick, quick.runs.index[quick.runs.depth.isin(depths)])
    html = explorer_page("quick", frames)
    assert len(html.encode()) <= page.LARGEST == 3_000_000
    content = in_page(html)
    assert content["leftOut"] == (["values are rounded to five digits"] if error else [])
    (group,) = content["groups"]
    assert len(group["runs"]) == len(frames.runs)
    for run in group["runs"]:
        assert set(run["values"]) == set(probes.known()) & set(quick.layers.columns)
        for column, text in run["values"].items():
            values = reducing.decode(text, content["width"], run["depth"] - 1)
            np.testing.assert_allclose(values, recorded(frames, run, column), rtol=error)


def test_errors_names_and_stages_are_those_of_the_records(quick: Frames) -> None:
    (group,) = in_page(explorer_page("quick", quick))["groups"]
    run = next(r for r in group["runs"] if (r["family"], r["depth"], r["seed"]) == ("plain", 56, 7))
    rows = quick.metrics.query("family == 'plain' and depth == 56 and seed == 7")
    for split, (steps, errors) in run["errors"].items():
        own = rows[rows.split == split].sort_values("step")
        assert steps == own.step.tolist()
        assert errors == pytest.approx(own.error.tolist(), abs=1e-4)
    layers = quick.layers.query("family == 'plain' and depth == 56 and seed == 7 and step == 0")
    conv = layers[layers.layer < 56].sort_values("layer")
    assert group["layers"]["plain-56"]["names"] == conv.name.tolist()
    assert group["layers"]["plain-56"]["stages"] == conv.stage.tolist()


def test_quantities_are_the_recorded_columns_and_the_signal() -> None:
    assert all(probe.label for probe in probes.BUILT_IN)
    found = records.collect([("x", FRAMES)])
    names = [quantity.name for quantity in found.quantities]
    assert names[:2] == ["activation_gradient_norm", "signal"]
    columns = [n for n in FRAMES.layers if FRAMES.layers[n].notna().any()]
    assert set(names) == {"signal"} | (set(probes.known()) & set(columns))
    signal = found.quantities[1]
    assert signal.product == ("weight_norm", "weight_gradient_norm")
    layers = FRAMES.layers.assign(mine=1.5, below=-2.0, nothing=np.nan)
    own = records.collect([("x", FRAMES._replace(layers=layers))])
    by_name = {quantity.name: quantity for quantity in own.quantities}
    assert by_name["mine"].label == "mine"
    assert not by_name["mine"].linear
    # A logarithmic axis has no place for it.
    assert by_name["below"].linear
    assert "nothing" not in by_name


@pytest.mark.parametrize(
    ("values", "growth"),
    [
        ({}, theory.BN_RELU_GROWTH),
        ({"model.normalization": "none"}, theory.HE_RELU_FACTOR),
        ({"model.normalization": "layer"}, None),
    ],
)
def test_theory_is_there_where_there_is_one(values: dict[str, Any], growth: float | None) -> None:
    frames = planted_frames((8,), 1, 20, values=values)
    (group,) = records.collect([("x", frames)]).groups
    assert group.growth == growth
    residual = planted_frames((8,), 1, 20, families=("residual",))
    assert records.collect([("x", residual)]).groups[0].growth is None


@pytest.mark.parametrize(("width", "error"), [(4, 0.0), (3, 2**-16), (2, 2**-8)])
def test_what_is_written_is_read(width: int, error: float) -> None:
    random = np.random.default_rng(0)
    values = (random.normal(size=(5, 7)) * 10.0 ** random.integers(-30, 30, (5, 7))).astype("f4")
    values[0, :5] = [np.nan, np.inf, -np.inf, 0.0, np.finfo("f4").max]
    found = reducing.decode(reducing.encode(values, width), width, 7)
    np.testing.assert_allclose(found, values, rtol=error)


def test_thinning_leaves_out_as_little_as_it_must_and_says_it(quick: Frames) -> None:
    whole = records.collect([("quick", quick)])
    bytes_of = len(reducing.to_json(whole).encode())
    limits = [share * bytes_of for share in (1, 0.9, 0.7, 0.45, 0.2)]
    reduced = [reducing.reduced(whole, int(limit)) for limit in limits]
    for limit, found in zip(limits, reduced, strict=True):
        assert len(reducing.to_json(found).encode()) <= limit
    assert reduced[0] == whole
    assert [found.width for found in reduced] == [4, 3, 3, 2, 2]
    assert reduced[1].left_out == ("values are rounded to five digits",)
    for found in reduced[1:]:
        for run in found.groups[0].runs:
            assert (run.steps[0], run.steps[-1]) == (0, 400)
            assert run.values["weight_norm"].shape == (len(run.steps), run.depth - 1)
    assert "at most 24 are here" in " ".join(reduced[3].left_out)
    runs = len(whole.groups[0].runs)
    assert len(reduced[3].groups[0].runs) == runs
    left = runs - len(reduced[4].groups[0].runs)
    assert left > 0
    assert reduced[4].left_out[-1] == f"{left} runs of further seeds are left out"
    assert {(r.family, r.depth) for r in reduced[4].groups[0].runs} == {
        (r.family, r.depth) for r in whole.groups[0].runs
    }
    with pytest.raises(UserError, match="too many networks"):
        reducing.reduced(whole, 100_000)


def test_iterations_are_thinned_evenly_on_a_logarithmic_axis() -> None:
    steps = [*range(11), *range(20, 64_001, 20)]
    kept = reducing.spread(steps, 32)
    assert len(kept) <= 32
    assert kept[0] == 0
    assert kept[-1] == 64_000
    assert {0, 1, 2, 3, 4} <= set(kept)
    late = np.diff(np.log1p(kept[12:]))
    assert late.max() < 1.5 * late.mean()
    assert reducing.spread(steps[:9], 32) == steps[:9]


def test_hostile_names_stay_text() -> None:
    frames = FRAMES._replace(
        layers=FRAMES.layers.assign(name=HOSTILE, **{HOSTILE: 1.0}),
    )
    html = explorer_page(HOSTILE, frames)
    plain = explorer_page("x", FRAMES)
    assert html.count("<script") == plain.count("<script")
    assert "alert(1)</script" not in html
    content = in_page(html)
    assert content["groups"][0]["label"] == HOSTILE
    assert content["groups"][0]["layers"]["plain-8"]["names"] == [HOSTILE] * 7
    assert HOSTILE in {quantity["name"] for quantity in content["quantities"]}


def test_folders_and_arms_are_told_apart(tmp_path: Path) -> None:
    slow = planted_frames((8,), 1, 60, values={"optimizer.learning_rate": 0.01})
    found = records.collect([("a", join(FRAMES, slow)), ("b", FRAMES)])
    labels = [group.label for group in found.groups]
    assert labels == ["a, learning_rate=0.1", "a, learning_rate=0.01", "b"]
    folders = [tmp_path / "mine" / "quick", tmp_path / "theirs" / "quick", tmp_path / "other"]
    assert records.names_of(folders) == ["mine/quick", "theirs/quick", "other"]


def test_several_folders_fit_into_one_page(tmp_path: Path) -> None:
    cifar = ROOT / "results" / "reference" / "cifar10"
    shown = page.write_explorer([QUICK, cifar], tmp_path / "both.html")
    html = (tmp_path / "both.html").read_text()
    assert len(html.encode()) <= page.LARGEST
    content = in_page(html)
    names = [group["label"].split(",")[0] for group in content["groups"]]
    assert names[0] == "quick"
    assert set(names) == {"quick", "cifar10"}
    assert content["leftOut"] == list(shown.left_out)
    assert "rounded to five digits" in content["leftOut"][0]
    assert str(ROOT) not in html


def test_runs_that_did_not_finish_are_named() -> None:
    runs = FRAMES.runs.copy()
    runs.loc[runs.index[0], "status"] = "stopped"
    (group,) = records.collect([("x", FRAMES._replace(runs=runs))]).groups
    assert group.note == "Did not finish: 1 stopped (plain-8)."
    without = planted_frames((8,), 1, 60, layers=False, status="running")
    with pytest.raises(
        UserError, match=r"no layer was .*let a run go on. .*2 running \(plain-8, res"
    ):
        records.collect([("x", without)])
    never = without._replace(runs=without.runs.assign(**{"probes.layers_every": 0}))
    with pytest.raises(UserError, match=r"no layer was .*run with probes.layers_every above 0"):
        records.collect([("x", never)])


def test_specifications_follow_the_schema_and_have_the_colours_of_the_families() -> None:
    valid = charts.specifications(validate=True)
    assert valid == charts.specifications()
    for family, style in FAMILIES.items():
        assert charts.PALETTES["light"][family] == style.colour
        assert style.colour in json.dumps(valid["light"])
        assert style.colour not in json.dumps(valid["dark"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["results/nothing"], "results/nothing: no such folder"),
        ([], "name at least one study folder"),
        ([str(QUICK), "--output=page.pdf"], "the page ends in .html"),
        ([str(ROOT / "results/reference/signal_propagation")], "no layer was recorded"),
        ([str(ROOT / "docs")], "no runs found"),
    ],
)
def test_bad_input_ends_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explore", *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_command_writes_the_page_beside_the_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "mine"
    run = next((QUICK / "runs").glob("plain-8_*"))
    (study / "runs").mkdir(parents=True)
    (study / "runs" / run.name).symlink_to(run)
    with pytest.raises(SystemExit) as ended:
        main(["explore", str(study / "runs" / run.name), f"--output={study / 'explorer.html'}"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{study / 'explorer.html'}\n"
    content = in_page((study / "explorer.html").read_text())
    assert [r["depth"] for group in content["groups"] for r in group["runs"]] == [8]


def test_the_same_records_give_the_same_page() -> None:
    assert explorer_page("x", FRAMES) == explorer_page("x", replace_nothing(FRAMES))


def replace_nothing(frames: Frames) -> Frames:
    """The same in another order."""
    return frames._replace(layers=frames.layers.sample(frac=1, random_state=0))
