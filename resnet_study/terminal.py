"""What tables and bars are printed on."""

from __future__ import annotations

import os
import sys

import rich.console


class Console(rich.console.Console):
    """Lets the command line end as it should when the reader of a pipe has gone."""

    def on_broken_pipe(self) -> None:
        """Rich itself would end the process with exit code 1."""
        raise  # the BrokenPipeError that is being handled


def console_for_tables(width: int = 200, highlight: bool = True) -> Console:
    """As wide as the terminal or as COLUMNS says; else, as in a pipe, as wide as is told."""
    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if told else width, markup=False, highlight=highlight)
