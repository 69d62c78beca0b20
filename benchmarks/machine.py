"""What a benchmark ran on, and what it writes: kind of machine, versions, load, results."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from resnet_study import runtime
from resnet_study.environment import git_revision, versions

BUSY = 0.5
"""Load average per core over the last minute above which other work disturbs a measurement."""


def about() -> dict[str, Any]:
    """Kind of machine, versions and the command line; no names of machines or folders."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {
        "command": f"python benchmarks/{shlex.join(words)}",
        "processor": processor(),
        "cores": runtime.available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "accelerator": accelerator(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions(),
        "git": git_revision(),
        "load": os.getloadavg()[0],
    }


def processor() -> str:
    """Model name of the processor, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def accelerator() -> str:
    """Name of the first NVIDIA GPU, or "none"."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return found.splitlines()[0].strip() if found.strip() else "none"


def busy_seconds() -> float:
    """Processor time that everything together took so far on the cores of this process.

    Counts what a hypervisor gave to others. NaN where /proc is not there.
    """
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return math.nan
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    ticks = 0
    for line in lines:
        name, *fields = line.split()
        if name in cores:
            user, nice, system, _idle, _wait, interrupts, soft, stolen = map(int, fields[:8])
            ticks += user + nice + system + interrupts + soft + stolen
    return ticks / os.sysconf("SC_CLK_TCK")


def heading(facts: dict[str, Any], **more: str) -> None:
    """Print what `about` found, further versions, and a warning if the machine is busy."""
    packages = {name: facts["packages"][name] for name in ("jax", "jaxlib", "flax")} | more
    print(facts["command"])
    print(
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, "
        f"accelerator: {facts['accelerator']}; {facts['system']}, Python {facts['python']}, "
        + ", ".join(f"{name} {version}" for name, version in packages.items())
    )
    if facts["load"] > BUSY * facts["cores"]:
        print(f"The machine is busy (load average {facts['load']:.1f}): expect wide spreads.")
    print(flush=True)


def write_results(path: Path | None, facts: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Write everything that was measured as JSON, if the user named a file."""
    if path is not None:
        path.write_text(json.dumps({"about": facts, "results": results}, indent=1) + "\n")


def table_row(*cells: object) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"
