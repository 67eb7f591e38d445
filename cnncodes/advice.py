"""Says which case of transfer learning a data set is, from evidence, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from shlex import quote
from typing import Any

import numpy as np

from cnncodes.codes import CodesFile
from cnncodes.comparing import compare
from cnncodes.comparison import Comparison
from cnncodes.errors import CnnCodesError, ProbeError
from cnncodes.html_tables import html_table
from cnncodes.leakage import guard_splits
from cnncodes.learning_curve import LearningCurve, learning_curve
from cnncodes.optional import need
from cnncodes.pretrained_head import PretrainedHead
from cnncodes.search import AUTO
from cnncodes.training_rows import split_rows
from cnncodes.views import averaged

__all__ = ["Advice", "Evidence", "advise"]

TOP = "penultimate"
LARGE, SMALL = 1000, 200  # images of a class; ImageNet has about 1,300. Between the two the learning curve decides
WORTH = 0.01  # of accuracy, that a doubling of the images should bring to be worth it
SURE, UNSURE = 0.8, 0.65  # mean confidence of the pretrained head, relative to that on photographs
MOST_IMAGES = 5000  # of which the pretrained head is asked, and the spread is taken
UNDECIDED = "undecided"
MEANING = {
    ("small", "similar"): "a linear classifier on the top codes",
    ("small", "dissimilar"): "a linear SVM on the codes of an earlier layer",
    ("large", "similar"): "fine-tuning the whole network, which has the images for it",
    ("large", "dissimilar"): "fine-tuning the whole network; the pretrained start still helps",
}


@dataclass(frozen=True)
class Evidence:
    """One observation.

    Attributes
    ----------
    what : str
    found : str
        With its figures.
    says : str
        ``small``, ``large``, ``similar``, ``dissimilar``, ``undecided``, or nothing where it is for information.
    """

    what: str
    found: str
    says: str = ""


@dataclass
class Advice:
    """Which case a data set is, and what to do.

    Attributes
    ----------
    size : {"small", "large", "undecided"}
    similarity : {"similar", "dissimilar", "undecided"}
        To the photographs of ImageNet, on which the network was trained.
    layers : list of str
        The layer whose cross-validated probabilities are the most likely.
    evidence : list of Evidence
    commands : list of str
        To type next.
    comparison : Comparison
        Of the layers one by one, by linear SVMs.
    curve : LearningCurve or None
        For the recommended layer, where there are images enough.
    notes : list of str
    """

    size: str
    similarity: str
    layers: list[str]
    evidence: list[Evidence]
    commands: list[str]
    comparison: Comparison
    curve: LearningCurve | None
    notes: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The case, and what it asks for, in one sentence."""
        layer = " + ".join(self.layers)
        if meaning := MEANING.get((self.size, self.similarity)):
            return f"{self.size} and {self.similarity} to ImageNet: {meaning}; of the layers, {layer} does best"
        both = {"the size": self.size, "the similarity": self.similarity}
        open_ = [name for name, value in both.items() if value == UNDECIDED]
        known = [value for value in both.values() if value != UNDECIDED]
        rest = f" (it is {known[0]})" if known else ""
        return f"the evidence does not decide on {' and '.join(open_)}{rest}; of the layers, {layer} does best"

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "summary": self.summary,
            "size": self.size,
            "similarity": self.similarity,
            "layers": self.layers,
            "evidence": [asdict(item) for item in self.evidence],
            "commands": self.commands,
            "curve": self.curve and asdict(self.curve),
            "rows": self.comparison.rows,
        }

    def to_frame(self) -> Any:
        """Return the evidence as a pandas DataFrame."""
        return need("pandas", "to_frame").DataFrame([asdict(item) for item in self.evidence])

    def plot(self, axes: Any = None) -> Any:
        """Draw accuracy by depth, and the learning curve.

        Parameters
        ----------
        axes : two matplotlib Axes, optional

        Returns
        -------
        array of matplotlib Axes
        """
        if axes is None:
            axes = need("matplotlib.pyplot", "plot").subplots(1, 2, figsize=(12, 4), layout="constrained")[1]
        self.comparison.plot(axes[0])
        if self.curve is not None:
            self.curve.plot(axes[1])
        return axes

    def _repr_html_(self) -> str:
        rows = [(item.what, item.found, item.says) for item in self.evidence]
        return html_table(["evidence", "found", "says"], rows, f"{self.summary}. Next: {'; '.join(self.commands)}")


def advise(
    codes: str | os.PathLike[str] = "codes.h5",
    *,
    cv: int = 5,
    seed: int = 0,
    n_jobs: int | str | None = AUTO,
    weights: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Advice:
    """Say which of the four cases of transfer learning the images are, with the evidence, and what to do.

    The evidence: images of each class, the slope of the learning curve, accuracy by depth, and how sure the pretrained
    head is of these images, beside how sure it is of photographs.

    Parameters
    ----------
    codes : path
        With several layers.
    cv, seed, n_jobs
        As for `fit`.
    weights : path, optional
        Where the weights file of the network lies by now.
    progress : callable, optional
        Called with (done, total, 0).

    Returns
    -------
    Advice

    Raises
    ------
    ProbeError
        There are no labels, or too few images to cross-validate.
    """
    comparison = compare(codes, clfs=["svm"], cv=cv, seed=seed, n_jobs=n_jobs, progress=progress)
    if not comparison.finished:
        raise KeyboardInterrupt
    probes = [row for row in comparison.rows if row["layers"]]
    best = min(probes, key=lambda row: row["cv_log_loss"])
    notes = list(comparison.notes)
    with CodesFile.open(codes) as file:
        train = split_rows(file)[0]
        y = file.labels[train]
        curve = None
        try:
            curve = learning_curve(
                file.codes(best["layers"], train),
                y,
                C=best["C"],
                groups=guard_splits(file, train, train[:0]).groups,
                cv=cv,
                seed=seed,
                n_jobs=n_jobs,
                progress=progress,
            )
        except ProbeError as error:
            notes.append(str(error))
        size = [_images_per_class(y)]
        if curve is not None:
            size.append(_slope(curve, decided=size[0].says != UNDECIDED))
        similarity = _depth(comparison)
        if TOP in file.layers:
            some = train[np.linspace(0, len(train) - 1, min(len(train), MOST_IMAGES)).astype(int)]
            try:
                similarity += _pretrained(averaged(file.codes(TOP, some)), PretrainedHead(file.description, weights))
            except CnnCodesError as error:
                notes.append(f"the pretrained head was not asked: {error}")
    advice = Advice(
        size=_verdict(size),
        similarity=_verdict(similarity),
        layers=best["layers"],
        evidence=size + similarity,
        commands=[],
        comparison=comparison,
        curve=curve,
        notes=notes,
    )
    advice.commands = _commands(advice, best)
    return advice


def _images_per_class(y: np.ndarray) -> Evidence:
    counts = np.unique(y, return_counts=True)[1]
    median = float(np.median(counts))
    found = f"{median:.0f} in the median of {len(counts)} classes, from {counts.min()} to {counts.max()}"
    return Evidence("images a class", found, "large" if median >= LARGE else "small" if median <= SMALL else UNDECIDED)


def _slope(curve: LearningCurve, decided: bool) -> Evidence:
    """Where the number of images does not decide, those are few that more would help."""
    low, high = curve.gain_interval
    found = f"twice as many images would bring {_points(curve.gain)} points ({_points(low)} to {_points(high)})"
    says = "small" if low > WORTH else "large" if high < WORTH else UNDECIDED
    return Evidence("learning curve", found, "" if decided else says)


def _depth(comparison: Comparison) -> list[Evidence]:
    """Compare the top layer with the best of the earlier ones."""
    probes = [row for row in comparison.rows if row["layers"]]
    top = next((row for row in probes if row["layers"] == [TOP]), None)
    earlier = [row for row in probes if row is not top]
    if top is None or not earlier:
        return []
    best = min(earlier, key=lambda row: row["cv_log_loss"])
    low, high = comparison.interval(best, top)
    found = (
        f"{best['layers'][0]} {best['cv_accuracy']:.1%}, {TOP} {top['cv_accuracy']:.1%}: "
        f"{_points(best['cv_accuracy'] - top['cv_accuracy'])} points ({_points(low)} to {_points(high)})"
    )
    return [Evidence("accuracy by depth", found, "dissimilar" if low > 0 else "similar" if high < 0 else UNDECIDED)]


def _pretrained(codes: np.ndarray, head: PretrainedHead) -> list[Evidence]:
    """Ask the head that the network was trained with, and look at how far the codes spread."""
    here, there = (float(head.confidence(some).mean()) for some in (codes, head.photos))
    says = "similar" if here > SURE * there else "dissimilar" if here < UNSURE * there else UNDECIDED
    close, closer = (_mean_cosine(some) for some in (codes, head.photos))
    return [
        Evidence("pretrained head", f"mean confidence {here:.2f}, of photographs {there:.2f}", says),
        Evidence("spread of the codes", f"mean cosine of two images {close:.2f}, of two photographs {closer:.2f}"),
    ]


def _mean_cosine(codes: np.ndarray) -> float:
    """Return the mean over all pairs, without making them: the squared length of a sum holds them all."""
    unit = codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    n = len(unit)
    return float((np.linalg.norm(unit.sum(axis=0, dtype=np.float64)) ** 2 - n) / max(1, n * (n - 1)))


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _verdict(evidence: list[Evidence]) -> str:
    """Return what all evidence that says something says."""
    said = {item.says for item in evidence} - {"", UNDECIDED}
    return said.pop() if len(said) == 1 else UNDECIDED


def _commands(advice: Advice, best: dict[str, Any]) -> list[str]:
    path = quote(best["codes"])
    layers = " ".join(f"--layer {quote(name)}" for name in best["layers"])
    commands = [f"cnncodes fit {path} --clf svm {layers}"]
    has_top = any(row["layers"] == [TOP] for row in advice.comparison.rows)
    if has_top and best["layers"] != [TOP]:  # what the two say together is often worth more than either
        together = quote("+".join([*best["layers"], TOP]))
        commands.append(f"cnncodes compare {path} --clf svm {layers} --layer {together}")
    return commands
