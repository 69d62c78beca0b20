"""The command line, called in this process, and what it is given."""

import pytest

from resnet_study.cli import main


def call(*words: object) -> int:
    """Exit code of the command line, in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    code = ended.value.code
    assert isinstance(code, int)
    return code


SWEEP = """
command: ["${env}", python, -m, resnet_study, train, "${args}"]
method: grid
parameters:
  model.depth: {value: 8}
  data.name: {value: synthetic}
  schedule.iterations: {value: 6}
  seed: {values: [0, 1]}
"""
