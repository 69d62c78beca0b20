"""The explorer in a real browser: it draws what was recorded, and moves when it is told to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from resnet_study import probes
from resnet_study.drawing import panels
from resnet_study.drawing.style import FAMILIES, ON_DARK
from resnet_study.judging.selections import over_last
from resnet_study.phenomena.gradients import theory
from resnet_study.records import Frames, read_frames
from resnet_study.report import write_report
from resnet_study.report.explorer import explorer_page, write_explorer
from resnet_study.studies.find import load_study, specs_of
from resnet_study.studies.run import write_study
from tests.browser import BROWSER, Page, browser
from tests.planted import planted_frames
from tests.reported import FINDING, STUDY

QUICK = Path(__file__).resolve().parent.parent / "results" / "reference" / "quick"

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


FIVE_DIGITS = 2**-16
"""The page of the whole quick study rounds to this."""


@pytest.fixture(scope="module")
def frames() -> Frames:
    return read_frames([QUICK])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("explorer") / "quick.html"
    write_explorer([QUICK], written)
    return written


@pytest.fixture
def page(file: Path, tmp_path: Path) -> Iterator[Page]:
    """The explorer of the quick study, drawn once, with its table unfolded."""
    with browser(tmp_path) as opened:
        opened.size(1400, 1000)
        opened.open(file)
        opened.wait("document.body.dataset.drawn >= 1")
        drawn(opened, "document.getElementById('numbers').open = true")
        choose(opened, "quantity", "activation_gradient_norm")
        choose(opened, "scaling", "raw")
        to_iteration(opened, 0)
        yield opened
        assert opened.complaints() == []
        assert opened.requests() == []


def drawn(page: Page, script: str) -> None:
    """Do something and wait until it is drawn."""
    before = page.run("document.body.dataset.drawn")
    page.run(f"{script}; 0")
    page.wait(f"document.body.dataset.drawn > {before}")


def choose(page: Page, control: str, value: str) -> None:
    """Choose an option, as a user's choice is told to the page."""
    drawn(
        page,
        f"(() => {{ const c = document.getElementById('{control}'); c.value = '{value}';"
        "c.dispatchEvent(new Event('change', {bubbles: true})); })()",
    )


def tick(page: Page, depth: int) -> None:
    drawn(page, f"document.querySelector('#depths input[value=\"{depth}\"]').click()")


def to_iteration(page: Page, step: int) -> None:
    """Move the slider by its keys, which needs no mouse."""
    page.run("document.getElementById('iteration').focus()")
    for _ in range(60):
        now = int(page.run("document.getElementById('now').textContent").replace(",", ""))
        if now == step:
            return
        before = page.run("document.body.dataset.drawn")
        page.press(*(("ArrowRight", 39) if now < step else ("ArrowLeft", 37)))
        page.wait(f"document.body.dataset.drawn > {before}")
    raise AssertionError(f"the slider never came to {step}")


def shown(page: Page) -> pd.DataFrame:
    """The table of the page: a column per network, a row per layer."""
    rows: list[list[Any]] = page.run(
        "[...document.querySelectorAll('#numbers tbody tr')].map(r => [...r.children].map("
        "c => c.dataset.value === undefined ? c.textContent : Number(c.dataset.value)))"
    )
    names = page.run("[...document.querySelectorAll('#numbers thead th')].map(c => c.textContent)")
    return pd.DataFrame(rows, columns=names).set_index("layer")


def lines(page: Page, place: str = "layers") -> str:
    """The paths of all lines."""
    return str(
        page.run(
            f"[...document.querySelectorAll('#{place} .mark-line path')]"
            ".map(p => p.getAttribute('d')).join(' ')"
        )
    )


def recorded(frames: Frames, network: str, step: int, seed: int | None = None) -> pd.DataFrame:
    family, depth = network.split("-")
    layers = frames.layers
    rows = layers[(layers.family == family) & (layers.depth == int(depth)) & (layers.step == step)]
    rows = rows[rows.layer < rows.depth]
    return rows if seed is None else rows[rows.seed == seed]


def test_it_opens_where_the_networks_differ_and_plays_from_the_start(
    file: Path, tmp_path: Path, frames: Frames
) -> None:
    """The signal, which no scale changes, after 100 iterations; an address that says otherwise is
    followed."""
    with browser(tmp_path) as page:
        page.open(file)
        page.wait("document.body.dataset.drawn >= 1")
        ratios = over_last(frames, "signal").query("step == 100 and depth == 56")["ratio"]
        assert len(ratios) == 14
        seen = page.run("document.getElementById('seen').textContent")
        assert seen.startswith("At iteration 100, the signal")
        assert page.run("document.getElementById('scaling').value") == "relative"
        drawn(page, "document.getElementById('play').click()")
        assert int(page.run("document.getElementById('now').textContent")) < 10
        assert page.complaints() == []
    with browser(tmp_path) as page:
        page.open(file, "#quantity=angular_step&axis=raw&iteration=400")
        page.wait("document.body.dataset.drawn >= 1")
        seen = page.run("document.getElementById('seen').textContent")
        assert seen.startswith("At iteration 400, the turn")
        assert page.complaints() == []


def test_before_training_it_shows_the_medians_of_the_records_and_the_theory(
    page: Page, frames: Frames
) -> None:
    table = shown(page)
    assert list(table.columns[2:]) == ["plain-56", "residual-56"]
    assert len(table) == 55
    for network in table.columns[2:]:
        rows = recorded(frames, network, 0)
        middle = panels.medians(rows, ["layer"], "activation_gradient_norm", geometric=True)
        np.testing.assert_allclose(
            table[network].astype(float), middle["activation_gradient_norm"], rtol=FIVE_DIGITS
        )
    names = recorded(frames, "plain-56", 0, 7).sort_values("layer")["name"]
    assert table["name"].tolist() == names.tolist()
    legend = page.run("document.getElementById('legend').textContent")
    assert f"theory, ×{theory.BN_RELU_GROWTH:.3f} per layer" in legend
    seen = page.run("document.getElementById('seen').textContent")
    assert seen.startswith("Before training, the raw gradient")
    for family, style in FAMILIES.items():
        strokes = f"document.querySelectorAll('#layers [stroke=\"{style.colour}\"]').length"
        assert page.run(strokes) >= 6, family  # five seeds and their median


def test_moving_the_slider_by_keys_moves_both_pictures(page: Page, frames: Frames) -> None:
    rule = "document.querySelector('#error .role-mark.mark-rule').innerHTML"
    before, cursor = lines(page), page.run(rule)
    to_iteration(page, 8)
    assert lines(page) != before
    assert page.run(rule) != cursor
    assert "theory" not in page.run("document.getElementById('legend').textContent")
    choose(page, "seed", "7")
    choose(page, "quantity", "signal")
    table = shown(page)
    for network in ("plain-56", "residual-56"):
        rows = recorded(frames, network, 8, 7).sort_values("layer")
        signal = rows["weight_norm"] * rows["weight_gradient_norm"]
        np.testing.assert_allclose(table[network].astype(float), signal, rtol=2 * FIVE_DIGITS)
    choose(page, "scaling", "relative")
    relative = shown(page)["plain-56"].astype(float)
    rows = recorded(frames, "plain-56", 8, 7).sort_values("layer")
    signal = rows["weight_norm"] * rows["weight_gradient_norm"]
    np.testing.assert_allclose(relative, signal / signal.iloc[-1], rtol=4 * FIVE_DIGITS)
    assert "iteration=8" in page.run("location.hash")


def test_a_ratio_is_the_same_whatever_the_axis(page: Page, frames: Frames) -> None:
    """The median of each seed's ratio, as the claims have it."""
    choose(page, "quantity", "signal")
    to_iteration(page, 100)
    said = []
    for scaling in ("raw", "relative"):
        choose(page, "scaling", scaling)
        said.append(page.run("document.getElementById('seen').textContent").replace("\u2060", ""))
    assert said[0] == said[1]
    ratios = over_last(frames, "signal").query("step == 100 and family == 'plain' and depth == 56")
    assert f"is {ratios['ratio'].median():.2g} times" in said[0]


def test_every_quantity_and_depth_can_be_chosen(page: Page, frames: Frames) -> None:
    quantities = page.run("[...document.getElementById('quantity').options].map(o => o.value)")
    columns = set(probes.known()) & {c for c in frames.layers if frames.layers[c].notna().any()}
    assert set(quantities) == columns | {"signal"}
    for depth in (8, 20, 32, 110):
        tick(page, depth)
    assert len(shown(page)) == 109
    for quantity in quantities:
        choose(page, "quantity", quantity)
        assert "NaN" not in lines(page)
        assert page.run("document.getElementById('trouble').hidden")
    for depth in (8, 20, 32, 56, 110):
        tick(page, depth)
    assert "nothing" in page.run("document.getElementById('seen').textContent")


def test_playing_goes_to_the_end_and_stops(page: Page) -> None:
    to_iteration(page, 100)
    drawn(page, "document.getElementById('play').click()")
    assert page.run("document.getElementById('play').getAttribute('aria-pressed')") == "true"
    page.wait("document.getElementById('play').getAttribute('aria-pressed') === 'false'")
    page.wait("document.getElementById('now').textContent === '400'")
    assert page.run("document.getElementById('play').textContent.trim()") == "Play"


def test_pointing_at_a_layer_names_it(page: Page) -> None:
    box = page.run(
        "(() => { const b = document.getElementById('layers').getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    for shift in (0, 3):
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + shift, y=box[1])
    page.wait("document.querySelector('#vg-tooltip-element.visible') !== null")
    text = page.run("document.getElementById('vg-tooltip-element').textContent")
    assert re.search(r"network:?\s*(plain|residual)-56", text)
    assert re.search(r"name:?\s*stage2\.block\d\.conv\d", text)
    assert re.search(r"stage:?\s*2", text)


def test_in_a_report_it_is_drawn_in_its_frame(tmp_path: Path) -> None:
    """Also where the frame is far below and gets its size late; the page itself runs no script."""
    write_report(STUDY, planted_frames((8, 20), 2, 60), [FINDING] * 9, [], tmp_path)
    with browser(tmp_path) as page:
        page.size(1400, 500)
        page.open(tmp_path / "report.html")
        page.run("document.querySelector('iframe').scrollIntoView({behavior: 'instant'}); 0")
        with page.frame():
            page.wait("document.body?.dataset.drawn >= 1")
            page.wait("document.querySelector('#layers svg')?.clientWidth > 300")
            assert "NaN" not in lines(page)
            before = lines(page)
            page.run("document.getElementById('iteration').focus()")
            drawn(page, "document.getElementById('play').click()")
            page.wait("Number(document.getElementById('now').textContent) > 0")
            assert lines(page) != before
        assert page.run("document.scripts.length") == 0
        assert page.complaints() == []
        assert page.requests() == []


@pytest.mark.slow
def test_the_report_of_the_quick_study_prints_on_few_pages(tmp_path: Path) -> None:
    study = load_study("quick")
    (tmp_path / "quick").mkdir()
    runs = [QUICK / "runs" / spec.run_id for spec in specs_of(study)]
    write_study(study, tmp_path / "quick", runs)
    with browser(tmp_path) as page:
        page.open(tmp_path / "quick" / "report.html")
        pages = len(re.findall(rb"/Type\s*/Page\b", page.printed()))
        assert 3 <= pages <= 8


def test_zeros_and_what_is_not_finite_are_left_out_and_counted(
    tmp_path: Path, frames: Frames
) -> None:
    runs = frames.runs[(frames.runs.depth == 8) & (frames.runs.seed == 5)]
    layers = frames.layers[frames.layers.run_id.isin(runs.index)].copy()
    place = (layers.family == "plain") & (layers.step == 0)
    for layer, value in ((2, 0.0), (3, np.nan), (4, np.inf)):
        layers.loc[place & (layers.layer == layer), "activation_gradient_norm"] = value
    (tmp_path / "x.html").write_text(
        explorer_page("x", frames._replace(runs=runs, layers=layers)), encoding="utf-8"
    )
    with browser(tmp_path) as page:
        page.open(tmp_path / "x.html", "#quantity=activation_gradient_norm&axis=raw&iteration=0")
        page.wait("document.body.dataset.drawn >= 1")
        notes = page.run("document.getElementById('notes').textContent")
        assert "3 values are zero or not finite and not drawn." in notes
        assert "NaN" not in lines(page)
        assert page.complaints() == []


@pytest.mark.parametrize("width", [390, 820, 1400])
def test_it_fits_every_width_and_follows_the_scheme(width: int, file: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.size(width, 900, "dark")
        page.open(file)
        page.wait("document.body.dataset.drawn >= 1")
        assert page.run("document.documentElement.scrollWidth") <= width
        inside = page.run(
            "[...document.querySelectorAll('.chart')].every(c => c.querySelector('svg')"
            ".getBoundingClientRect().right <= c.getBoundingClientRect().right + 1)"
        )
        assert inside
        for colour in ON_DARK.values():
            assert page.run(f"document.querySelector('#layers [stroke=\"{colour}\"]') !== null")
        before = page.run("document.body.dataset.drawn")
        page.size(width, 900, "light")
        page.wait(f"document.body.dataset.drawn > {before}")
        assert page.run(
            f"document.querySelector('#layers [stroke=\"{FAMILIES['plain'].colour}\"]') !== null"
        )
        unlabelled = page.run(
            "[...document.querySelectorAll('select, input, button')]"
            ".filter(c => !c.labels?.length && !c.textContent.trim()).length"
        )
        assert unlabelled == 0
