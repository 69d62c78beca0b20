"""A trained network in the columns of records of initialisation; at step 0 the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_study.architecture import ModelSpec
from resnet_study.drawing.render import render
from resnet_study.errors import UserError
from resnet_study.inspection import lesion_figure
from resnet_study.inspection import measure as measuring
from resnet_study.inspection.inspected import load
from resnet_study.phenomena.initialization import block_measures, fits
from resnet_study.phenomena.initialization.arms import GRADIENTS, InitializationArm, SeededArm
from resnet_study.phenomena.initialization.measuring import measure_arm
from resnet_study.records import INITIALIZATION_COLUMNS
from resnet_study.spec import from_flat
from tests.inspected import CPU, data_of, network_of, run_of, spec_of


@pytest.mark.slow
def test_at_step_0_it_is_what_is_measured_at_initialisation(tmp_path: Path) -> None:
    spec = from_flat({"model.depth": 8, "seed": 5, "schedule.iterations": 7})
    assert spec.data.name == "digits"
    network = load(run_of(spec, tmp_path), step=0)
    table = measuring.measure(network, data_of(spec), CPU, images=0, samples=1)
    arm = InitializationArm(ModelSpec(depth=8), tuple(measuring.quantities_of(spec.model)))
    expected = measure_arm(SeededArm(arm, (5,)))
    own = table[table["quantity"].isin(arm.quantities)][list(INITIALIZATION_COLUMNS)]
    # The run is of float32, and so is what is measured of it.
    pd.testing.assert_frame_equal(own.reset_index(drop=True), expected, rtol=1e-3, atol=1e-4)
    # Figures and claims can be asked of them.
    frames = lesion_figure.frames_of(table)
    assert block_measures.gradient_path_share(frames).numbers["depth"] == 8  # type: ignore
    findings = {finding.what: finding.value for finding in measuring.summary(table)}
    share = next(v for what, v in findings.items() if "95 % of the gradient" in what)
    assert 0 < share <= 100
    assert not any("without" in what for what in findings)


@pytest.fixture(scope="module")
def plain() -> pd.DataFrame:
    network = network_of(spec_of(depth=14, residual=False))
    return measuring.measure(network, data_of(network.spec), CPU, images=50, samples=2)


def test_every_value_has_its_place(plain: pd.DataFrame) -> None:
    assert tuple(plain.columns) == measuring.COLUMNS
    assert plain["step"].unique().tolist() == [7]
    assert plain["family"].unique().tolist() == ["plain"]
    assert not plain.duplicated(["quantity", "index"]).any()
    assert not plain["quantity"].isin(["branch_variance", "path_gradient_norm"]).any()
    of = plain.groupby("quantity")["index"]
    assert (of.min()["response_std"], of.max()["response_std"]) == (1, 14)
    assert (of.min()["inactive_fraction"], of.max()["inactive_fraction"]) == (1, 13)
    assert (of.min()["layer_deletion_error"], of.max()["layer_deletion_error"]) == (2, 13)
    errors = plain[plain["quantity"].str.endswith("_error")]["value"]
    assert errors.between(0, 100).all()
    # Errors on 50 images are multiples of 2 %, those of single lesions.
    single = plain[plain["quantity"] == "block_deletion_error"]["value"]
    assert np.allclose(single % 2, 0)
    inactive = plain[plain["quantity"] == "inactive_fraction"]["value"]
    assert inactive.between(0, 1).all()


def test_the_figure_shows_every_lesion(plain: pd.DataFrame, tmp_path: Path) -> None:
    frames = lesion_figure.frames_of(plain)
    (drawn,) = render([lesion_figure.lesions], frames, tmp_path, strict=True)
    assert drawn.png == tmp_path / "lesions.png"
    figure = lesion_figure.lesions(frames)
    lines = {line.get_gid(): line for panel in figure.axes for line in panel.lines}
    layers = plain[plain["quantity"] == "layer_deletion_error"]
    assert np.array_equal(lines["layer_deletion_error"].get_xdata(), layers["index"])
    assert np.array_equal(lines["layer_deletion_error"].get_ydata(), layers["value"])
    # A block lies between its two layers.
    blocks = lines["block_deletion_error"].get_xdata()
    assert np.array_equal(blocks, [2.5, 4.5, 6.5, 8.5, 10.5, 12.5])
    assert "intact" in lines
    text = " ".join(t.get_text() for t in figure.texts)
    assert "plain-14, n = 1 network" in text


def test_bottlenecks_have_three_layers_in_every_table_and_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "QUANTITIES", GRADIENTS)
    network = network_of(spec_of(depth=11, block="bottleneck"))
    table = measuring.measure(network, data_of(network.spec), CPU, images=20, samples=1)
    of = table.groupby("quantity")["index"].max()
    assert (of["activation_gradient_norm"], of["response_std"]) == (10, 11)
    assert (of["block_gradient_norm"], of["block_deletion_error"]) == (4, 3)
    stages = table[table["quantity"] == "activation_gradient_norm"]["stage"]
    assert stages.tolist() == [0, *[1] * 3, *[2] * 3, *[3] * 3]
    figure = lesion_figure.lesions(lesion_figure.frames_of(table))
    lines = {line.get_gid(): line for line in figure.axes[0].lines}
    assert np.array_equal(lines["block_deletion_error"].get_xdata(), [3, 6, 9])


@pytest.mark.parametrize(("depth", "kept"), [(14, [1, 2, 4, 6]), (20, [2, 4, 6])])
def test_ratios_are_of_blocks_that_keep_the_shape(depth: int, kept: list[int]) -> None:
    """Of six blocks; with three layers each (depth 20) the first changes it too."""
    index = np.arange(1, 8)
    rows = pd.DataFrame({"depth": depth, "index": index, "value": np.exp(index**2)})
    ratios = fits.block_log_ratios(rows)
    assert ratios.to_dict() == pytest.approx({b: -(2.0 * b + 1) for b in kept})


def test_the_figure_says_what_is_missing(plain: pd.DataFrame) -> None:
    nothing = plain[plain["quantity"] == "response_std"]
    with pytest.raises(UserError, match="no lesion was measured"):
        lesion_figure.lesions(lesion_figure.frames_of(nothing))
    two = pd.concat([plain, plain.assign(depth=20)])
    with pytest.raises(UserError, match="one network are drawn at a time"):
        lesion_figure.lesions(lesion_figure.frames_of(two))
    # Three blocks have none that could be swapped.
    some = plain[~plain["quantity"].str.startswith("swap")]
    assert lesion_figure.lesions(lesion_figure.frames_of(some)).axes


def test_the_summary_is_of_the_table(plain: pd.DataFrame) -> None:
    findings = {finding.what: finding for finding in measuring.summary(plain)}
    layers = plain[plain["quantity"] == "layer_deletion_error"]["value"]
    found = findings["error without one layer (Veit 2016), median"]
    assert (found.value, found.unit) == (layers.median(), "%")
    norms = plain[plain["quantity"] == "activation_gradient_norm"].set_index("index")["value"]
    ratio = findings["gradient at layer 2 over that at the last convolution"].value
    assert ratio == pytest.approx(norms[2] / norms[13])
