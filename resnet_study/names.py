"""Names that users type: the nearest known one to a wrong one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from resnet_study.errors import UserError

FEW = 8
"""Names that are all told, even where one is near."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like this one; None if none is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)), None)


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name: the nearest known one, or all of them."""
    known = list(known)
    near, listed = nearest(name, known), ", ".join(known)
    if near is None:
        return f"known are {listed}"
    return f"did you mean {near}?" + (f" Known are {listed}" if len(known) <= FEW else "")


def integers(flag: str, text: str) -> list[int]:
    """Whole numbers out of ``0,7,12``.

    Raises:
        UserError: naming flag and text.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"-?[0-9]{1,18}", word) for word in words):
        raise UserError(f"{flag}={text}: write whole numbers, such as 0,7,12")
    return [int(word) for word in words]
