"""Looks for what is wrong with labelled images: labels, duplicates, outliers, files, counts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.views import averaged
from cnncodes.display import html_table
from cnncodes.errors import ProbeError
from cnncodes.images.image_set import Images
from cnncodes.insight.label_errors import find_label_errors
from cnncodes.neighbours.duplicates import MOST, NEIGHBOURS, Duplicates, find_duplicates, join_groups
from cnncodes.neighbours.nearest import nearest_rows, standardised
from cnncodes.probes.calibration import softmax
from cnncodes.probes.out_of_core import stratified_sample
from cnncodes.probes.scores import majority_accuracy, score
from cnncodes.probes.search import C_GRID, Search, search_C
from cnncodes.probes.split import groups_in_both
from cnncodes.system.optional import require
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO

__all__ = ["Audit", "audit", "out_of_fold"]

FAR = 1.5  # spreads between the quartiles beyond the upper one (Tukey 1977)
SHOWN = 10  # findings of each kind, in a notebook
IMBALANCE = 10.0  # times as many images in the largest class as in the smallest are worth a note
SAMPLE_ROWS = 1000  # images on which every third C is tried, where there are more
FIELDS = ("kind", "id", "label", "split", "suggested", "score", "other", "other_label", "other_split", "reason")


@dataclass
class Audit:
    """What `audit` found; each list has the worst first.

    Attributes
    ----------
    n : int
        Images that were looked at.
    classes : dict of str to int
        Number of images of each class, the most frequent first.
    suspects : list of dict
        Labels that are probably wrong: ``id``, ``label``, ``split``, ``suggested`` (the most probable other label),
        ``confidence`` (its probability), ``label_confidence`` (that of the given one).
    duplicates : list of dict
        Pairs: ``id``, ``label``, ``split``, ``other``, ``other_label``, ``other_split``, ``similarity``, ``kind``
        (``"exact"``: the same bytes, or ``"near"``), ``across_classes``, ``across_splits``.
    outliers : list of dict
        Images far from all others: ``id``, ``label``, ``split``, ``score`` (distance to the tenth nearest, over the
        median of all images).
    unreadable : list of dict
        ``id``, ``label``, ``reason``.
    accuracy : float or None
        Of the out-of-fold predictions that the suspects come from. Where it is not significantly above the most
        frequent class, the classifier cannot tell, and there are no suspects.
    baseline_accuracy : float or None
        Of always answering the most frequent class.
    notes : list of str
    layers : list of str
        Whose codes were looked at.
    clf : str
        What judged the labels.
    """

    n: int
    classes: dict[str, int]
    suspects: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    outliers: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, Any]] = field(default_factory=list)
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
        rows: list[dict[str, Any]] = []
        rows += [{**row, "kind": "suspect label", "score": row["confidence"]} for row in self.suspects]
        rows += [{**row, "kind": f"{row['kind']} duplicate", "score": row["similarity"]} for row in self.duplicates]
        rows += [{**row, "kind": "outlier"} for row in self.outliers]
        rows += [{**row, "kind": "unreadable"} for row in self.unreadable]
        return [{name: row.get(name) for name in FIELDS} for row in rows]

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
        wrong = Counter(row["label"] for row in self.suspects)
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
        more = f"; the first {SHOWN} of each kind are shown" if max(kinds.values(), default=0) > SHOWN else ""
        shown: list[list[Any]] = []
        place: Counter[str] = Counter()
        for row in rows:
            place[row["kind"]] += 1
            if place[row["kind"]] <= SHOWN:
                cells = (row[name] for name in FIELDS)
                shown.append([f"{cell:.3g}" if isinstance(cell, float) else cell or "" for cell in cells])
        return html_table(FIELDS, shown, f"{self.n} images. {counts}{more}")


def audit(
    codes: str | os.PathLike[str] | CodesFile = "codes.h5",
    images: Images | None = None,
    *,
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
    codes : path or CodesFile
        All its images count, whatever their split.
    images : path, sequence, ndarray or ImageSet, optional
        What the file was made from: with the pictures at hand, more of the near-duplicates are found.
    layers : str or sequence of str
        Whose codes say what a label should be, and what is far from all others; several are concatenated.
    clf, cv, seed, n_jobs
        Of the out-of-fold probabilities, as for `fit`.
    progress : callable, optional
        Called with (done, total, failed) while `images` are read.

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
    >>> found = audit("codes.h5", "photos/")  # doctest: +SKIP
    >>> found.to_frame().to_csv("audit.csv")  # doctest: +SKIP
    """
    with nullcontext(codes) if isinstance(codes, CodesFile) else CodesFile.open(codes) as file:
        rows = file.rows(labelled=False)
        columns = (getattr(file, name)[rows].tolist() for name in ("ids", "labels", "splits"))
        records = [dict(zip(("id", "label", "split"), row, strict=True)) for row in zip(*columns, strict=True)]
        labels, groups = file.labels[rows], file.groups[rows]
        unreadable = [
            {"id": str(file.ids[row]), "label": str(file.labels[row]), "reason": str(file.errors[row])}
            for row in np.flatnonzero(file.failed)
        ]
        pending, splits = file.counts["pending"], file.splits[rows]
        duplicates = find_duplicates(file, rows, images, progress=progress)
        X = file.codes(layers, rows)
    names, counts = np.unique(labels[labels != ""], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    found = Audit(len(rows), dict(zip(names[order].tolist(), counts[order].tolist(), strict=True)))
    found.layers, found.clf = [layers] if isinstance(layers, str) else list(layers), clf
    found.unreadable = unreadable
    found.notes = list(duplicates.notes)
    if pending:
        found.notes.append(
            f"{pending} images are not extracted yet; run the same `cnncodes extract` again to finish it"
        )
    if images is None:
        found.notes.append("near-duplicates were looked for by their codes alone; with the images, more are found")
    if shared := groups_in_both(groups[np.isin(splits, ["test", "val"])], groups[splits == "train"]):
        found.notes.append(f"on both sides of the split: {shared}; they count in no held-out score")
    if found.imbalance >= IMBALANCE:
        most, fewest = next(iter(found.classes)), next(reversed(found.classes))
        found.notes.append(
            f"imbalance: {found.classes[most]} images of {most!r}, {found.classes[fewest]} of {fewest!r}; "
            "look at the balanced accuracy, and try --class-weight balanced"
        )
    found.duplicates = _pairs(records, duplicates)
    found.outliers = _outliers(records, X)
    _add_suspects(found, records, X, labels, join_groups(groups, duplicates), clf=clf, cv=cv, seed=seed, n_jobs=n_jobs)
    return found


def _pairs(records: list[dict[str, Any]], found: Duplicates) -> list[dict[str, Any]]:
    pairs = []
    for (first, second), similarity, exact in zip(found.pairs, found.similarity, found.exact, strict=True):
        one, other = records[first], records[second]
        pairs.append(
            {
                **one,
                **{f"other{'' if name == 'id' else f'_{name}'}": value for name, value in other.items()},
                "similarity": float(similarity),
                "kind": "exact" if exact else "near",
                "across_classes": one["label"] != other["label"],
                "across_splits": one["split"] != other["split"],
            }
        )
    return sorted(pairs, key=lambda pair: (not pair["across_classes"], not pair["across_splits"], -pair["similarity"]))


def _outliers(records: list[dict[str, Any]], X: np.ndarray) -> list[dict[str, Any]]:
    """Return images whose tenth nearest is far away: copies of an outlier don't make it less of one."""
    n = len(records)
    if not NEIGHBOURS < n <= MOST:
        return []
    distance = nearest_rows(standardised(averaged(X)), NEIGHBOURS)[1][:, -1]
    low, middle, high = np.quantile(distance, [0.25, 0.5, 0.75])
    far = np.flatnonzero(distance > high + FAR * (high - low))
    return [{**records[i], "score": float(distance[i] / middle)} for i in far[np.argsort(-distance[far])]]


def _add_suspects(
    found: Audit, records: list[dict[str, Any]], X: np.ndarray, labels: np.ndarray, groups: np.ndarray, **options: Any
) -> None:
    """Say which labels are probably wrong, by probabilities from folds that keep duplicates together."""
    at = np.flatnonzero(labels != "")
    try:
        search = out_of_fold(X[at], labels[at], groups[at], **options)
    except ProbeError as error:
        found.notes.append(f"suspect labels are not looked for: {error}")
        return
    found.notes += search.notes
    figures = score(labels[at], search.predictions, out_of_fold=True)
    found.accuracy, found.baseline_accuracy = figures["accuracy"], majority_accuracy(labels[at])
    if figures["interval"][0] <= found.baseline_accuracy:
        found.notes.append(
            f"suspect labels are not listed: {found.accuracy:.1%} right out of fold is not significantly more than the "
            f"{found.baseline_accuracy:.1%} of the most frequent class, so the classifier cannot tell; add images, or "
            "try another layer"
        )
        return
    given = np.searchsorted(search.classes, labels[at])
    probabilities = softmax(search.decision, search.temperature)
    others = np.where(np.eye(len(search.classes), dtype=bool)[given], -1.0, probabilities)
    for i in find_label_errors(given, probabilities):
        best = int(others[i].argmax())
        found.suspects.append(
            {
                **records[at[i]],
                "suggested": str(search.classes[best]),
                "confidence": float(probabilities[i, best]),
                "label_confidence": float(probabilities[i, given[i]]),
            }
        )


def out_of_fold(
    X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None, *, cv: int = 5, seed: int = 0, **options: Any
) -> Search:
    """Cross-validate with the best C; of many images, a sample says which that is.

    Parameters
    ----------
    X, y, groups, cv, seed, **options
        As for `search_C`.
    """
    options |= {"cv": cv, "seed": seed}
    classes, of_row = np.unique(y, return_inverse=True)
    m = max(SAMPLE_ROWS, 2 * cv * len(classes))  # some of each class in each fold
    if len(y) <= m:
        return search_C(X, y, groups=groups, **options)
    kept = stratified_sample(of_row, m, cv, seed)
    kept_groups = None if groups is None else groups[kept]
    try:
        sample = search_C(X[kept], y[kept], Cs=C_GRID[::3], groups=kept_groups, **options)
    except ProbeError:  # it may have one group of a class that has two
        return search_C(X, y, groups=groups, **options)
    search = search_C(X, y, Cs=[sample.C], groups=groups, **options)
    search.notes += [note for note in sample.notes if note not in search.notes]
    return search
