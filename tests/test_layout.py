"""The structure of the project: imports go one way, studies name what exists."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_study import phenomena
from resnet_study.cli import SUBCOMMANDS
from resnet_study.studies.find import home, load_study, specs_of, studies

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "resnet_study"

FLOORS = (
    {"errors", "files", "names", "reference", "runtime"},
    {"architecture", "datasets", "durations", "probes"},
    {"spec"},
    {"records", "lease", "environment"},
    {"data", "kernels", "tensors"},
    {"models"},
    {"tracking"},
    {"training"},
    {"progress", "terminal"},
    {"launch"},
    {"judging"},
    {"drawing"},
    {"phenomena"},
    {"inspection", "report", "studies"},
    {"cli"},
    {"__main__", "__init__"},
)
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
NO_JAX = (
    "records",
    "probes",
    "spec",
    "architecture",
    "reference",
    "lease",
    "launch",
    "judging.judge",
    "judging.compare",
    "drawing.render",
    "drawing.comparison",
    "phenomena",
    "studies.find",
    "studies.publish",
    "report",
    "report.explorer",
    "cli",
)

QUICK = ROOT / "results" / "reference" / "quick"
SLOW = {
    *("jax", "flax", "optax", "orbax", "numpy", "pandas", "pyarrow"),
    *("scipy.stats", "scipy.optimize", "sklearn", "matplotlib", "seaborn", "altair"),
    "vl_convert",
}
"""What takes longer to import than help may take to appear."""


def imports_of(file: Path) -> set[str]:
    """First names under resnet_study that a file imports when it is imported."""
    names = set()
    tree = ast.parse(file.read_text())
    # Inside a function an import is deferred: those are the ways around jax at start.
    deferred = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) in deferred:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "resnet_study":
                names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {name for name in names if not name.startswith("__")}


def test_a_module_imports_only_from_its_own_floor_or_below() -> None:
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        assert own in LEVEL, f"{own} has no floor in this test"
        wrong += [
            f"{file.relative_to(ROOT)} imports {name}"
            for name in imports_of(file)
            if name in LEVEL and LEVEL[name] > LEVEL[own]
        ]
    assert not wrong


@pytest.mark.parametrize("module", NO_JAX)
def test_what_reads_records_loads_no_jax(module: str) -> None:
    code = (
        f"import sys, resnet_study.{module}\n"
        "found = {'jax', 'flax', 'optax', 'orbax'} & set(sys.modules)\n"
        "sys.exit(f'loaded {found}' if found else 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        ([["--help"], *([name, "--help"] for name in SUBCOMMANDS)], set()),
        ([["trian"], ["train", "--model.dept=8"], ["train", "--model.depth=9"], ["sweep"]], set()),
        ([["doctor"]], {"jax", "numpy"}),
        ([["status", str(QUICK)]], {"numpy", "pandas", "pyarrow"}),
        ([["compare", "error", str(QUICK)]], {"numpy", "pandas", "pyarrow"}),
    ],
    ids=["help", "mistakes", "doctor", "status", "compare"],
)
def test_a_command_loads_only_what_it_needs(lines: list[list[str]], allowed: set[str]) -> None:
    code = (
        "import sys; from resnet_study.cli import main\n"
        f"for words in {lines!r}:\n"
        "    try: main(words)\n"
        "    except SystemExit as ended: assert ended.code in (0, 2), words\n"
        # SciPy's parts are loaded when they are first used.
        f"    found = {SLOW - allowed!r} & set(sys.modules)\n"
        "    assert not found, (words, found)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("optional", ["wandb", "tyro", "submitit"])
def test_training_needs_no_optional_package(optional: str) -> None:
    code = (
        f"import sys; sys.modules[{optional!r}] = None\n"
        "import resnet_study.training.loop, resnet_study.launch.worker"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", studies())
def test_a_study_names_sweeps_figures_and_claims_that_exist(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    assert {figure.name for figure in study.figures} <= set(phenomena.figures())
    assert {claim.name for claim in study.claims} <= set(phenomena.claims())
    assert specs_of(study) or study.initialization


def test_every_sweep_belongs_to_a_study() -> None:
    sweeps = [sweep for name in studies() for sweep in load_study(name).sweeps]
    used = {sweep for sweep in sweeps if isinstance(sweep, str)}
    assert {file.name for file in (home() / "sweeps").glob("*.yaml")} == used


def test_engines_know_no_phenomenon() -> None:
    for engine in ("judging", "drawing", "training", "records", "launch"):
        for file in (PACKAGE / engine).rglob("*.py"):
            assert "phenomena" not in imports_of(file), file


def test_claims_and_figures_load_no_jax() -> None:
    code = (
        "import sys; from resnet_study import phenomena; phenomena.claims(); phenomena.figures()\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_file_is_too_long_to_be_read() -> None:
    folders = ("resnet_study", "tests", "benchmarks", "docs", "experiments")
    files = [
        file
        for folder in folders
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".cpp", ".h", ".js", ".j2") and not file.match("*.min.js")
    ]
    assert {file.suffix for file in files} == {".py", ".cpp", ".h", ".js", ".j2"}
    long = {str(f.relative_to(ROOT)) for f in files if len(f.read_text().splitlines()) > 400}
    assert not long


def test_nothing_depends_on_a_clock_that_may_jump() -> None:
    # Durations are those of time.monotonic, ages of files those of their file system. The start
    # of a run alone is told, and nothing compares it.
    clock = re.compile(r"\btime\.(time|time_ns|ctime|localtime|gmtime)\(|\bdatetime\b")
    found = {
        str(f.relative_to(PACKAGE)) for f in PACKAGE.rglob("*.py") if clock.search(f.read_text())
    }
    assert found == {"environment.py"}


def test_quick_study_has_the_depths_and_families_it_promises() -> None:
    specs = specs_of(load_study("quick"))
    grid = {(s.model.depth, s.model.residual, s.seed) for s in specs}
    assert len(grid) == len(specs)
    assert {(d, r) for d, r, _ in grid} == set(
        itertools.product((8, 20, 32, 56, 110), (False, True))
    )
    # Those that the primary claims compare.
    assert grid >= set(itertools.product((20, 56), (False, True), load_study("quick").seeds))


def test_the_lock_file_pins_everything_and_names_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    for line in text.splitlines():
        assert re.match(r"[A-Za-z0-9_.-]+==|\s+--hash=sha256:[0-9a-f]{64}", line), line
