"""The one exception that a user should ever see: one line, exit code 2."""

import os
import reprlib
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

SHOWN = 80
"""Most characters of a value that a message quotes."""

_INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")
_NOT_THEIRS = (
    "<",
    f"{Path(__file__).parent}{os.sep}",
    *(f"{sysconfig.get_path(name)}{os.sep}" for name in _INSTALLED),
)
"""Where files of this package, of Python and of other libraries begin."""


class UserError(Exception):
    """Something the user can mend.

    The message is a single line that says what is wrong, where, and how to mend
    it. The command line prints it without a traceback and exits with code 2.
    """


def require(condition: bool, where: str, value: Any, rule: str) -> None:
    """Refuse a value in one line: where it is, what it is, and what is valid.

    Raises:
        UserError: unless the condition holds.
    """
    if not condition:
        text = f'"{shown(value)}"' if isinstance(value, str) else shown(value)
        raise UserError(f"{where}={text}: {rule}")


def shown(value: Any) -> str:
    """What a message quotes of a value: its text, at most `SHOWN` characters on one line.

    The value may be anything that YAML can hold: millions of characters or digits, or a list
    that holds itself.
    """
    if isinstance(value, int) and value.bit_length() > SHOWN:
        # Python refuses to write numbers of more than 4,300 digits.
        return f"{'-' if value < 0 else ''}10^{int(value.bit_length() * 0.30103)}"
    if isinstance(value, str):
        text = value[: 2 * SHOWN]
    else:
        holds = isinstance(value, list | tuple | dict | set | bytes)
        text = _brief.repr(value) if holds else str(value)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def told(error: BaseException) -> str:
    """A mistake in code that is not ours, in one line: ``KeyError: 'row' (mine.py, line 24)``."""
    first = next(iter(str(error).strip().splitlines()), "")
    calls = traceback.extract_tb(error.__traceback__)
    own = [call for call in calls if not call.filename.startswith(_NOT_THEIRS)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{': ' if first else ''}{first}{place}"


def is_number(value: Any) -> bool:
    """Whether it is an integer or float, finite as a float."""
    largest = sys.float_info.max
    return type(value) in (int, float) and -largest <= value <= largest


class _Brief(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        return shown(value) if value.bit_length() > SHOWN else str(value)


_brief = _Brief()
_brief.maxlevel = 2
_brief.maxother = _brief.maxstring = SHOWN
