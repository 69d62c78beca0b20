"""Durations as people write them: iterations (400), epochs (30ep), percent of the run (50%)."""

from __future__ import annotations

import math

from resnet_study.errors import require

Duration = int | str

LONGEST = 2**31 - 1
"""Most iterations of a run: they are counted in 32 bits."""


def to_iterations(duration: Duration, epoch: float | None, total: int | None, where: str) -> int:
    """Convert a duration to iterations: the only such conversion in the project.

    Args:
        duration: iterations (400 or "400"), epochs ("30ep") or percent of the run ("50%").
        epoch: iterations of an epoch, training images / batch size; None if it has no known
            length, as with a subset of a data set.
        total: length of the run in iterations, for percent; None where percent has no meaning.
        where: dotted name of the field, for messages.

    Raises:
        UserError: if the text is none of these forms, negative, percent of nothing, or epochs
            of no known length.
    """
    # Python refuses to write integers of more than 4,300 digits.
    near = duration if isinstance(duration, str) else max(-1, min(duration, 2 * LONGEST))
    text = near.strip() if isinstance(near, str) else f"{near:d}"
    percent = " or percent of the run (50%)" if total is not None else ""
    epochs = "epochs (30ep)" if percent else "or epochs (30ep)"
    require(
        epoch is not None or not text.endswith("ep"),
        where,
        duration,
        "an epoch of a subset (data.subset=true) has no known length; give iterations (400)"
        + percent,
    )
    number, scale, whole = text, 1.0, True
    if text.endswith("ep") and epoch is not None:
        number, scale, whole = text[:-2], epoch, False
    elif text.endswith("%") and total is not None:
        number, scale, whole = text[:-1], total / 100, False
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    require(
        math.isfinite(value * scale) and value >= 0 and (not whole or value.is_integer()),
        where,
        duration,
        f"a duration is a whole number of iterations (400), {epochs}{percent}",
    )
    require(value * scale <= LONGEST, where, duration, f"at most {LONGEST:,} iterations")
    # A share of a short run is at least one iteration; only a plain 0 is 0.
    return max(round(value * scale), 1 if value > 0 else 0)
