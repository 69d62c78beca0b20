"""What `train_step.py` measured, for people and as rows of README.md."""

from __future__ import annotations

import statistics
from typing import Any

from machine import table_row
from timing import Estimate, estimate, ratio

DISTURBING = 0.05
"""Share of the processor time, taken by what should be asleep, that is worth a warning."""


def show(result: dict[str, Any], rounds: dict[str, list[float]]) -> None:
    """Print the result of one network."""
    for name, values in rounds.items():
        speed, peak = estimate(values), result["peak_bytes"][name] / 2**20
        text = f"  {name:24} {speed.median:8.0f} images/s, peak {peak:6.0f} MiB"
        if gflops := result["peak_gflops"]:
            text += f", {100 * speed.median * result['image_gflops'] / gflops:.0f} % of the peak"
        if name == "torch":
            text += f"   ({result['variant']})"
        elif "torch" in rounds:
            text += f"   ours / PyTorch {ratio(rounds, name, 'torch')}"
        print(text)
    for who, share in result["disturbance"].items():
        if share > DISTURBING:
            print(f"  {who}: {100 * share:.0f} % of the processor time; repeat it undisturbed")
    if gflops := result["peak_gflops"]:
        print(f"  peak: {gflops:.0f} GFLOP/s in float32; counted as if every product were taken")
    print(flush=True)


def markdown(results: list[dict[str, Any]]) -> None:
    """Print the rows of the tables in README.md, one per network and kernels."""
    print(
        table_row(
            "network",
            "kernels",
            "PyTorch, images/s",
            "its variant",
            "ours",
            "ratio (spread)",
            "without probes",
            "ratio (spread)",
            "peak MiB: PyTorch, ours",
        )
    )
    print(table_row(*["---"] * 9))
    for result in results:
        rounds, network = result.get("images_per_second", {}), result["network"]
        if "torch" not in rounds:
            continue
        family = "residual" if network["residual"] else "plain"
        memory = {name: round(peak / 2**20) for name, peak in result["peak_bytes"].items()}
        for kind in dict.fromkeys(name.partition(",")[0] for name in rounds if name != "torch"):
            ours, bare = (f"{kind}, {how} probes" for how in ("with", "without"))
            comparisons: list[Estimate] = [ratio(rounds, name, "torch") for name in (ours, bare)]
            print(
                table_row(
                    f"{family}-{network['depth']}, {network['size']}×{network['size']}",
                    kind,
                    round(statistics.median(rounds["torch"])),
                    result["variant"],
                    round(statistics.median(rounds[ours])),
                    comparisons[0],
                    round(statistics.median(rounds[bare])),
                    comparisons[1],
                    f"{memory['torch']}, {memory[ours]}",
                )
            )
