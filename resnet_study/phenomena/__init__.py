"""What is known about each phenomenon, a folder each: measures, theory, claims, figures.

A folder has a module ``claims`` with ``CLAIMS`` or a module ``figures`` with ``FIGURES``, or both.
Nothing lists them: `claims` and `figures` walk the folders. Studies import the objects themselves.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from resnet_study.errors import UserError
from resnet_study.names import nearest_hint

if TYPE_CHECKING:
    from resnet_study.drawing.render import FigureDefinition
    from resnet_study.judging.claim import Claim

T = TypeVar("T")


def claims() -> dict[str, Claim]:
    """Every claim by name, phenomenon by phenomenon."""
    return {claim.name: claim for claim in _walk("claims", "CLAIMS")}


def figures() -> dict[str, FigureDefinition]:
    """Every figure by name, phenomenon by phenomenon."""
    return {figure.name: figure for figure in _walk("figures", "FIGURES")}


def chosen(what: str, known: Mapping[str, T], names: Sequence[str] | None) -> list[T]:
    """Those of these names, each once, or all.

    Args:
        what: they are, for the message.
        known: `claims()` or `figures()`.
        names: None for all; several in one with commas between.

    Raises:
        UserError: for an unknown name, with the nearest known one.
    """
    if names is None:
        return list(known.values())
    names = [name.strip() for several in names for name in several.split(",")]
    for name in names:
        if not name:
            raise UserError(f"an empty name is no {what}; leave --only out for all")
        if name not in known:
            raise UserError(f"unknown {what} {name}; {nearest_hint(name, known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _walk(module: str, attribute: str) -> list[Any]:
    found: list[Any] = []
    for package in pkgutil.iter_modules(__path__):
        name = f"{__name__}.{package.name}.{module}"
        if package.ispkg and importlib.util.find_spec(name):
            found += getattr(importlib.import_module(name), attribute)
    return found
