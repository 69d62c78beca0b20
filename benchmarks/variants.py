"""Which variant of PyTorch is the fastest for a network."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
from typing import Any

from sides import Variant, inner, start_torch, torch_worker, turns
from timing import interleaved
from workers import WorkerError

KEPT_PAGES = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(256 << 20),
}
"""The allocator settings that this project makes for itself, as glibc's variables."""


def describe_variant(variant: Variant) -> str:
    """Such as "channels_last, fused, compiled"."""
    words = ["channels_last" if variant["channels_last"] else "contiguous", variant["optimizer"]]
    if variant["compile"]:
        words.append("compiled" + (", CUDA graphs" if variant["compile"] != "default" else ""))
    if variant["environment"]:
        words.append(
            "OpenMP threads sleep" if "OMP_WAIT_POLICY" in variant["environment"] else "kept pages"
        )
    return ", ".join(words)


def plain_variant(channels_last: bool, optimizer: str) -> Variant:
    """An eager variant."""
    return {
        "channels_last": channels_last,
        "optimizer": optimizer,
        "compile": "",
        "environment": {},
    }


def choose_variant(
    network: dict[str, Any], batch: str, options: argparse.Namespace
) -> tuple[Variant, list[str]]:
    """PyTorch's fastest variant for a network, and one line on each that was tried."""
    eager = [plain_variant(*way) for way in itertools.product((True, False), ("fused", "foreach"))]
    with torch_worker(options) as worker:
        seconds = worker.call(
            "choose",
            network=network,
            batch=batch,
            device=options.device,
            precision=options.precision,
            variants=[inner(variant) for variant in eager],
            seconds=options.turn / 3,
        )
    notes = [
        f"{describe_variant(variant)}: {options.batch / value:.0f} images/s"
        for variant, value in zip(eager, seconds, strict=True)
    ]
    best = eager[seconds.index(min(seconds))]
    cuda = options.device == "cuda"
    others = [
        {**best, "compile": mode}
        for mode in ("default", "reduce-overhead")[: 1 + cuda]
        if options.compile_limit > 0
    ]
    if not cuda:
        others.append({**best, "environment": {"OMP_WAIT_POLICY": "passive"}})
        others.append({**best, "environment": KEPT_PAGES})
    with contextlib.ExitStack() as stack:
        candidates = {}
        for variant in (best, *others):
            worker = stack.enter_context(torch_worker(options, variant["environment"]))
            try:
                start_torch(worker, network, batch, variant, options, options.compile_limit or None)
            except WorkerError as error:
                notes.append(f"{describe_variant(variant)}: {error}")
                continue
            candidates[describe_variant(variant)] = (variant, turns(worker, options, options.turn))
        rates = {
            name: statistics.median(values)
            for name, values in interleaved({n: c[1] for n, c in candidates.items()}, 3).items()
        }
    notes += [f"{name}: {rate:.0f} images/s, in turns" for name, rate in rates.items()]
    allowed = {
        name: rate
        for name, rate in rates.items()
        if options.torch_malloc or candidates[name][0]["environment"] is not KEPT_PAGES
    }
    return candidates[max(allowed, key=lambda name: allowed[name])][0], notes
