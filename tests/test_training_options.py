"""What travels beside a spec, and how a run is asked to stop."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import pytest

from resnet_study.datasets import DataSource
from resnet_study.errors import UserError
from resnet_study.tracking.tracker import Tracking
from resnet_study.training.options import Execution, Options, StopFlag


def test_options_arrive_in_another_process_as_they_were_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """WANDB_MODE counts where the command was given, not where the run is computed."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = Options(DataSource(Path("data")), Execution("xla", 2), checkpoint_seconds=3.0)
    sent = pickle.dumps(options)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert pickle.loads(sent) == options
    assert pickle.loads(sent).tracking.mode == "offline"
    assert Tracking("off").mode == "off"


@pytest.mark.parametrize("devices", [0, -1])
def test_a_run_has_a_device(devices: int) -> None:
    with pytest.raises(UserError, match=f"--devices={devices}"):
        Execution(devices=devices)


def test_the_first_interrupt_asks_and_the_second_ends() -> None:
    stop, before = StopFlag(), signal.getsignal(signal.SIGTERM)
    with stop.listening(signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_after_another_request_is_a_first_one() -> None:
    """A worker sees its parent's end in a broken pipe, and is sent SIGTERM for it too."""
    stop = StopFlag()
    with stop.listening(signal.SIGTERM):
        stop.requested = True
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_patient_one_is_never_ended() -> None:
    """Linux may send a worker SIGTERM twice for one death of its parent."""
    stop = StopFlag(patient=True)
    with stop.listening(signal.SIGTERM):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested
