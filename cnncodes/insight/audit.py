"""Looks for what is wrong with labelled images: labels, duplicates, outliers, files, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cnncodes.display import html_table
from cnncodes.errors import parameter
from cnncodes.images.image_set import Images
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.insight.duplicate_pairs import DuplicatePair
from cnncodes.insight.finding import FIELDS, Examined, Finding
from cnncodes.insight.outliers import Outlier
from cnncodes.insight.suspects import Suspect
from cnncodes.insight.unreadable import Unreadable
from cnncodes.probes.protocol import Codes, TrainingData
from cnncodes.probes.split import groups_in_both
from cnncodes.system.optional import require
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO, CODES_FILE

__all__ = ["FIELDS", "KINDS", "Audit", "audit"]

MAX_FINDINGS = 10  # findings of each kind, in a notebook
IMBALANCE = 10.0  # times as many images in the largest class as in the smallest are worth a note
KINDS: tuple[type[Finding], ...] = (Suspect, DuplicatePair, Outlier, Unreadable)


@dataclass
class Audit:
    """What `audit` found; each list has the worst first.

    Attributes
    ----------
    n : int
        Images that were looked at.
    classes : dict of str to int
        Number of images of each class, the most frequent first.
    suspects : list of Suspect
        Labels that are probably wrong.
    duplicates : list of DuplicatePair
        Pairs of images that look the same, or nearly.
    outliers : list of Outlier
        Images far from all others.
    unreadable : list of Unreadable
        Images that could not be read.
    accuracy : float or None
        Accuracy of the out-of-fold predictions that the suspects come from. Where it is not significantly above the
        most frequent class, the classifier cannot tell, and there are no suspects.
    baseline_accuracy : float or None
        Accuracy of always answering the most frequent class.
    notes : list of str
    layers : list of str
        Layers whose codes were looked at.
    clf : str
        Classifier that judged the labels.
    """

    n: int
    classes: dict[str, int]
    suspects: list[Suspect] = field(default_factory=list)
    duplicates: list[DuplicatePair] = field(default_factory=list)
    outliers: list[Outlier] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    accuracy: float | None = None
    baseline_accuracy: float | None = None
    notes: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    clf: str = ""

    @property
    def imbalance(self) -> float:
        """Images of the largest class for each of the smallest."""
        return max(self.classes.values()) / min(self.classes.values()) if self.classes else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {**asdict(self), "imbalance": self.imbalance}

    def findings(self) -> list[dict[str, Any]]:
        """Return a row for each finding, all with the same keys, as they stand in the CSV file."""
        return [item.to_row() for kind in KINDS for item in getattr(self, kind.key)]

    def to_frame(self) -> Any:
        """Return `findings` as a pandas DataFrame."""
        return require("pandas", "to_frame").DataFrame(self.findings(), columns=list(FIELDS))

    def plot(self, ax: Any = None) -> Any:
        """Draw the number of images of each class, and how many of its labels are probably wrong.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib Axes
        """
        names = list(self.classes)
        if ax is None:
            size = (7, 1.5 + 0.3 * len(names))
            ax = require("matplotlib.pyplot", "plot").subplots(figsize=size, layout="constrained")[1]
        wrong = Counter(suspect.label for suspect in self.suspects)
        suspects = np.array([wrong[name] for name in names])
        at = np.arange(len(names))
        ax.barh(at, suspects, color="C1", label="label probably wrong")
        ax.barh(at, np.array(list(self.classes.values())) - suspects, left=suspects, color="C0", label="others")
        ax.set_yticks(at, names, parse_math=False)
        ax.invert_yaxis()  # the most frequent class on top
        ax.set_xlabel("images")
        ax.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
        return ax

    def _repr_html_(self) -> str:
        rows = self.findings()
        kinds = Counter(row["kind"] for row in rows)
        counts = ", ".join(f"{kind}: {count}" for kind, count in kinds.items()) or "nothing found"
        more = (
            f"; the first {MAX_FINDINGS} of each kind are shown"
            if max(kinds.values(), default=0) > MAX_FINDINGS
            else ""
        )
        shown: list[list[Any]] = []
        place: Counter[str] = Counter()
        for row in rows:
            place[row["kind"]] += 1
            if place[row["kind"]] <= MAX_FINDINGS:
                cells = (row[name] for name in FIELDS)
                shown.append([f"{cell:.3g}" if isinstance(cell, float) else cell or "" for cell in cells])
        return html_table(FIELDS, shown, f"{self.n} images. {counts}{more}")


def audit(
    codes: Codes = CODES_FILE,
    images: Images | None = None,
    *,
    allow_outside: bool = False,
    layers: str | Sequence[str] = ("penultimate",),
    clf: str = "svm",
    cv: int = 5,
    seed: int = 0,
    n_jobs: int | str | None = AUTO,
    progress: Progress | None = None,
) -> Audit:
    """Look for wrong labels, duplicates, outliers, unreadable images and imbalance.

    Parameters
    ----------
    codes : path, CodesFile or TrainingData, default="codes.h5"
        All its images count, whatever their split.
    images : path, sequence, ndarray or ImageSet, optional
        The images that the file was made from. They are read if it keeps no small pictures, so that more of the
        near-duplicates are found.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    layers : str or sequence of str, default=("penultimate",)
        Layers whose codes say what a label should be, and what is far from all others; several are concatenated.
    clf, cv, seed, n_jobs
        As for `fit`, for the out-of-fold probabilities.
    progress : callable, optional
        Called with (done, total, failed) while any of `images` are read, and then while values of C are tried.

    Returns
    -------
    Audit

    Raises
    ------
    ImagesError
        An image of the file is not among `images`.
    CodesFileError
        No such file or layer.

    Examples
    --------
    >>> audited = audit("codes.h5", "photos/")  # doctest: +SKIP
    >>> audited.to_frame().to_csv("audit.csv")  # doctest: +SKIP
    """
    with TrainingData.open(codes) as data:
        image_set = None if images is None else load_images(images, allow_outside=allow_outside)
        return _audit(data, image_set, layers, progress, clf=clf, cv=cv, seed=seed, n_jobs=n_jobs)


def _audit(
    data: TrainingData,
    images: ImageSet | None,
    layers: str | Sequence[str],
    progress: Progress | None,
    **options: Any,
) -> Audit:
    names = [layers] if isinstance(layers, str) else list(layers)
    for name in names:
        data.file.n_features(name)  # refuses what is not there before anything is computed
    rows = data.file.rows(labelled=False)
    duplicates = data.duplicates(rows, images, progress=progress)
    labels = data.file.labels[rows]
    classes, counts = np.unique(labels[labels != ""], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    result = Audit(len(rows), dict(zip(classes[order].tolist(), counts[order].tolist(), strict=True)))
    notes = [*duplicates.notes, *_notes(data, rows, result)]
    examined = Examined(data, rows, duplicates, names, {**options, "progress": progress}, notes)
    for kind in KINDS:
        setattr(result, kind.key, kind.look(examined))
    result.accuracy, result.baseline_accuracy = examined.accuracy, examined.baseline_accuracy
    result.notes, result.layers, result.clf = notes, names, options["clf"]
    return result


def _notes(data: TrainingData, rows: np.ndarray, result: Audit) -> list[str]:
    """Say what is known about the images as a whole."""
    groups, splits = data.file.groups[rows], data.file.splits[rows]
    notes = []
    if n_missing := data.file.n_missing:
        notes.append(f"{n_missing} images are not extracted yet; run the same `cnncodes extract` again to finish it")
    if shared := groups_in_both(groups[np.isin(splits, ["test", "val"])], groups[splits == "train"]):
        notes.append(f"on both sides of the split: {shared}; they count in no held-out score")
    if result.imbalance >= IMBALANCE:
        most, fewest = next(iter(result.classes)), next(reversed(result.classes))
        notes.append(
            f"imbalance: {result.classes[most]} images of {most!r}, {result.classes[fewest]} of {fewest!r}; "
            f"look at the balanced accuracy, and try {parameter('class_weight', 'balanced', of='fit')}"
        )
    return notes
