"""The benchmarks: their statistics, their comparison of two implementations, their commands."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_study.records import find_runs, integrity, read_frames, read_spec, read_summary

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"
sys.path.insert(0, str(FOLDER))

import commands  # noqa: E402
import equality  # noqa: E402
import records as many  # noqa: E402
import timing  # noqa: E402
import train_step  # noqa: E402
from workers import Worker, WorkerError  # noqa: E402

TORCH_PYTHON = os.environ.get("TORCH_PYTHON", sys.executable)
needs_torch = pytest.mark.skipif(
    "TORCH_PYTHON" not in os.environ and importlib.util.find_spec("torch") is None,
    reason="PyTorch is not installed (extra bench), and TORCH_PYTHON names no interpreter with it",
)


class TestTiming:
    def test_variants_take_turns(self) -> None:
        order: list[str] = []

        def variant(name: str) -> float:
            order.append(name)
            return float(len(order))

        found = timing.interleaved({"a": lambda: variant("a"), "b": lambda: variant("b")}, 3)
        assert order == ["a", "b"] * 3
        assert found == {"a": [1, 3, 5], "b": [2, 4, 6]}

    def test_a_ratio_is_taken_within_rounds(self) -> None:
        # The machine is three times slower in every second round; the ratio is 2 throughout.
        base = [1.0, 3.0, 1.1, 3.3, 0.9, 2.7]
        found = timing.ratio({"a": [2 * value for value in base], "b": base}, "a", "b")
        assert found.median == pytest.approx(2)
        assert found.spread == pytest.approx(0, abs=1e-12)
        assert found.conclusive
        assert str(found) == "2.00 (spread 0 %)"

    def test_spread_is_the_interquartile_range_over_the_median(self) -> None:
        found = timing.estimate([1, 2, 3, 4, 5, 6, 7])
        assert (found.median, found.spread) == (4, pytest.approx((6 - 2) / 4))

    @pytest.mark.parametrize(
        ("values", "word"),
        [([1, 1, 2, 2, 3], "no conclusion: "), ([1, 1, 1, 1], "no conclusion from 4 rounds")],
    )
    def test_it_refuses_to_conclude(self, values: list[float], word: str) -> None:
        found = timing.estimate(values)
        assert not found.conclusive
        assert str(found).startswith(word)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
    def test_what_was_not_timed_is_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="positive"):
            timing.estimate([1, 2, value, 2, 1])

    def test_one_value_has_no_spread(self) -> None:
        assert timing.estimate([3]).as_json() == {
            "median": 3,
            "spread": None,
            "rounds": 1,
            "conclusive": False,
        }


def planted() -> dict[str, np.ndarray]:
    """What a worker writes, for a network of one kernel and one normalisation."""
    rng = np.random.default_rng(0)
    before = {"conv.kernel": rng.normal(size=(3, 3, 4, 4)), "norm.bias": rng.normal(size=4)}
    found: dict[str, np.ndarray] = {"loss1": np.array(2.3), "loss2": np.array(2.3)}
    for name, value in before.items():
        velocity = rng.normal(size=value.shape) + equality.WEIGHT_DECAY * value
        found |= {f"before.{name}": value, f"velocity1.{name}": velocity}
        found |= {f"velocity2.{name}": 1.9 * velocity, f"after.{name}": value - 0.19 * velocity}
    return found | {"running.norm.mean": rng.normal(size=4)}


class TestEquality:
    def test_rounding_is_no_difference(self) -> None:
        single = {name: value.astype(np.float32) for name, value in planted().items()}
        assert equality.differences([single], [planted()], exact=False) == []
        assert equality.differences([planted()], [planted()], exact=True) == []

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("loss1", "loss"),
            ("velocity1.conv.kernel", "gradient"),
            ("velocity1.norm.bias", "gradient"),
            ("velocity2.conv.kernel", "velocity2"),
            ("after.norm.bias", "update"),
            ("running.norm.mean", "running"),
        ],
    )
    @pytest.mark.parametrize("exact", [True, False])
    def test_an_error_above_the_tolerance_is_found(self, name: str, kind: str, exact: bool) -> None:
        reference, wrong = planted(), planted()
        wrong[name] = wrong[name] * (1 + 5 * equality.tolerances(exact=exact)[kind])
        found = equality.differences([wrong] * 3, [reference] * 3, exact=exact)
        assert [line.split(" of ")[0] for line in found] == [kind]

    def test_gradients_are_allowed_what_rounding_does(self) -> None:
        wrong = planted()
        wrong["velocity1.conv.kernel"] = wrong["velocity1.conv.kernel"] * 1.1
        noise = equality.noise_of([wrong], [planted()])
        assert noise["update"] == noise["gradient"] == pytest.approx(0.1, rel=0.01)
        assert noise["loss"] == 0
        assert equality.differences([wrong], [planted()], exact=False, noise=noise) == []
        assert (
            equality.differences([wrong], [planted()], exact=False, noise={"gradient": 0.03}) != []
        )
        assert equality.differences([wrong], [planted()], exact=True, noise=noise) != []

    @pytest.mark.parametrize(
        ("name", "kind", "chance"),
        [
            ("loss1", "loss", False),
            ("running.norm.mean", "running", False),
            ("velocity1.conv.kernel", "gradient", True),
            ("velocity2.conv.kernel", "velocity2", True),
            ("after.norm.bias", "update", True),
        ],
    )
    def test_only_what_a_kink_moves_may_differ_from_few_weights(
        self, name: str, kind: str, chance: bool
    ) -> None:
        """A minority of trials may have any error where chance decides; a majority none."""
        reference = [planted() for _ in range(equality.TRIALS)]
        for bad in itertools.product([False, True], repeat=equality.TRIALS):
            found = [dict(trial) for trial in reference]
            for trial, wrong in zip(found, bad, strict=True):
                trial[name] = trial[name] * (1.5 if wrong else 1)
            many = 2 * sum(bad) > equality.TRIALS
            lines = equality.differences(found, reference, exact=False)
            assert bool(lines) == (many if chance else any(bad)), bad
            assert bool(equality.differences(found, reference, exact=True)) == any(bad)
            said = equality.exceptions(found, reference, {})
            assert len(said) == sum(bad)
            assert all(line.startswith(f"{kind} of ") for line in said)
            noise = equality.noise_of(found, reference)[kind]
            assert (noise > 0.1) == (many if chance else any(bad))

    def test_trials_must_match(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            equality.differences([planted()], [planted()] * 2, exact=True)

    def test_what_is_not_a_number_differs(self) -> None:
        wrong = planted()
        wrong["velocity1.norm.bias"] = np.full(4, np.nan)
        assert "gradient" in equality.differences([wrong], [planted()], exact=False)[0]

    def test_a_missing_or_misshapen_tensor_is_refused(self) -> None:
        less = planted()
        del less["velocity1.norm.bias"]
        with pytest.raises(ValueError, match="different tensors"):
            equality.differences([less], [planted()], exact=False)
        turned = planted()
        turned["running.norm.mean"] = np.ones(1)
        with pytest.raises(ValueError, match="shapes"):
            equality.differences([turned], [planted()], exact=False)

    def test_two_valued_images_are_exact_in_float32(self) -> None:
        batch = equality.batch_of(8, 1, 16, two_valued=True)
        assert set(np.unique(batch["images"])) == {0, 255}
        assert batch["images"].shape == (16, 8, 8, 1)


ECHO = """
import sys, time
sys.path.insert(0, sys.argv[1])
from workers import serve
def echo(value):
    print("this must not reach the driver")
    return value
def fail(): raise ValueError("planted")
def leave(): sys.exit(3)
serve({"echo": echo, "fail": fail, "leave": leave, "sleep": lambda seconds: time.sleep(seconds)})
"""


class TestWorkers:
    def echo(self) -> Worker:
        return Worker("echo", [sys.executable, "-c", ECHO, str(FOLDER)])

    def test_it_answers_and_survives_a_failure(self) -> None:
        with self.echo() as worker:
            with pytest.raises(WorkerError, match="echo: fail: ValueError: planted"):
                worker.call("fail")
            assert worker.call("echo", value=[1, "two"]) == [1, "two"]
            assert worker.cpu_seconds() >= 0

    def test_death_and_lateness_are_said(self) -> None:
        with self.echo() as worker, pytest.raises(WorkerError, match=r"died during leave.*3"):
            worker.call("leave")
        with self.echo() as worker:
            worker.call("echo", value=0)
            with pytest.raises(WorkerError, match="no answer to sleep within 0 s"):
                worker.call("sleep", limit=0.2, seconds=60)
            assert worker.process.poll() is not None


def test_a_turn_of_a_run_lasts_until_its_speed_is_known(tmp_path: Path) -> None:
    values = {"data.name": "digits", "data.batch_size": 16, "model.depth": 8}
    with Worker("loop", [sys.executable, str(FOLDER / "loop_worker.py")]) as worker:
        worker.call("build", values=values, folder=str(tmp_path / "run"), kernels="auto")
        for _ in range(2):
            assert 0 < worker.call("turn", seconds=0) < float("inf")


@pytest.mark.parametrize(
    "name",
    ["train_step", "probes", "startup", "memory", "sweep", "convolution", "commands", "records"],
)
def test_help(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{name}.py" in done.stdout


def test_many_runs_are_runs_like_others(tmp_path: Path) -> None:
    """Copies under ids of their own, whole, with all rows of the originals."""
    many.make_runs(tmp_path, 70)
    folders = find_runs([tmp_path])
    assert len({run.name for run in folders}) == 70
    for run in folders:
        assert read_spec(run / "spec.json").run_id == run.name
        assert integrity.problem_of(run) is None
        assert read_summary(run)["bytes"] == integrity.sizes(run)
    frames, original = read_frames([tmp_path]), read_frames([many.QUICK])
    assert len(frames.layers) > 2 * len(original.layers)
    assert not frames.runs.duplicated(["family", "depth", "seed"]).any()
    for name, measure in many.VARIANTS.items():
        assert all(seconds > 0 for seconds in measure(tmp_path).values()), name


def test_imports_are_summed_by_package() -> None:
    log = """import time: self [us] | cumulative | imported package
import time:       300 |        300 |   json.decoder
import time:       200 |        500 | json
import time:      4000 |       4000 |     pandas._libs
import time:      1000 |       5000 | pandas
a line of the command itself"""
    assert commands.by_package(log) == {"pandas": 0.005, "standard library": 0.0005}


def test_without_torch_one_line_says_how_to_get_it() -> None:
    done = run("train_step", "--torch-python", "/nowhere/python")
    assert done.returncode == 2
    assert "pip install -e '.[bench]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A benchmark's command, to its end."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


NETWORK = {"depth": 8, "residual": True, "channels": 1}


def options(**changed: object) -> Namespace:
    """Options of `train_step` for one tiny network."""
    words = ["--batch", "16", "--rounds", "2", "--torch-python", TORCH_PYTHON]
    found = train_step.arguments([*words, "--turn", "0.05", "--compile-limit", "0"])
    return Namespace(**{**vars(found), **changed})


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> train_step.Case:
    """A case with the results of this project in float64."""
    found = train_step.Case(NETWORK, 8, tmp_path_factory.mktemp("case"), options())
    found.references()
    return found


PLANTED = """
import sys
sys.path.insert(0, sys.argv[1])
import torch_worker
from workers import serve
original = dict(vars(torch_worker))
pad = torch_worker.functional.pad
def plant(name, value):
    vars(torch_worker).update(original)
    torch_worker.functional.pad = pad
    if name == "shortcut":
        torch_worker.functional.pad = lambda x, sides: pad(x, (0, 0, 0, 0, 0, sum(sides)))
    elif name:
        setattr(torch_worker, name, value)
serve({**torch_worker.HANDLERS, "plant": plant})
"""

ERRORS = [
    ("BATCH_NORM_EPSILON", 1.1e-5),
    ("BATCH_NORM_UPDATE", 0.11),
    ("MOMENTUM", 0.91),
    ("WEIGHT_DECAY", 0.0),
    ("LEARNING_RATE", 0.101),
    ("shortcut", None),
]


@pytest.fixture(scope="module")
def planting() -> Iterator[Worker]:
    """PyTorch with a handler that plants an error in what is built next."""
    with Worker("planted", [TORCH_PYTHON, "-c", PLANTED, str(FOLDER)]) as worker:
        yield worker


def compare_planted(case: train_step.Case, worker: Worker, name: str, value: object) -> None:
    worker.call("plant", name=name, value=value)
    variant = {"channels_last": False, "optimizer": "foreach", "compile": ""}
    arguments: dict[str, Any] = {"network": NETWORK, "variant": variant, "batch": case.small_batch}
    worker.call("build", device="cpu", double=True, **arguments)
    case.compare("ours", case.exact, case.checked(worker), exact=True)


@needs_torch
def test_the_same_network_passes_the_comparison(case: train_step.Case, planting: Worker) -> None:
    compare_planted(case, planting, "", None)


@needs_torch
@pytest.mark.parametrize(("name", "value"), ERRORS)
def test_the_comparison_catches_an_error_in_the_network_or_the_update(
    case: train_step.Case, planting: Worker, name: str, value: object
) -> None:
    with pytest.raises(train_step.Unequal):
        compare_planted(case, planting, name, value)


@needs_torch
@pytest.mark.slow
def test_train_step_end_to_end(tmp_path: Path) -> None:
    words = ["--depths", "8", "--sizes", "8", "--families", "plain", "--kernels", "xla"]
    words += ["--batch", "16", "--rounds", "2", "--turn", "0.05", "--compile-limit", "0"]
    output = tmp_path / "results.json"
    done = run(
        "train_step", *words, "--torch-python", TORCH_PYTHON, "--json", str(output), "--markdown"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same as PyTorch in float64") == 4
    assert "no conclusion from 2 rounds" in done.stdout
    result = json.loads(output.read_text())["results"][0]
    assert result["peak_gflops"] > 1
    assert " % of the peak" in done.stdout
    assert set(result["images_per_second"]) == {"torch", "xla, with probes", "xla, without probes"}
    assert all(peak > 2**20 for peak in result["peak_bytes"].values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("startup", "--depths 8 --sizes 8 --kernels xla --rounds 1 --batch 16", "warm: "),
        (
            "memory",
            "--depths 8 --sizes 8 --rounds 2 --turn 0.1 --batch 16",
            "time no conclusion from 2 rounds",
        ),
        ("sweep", "--workers 1 --depths 8 --iterations 2 --rounds 1", "runs per hour"),
        (
            "probes",
            "--depths 8 --sizes 8 --families plain --rounds 1 --turn 0.3 --batch 16",
            "run, every step",
        ),
        ("commands", "--rounds 1", "| `compare error quick` |"),
    ],
)
def test_smallest_case(name: str, words: str, expected: str) -> None:
    done = run(name, *words.split(), "--markdown")
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert "no conclusion" in done.stdout or name != "probes"
