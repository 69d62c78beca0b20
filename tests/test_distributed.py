"""Two real processes train one run through `jax.distributed`; process 0 alone writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from resnet_study.data import load_dataset
from resnet_study.errors import UserError
from resnet_study.records import read_run
from resnet_study.spec import from_flat
from resnet_study.training import devices
from resnet_study.training.loop import train
from resnet_study.training.options import Execution, Options

VALUES: dict[str, Any] = {
    "model.depth": 8,
    "data.name": "digits",
    "data.batch_size": 32,
    "schedule.iterations": 4,
    "optimizer.learning_rate": 0.01,
    "probes.log_every": 1,
    "probes.evaluate_every": 4,
    "probes.layers_every": 2,
}

STOPPED = """
import json, sys
from pathlib import Path
from resnet_study import runtime
runtime.prepare()
from resnet_study.data import load_dataset
from resnet_study.spec import (from_flat)
from resnet_study.training.devices import join_processes
join_processes()
from resnet_study.training.devices import is_main
from resnet_study.training.loop import train
from resnet_study.training.options import Host, Options, StopFlag
spec = from_flat(json.loads(sys.argv[1]))
stop = StopFlag()
# Only process 1 is told to stop.
stop.requested = not is_main()
summary = train(spec, load_dataset(spec.data, spec.seed), Path(sys.argv[2]), host=Host(stop=stop))
assert summary["status"] == "stopped", summary
"""


def two(*command: str) -> list[str]:
    """The output of both processes, which must end with code 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for index in range(2):
        values = (f"127.0.0.1:{port}", "2", str(index))
        environment = {**os.environ, **dict(zip(devices.COORDINATOR, values, strict=True))}
        # One device for each process.
        environment.pop("XLA_FLAGS", None)
        processes.append(
            subprocess.Popen(
                [sys.executable, *command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    return said


def tables(folder: Path) -> list[pd.DataFrame]:
    run = read_run(folder)
    return [
        run.metrics.sort_values(["step", "split"], ignore_index=True),
        run.layers.sort_values(["step", "layer"], ignore_index=True),
    ]


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_and_resume_exactly(tmp_path: Path) -> None:
    spec = from_flat(VALUES)
    data = load_dataset(spec.data, spec.seed)
    train(spec, data, tmp_path / "one", Options(execution=Execution("xla")))
    flags = [f"--{name}={value}" for name, value in VALUES.items()]
    command = ("-m", "resnet_study", "train", *flags, "--distributed")

    said = two(*command, f"--results={tmp_path / 'two'}")
    (folder,) = (tmp_path / "two" / "runs").iterdir()
    assert folder.name == spec.run_id
    # Process 0 alone tells of the run, and wrote every row once.
    assert [spec.run_id in text for text in said] == [True, False]
    for one, both in zip(tables(tmp_path / "one"), tables(folder), strict=True):
        pd.testing.assert_frame_equal(one, both, rtol=1e-3, atol=1e-4)
    begun = read_run(folder).environment["execution"]
    assert (begun["devices"], begun["processes"]) == (2, 2)

    # Stopped because one of them was, and continued: the same bits.
    pieces = tmp_path / "pieces" / "runs" / spec.run_id
    two("-c", STOPPED, json.dumps(VALUES), str(pieces))
    assert 0 < read_run(pieces).summary["step"] < 4
    with pytest.raises(UserError, match="2 cpu devices of 2 processes"):
        train(spec, data, pieces)
    two(*command, f"--results={tmp_path / 'pieces'}")
    for one, both in zip(tables(folder), tables(pieces), strict=True):
        pd.testing.assert_frame_equal(one, both, check_exact=True)
    # A finished run is only reported, by both.
    two(*command, f"--results={tmp_path / 'pieces'}")


def test_a_process_that_is_alone_says_what_it_needs() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in devices.COORDINATOR}
    done = subprocess.run(
        [sys.executable, "-m", "resnet_study", "train", "--model.depth=8", "--distributed"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--distributed" in line
    assert "JAX_COORDINATOR_ADDRESS" in line
