"""Settings are made before jax starts, and the user's own choices stay."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_study import runtime
from resnet_study.errors import UserError

LINUX = (platform.system(), platform.machine()) == ("Linux", "x86_64")

CHOICES = (
    "XLA_FLAGS",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "MALLOC_ARENA_MAX",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "LD_PRELOAD",
    "TF_CPP_MIN_LOG_LEVEL",
)


def prepared(cache: Path, **choices: str) -> tuple[dict[str, str], dict[str, str]]:
    """Settings and environment after `prepare` in a process whose user made these choices."""
    program = (
        "import json, os, sys; from resnet_study import runtime;"
        "settings = runtime.prepare(); assert runtime.prepare() is settings;"
        "assert 'jax' not in sys.modules;"
        "print(json.dumps([settings, dict(os.environ)]))"
    )
    environment = {k: v for k, v in os.environ.items() if k not in CHOICES}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "JAX_PLATFORMS": "cpu", "RESNET_STUDY_CACHE": str(cache), **choices},
        capture_output=True,
        text=True,
        check=True,
    )
    settings, after = json.loads(done.stdout)
    return settings, after


def test_without_choices_everything_is_set(tmp_path: Path) -> None:
    settings, environment = prepared(tmp_path)
    assert set(settings) == {"allocator", "xla_fusion", "compilation_cache"}
    if platform.libc_ver()[0] == "glibc":
        assert settings["allocator"] == "keeps its pages"
    if LINUX and importlib.metadata.version("jaxlib") in runtime.FUSION_FLAG_VERSIONS:
        assert environment["XLA_FLAGS"] == f"{runtime.FUSION_FLAG}=eltwise,reduce"
    assert settings["compilation_cache"] == "on"
    folder = Path(environment["JAX_COMPILATION_CACHE_DIR"])
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path / "xla")


START = """
from resnet_study import runtime
runtime.prepare()
import jax
from resnet_study.datasets import DATASETS
from resnet_study.spec import from_flat
from resnet_study.training.programs import keys_of
from resnet_study.training.step import initial_state

events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
spec = from_flat({"data.name": "digits", "model.depth": 8})
state = initial_state(spec, DATASETS["digits"], keys_of(0).initialization)
print(sum(abs(leaf).sum() for leaf in jax.tree.leaves(state.parameters)))
print(*(events.count(f"/jax/compilation_cache/cache_{kind}") for kind in ("misses", "hits")))
"""


def test_a_second_start_compiles_nothing_but_what_is_damaged(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in CHOICES}
    environment |= {"JAX_PLATFORMS": "cpu", "RESNET_STUDY_CACHE": str(tmp_path)}

    def start() -> tuple[str, int, int]:
        done = subprocess.run(
            [sys.executable, "-c", START],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert not done.stderr
        weights, counts = done.stdout.splitlines()
        misses, hits = map(int, counts.split())
        return weights, misses, hits

    weights, compiled, found = start()
    assert (compiled > 10, found) == (True, 0)
    assert start() == (weights, 0, compiled)
    damaged = sorted(tmp_path.rglob("*-cache"))[::3]
    for kept in damaged:
        kept.write_bytes(kept.read_bytes()[:9])
    assert start()[0] == weights


def test_the_users_choices_stay(tmp_path: Path) -> None:
    choices = {
        "XLA_FLAGS": f"{runtime.FUSION_FLAG}=",
        "MALLOC_ARENA_MAX": "3",
        "JAX_COMPILATION_CACHE_DIR": "",
        "TF_CPP_MIN_LOG_LEVEL": "0",
    }
    settings, environment = prepared(tmp_path, **choices)
    assert {name: environment[name] for name in choices} == choices
    assert all(text.startswith("left alone") for text in settings.values())
    assert "MALLOC_ARENA_MAX" in settings["allocator"]
    assert not (tmp_path / "xla").exists()


def test_an_accelerator_keeps_its_own_settings(tmp_path: Path) -> None:
    settings, environment = prepared(tmp_path, JAX_PLATFORMS="cuda,cpu")
    assert settings["allocator"] == settings["xla_fusion"] == "left alone (an accelerator is used)"
    assert "XLA_FLAGS" not in environment


def test_a_cache_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings, environment = prepared(tmp_path / "file")
    assert settings["compilation_cache"].startswith("off (")
    assert "JAX_COMPILATION_CACHE_DIR" not in environment


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process that has not been prepared, as far as `runtime` can see."""
    monkeypatch.setattr(runtime, "_settings", {})
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_something=1")
    return monkeypatch


@pytest.mark.skipif(not LINUX, reason="the flag was tried on Linux x86_64 only")
def test_other_flags_of_the_user_are_kept_in_front(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(importlib.metadata, "version", lambda name: runtime.FUSION_FLAG_VERSIONS[0])
    assert runtime._set_fusion_flag() == "eltwise,reduce"
    assert os.environ["XLA_FLAGS"].split() == [
        "--xla_something=1",
        f"{runtime.FUSION_FLAG}=eltwise,reduce",
    ]
    # Set once, it counts as chosen: a second call must not append it again.
    assert runtime._set_fusion_flag().startswith("left alone")


@pytest.mark.parametrize("version", ["0.10.3", "0.12.0", "99.0"])
def test_a_jaxlib_that_was_not_tried_gets_no_flag(fresh: pytest.MonkeyPatch, version: str) -> None:
    fresh.setattr(importlib.metadata, "version", lambda name: version)
    assert runtime._set_fusion_flag() == f"left alone (jaxlib {version} was not tried)"
    assert os.environ["XLA_FLAGS"] == "--xla_something=1"


def test_too_late_is_refused(fresh: pytest.MonkeyPatch) -> None:
    fresh.setitem(sys.modules, "jax", sys)
    before = dict(os.environ)
    with pytest.raises(UserError, match="before jax is imported"):
        runtime.prepare()
    assert dict(os.environ) == before


def test_the_flag_is_known_to_this_jaxlib(tmp_path: Path) -> None:
    """jaxlib aborts the process on a flag that it does not know."""
    environment = {k: v for k, v in os.environ.items() if k not in CHOICES}
    program = (
        "from resnet_study import runtime; runtime.prepare();"
        "import jax; print(int(jax.jit(lambda x: x + 1)(1)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "JAX_PLATFORMS": "cpu", "RESNET_STUDY_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2\n"


def test_the_cache_folder_is_chosen_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_STUDY_CACHE", "~/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert runtime.cache_folder(Path("/argument")) == Path("/argument")
    assert runtime.cache_folder() == Path.home() / "chosen"
    monkeypatch.delenv("RESNET_STUDY_CACHE")
    assert runtime.cache_folder() == Path("/xdg/resnet-study")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert runtime.cache_folder() == Path.home() / ".cache" / "resnet-study"


@pytest.mark.parametrize(
    ("platforms", "cpu"), [("cpu", True), ("CPU", True), ("cpu,cuda", True), ("cuda", False)]
)
def test_the_platform_that_was_chosen_counts(
    monkeypatch: pytest.MonkeyPatch, platforms: str, cpu: bool
) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert runtime.uses_cpu() == cpu


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_processes_are_spread_over_the_allowed_cores() -> None:
    program = (
        "import os; from resnet_study import runtime\n"
        "allowed, seen = sorted(os.sched_getaffinity(0)), []\n"
        "assert runtime.available_cores() == len(allowed)\n"
        "for index in range(len(allowed) + 1):\n"
        "    os.sched_setaffinity(0, allowed); runtime.pin_to_core(index)\n"
        "    assert runtime.available_cores() == 1; seen += os.sched_getaffinity(0)\n"
        "assert seen == [*allowed, allowed[0]], seen"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
