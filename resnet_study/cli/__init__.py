"""The command ``resnet-study``: typed subcommands, one-line errors, exit code 2.

Exit codes: 0 done; 1 done, but a run failed; 2 the user can mend it; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import itertools
import os
import shutil
import sys
import typing
from collections.abc import Sequence
from typing import Any

import tyro

from resnet_study import __version__
from resnet_study.cli import (
    commands,
    comparing,
    help,
    mirroring,
    mistakes,
    networks,
    studies,
    sweeps,
)
from resnet_study.errors import UserError
from resnet_study.launch.agent import HINT, unnested
from resnet_study.names import nearest_hint
from resnet_study.tracking.tracker import under_agent

PROGRAM = "resnet-study"

SUBCOMMANDS: dict[str, Any] = {
    "train": commands.train,
    "sweep": sweeps.sweep,
    "status": sweeps.status,
    "mirror": mirroring.mirror,
    "reproduce": commands.reproduce,
    "slice": studies.slice_study,
    "publish": studies.publish,
    "report": studies.report,
    "explore": studies.explore,
    "figures": studies.figures,
    "claims": studies.claims,
    "compare": comparing.compare,
    "evaluate": networks.evaluate,
    "features": networks.features,
    "measure": networks.measure,
    "data": commands.data,
    "doctor": commands.doctor,
}


NARROWEST = 40
"""Characters of a line; in fewer, boxes and tables are one letter wide, or take for ever."""

LONGEST = 1000
"""Most characters of a message: a word of a command line may have a hundred times as many."""

LISTS = ("--where", "--only", "--sbatch")
"""Flags that take several values, after one of them or each after its own."""

JOINED = ("--by", "--format")
"""Flags that take several values with commas between, or each after its own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A check mark that the terminal cannot show is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    _settle()
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        _complain(words, str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe, such as head, has gone; that is no error.
        _write_nowhere(sys.stdout)
        _write_nowhere(sys.stderr)
        sys.exit(0)
    except OSError as error:
        # A folder that cannot be made or written, a full disk.
        reason = _MISTAKEN.get(error.errno or 0) or error.strerror or str(error)
        _complain(words, f"{error.filename}: {reason}" if error.filename else reason)


_MISTAKEN = dict.fromkeys(
    (errno.EEXIST, errno.ENOTDIR), "is a file where a folder is needed; name another"
) | {errno.EISDIR: "is a folder where a file is needed; name another"}
"""What the system says of paths by its own words."""


def _settle() -> None:
    """Leave out of the environment what a person has set for other programs."""
    # A notebook's is only there within its own interpreter; no command shows a window.
    os.environ["MPLBACKEND"] = "agg"
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)


def _dispatch(words: list[str]) -> int:
    if words and not words[0].startswith("-") and words[0] not in SUBCOMMANDS:
        raise UserError(f"no subcommand {words[0]}; {nearest_hint(words[0], SUBCOMMANDS)}")
    if words == ["--version"]:
        print(PROGRAM, __version__)
        return 0
    # A parser of all flags of all subcommands takes long to build.
    described = {
        name: _deferred(function) if name in words else _without_flags(function)
        for name, function in SUBCOMMANDS.items()
    }
    parse = tyro.extras.subcommand_cli_from_dict
    arguments = _normalized(words or ["--help"])
    chosen = SUBCOMMANDS.get(words[0]) if words else None
    try:
        with (
            mistakes.told(arguments, chosen),
            contextlib.redirect_stdout(help.Wrapped(sys.stdout)),
        ):
            action = parse(
                described,
                prog=PROGRAM,
                description=(
                    "Plain against residual networks: train them, record every layer, "
                    "and judge the claims of He et al. 2015 (arXiv 1512.03385)."
                ),
                args=arguments,
                use_underscores=True,
                config=(tyro.conf.FlagCreatePairsOff,),
                registry=help.REGISTRY,
            )
    except UserError as error:
        hint = f"; {HINT}" if words[0] == "train" and under_agent() else ""
        raise UserError(f"{error}{hint}") from None
    except SystemExit as exit_:
        return int(exit_.code or 0)
    result: int = action()
    return result


def _without_flags(function: Any) -> Any:
    """A subcommand as the list of subcommands shows it; never called."""

    def shown() -> None:
        pass

    # Its first sentences; all is in its own help.
    shown.__doc__ = (function.__doc__ or "").partition("\n\n")[0]
    return shown


def _deferred(function: Any) -> Any:
    """The function's signature and help, but called only after parsing is over."""

    @functools.wraps(function)
    def later(*args: Any, **kwargs: Any) -> Any:
        return functools.partial(function, *args, **kwargs)

    # Where tyro looks for what explains the flags.
    function.__doc__ = help.one_paragraph_each(function.__doc__)
    for annotation in typing.get_type_hints(function).values():
        help.fold_fields(annotation)
    return later


def _collected(words: Sequence[str]) -> list[str]:
    """The same words with every flag once: those of `LISTS` and `JOINED` add up, and stand last.

    Raises:
        UserError: for any other flag that is given twice, of which one would be ignored, and for
            one of these without a value.
    """
    single: list[str] = []
    lists: dict[str, list[str]] = {}
    seen: set[str] = set()
    into = single
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if not flag.startswith("--"):
            into.append(word)
            continue
        flag = flag.replace("-", "_").replace("__", "--", 1)
        if flag in JOINED:
            into, values = single, [value] if equals else list(itertools.islice(rest, 1))
            lists.setdefault(flag, []).extend(values)
            continue
        into = lists.setdefault(flag, []) if flag in LISTS else single
        if flag in LISTS:
            into += [value] if equals else []
            continue
        if flag in seen:
            raise UserError(f"{flag} is given twice; give it once")
        seen.add(flag)
        single.append(word)
    for flag, values in lists.items():
        if not values:
            raise UserError(f"{flag}: its value is missing")
        single += [flag, *([",".join(values)] if flag in JOINED else values)]
    return single


def _normalized(words: Sequence[str]) -> list[str]:
    """Accept true and false as JSON, YAML and wandb write them."""
    spelled = {"true": "True", "false": "False"}
    result = []
    for word in _collected(unnested(words, under_agent())):
        flag, equals, value = word.partition("=")
        if equals and flag.startswith("--"):
            result.append(f"{flag}={spelled.get(value, value)}")
        else:
            result.append(spelled.get(word, word))
    return result


def _complain(words: Sequence[str], message: str) -> None:
    name = f"{PROGRAM} {words[0]}" if words and words[0] in SUBCOMMANDS else PROGRAM
    try:
        # Values that the user gave are quoted in messages and may hold line breaks.
        line = " ".join(message.split())
        if len(line) > LONGEST:
            line = f"{line[: LONGEST - 200]} ... {line[-200:]}"
        print(f"{name}: {line} (see {name} --help)", file=sys.stderr)
    except OSError:
        _write_nowhere(sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _write_nowhere(sys.stdout)
    sys.exit(2)


def _write_nowhere(stream: Any) -> None:
    """So that the interpreter does not fail, and complain, when it ends and writes what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
