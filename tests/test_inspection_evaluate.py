"""Errors, losses and confusions against a second computation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_study.data.originals import CIFAR10
from resnet_study.inspection.evaluate import (
    as_json,
    class_names,
    evaluation_of,
    write_probabilities,
)
from tests.inspected import network_of, spec_of


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


LABELS = np.arange(50, dtype=np.int32) % 3
"""The last class has no image."""


def test_the_file_of_probabilities_has_all_that_the_numbers_say(
    logits: np.ndarray, tmp_path: Path
) -> None:
    found = evaluation_of(logits, LABELS)
    path = tmp_path / "deeper" / "answers.csv"
    write_probabilities(path, found, list("abcd"))
    table = pd.read_csv(path)
    assert list(table) == ["image", "label", "prediction", *"abcd"]
    shares = table[list("abcd")].to_numpy()
    assert np.allclose(shares.sum(axis=1), 1)
    answers = shares.argmax(axis=1)
    assert answers.tolist() == table["prediction"].tolist()
    assert found.error == 100 * np.mean(answers != table["label"])
    own = shares[np.arange(50), table["label"]]
    assert found.loss == pytest.approx(-np.log(own).mean(), rel=1e-12)
    for true in range(4):
        for answer in range(4):
            count = np.sum((table["label"] == true) & (table["prediction"] == answer))
            assert found.confusion[true, answer] == count


def test_errors_by_class_average_to_the_error(logits: np.ndarray) -> None:
    found = evaluation_of(logits, LABELS)
    assert np.isnan(found.class_errors[3])
    shares = np.bincount(LABELS) / len(LABELS)
    assert shares @ found.class_errors[:3] == pytest.approx(found.error)


def test_large_logits_do_not_overflow() -> None:
    found = evaluation_of(np.array([[1e4, -1e4]], np.float32), np.array([1]))
    assert found.loss == pytest.approx(2e4)
    assert found.probabilities.tolist() == [[1.0, 0.0]]


def test_classes_have_names_where_the_data_have() -> None:
    assert class_names("cifar10", 10) == list(CIFAR10.classes)
    assert class_names("digits", 10) == list("0123456789")


def test_machines_read_the_same(logits: np.ndarray) -> None:
    found = evaluation_of(logits, LABELS)
    content = as_json(network_of(spec_of()), "test", found, list("abcd"), "")
    assert content["error"] == found.error
    assert content["recorded_error"] is None
    assert content["confusion"] == found.confusion.tolist()
    assert (content["network"], content["step"], content["images"]) == ("residual-8", 7, 50)
