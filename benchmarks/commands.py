"""Processor time of the commands that only show something, from their start to their end.

    python benchmarks/commands.py

Seconds of user and system time, which other work on the machine disturbs less than the time on
the clock; the least of several runs, in which caches of files are warm. Beside it the packages
whose imports take longest, from one more run under ``-X importtime``.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import subprocess
import sys
from pathlib import Path

from machine import about, heading, table_row, write_results

from resnet_study.cli import SUBCOMMANDS

QUICK = Path(__file__).resolve().parent.parent / "results" / "reference" / "quick"

HELP_TARGET, TARGET = 0.5, 2.0
"""Seconds that help and the other commands may take where nothing else runs."""


def commands(study: Path) -> list[tuple[str, ...]]:
    """The words of each command."""
    helps = [("--help",), *((name, "--help") for name in SUBCOMMANDS)]
    return [*helps, ("doctor",), ("status", str(study)), ("compare", "error", str(study))]


def processor_seconds(words: tuple[str, ...]) -> float:
    """User and system time of a command, its own processes included.

    Raises:
        RuntimeError: if it fails.
    """
    command = [sys.executable, "-m", "resnet_study", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def import_seconds(words: tuple[str, ...]) -> dict[str, float]:
    """Time of the imports of each package, the longest first; the standard library is one."""
    command = [sys.executable, "-X", "importtime", "-m", "resnet_study", *words]
    log = subprocess.run(command, capture_output=True, text=True).stderr
    return by_package(log)


def by_package(log: str) -> dict[str, float]:
    """Seconds of each top-level package in what ``-X importtime`` writes, the longest first."""
    seconds: collections.Counter[str] = collections.Counter()
    for own, name in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\w+)", log, re.MULTILINE):
        package = "standard library" if name in sys.stdlib_module_names else name
        seconds[package] += int(own) / 1e6
    return dict(seconds.most_common())


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--study", type=Path, default=QUICK, help="read by status and compare (the quick study)")
    add("--rounds", type=int, default=5, help="runs of each command (5)")
    add("--json", type=Path, help="write all numbers to this file")
    add("--markdown", action="store_true", help="print the rows of README.md's table at the end")
    return parser.parse_args(words)


def main() -> int:
    options, facts = arguments(), about()
    heading(facts)
    results, rows = [], []
    for words in commands(options.study):
        try:
            seconds = [processor_seconds(words) for _ in range(options.rounds)]
        except RuntimeError as error:
            print(f"commands.py: {error}", file=sys.stderr)
            return 1
        imports = import_seconds(words)
        # The name of the study's folder is of this machine.
        name = " ".join(word.replace(str(options.study), options.study.name) for word in words)
        target = HELP_TARGET if words[-1] == "--help" else TARGET
        heaviest = ", ".join(f"{key} {value:.2f}" for key, value in list(imports.items())[:4])
        print(f"{name:20} {min(seconds):.2f} s (target {target}); imports: {heaviest}", flush=True)
        results.append({"command": name, "seconds": seconds, "imports": imports})
        rows.append(table_row(f"`{name}`", f"{min(seconds):.2f}", target, heaviest))
    write_results(options.json, facts, results)
    if options.markdown:
        print(table_row("command", "processor seconds", "target", "heaviest imports"))
        print("\n".join([table_row(*["---"] * 4), *rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
