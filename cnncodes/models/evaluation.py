"""How well a model does on labelled images: figures, a table, a plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from cnncodes.display import html_table
from cnncodes.probes.estimate import Accuracies
from cnncodes.probes.scores import score
from cnncodes.system.optional import require

__all__ = ["EvaluationResult"]


@dataclass
class EvaluationResult:
    """How well a model does on labelled images.

    Attributes
    ----------
    y, predicted : ndarray of str, shape (n,)
        Label and prediction of each image.
    classes : list of str
        Classes of the model and of the images, sorted.
    baseline_accuracy : float
        Accuracy of always answering the most frequent class of these images.
    about : dict
        ``clf``, ``layers`` and ``C`` of the probe, and of a fine-tuned model ``tuned_from``, the first part that was
        trained; of a network with its own head ``"imagenet"``, the layer of its answers, ``None``, and its
        ``backbone``.
    seconds : float
        Duration of the evaluation.
    notes : list of str, default=[]
        Remarks on the images.
    neighbour_accuracy : float, optional
        Accuracy of answering with the class of the nearest training image; ``None`` without training images.
    n_seen : int, default=0
        Images that the model was fitted on. They are not among `y`, unless there were no others.
    n_grouped : int, default=0
        Images that are not among `y`, because their group has images that the model was fitted on.
    groups : ndarray of str, shape (n,), optional
        Images that are not independent, which makes the intervals wider; an empty string means a group of its own.
    """

    y: np.ndarray
    predicted: np.ndarray
    classes: list[str]
    baseline_accuracy: float
    about: dict[str, Any]
    seconds: float
    notes: list[str] = field(default_factory=list)
    neighbour_accuracy: float | None = None
    n_seen: int = 0
    n_grouped: int = 0
    groups: np.ndarray | None = None

    @cached_property
    def accuracies(self) -> Accuracies:
        """Accuracy and balanced accuracy, with 95 % intervals."""
        return score(self.y, self.predicted, groups=self.groups)

    @property
    def only_seen(self) -> bool:
        """Whether the model was fitted on all of these images, so that nothing is held out."""
        return self.n_seen == len(self.y)

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
        return {
            "n": len(self.y),
            "classes": self.classes,
            **self.about,
            "n_seen": self.n_seen,
            "n_test_grouped": self.n_grouped,
            **self.accuracies.to_dict("seen_" if self.only_seen else "test_"),
            "baseline_accuracy": self.baseline_accuracy,
            "neighbour_accuracy": self.neighbour_accuracy,
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
            "seconds": self.seconds,
        }

    def to_frame(self) -> Any:
        """Return the per-class figures as a pandas DataFrame, one row a class."""
        return require("pandas", "to_frame").DataFrame(self.per_class).T.rename_axis("class").astype({"n": int})

    def plot(self, ax: Any = None) -> Any:
        """Draw the confusion matrix: a row for each true class, shaded by its share of that class.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib Axes
        """
        k = len(self.classes)
        if ax is None:
            side = 2 + 0.45 * k
            ax = require("matplotlib.pyplot", "plot").subplots(figsize=(side + 1, side), layout="constrained")[1]
        counts = self.confusion
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.argwhere(counts):
            ax.text(j, i, counts[i, j], ha="center", va="center", color="white" if shares[i, j] > 0.6 else "black")
        ax.set_xticks(range(k), self.classes, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        ax.set_yticks(range(k), self.classes, parse_math=False)
        ax.set_xlabel("predicted")
        ax.set_ylabel("true")
        return ax

    def _repr_html_(self) -> str:
        seen = ", of images that the model was fitted on" if self.only_seen else ""
        title = f"Accuracy {self.accuracies.accuracy} of {len(self.y)} images{seen}"
        rows = [
            (name, f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f}", row["n"])
            for name, row in self.per_class.items()
        ]
        return html_table(["class", "precision", "recall", "F1", "images"], rows, title)
