"""What was found in records, kept as long as they: claims about the same runs ask the same."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import pandas as pd

from resnet_study.records import Frames

Rest = ParamSpec("Rest")
Found = TypeVar("Found", pd.DataFrame, Frames)


def per_group(
    function: Callable[Concatenate[Frames, Rest], Found],
) -> Callable[Concatenate[Frames, Rest], Found]:
    """A function of records that computes once what is asked of the same records again."""
    kept: weakref.WeakKeyDictionary[Frames, dict[Any, Found]] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def once(frames: Frames, *rest: Rest.args, **named: Rest.kwargs) -> Found:
        found, key = kept.setdefault(frames, {}), (rest, *named.items())
        if key not in found:
            found[key] = function(frames, *rest, **named)
        result = found[key]
        # Columns that a caller adds are its own.
        return result.copy(deep=False) if isinstance(result, pd.DataFrame) else result

    return once
