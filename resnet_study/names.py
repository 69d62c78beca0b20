"""Names that users type, the nearest known one to a wrong one, and words for numbers of things."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import accumulate

from resnet_study.errors import UserError

STUDY_MODULE = "resnet_study_study_"
"""What the names of modules that hold a study begin with once they are loaded."""

FEW = 8
"""Names that are all told, even where one is near."""

MOST = 260
"""Letters of names that are told where none is near, so that a message stays one that is read."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like this one; None if none is like it."""
    known = list(known)
    short = [one for one in known if _abbreviates(name, one)]
    return next(iter(short or difflib.get_close_matches(name, known, n=1, cutoff=0.4)), None)


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name: the nearest known one, or all of them."""
    known = list(known)
    begun = [one for one in known if name and one.startswith(name)]
    near = (
        begun
        or [one for one in known if _abbreviates(name, one)]
        or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    )
    if len(known) <= FEW:
        return (f"did you mean {near[0]}? Known" if near else "known") + f" are {', '.join(known)}"
    if near:
        more = f" or one of {len(near) - FEW} others" if len(near) > FEW else ""
        return f"did you mean {', '.join(near[:FEW])}{more}?"
    ends = accumulate(len(name) + 2 for name in known)
    told = max(FEW, sum(end <= MOST for end in ends))
    rest = f" and {len(known) - told} others" if len(known) > told else ""
    return f"known are {', '.join(known[:told])}{rest}"


def _abbreviates(name: str, whole: str) -> bool:
    """Whether it has the first letters of the words of the last part: lr of learning_rate."""
    *first, last = whole.lstrip("-").split(".")
    words = last.split("_")
    short = "".join(word[:1] for word in words)
    return len(words) > 1 and name.lstrip("-") in (short, ".".join([*first, short]))


def counted(count: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def integers(flag: str, text: str) -> list[int]:
    """Whole numbers out of ``0,7,12``.

    Raises:
        UserError: naming flag and text.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"-?[0-9]{1,18}", word) for word in words):
        raise UserError(f"{flag}={text}: write whole numbers, such as 0,7,12")
    return [int(word) for word in words]


def lasting(seconds: float | None) -> str:
    """``44 s``, ``12 min``, ``3 h 20 min``; a dash where it is not known."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """Of what is being waited for, with its seconds: ``1:05 min``, ``3 h 20 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min"
