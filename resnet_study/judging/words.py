"""Numbers in words: the Jinja2 templates that stand beside the claims (`claim.Claim.words`).

A measure returns numbers and composes no sentence; a template computes nothing. What a template
prints of a float has three digits, and any other form by the filter ``number``; ``capitalized`` is
for the beginning of a sentence. Space around the parts of a template does not matter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resnet_study.judging.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment, Template

ENDING = """
{% if diverged %}Diverged runs ({{ diverged }}) count with the error of guessing, or their last if
that is larger.{% endif %}
{% if not_ended %}Runs that have not ended ({{ not_ended }}) are left out.{% endif %}
{% if warmups %}With a warm-up: {% for depth, warmup in warmups.items() %}
{{- ", " if not loop.first }}rate {{ warmup.rate|number("g") }} until
{% if warmup.error %}{{ warmup.error|number("g") }} % training error
{%- else %}iteration {{ warmup.iterations }}{% endif %} at {{ depth }}{% endfor %}.{% endif %}
{% if groups %}Of {{ groups }} groups of comparable runs, judged:
{% for field, value in judged_group.items() %}{{ ", " if not loop.first }}{{ field }}={{ value }}
{%- endfor %}.{% endif %}"""
"""Behind every template: what is told alike wherever it was counted."""

_COUNTED = dict.fromkeys(("diverged", "not_ended", "warmups", "groups"), 0)


def template(text: str) -> Template:
    """Read a template.

    Raises:
        jinja2.TemplateSyntaxError: if it is none.
    """
    return _environment().from_string(text)


def in_words(text: str, numbers: Mapping[str, Any], ending: str = ENDING) -> str:
    """The numbers in the sentences of a template and of an ending, on one line.

    Raises:
        jinja2.UndefinedError: if the template names a number that there is not.
    """
    return " ".join(template(text + ending).render(_COUNTED | dict(numbers)).split())


def number(value: Any, form: str = ".3g", unit: str = "") -> str:
    """What a measure gives in digits.

    Args:
        value: a number; an `Interval` (``0.31 (94 % interval 0.2 to 0.42)``); numbers by depth
            (``0.31 at 8, 0.12 at 20``) or by name (``linear 0.31, power 0.12``); a sequence; None.
        form: as for `format`.
        unit: printed behind each number.
    """
    if isinstance(value, Interval):
        estimate, low, high = (number(part, form, unit) for part in value[:3])
        level = f"{100 * value.level:.0f} % interval"
        return f"{estimate} ({level} {low} to {high})" if value.exists else estimate
    if isinstance(value, Mapping):
        parts = {key: number(part, form, unit) for key, part in value.items()}
        named = [f"{key} {part}" for key, part in parts.items() if isinstance(key, str)]
        return ", ".join(named or [f"{part} at {depth}" for depth, part in sorted(parts.items())])
    if isinstance(value, Sequence):
        return ", ".join(number(part, form, unit) for part in value)
    return "none" if value is None else format(value, form) + unit


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def two_digits(value: float) -> str:
    """For titles: ``0.0015``, ``120``, ``9.5·10⁻⁵``."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    power = int(exponent or 0)
    if not math.isfinite(value) or -4 < power < 5:
        return f"{float(f'{value:.2g}'):,.{max(0, 1 - power)}f}"
    return f"{mantissa}·10{str(power).translate(_RAISED)}"


def spread(row: Mapping[str, Any] | pd.Series[Any]) -> str:
    """``71.72 (54.61 to 89.61; 7)`` of the columns of `median_over_seeds`; one run has no range."""
    n = f"{row['n']:.0f}"
    ends = f"{row['low']:.2f} to {row['high']:.2f}; " if row["n"] > 1 else ""
    return f"{row['median']:.2f} ({ends}{n})"


SPREAD_WORDS = "median (lowest to highest; number of seeds)"
"""What `spread` prints."""


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    def three_digits(value: Any) -> Any:
        return number(value) if isinstance(value, float | Interval | Mapping) else value

    environment = Environment(undefined=StrictUndefined, finalize=three_digits)
    environment.filters["number"] = number
    environment.filters["capitalized"] = lambda text: text[:1].upper() + text[1:]
    return environment
