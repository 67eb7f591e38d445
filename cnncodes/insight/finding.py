"""What an audit looks at, and what every kind of finding has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from cnncodes.neighbours.duplicates import Duplicates
from cnncodes.probes.protocol import TrainingData

__all__ = ["FIELDS", "Examined", "Finding"]

FIELDS = ("kind", "id", "label", "split", "suggested", "score", "other", "other_label", "other_split", "reason")


@dataclass(frozen=True)
class Finding:
    """One thing that may be wrong with an image.

    A kind of finding is a module with a subclass: its fields are the keys in JSON, `look` finds it, and `KINDS` of
    `cnncodes.insight.audit` lists it.

    Attributes
    ----------
    id : str
    label : str
        An empty string where the image has none.
    """

    key: ClassVar[str]  # name of the list in an `Audit`
    title: ClassVar[str]  # heading of the table in the terminal
    columns: ClassVar[tuple[str, ...]]  # fields that this table shows

    id: str
    label: str

    @classmethod
    def look(cls, examined: Examined) -> Sequence[Finding]:
        """Return what is found, the worst first; notes are added to those of `examined`."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Name of the kind, as in the CSV file."""
        return self.title

    @property
    def badness(self) -> float | None:
        """What findings of one kind are sorted by, as in the column ``score`` of the CSV file."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    def to_row(self) -> dict[str, Any]:
        """Return a row of the CSV file, with the same keys for all kinds."""
        values = {**self.to_dict(), "kind": self.name, "score": self.badness}
        return {name: values.get(name) for name in FIELDS}


@dataclass
class Examined:
    """The images that an audit looks at.

    Attributes
    ----------
    data : TrainingData
    rows : ndarray of int, shape (n,)
        All rows of the codes file that hold codes, ascending.
    duplicates : Duplicates
        Near-duplicates among these rows.
    layers : list of str
        Layers whose codes are looked at.
    options : dict
        ``clf``, ``cv``, ``seed``, ``n_jobs`` and ``progress`` of the out-of-fold probabilities.
    notes : list of str
    accuracy, baseline_accuracy : float or None
        Accuracy of the out-of-fold predictions, and of the most frequent class, once they are known.
    """

    data: TrainingData
    rows: np.ndarray
    duplicates: Duplicates
    layers: list[str]
    options: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    accuracy: float | None = None
    baseline_accuracy: float | None = None

    @property
    def codes(self) -> np.ndarray:
        """Codes of the rows, shape (n, n_features), or with views in the middle."""
        return self.data.codes(self.layers, self.rows)

    def of(self, position: int) -> dict[str, str]:
        """Return ``id``, ``label`` and ``split`` of an image, given its position in `rows`."""
        file, row = self.data.file, self.rows[position]
        return {"id": str(file.ids[row]), "label": str(file.labels[row]), "split": str(file.splits[row])}
