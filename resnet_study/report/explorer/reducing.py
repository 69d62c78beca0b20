"""Making records small enough for a page, and writing them into it.

What is left out first is what one misses least: digits beyond the fifth, then iterations that lie
close to others on a logarithmic axis, then digits beyond the third, then seeds. What was left
out is said.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import numpy as np

from resnet_study.errors import UserError
from resnet_study.report.explorer.records import Group, Recorded, Records

FEWEST_STEPS = 24
"""Iterations that are left at the least, before digits or seeds go."""

DIGITS = {3: "five", 2: "two to three"}
"""Significant decimal digits of a float32 of which so many bytes are kept."""


def reduced(records: Records, limit: int) -> Records:
    """The records with as much left out as it takes to write them in so many bytes.

    Args:
        records: all of them.
        limit: bytes of `to_json`.

    Raises:
        UserError: if the least that can be shown is still too large.
    """
    for candidate in _candidates(records):
        # Most of the bytes are values, whose number is known without writing them.
        if size_of_values(candidate) <= limit and len(to_json(candidate).encode()) <= limit:
            return candidate
    raise UserError(
        f"too many networks for one page of {limit / 1e6:.1f} MB of records; give fewer folders, "
        "or run folders"
    )


def size_of_values(records: Records) -> int:
    """Bytes of all values in base 64."""
    runs = [run for group in records.groups for run in group.runs]
    counts = [table.size for run in runs for table in run.values.values()]
    return sum(-(-count * records.width // 3) * 4 for count in counts)


def _candidates(records: Records) -> Iterator[Records]:
    """From everything to the least."""
    yield records
    short = _narrow(records, 3)
    yield short
    most = max(len(_all_steps(group)) for group in records.groups)
    counts = [count for count in (96, 64, 48, 32, FEWEST_STEPS) if count < most]
    few = short
    for count in counts:
        few = _at_most_steps(short, count)
        yield few
    few = _narrow(few, 2)
    yield few
    seeds = {run.seed for group in records.groups for run in group.runs}
    for count in range(len(seeds) - 1, 0, -1):
        yield _at_most_seeds(few, count)


def _narrow(records: Records, width: int) -> Records:
    """Fewer bytes per value."""
    said = f"values are rounded to {DIGITS[width]} digits"
    others = tuple(s for s in records.left_out if not s.startswith("values are rounded"))
    return replace(records, width=width, left_out=(*others, said))


def _at_most_steps(records: Records, count: int) -> Records:
    groups = []
    for group in records.groups:
        kept = spread(_all_steps(group), count)
        groups.append(replace(group, runs=tuple(run.at(kept) for run in group.runs)))
    most = max(len(_all_steps(group)) for group in records.groups)
    said = f"of up to {most} recorded iterations at most {count} are here"
    return replace(records, groups=tuple(groups), left_out=(*records.left_out, said))


def _at_most_seeds(records: Records, count: int) -> Records:
    groups, left = [], 0
    for group in records.groups:
        kept: list[Recorded] = []
        for run in group.runs:
            same = sum((k.family, k.depth) == (run.family, run.depth) for k in kept)
            if same < count:
                kept.append(run)
        left += len(group.runs) - len(kept)
        groups.append(replace(group, runs=tuple(kept)))
    said = f"{left} runs of further seeds are left out"
    return replace(records, groups=tuple(groups), left_out=(*records.left_out, said))


def spread(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of these steps, evenly on a logarithmic axis, with the first and the last.

    Early steps are all kept where they are few, since what happens to gradients happens there.
    """
    ordered = np.asarray(sorted(set(steps)), dtype=float)
    if len(ordered) <= count:
        return [int(step) for step in ordered]
    places = np.log1p(ordered)
    # Early places are sparse, so several marks fall on one step: more marks until all are used.
    kept, marks = {0, len(ordered) - 1}, count
    while len(nearest := _nearest(places, marks)) <= count:
        kept, marks = nearest, marks + max(1, marks // 20)
    return [int(ordered[i]) for i in sorted(kept)]


def _nearest(places: np.ndarray, marks: int) -> set[int]:
    """Which places are nearest to so many marks between the first and the last."""
    wanted = np.linspace(places[0], places[-1], marks)
    return {int(np.abs(places - mark).argmin()) for mark in wanted}


def encode(values: np.ndarray, width: int) -> str:
    """The leading bytes of each value as a big-endian float32, rounded, in base 64."""
    bits = np.ascontiguousarray(values, dtype=">f4").view(">u4").astype(np.uint64)
    if width < 4:
        half = np.uint64(1) << np.uint64(8 * (4 - width) - 1)
        # Rounding must not make a number infinite, nor anything of what is not finite.
        bits = np.where(np.isfinite(values) & (np.abs(values) < 3.3e38), bits + half, bits)
    whole = bits.astype(">u4").reshape(-1, 1).view(np.uint8)
    return base64.b64encode(np.ascontiguousarray(whole[:, :width]).tobytes()).decode()


def decode(text: str, width: int, layers: int) -> np.ndarray:
    """What `encode` wrote, shape (steps, layers); the page does the same."""
    raw = np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, width)
    whole = np.zeros((len(raw), 4), np.uint8)
    whole[:, :width] = raw
    return whole.reshape(-1).view(">f4").astype(np.float32).reshape(-1, layers)


def to_json(records: Records) -> str:
    """JSON that can stand inside of a script element, whatever names the records hold."""
    content = {
        "quantities": [asdict(quantity) for quantity in records.quantities],
        "width": records.width,
        "leftOut": records.left_out,
        "groups": [_group(group, records.width) for group in records.groups],
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return safe_in_script(text)


def safe_in_script(json_text: str) -> str:
    """The same JSON without a character that could end the script element, or its line."""
    for character in "<>&\u2028\u2029":
        json_text = json_text.replace(character, f"\\u{ord(character):04x}")
    return json_text


def _group(group: Group, width: int) -> dict[str, object]:
    return {
        "label": group.label,
        "note": group.note,
        "growth": group.growth,
        "layers": {name: asdict(layers) for name, layers in group.layers.items()},
        "runs": [_run(run, width) for run in group.runs],
    }


def _run(run: Recorded, width: int) -> dict[str, object]:
    return {
        "family": run.family,
        "depth": run.depth,
        "seed": run.seed,
        "steps": run.steps.tolist(),
        "values": {name: encode(table, width) for name, table in run.values.items()},
        "errors": {
            split: [steps.tolist(), [round(float(error), 4) for error in errors]]
            for split, (steps, errors) in run.errors.items()
        },
    }


def _all_steps(group: Group) -> list[int]:
    return sorted({int(step) for run in group.runs for step in run.steps})
