"""The one exception that a user should ever see: one line, exit code 2."""

from typing import Any


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
        shown = f'"{value}"' if isinstance(value, str) else value
        raise UserError(f"{where}={shown}: {rule}")
