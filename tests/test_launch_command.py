"""The command of a sweep file means the same under wandb's own agent and here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb.wandb_agent

from resnet_study.cli import SUBCOMMANDS, commands, main
from resnet_study.errors import UserError
from resnet_study.files import expanded
from resnet_study.launch.agent import check_point
from resnet_study.launch.command import DEFAULT, read_command, with_options
from resnet_study.launch.expand import expand
from resnet_study.launch.sweep import sweep_of
from resnet_study.tracking.tracker import Tracking
from resnet_study.training.options import Execution, Options

START = ["${env}", "python", "-m", "resnet_study", "train"]
DEPTH, RATE = "model.depth", "optimizer.learning_rate"

Rendered = Callable[[list[Any], dict[str, Any]], list[str]]
Trained = Callable[[list[str]], dict[str, Any]]


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rendered:
    """The words that wandb's agent starts for a command and a point; nothing is started.

    The agent leaves its variables and the file of the point, as for a real run.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")
    started: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **_: Any) -> None:
            started.append(command)

    monkeypatch.setattr(wandb.wandb_agent, "AgentProcess", Process)

    def render(command: list[Any], point: dict[str, Any]) -> list[str]:
        agent = wandb.wandb_agent.Agent(None, None, sweep_id="s")
        agent._sweep_command = list(command)
        values = {name: {"value": value} for name, value in point.items()}
        agent._command_run({"run_id": "r", "program": "resnet_study", "args": values})
        return started[-1]

    return render


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """What ``resnet-study train`` makes of words; nothing is trained."""
    got: dict[str, Any] = {}

    @functools.wraps(commands.train)
    def note(**given: Any) -> int:
        got.update(given)
        return 0

    monkeypatch.setitem(SUBCOMMANDS, "train", note)

    def train(words: list[str]) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(words[words.index("train") :])
        assert ended.value.code == 0
        return got

    return train


COMMANDS: list[list[Any]] = [
    [*START, "${args}"],
    [*START, "--results=results/x", "${args}", "--data.name=synthetic"],
    [*START, "${args}", "--results", "a folder", "--seed", 3, "--checkpoint_seconds", 0.5],
    [*START, "--results=~/x", "--cifar10", "~/data", "--kernels=native", "${args}"],
    [*START, "--cifar10=~nobody-here/data", "${args_no_equals}"],
    [*START, "--devices=2", "--wandb=offline", "--wandb_artifact", "${args_no_equals}"],
    [*START, "--devices=None", "--data.validation=0.2", "--data.subset=False", "${args}"],
    [*START, "--schedule.iterations=2ep", "--schedule.first_drop=10", "${args}"],
    [*START, "--data.batch-size=64", "--optimizer.weight_decay=0", "${args}"],
    ["${env}", "${interpreter}", "-m", "${program}", "train", "${args}"],
    ["/opt/bin/resnet-study", "train", "--results=${envvar:FOLDER}/y", "${args}"],
    ["/usr/bin/env", "python3.12", "-u", "-m", "resnet_study", "train", "${args}"],
]

POINTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {DEPTH: {"value": 20}, "model.residual": {"value": False}},
        {DEPTH: 20, "model.residual": False},
    ),
    (
        {RATE: {"value": "1e-2"}, "probes.log_every": {"value": "5%"}},
        {RATE: "1e-2", "probes.log_every": "5%"},
    ),
    (
        {
            "model": {
                "parameters": {
                    "depth": {"value": 8},
                    "block_order": {"value": "full-preactivation"},
                }
            }
        },
        {"model": {"depth": 8, "block_order": "full-preactivation"}},
    ),
    ({RATE: {"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.2}}, {RATE: 0.1}),
    ({RATE: {"value": 1e-05}}, {RATE: 1e-05}),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(map(str, words[-3:])))
def test_a_run_is_the_same_under_wandb_s_agent_and_here(
    command: list[Any], rendered: Rendered, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDER", "from the environment")
    fixed = {str(word).lstrip("-").partition("=")[0] for word in command}
    for parameters, point in POINTS:
        if fixed & set(parameters):
            continue
        content = {"command": command, "method": "grid", "parameters": parameters}
        sweep = sweep_of({**content, "program": "resnet_study"}, "s.yaml")
        (spec,) = expand(sweep)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        # wandb fills the variables in in place, in the list it is given.
        got = trained(rendered(command, point))
        assert got["spec"] == spec
        check_point(got["spec"])
        assert expanded(got["results"]) == (sweep.command.results or Path("results/train"))
        assert got["options"] == with_options(Options(), sweep.command.options)
        assert not got.get("distributed")


MACROS = [
    "${args_no_hyphens}",
    "${args_no_boolean_flags}",
    "${args_json}",
    "${args_json_file}",
    "${args_dict}",
    "${args_append_hydra}",
    "${unheard_of}",
]


@pytest.mark.parametrize("macro", MACROS)
@pytest.mark.parametrize("residual", [True, False])
def test_other_macros_are_refused_here_and_under_wandb_s_agent(
    macro: str,
    residual: bool,
    rendered: Rendered,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UserError, match=r"takes parameters as \$\{args\}"):
        read_command([*START, macro], None)
    words = rendered([*START, macro], {"model.residual": residual, DEPTH: 8})
    with pytest.raises(SystemExit) as ended:
        main([*words[words.index("train") :], "--results=none"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "as ${args}, a word of its own" in said
    assert not Path("none").exists()


@pytest.mark.parametrize("value", ["${HOME}/x", "$HOME", "${envvar:lower}/x"])
def test_what_nobody_fills_in_is_refused_under_wandb_s_agent_too(
    value: str, rendered: Rendered, capsys: pytest.CaptureFixture[str]
) -> None:
    words = rendered([*START, f"--results={value}", "${args}"], {DEPTH: 8})
    with pytest.raises(SystemExit) as ended:
        main(words[words.index("train") :])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"--results={value}: resnet-study train takes" in said
    assert not [path for path in Path().iterdir() if "$" in path.name]


BAD: list[tuple[Any, str]] = [
    ("resnet-study train ${args}", "a list of words"),
    ([*START, ["${args}"]], "a list of words"),
    ([*START, None, "${args}"], "a list of words"),
    (START, "${args} does not stand after train"),
    ([*START, "${args}", "${args_no_equals}"], "${args} stands twice"),
    (["${args}", *START], "${args} before resnet-study train"),
    (["python", "train.py", "${args}"], "does not start resnet-study train"),
    (["${env}", "A=1", *START[1:], "${args}"], "A=1 before resnet-study train"),
    (["srun", *START[1:], "${args}"], "srun before resnet-study train"),
    ([*START, "--results=${HOME}/x", "${args}"], "${HOME}"),
    ([*START, "--cifar10", "$HOME/data", "${args}"], "$HOME/data: resnet-study train takes"),
    ([*START, "--results=${envvar:NONE_SUCH}", "${args}"], "${envvar:NONE_SUCH}: there is no"),
    (["${env}", "python", "-m", "${program}", "train", "${args}"], "the file has no program"),
    ([*START, "--model.dept=8", "${args}"], "--model.dept for the runs of a sweep; did you mean"),
    ([*START, "--distributed", "${args}"], "no flag --distributed for the runs of a sweep"),
    ([*START, "--workers=2", "${args}"], "no flag --workers"),
    ([*START, "more", "${args}"], "more is no flag"),
    ([*START, "--results", "${args}"], "--results needs a value"),
    ([*START, "--results", "${args}", "x"], "--results needs a value"),
    ([*START, "--results", "--seed=1", "${args}"], "--results needs a value"),
    ([*START, "--seed=1", "--seed", "2", "${args}"], "--seed is given twice"),
    ([*START, "--wandb_artifact=true", "${args}"], "--wandb_artifact takes no value"),
    ([*START, "--model.residual=no", "${args}"], "--model.residual=no: no such value"),
    ([*START, "--data.name=mnist", "${args}"], "--data.name=mnist: valid are digits"),
    ([*START, "--kernels=fast", "${args}"], "--kernels=fast: valid are"),
    ([*START, "--devices=two", "${args}"], "--devices=two: no such value"),
    ([*START, "--devices=0", "${args}"], "--devices=0: at least 1"),
    ([*START, "--checkpoint_seconds=soon", "${args}"], "--checkpoint_seconds=soon"),
    ([*START, "--seed", 10**5000, "${args}"], "10^5000"),
]


@pytest.mark.parametrize(("command", "reason"), BAD, ids=[b[1][:30] for b in BAD])
def test_what_would_be_lost_is_refused_by_name(command: Any, reason: str) -> None:
    content = {"command": command, "method": "grid", "parameters": {DEPTH: {"value": 8}}}
    with pytest.raises(UserError) as caught:
        expand(sweep_of(content, "s.yaml"))
    message = str(caught.value)
    assert message.startswith("s.yaml: ")
    assert reason in message
    assert len(message) < 400
    assert "\n" not in message


def test_a_field_is_either_a_flag_or_a_parameter() -> None:
    command = [*START, "--model.depth=8", "${args}"]
    content = {"command": command, "method": "grid", "parameters": {DEPTH: {"values": [8, 20]}}}
    with pytest.raises(UserError, match=r"--model\.depth is one of the sweep's parameters too"):
        sweep_of(content, "s.yaml")


@pytest.mark.parametrize("command", [None, [], DEFAULT])
def test_without_a_command_wandb_s_is_named(command: Any) -> None:
    assert read_command(command, "mine.py").other == "mine.py"
    assert read_command([*START, "${args}"], "mine.py").other is None


def test_what_the_user_types_counts_more_than_the_command() -> None:
    said = {"kernels": "native", "devices": 2, "checkpoint_seconds": 5.0, "wandb": "online"}
    own = Options(execution=Execution("xla", 4))
    assert with_options(own, said).execution == own.execution
    assert with_options(own, said).checkpoint_seconds == 5.0
    assert with_options(own, said).tracking.wandb == "online"
    # Even if it is the default.
    typed = with_options(Options(), said, {"kernels", "wandb"})
    assert typed.execution == Execution("auto", 2)
    assert typed.tracking == Tracking("off")
