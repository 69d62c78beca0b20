"""Names that users type: the nearest known one to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from resnet_study.errors import UserError


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like this one; None if none is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)), None)


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name: the nearest known one, or all of them."""
    known = list(known)
    near = nearest(name, known)
    return f"did you mean {near}?" if near else f"known are {', '.join(known)}"


def pairs(flag: str, texts: Iterable[str], example: str) -> dict[str, str]:
    """Names and values out of ``name=value``.

    Raises:
        UserError: naming flag and text, with an example of what is meant.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"{flag} {text}: write a name and its value, {example}")
        found[name] = value
    return found
