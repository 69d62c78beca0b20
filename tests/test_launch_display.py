"""What is shown of runs in a terminal and in a log."""

import io
import math
import re
import time
from typing import Any

import pytest
from rich.console import Console

from resnet_study import progress
from resnet_study.launch import display, local
from resnet_study.spec import RunSpec
from resnet_study.training.options import Standing
from tests.launched import tiny


class Terminal(io.StringIO):
    """Collects what is written to a terminal."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, module: Any, terminal: bool) -> io.StringIO:
    """What a module's displays write, to a terminal or to a log."""
    file = Terminal() if terminal else io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(
        module, "Console", lambda **_: Console(file=file, width=120, force_terminal=terminal)
    )
    return file


def text(file: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "log"])
def test_the_display_tells_what_is_done_and_what_failed(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    file = shown(monkeypatch, display, terminal)
    specs = [tiny(seed=seed) for seed in range(4)]
    costs = {spec.run_id: local.cost(spec) for spec in specs}
    summary = {"status": "finished", "train_error_last": 1.5, "wall_seconds": 65.2}
    with display.Display(specs, costs, {specs[0].run_id}) as bars:
        for spec in specs[1:]:
            bars.started(spec)
        for error in (math.nan, 12.5):
            bars.progress(specs[1], vars(Standing(6, 12, error, math.nan)))
            bars.progress_bars.refresh()
        bars.finished(specs[1], summary)
        bars.waiting(specs[2])
        bars.finished(specs[2], {**summary, "status": "diverged", "train_error_last": None})
        bars.lost(specs[0], "by SIGKILL")
        bars.failed(specs[3], "[why] it failed")
    output = text(file)
    lines = [line.rstrip() for line in output.splitlines()]
    assert "1 of 4 runs are done already." in output
    assert any(re.search(r"2/4 +residual-8 seed 1 .*1\.50 %.*1:05 min", x) for x in lines)
    assert any(re.search(r"3/4 +residual-8 seed 2 .*\[diverged\]", x) for x in lines)
    # Square brackets of a reason are no markup.
    assert "FAILED residual-8 seed 3: [why] it failed" in output
    assert "TO DO residual-8 seed 0: by SIGKILL" in output
    assert ("training error 12.5 %" in output) == terminal
    assert ("3 running" in output) == terminal


def test_progress_names_what_a_sweep_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    file = shown(monkeypatch, display, False)
    specs = [
        tiny(seed=seed, **{"optimizer.learning_rate": rate})
        for rate in (0.1, 0.01)
        for seed in (0, 1)
    ]
    with display.Display(specs, dict.fromkeys((s.run_id for s in specs), 1.0), set()) as bars:
        for spec in specs:
            bars.finished(spec, {"status": "finished"})
    lines = text(file).splitlines()
    assert "residual-8 seed 1 learning_rate=0.01 " in lines[-1]
    assert len({line.split("training")[0][7:] for line in lines}) == 4


def test_progress_names_nothing_that_follows_from_the_network() -> None:
    def warmed(depth: int, seed: int) -> RunSpec:
        own = {"model.depth": depth, "schedule.warmup_iterations": depth - 8}
        return tiny(seed=seed, **own)

    several = [warmed(depth, seed) for depth in (8, 14) for seed in (0, 1)]
    names = display.names_of(several)
    assert names[several[-1].run_id] == "residual-14 seed 1"
    # One run each, as of a random search: then a value may be what is looked for.
    single = display.names_of(several[1:3])
    assert single[several[2].run_id] == "residual-14 seed 0 warmup_iterations=6"


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "log"])
def test_a_display_whose_terminal_is_gone_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    shown(monkeypatch, display, terminal).close()
    spec = tiny()
    with display.Display([spec], {spec.run_id: 1.0}, set()) as bars:
        bars.started(spec)
        bars.progress(spec, vars(Standing(6, 12, 12.5, math.nan)))
        bars.lost(spec, "gone")
        bars.failed(spec, "why")
        bars.finished(spec, {"status": "finished"})
    assert bars.done == 1


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "log"])
def test_the_bars_of_single_tasks(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    file = shown(monkeypatch, progress, terminal)
    with progress.run_progress() as report:
        report(Standing(1, 12, math.nan, math.nan))
        report(Standing(6, 12, 12.5, 2000.4))
        time.sleep(0.3)
    for unit in ("B", "images"):
        with progress.count_progress("loading", unit) as count:
            # A server may not say how much there is.
            for done, total in ((0, 0), (500, 1000), (1000, 1000)):
                count(done, total)
                time.sleep(0.15)
    output = text(file)
    if terminal:
        for words in ("6/12", "training error 12.5 %, 2000 images/s", "1000/1000", "1.0/1.0 kB"):
            assert words in output
    else:
        assert output.strip() == ""
