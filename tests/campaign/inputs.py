"""Flags and sweep files that nobody would write, by hypothesis: done, or refused in one line."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from resnet_study.errors import UserError, shown
from resnet_study.spec import RunSpec, from_flat, from_json, to_json
from tests.campaign.outcome import Ended, Trial, command, defect_of, run_forked

ROOT = Path(__file__).resolve().parents[2]

_LISTED = ("- -- = 0 -1 1 2 1e9 1e400 nan -inf ² true False None null [] {} 30ep 50% -5% ~ ~x",)
_LISTED += (
    "/dev/null /dev/zero / . .. é %s depth>20 seed layer step folder family error a=b =b a=",
)

WORDS = st.one_of(
    st.sampled_from(
        [*" ".join(_LISTED).split(), "", "\x01", "\n", "9" * 400, "9" * 5000, "a" * 3000]
    ),
    st.integers().map(str),
    st.floats().map(str),
    # A command line holds no zero byte.
    st.text(st.characters(blacklist_characters="\x00", blacklist_categories=["Cs"]), max_size=20),
)

_DIGITS = "more-digits-than-python-writes"

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**63, 10**400, -(10**400), 1e308]),
    st.floats(),
    st.dates(),
    st.binary(max_size=5),
    st.text(max_size=10),
    st.sampled_from(
        ["he", "30ep", "50%", "digits", "²", "test/error", "${args}", "~", "a" * 5000, _DIGITS]
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def _values() -> st.SearchStrategy[Any]:
    """Mostly such as specs have."""
    names = ["he", "lecun", "A", "batch", "none", "digits", "cifar10", "auto", "50%", "30ep", "0ep"]
    return st.sampled_from(names) | st.booleans() | st.integers(-2, 200) | st.floats(0, 1)


@functools.cache
def flags_of(name: str) -> tuple[str, ...]:
    """The flags of a subcommand, as its help has them."""
    return tuple(sorted(set(re.findall(r"--[a-z0-9_.]+", command([name, "--help"]).out))))


@st.composite
def command_lines(draw: st.DrawFn, starts: Mapping[str, Sequence[str]]) -> list[str]:
    """Words of a subcommand: where it begins, and then flags of its own with any values.

    Args:
        starts: the words that a subcommand needs to do anything, by its name.
    """
    name = draw(st.sampled_from(sorted(starts)))
    words = [name, *starts[name]]
    for _ in range(draw(st.integers(0, 4))):
        flag, value = draw(st.sampled_from(flags_of(name))), draw(WORDS)
        match draw(st.integers(0, 5)):
            case 0:
                words += [flag]
            case 1:
                words += [flag, value]
            case 2:
                words += [value]
            case 3:
                words += [
                    flag[: draw(st.integers(2, len(flag)))] + draw(st.sampled_from(["", "=1"]))
                ]
            case _:
                words += [f"{flag}={value}"]
    if draw(st.booleans()) and len(words) > 1:
        del words[draw(st.integers(1, len(words) - 1))]
    return words


@st.composite
def sweep_texts(draw: st.DrawFn) -> bytes:
    """A sweep file of this repository with changes to its tree or its text, or any tree."""
    files = sorted((ROOT / "sweeps").glob("*.yaml"))
    text = draw(st.sampled_from(files)).read_text(encoding="utf-8")
    match draw(st.integers(0, 3)):
        case 0:
            return _dump(draw(TREES))
        case 1:
            content = bytearray(text.encode())
            for _ in range(draw(st.integers(1, 5))):
                at = draw(st.integers(0, len(content) - 1))
                content[at : at + draw(st.integers(0, 30))] = draw(st.binary(max_size=8))
            return bytes(content)
        case _:
            tree = yaml.safe_load(text)
            for _ in range(draw(st.integers(1, 3))):
                _change(draw, tree)
            return _dump(tree)


def _change(draw: st.DrawFn, tree: dict[str, Any]) -> None:
    parameters = tree.get("parameters")
    at = draw(st.sampled_from(["top", "parameter", "within"]))
    if at == "top" or not isinstance(parameters, dict) or not parameters:
        keys = ["method", "metric", "parameters", "command", "program", "name", "run_cap", "x"]
        tree[draw(st.sampled_from(keys))] = draw(TREES)
    elif at == "parameter":
        names = [*RunSpec().flat(), "seeed", "model", "²"]
        parameters[draw(st.sampled_from(names))] = draw(_parameter())
    else:
        parameters[draw(st.sampled_from(sorted(map(str, parameters))))] = draw(_parameter())


def _parameter() -> st.SearchStrategy[Any]:
    number = st.one_of(st.integers(-5, 200), st.floats(), LEAVES)
    kinds = ["uniform", "log_uniform_values", "q_normal", "int_uniform", "categorical", "beta", "x"]
    return st.one_of(
        TREES,
        st.fixed_dictionaries({"value": LEAVES}),
        st.fixed_dictionaries({"values": st.lists(LEAVES, max_size=4)}),
        st.fixed_dictionaries({"min": number, "max": number}),
        st.fixed_dictionaries(
            {"distribution": st.sampled_from(kinds)},
            optional={"min": number, "max": number, "mu": number, "sigma": number, "q": number},
        ),
    )


def _dump(tree: Any) -> bytes:
    text = yaml.safe_dump(tree, allow_unicode=True).replace(_DIGITS, "9" * 5000)
    return text.encode("utf-8", "surrogatepass")


def drawn(
    strategy: st.SearchStrategy[Any], count: int, seed: int, do: Callable[[Any], None]
) -> None:
    """Call a function with so many draws."""

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(case: Any) -> None:
        do(case)

    each()


SPECS = st.dictionaries(st.sampled_from([*RunSpec().flat(), "x"]), LEAVES | _values(), max_size=4)


def refused_specs(count: int, seed: int) -> Iterator[Trial]:
    """Specs of any values: described again as they are, or refused in one line; in this process."""
    found: list[Trial] = []

    def spec(values: dict[str, Any]) -> None:
        code, err = 0, ""
        try:
            made = from_flat(values)
            if from_json(to_json(made)) != made:
                code, err = 1, "is read back as another"
        except UserError as error:
            code, err = 2, str(error)
        except Exception as error:
            code, err = 1, f"Traceback {type(error).__name__}: {error}"
        ended = Ended(code, "", err)
        found.append(Trial(shown(values), ended.refused, defect_of(ended)))

    drawn(SPECS, count, seed, spec)
    yield from found


def fuzz(study: Path, count: int, seed: int) -> Iterator[Trial]:
    """Half of the inputs are flags, half sweep files; what was given, and how it ended."""
    found: list[Trial] = []
    work = study.parent / "fuzzed"
    work.mkdir(exist_ok=True)
    starts = {
        "status": [str(study)],
        "compare": ["error", str(study)],
        "claims": [str(study)],
        "explore": [str(study), f"--output={work / 'page.html'}"],
        "sweep": [str(ROOT / "sweeps" / "quick.yaml"), "--dry_run"],
        "train": [],
        "data": [],
    }

    def flags(words: list[str]) -> None:
        ended = run_forked(lambda: _without_work(words), work)
        found.append(Trial(repr(words), ended.refused, defect_of(ended)))

    def sweep(content: bytes) -> None:
        file = work / "fuzzed.yaml"
        file.write_bytes(content)
        ended = command(["sweep", str(file), "--dry_run", "--runs=3"], work)
        found.append(Trial(repr(content), ended.refused, defect_of(ended)))

    drawn(command_lines(starts), count // 2, seed, flags)
    yield from found
    found.clear()
    drawn(sweep_texts(), count - count // 2, seed, sweep)
    yield from found


def _without_work(words: list[str]) -> None:
    """The command line, of which nothing that takes long is done: it ends where work begins."""
    from resnet_study import cli, runtime
    from resnet_study.launch import local

    def done(*_: Any, **__: Any) -> None:
        raise SystemExit(0)

    runtime.prepare = done
    local.run_local = done
    cli.main(words)
