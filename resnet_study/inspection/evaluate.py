"""What a network answers to every image of a split, and how wrong that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from resnet_study.data.originals import ORIGINALS
from resnet_study.files import write_atomically
from resnet_study.inspection.inspected import Inspected


class Evaluation(NamedTuple):
    """Answers to N images of K classes.

    Attributes:
        labels: (N,) integers.
        probabilities: softmax of the logits, (N, K) float64.
        predictions: class of the largest logit, (N,) integers.
        loss: mean cross-entropy.
        error: percent.
        confusion: images of true class i that were taken for class j, (K, K) integers.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    predictions: np.ndarray
    loss: float
    error: float
    confusion: np.ndarray

    @property
    def class_errors(self) -> np.ndarray:
        """Percent of the images of each true class, (K,); NaN for a class without any."""
        count = self.confusion.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(100 * (count - np.diag(self.confusion)) / count)


def evaluation_of(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Judge finite logits, (N, K), by labels, (N,) integers from 0 to K - 1."""
    from scipy.special import log_softmax
    from sklearn.metrics import confusion_matrix

    logs = log_softmax(logits.astype(np.float64), axis=1)
    predictions = np.argmax(logits, axis=1)
    classes = logits.shape[1]
    return Evaluation(
        labels=labels,
        probabilities=np.exp(logs),
        predictions=predictions,
        loss=float(-logs[np.arange(len(labels)), labels].mean()),
        error=100 * float(np.sum(predictions != labels)) / len(labels),
        confusion=confusion_matrix(labels, predictions, labels=range(classes)),
    )


def class_names(data: str, classes: int) -> list[str]:
    """Names of the classes of a data set; their numbers where they have none."""
    original = ORIGINALS.get(data)
    return list(original.classes) if original else [str(label) for label in range(classes)]


def recorded_error(network: Inspected, split: str) -> float | None:
    """Error in percent that the run recorded for this step and split; None if it did not."""
    if network.run is None or network.step is None or network.run.metrics.empty:
        return None
    metrics = network.run.metrics
    rows = metrics[(metrics["step"] == network.step) & (metrics["split"] == split)]
    return float(rows["error"].iloc[-1]) if len(rows) else None


def write_probabilities(path: Path, evaluation: Evaluation, names: list[str]) -> None:
    """Write ``image, label, prediction`` and a probability per class, one row per image.

    ``image`` is the position in the split; label and prediction are class numbers, and the columns
    of probabilities are the classes in their order. Every digit is kept.
    """
    table = pd.DataFrame(evaluation.probabilities, columns=names)
    table.insert(0, "prediction", evaluation.predictions)
    table.insert(0, "label", evaluation.labels)
    table.insert(0, "image", np.arange(len(table)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, table.to_csv(index=False))


def as_json(
    network: Inspected, split: str, evaluation: Evaluation, names: list[str], note: str
) -> dict[str, Any]:
    """What machines read: numbers in percent, NaN as null once written."""
    return {
        "run_id": network.spec.run_id,
        "network": network.name,
        "source": network.source,
        "step": network.step,
        "split": split,
        "images": len(evaluation.labels),
        "error": evaluation.error,
        "loss": evaluation.loss,
        "recorded_error": recorded_error(network, split),
        "classes": dict(zip(names, evaluation.class_errors.tolist(), strict=True)),
        "confusion": evaluation.confusion.tolist(),
        "note": note,
    }
