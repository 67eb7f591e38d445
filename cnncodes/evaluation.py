"""Scores that say how far they can be trusted: intervals, baselines, per-class figures, comparisons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

__all__ = [
    "Comparison",
    "EvaluationResult",
    "fit_temperature",
    "majority_accuracy",
    "score",
    "softmax",
    "wilson_interval",
]

LOG_TEMPERATURES = (-12.0, 7.0)  # searched; decision values at the smallest C of the grid differ by about 1e-4


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval for a proportion (Wilson 1927; recommended by Brown, Cai, DasGupta 2001).

    Parameters
    ----------
    correct, n : int
        Successes and trials.
    confidence : float

    Examples
    --------
    >>> low, high = wilson_interval(90, 100)
    >>> round(low, 4), round(high, 4)
    (0.8256, 0.9448)
    """
    z = float(norm.ppf(0.5 + confidence / 2))
    p = correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def majority_accuracy(y: np.ndarray) -> float:
    """Return the accuracy on `y` of always answering its most frequent class."""
    return float(np.unique(y, return_counts=True)[1].max() / len(y))


def score(y: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Return accuracy, its 95 % interval (Wilson) and balanced accuracy of predictions.

    Parameters
    ----------
    y, predicted : ndarray, shape (n,)
    """
    correct = int(np.sum(y == predicted))
    recalls = [np.mean(predicted[y == label] == label) for label in np.unique(y)]
    return {
        "accuracy": correct / len(y),
        "interval": list(wilson_interval(correct, len(y))),
        "balanced_accuracy": float(np.mean(recalls)),
    }


@dataclass
class EvaluationResult:
    """How well a model does on labelled images.

    Attributes
    ----------
    y, predicted : ndarray of str, shape (n,)
    classes : list of str
        Of the model and of the images.
    baseline_accuracy : float
        Of always answering the most frequent class of these images.
    about : dict
        ``clf``, ``layers`` and ``C`` of the probe.
    seconds : float
    notes : list of str
    """

    y: np.ndarray
    predicted: np.ndarray
    classes: list[str]
    baseline_accuracy: float
    about: dict[str, Any]
    seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def confusion(self) -> np.ndarray:
        """Counts, shape (n_classes, n_classes): a row for each true class, a column for each predicted one."""
        return confusion_matrix(self.y, self.predicted, labels=self.classes)

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """``precision``, ``recall``, ``f1`` and number of images ``n`` of each class; 0 where nothing was predicted."""
        table = precision_recall_fscore_support(self.y, self.predicted, labels=self.classes, zero_division=0.0)
        names = ("precision", "recall", "f1", "n")
        return {
            label: {
                name: float(column[i]) if name != "n" else int(column[i])
                for name, column in zip(names, table, strict=True)
            }
            for i, label in enumerate(self.classes)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        figures = score(self.y, self.predicted)
        return {
            "n": len(self.y),
            "classes": self.classes,
            **self.about,
            **{f"test_{name}": value for name, value in figures.items()},
            "baseline_accuracy": self.baseline_accuracy,
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
            "seconds": self.seconds,
        }

    def to_frame(self) -> Any:
        """Return the per-class figures as a pandas DataFrame, one row a class."""
        return _pandas().DataFrame(self.per_class).T.rename_axis("class").astype({"n": int})


@dataclass
class Comparison:
    """Probes on several layers, cross-validated on the same folds, best first.

    Attributes
    ----------
    rows : list of dict
        ``codes``, ``layers``, ``clf``, ``C``, ``n_features``, ``cv_accuracy``, ``cv_interval``,
        ``cv_balanced_accuracy``, ``n``, ``classes``, ``baseline_accuracy``, ``seconds``; the majority class is the
        row whose ``clf`` is ``"majority"``.
    notes : list of str
    """

    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = sorted(self.rows, key=lambda row: (-row["cv_accuracy"], row["n_features"]))

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {"rows": self.rows}

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame."""
        return _pandas().DataFrame([{**row, "layers": " + ".join(row["layers"])} for row in self.rows])


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install pandas (to_dict does without)") from error
    return pandas


def softmax(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities, shape (n, n_classes), of decision values of that shape, or (n, 1) for two classes."""
    return np.exp(log_softmax(_two_sided(scores) / temperature, axis=1))


def _two_sided(scores: np.ndarray) -> np.ndarray:
    """Give two classes a column each, whose softmax is the logistic function of the one value that they have."""
    return np.hstack([-scores / 2, scores / 2]) if scores.shape[1] == 1 else scores


def fit_temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature that makes `softmax` of decision values most likely (Guo et al. 2017).

    Where every out-of-fold decision is right, the likelihood alone would make each answer certain. So one answer in
    n + 2 counts as wrong (the rule of succession; Platt 1999 did the same for his sigmoid).

    Parameters
    ----------
    scores : ndarray, shape (n, n_classes) or (n, 1)
        Out-of-fold decision values.
    truth : ndarray of int, shape (n,)
        Index of the true class of each.
    """

    n, k = len(truth), max(2, scores.shape[1])
    wrong = 1 / (n + 2)
    target = np.full((n, k), wrong / (k - 1))
    target[np.arange(n), truth] = 1 - wrong

    def loss(log_temperature: float) -> float:
        return float(-(target * log_softmax(_two_sided(scores) / np.exp(log_temperature), axis=1)).sum() / n)

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))
