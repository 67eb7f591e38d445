"""Compares layers, classifiers and scalings by cross-validation on the same folds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import brentq
from scipy.stats import norm, t

from cnncodes.calibration import log_loss
from cnncodes.codes import CodesFile
from cnncodes.errors import ProbeError
from cnncodes.evaluation import majority_accuracy, neighbour_accuracy, score_shares
from cnncodes.folds import make_folds
from cnncodes.html_tables import html_table
from cnncodes.leakage import guard_splits
from cnncodes.optional import need
from cnncodes.search import AUTO, search_C
from cnncodes.training_rows import split_rows

__all__ = ["HEADERS", "Comparison", "compare", "paired_interval", "shown_row"]

HEADERS = ("layer", "probe", "scaling", "features", "C", "accuracy", "95 % interval", "to the best, points", "seconds")
BASELINES = {"majority": "majority class", "neighbour": "nearest neighbour"}
ENOUGH_IMAGES = 1500  # that many answers are asked for: fewer images are cross-validated more often
MOST_REPEATS = 5


@dataclass
class Comparison:
    """Probes on several layers, cross-validated on the same folds, best first.

    Attributes
    ----------
    rows : list of dict
        ``codes``, ``backbone``, ``pooling``, ``layers``, ``depth`` (place of the layer in the network, from 0),
        ``clf``, ``scale``, ``C``, ``n_features``, ``cv_accuracy``, ``cv_interval``, ``cv_balanced_accuracy``,
        ``cv_balanced_interval``, ``cv_log_loss``, ``difference`` (of the accuracy to that of the best row),
        ``difference_interval`` (which allows for the choice of the best row), ``recommended``, ``n``, ``classes``,
        ``baseline_accuracy``, ``seconds``. The majority class and the nearest neighbour (by the codes of the best row)
        are rows whose ``clf`` is ``"majority"`` and ``"neighbour"``.
    notes : list of str
    finished : bool
        Nothing was left out by an interruption.
    shares : dict of tuple to ndarray of float, shape (n,)
        How often each image was labelled right, from 0 to 1, by codes file, layers, classifier and scaling.
    """

    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    finished: bool = True
    shares: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.rows = sorted(self.rows, key=lambda row: (-row["cv_accuracy"], row["n_features"]))

    @property
    def recommended(self) -> dict[str, Any]:
        """The simplest row that is not significantly worse than the best: fewest layers, then shortest codes.

        Tested is the pair alone: `difference_interval` is wider, and may reach 0 where this test says worse.
        """
        return next(row for row in self.rows if row["recommended"])

    def interval(self, row: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy of a row less that of another, on the same images."""
        return paired_interval(self.shares[_key(row)], self.shares[_key(other)])

    @property
    def command(self) -> str:
        """What to type to fit the recommended probe."""
        row = self.recommended
        layers = " ".join(f"--layer {quote(name)}" for name in row["layers"])
        scale = "" if row["scale"] == "standard" else f" --scale {row['scale']}"
        return f"cnncodes fit {quote(row['codes'])} --clf {row['clf']} {layers}{scale}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {"rows": self.rows, "command": self.command, "finished": self.finished}

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame."""
        rows = [{**row, "layers": " + ".join(row["layers"])} for row in self.rows]
        return need("pandas", "to_frame").DataFrame(rows)

    def plot(self, ax: Any = None) -> Any:
        """Draw the accuracy of single layers by their depth, with 95 % intervals.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib Axes
        """
        if ax is None:
            ax = need("matplotlib.pyplot", "plot").subplots(figsize=(7, 4), layout="constrained")[1]
        single = sorted((row for row in self.rows if len(row["layers"]) == 1), key=lambda row: row["depth"])
        if not single:
            raise ProbeError("there is no layer by itself to draw; compare some that are not concatenated")
        names = list(dict.fromkeys(row["layers"][0] for row in single))
        lines: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in single:
            lines.setdefault((row["codes"], row["clf"], row["scale"]), []).append(row)
        differing = [i for i, values in enumerate(zip(*lines, strict=True)) if len(set(values)) > 1] or [1]
        files = {about[0] for about in lines}
        by_name = len({Path(file).name for file in files}) == len(files)
        for number, (about, rows) in enumerate(lines.items()):
            at = np.array([names.index(row["layers"][0]) for row in rows]) + 0.06 * (number - (len(lines) - 1) / 2)
            accuracy = np.array([row["cv_accuracy"] for row in rows])
            low, high = np.array([row["cv_interval"] for row in rows]).T
            label = ", ".join(Path(about[i]).name if i == 0 and by_name else about[i] for i in differing)
            ax.errorbar(at, accuracy, (accuracy - low, high - accuracy), marker="o", capsize=3, label=label)
        for row in self.rows:
            if row["clf"] in BASELINES:
                style = ":" if row["clf"] == "majority" else "--"
                ax.axhline(row["cv_accuracy"], color="0.5", linestyle=style, label=BASELINES[row["clf"]])
        ax.set_xticks(range(len(names)), names)
        ax.set_xlabel("layer, from the first to the last")
        ax.set_ylabel("cross-validated accuracy")
        ax.legend(loc="lower right", fontsize="small")
        return ax

    def _repr_html_(self) -> str:
        return html_table(HEADERS, map(shown_row, self.rows), f"Recommended: {self.command}")


class _Candidate(NamedTuple):
    """What is cross-validated."""

    codes: str
    layers: tuple[str, ...]
    clf: str
    scale: str


def compare(
    codes: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "codes.h5",
    *,
    clfs: Sequence[str] = ("svm", "logreg"),
    layers: str | Sequence[str] = (),
    scales: Sequence[str] = ("standard",),
    cv: int = 5,
    seed: int = 0,
    repeats: int | None = None,
    guard: bool = True,
    n_jobs: int | str | None = AUTO,
    progress: Callable[[int, int, int], None] | None = None,
) -> Comparison:
    """Cross-validate layers × classifiers × scalings on the same folds.

    The answers to the same images are paired: a difference of two accuracies is known much better than either.
    Interrupted (Ctrl-C), it returns what is done so far.

    Parameters
    ----------
    codes : path or sequence of paths
        Several (of other networks or poolings, say) must hold the same images, as the folds are the same for all.
    clfs : sequence of {"svm", "logreg"}
    layers : sequence of str
        All by default; ``"layer3+penultimate"`` is a concatenation.
    scales : sequence of {"standard", "l2", "none"}
    cv, seed, guard, n_jobs
        As for `fit`.
    repeats : int, optional
        Cross-validations, each on other folds; by default as many as give 1,500 answers, up to 5.
    progress : callable, optional
        Called with (done, total, 0) after each probe.

    Returns
    -------
    Comparison

    Raises
    ------
    ProbeError
        The files hold other images or labels, or there are too few of them.

    Examples
    --------
    >>> compare("codes.h5", layers=["layer3", "layer3+penultimate"]).command  # doctest: +SKIP
    'cnncodes fit codes.h5 --clf svm --layer layer3'
    """
    paths = [str(codes)] if isinstance(codes, (str, os.PathLike)) else [str(path) for path in codes]
    y, groups, notes = _shared(paths, guard=guard)
    asked = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
    plan = _plan(list(dict.fromkeys(paths)), asked, clfs, scales)
    repeats = repeats or min(MOST_REPEATS, max(1, round(ENOUGH_IMAGES / len(y))))
    options: dict[str, Any] = {"cv": cv, "seeds": range(seed, seed + repeats), "n_jobs": n_jobs}
    rows: list[dict[str, Any]] = []
    shares: list[np.ndarray] = []
    finished = True
    try:
        for candidate in plan:
            row, share, found = _cross_validate(candidate, groups, **options)
            rows.append(row)
            shares.append(share)
            notes += [note for note in found if note not in notes]
            if progress is not None:
                progress(len(rows), len(plan), 0)
        best = plan[int(np.argmax([row["cv_accuracy"] for row in rows]))]
        rows.append(_neighbour(best, groups, cv, seed))
    except KeyboardInterrupt:
        if not rows:
            raise
        finished = False
        notes.append(f"interrupted: {len(shares)} of {len(plan)} probes were compared")
    rows.append(_majority(rows[0], y))
    _add_differences(rows, shares)
    return Comparison(rows, notes, finished, {_key(row): share for row, share in zip(rows, shares, strict=False)})


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["codes"], tuple(row["layers"]), row["clf"], row["scale"]


def _shared(paths: list[str], *, guard: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the labels that all files share, the groups that stay together, and notes."""
    notes: list[str] = []
    first: tuple[list[str], list[str]] | None = None
    for path in paths:
        with CodesFile.open(path) as file:
            train, _, found = split_rows(file)
            y = file.labels[train]
            here = (file.ids[train].tolist(), y.tolist())
            if first is None:
                first, groups = here, file.groups[train]
                if guard:  # the first file speaks for all: the folds are the same
                    guarded = guard_splits(file, train, train[:0])
                    groups, found = guarded.groups, found + guarded.notes
            if here != first:
                raise ProbeError(
                    f"{path} and {paths[0]} hold other images or labels, so their scores cannot be compared; "
                    "extract the same folder to each, and see `cnncodes info` for images that failed"
                )
            notes += [note for note in found if note not in notes]
    return y, groups, notes


def _plan(paths: list[str], layers: list[str], clfs: Sequence[str], scales: Sequence[str]) -> list[_Candidate]:
    """Return what to cross-validate."""
    plan: list[_Candidate] = []
    for path in paths:
        with CodesFile.open(path) as file:
            asked = [(name,) if name in file.layers else tuple(name.split("+")) for name in layers]
            for names in asked or [(name,) for name in file.layers if name not in file.links]:
                for name in names:
                    file.n_features(name)  # refuses what is not there before anything is computed
                plan += [_Candidate(path, names, clf, scale) for clf in clfs for scale in scales]
    return plan


def _cross_validate(
    candidate: _Candidate, groups: np.ndarray, *, cv: int, seeds: Sequence[int], n_jobs: int | str | None
) -> tuple[dict[str, Any], np.ndarray, list[str]]:
    """Return the row of a probe, the share of right answers to each image, and notes."""
    started = time.perf_counter()
    X, y, about = _training_codes(candidate)
    searches = [
        search_C(X, y, clf=candidate.clf, scale=candidate.scale, groups=groups, cv=cv, seed=seed, n_jobs=n_jobs)
        for seed in seeds
    ]
    share = np.mean([search.predictions == y for search in searches], axis=0)
    truth = np.searchsorted(searches[0].classes, y)
    row = {
        **about,
        "clf": candidate.clf,
        "scale": candidate.scale,
        "C": float(np.exp(np.mean(np.log([search.C for search in searches])))),
        **{f"cv_{name}": value for name, value in score_shares(y, share, out_of_fold=True).items()},
        "cv_log_loss": float(np.mean([log_loss(search.decision, truth, search.temperature) for search in searches])),
        "seconds": time.perf_counter() - started,
    }
    what = f"{' + '.join(candidate.layers)}, {candidate.clf}"
    return row, share, [f"{what}: {note}" for note in searches[0].notes]


def _training_codes(candidate: _Candidate) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return codes, labels, and what a row says of them."""
    with CodesFile.open(candidate.codes) as file:
        train = split_rows(file)[0]
        X, y = file.codes(candidate.layers, train), file.labels[train]
        about = {
            "codes": candidate.codes,
            "backbone": file.description["backbone"],
            "pooling": file.description.get("pooling"),
            "layers": list(candidate.layers),
            "depth": max(file.layers.index(name) for name in candidate.layers),
            "n": len(y),
            "classes": np.unique(y).tolist(),
            "n_features": X.shape[-1],
            "baseline_accuracy": majority_accuracy(y),
        }
    return X, y, about


def _neighbour(candidate: _Candidate, groups: np.ndarray, cv: int, seed: int) -> dict[str, Any]:
    """Return the row of the nearest neighbour by the codes of a candidate."""
    started = time.perf_counter()
    X, y, about = _training_codes(candidate)
    accuracy = neighbour_accuracy(X, y, make_folds(y, groups, cv=cv, seed=seed)[0], scale=candidate.scale)
    scores = {
        f"cv_{name}": value for name, value in score_shares(y, np.full(len(y), accuracy), out_of_fold=True).items()
    }
    return {
        **about,
        "layers": [],
        "clf": "neighbour",
        "scale": candidate.scale,
        "C": None,
        **scores,
        "cv_log_loss": None,
        "seconds": time.perf_counter() - started,
    }


def _majority(row: dict[str, Any], y: np.ndarray) -> dict[str, Any]:
    labels, counts = np.unique(y, return_counts=True)
    scores = {f"cv_{name}": value for name, value in score_shares(y, y == labels[counts.argmax()]).items()}
    nothing: dict[str, Any] = {"layers": [], "clf": "majority", "scale": "", "C": None, "n_features": 0}
    return {**row, **nothing, **scores, "cv_log_loss": None, "seconds": 0.0}


def _add_differences(rows: list[dict[str, Any]], shares: list[np.ndarray]) -> None:
    """Add to each row how far it is from the best one, and whether it is recommended."""
    best = int(np.argmax([row["cv_accuracy"] for row in rows[: len(shares)]]))
    for row in rows:
        row |= {"difference": row["cv_accuracy"] - rows[best]["cv_accuracy"], "difference_interval": None}
        row["recommended"] = False
    as_good = []
    for row, share in zip(rows, shares, strict=False):  # the baselines come last, and have none
        row["difference_interval"] = list(paired_interval(share, shares[best], best_of=len(shares)))
        if paired_interval(share, shares[best])[1] >= 0:
            as_good.append(row)
    simplest = min(as_good, key=lambda row: (len(row["layers"]), row["n_features"], -row["cv_accuracy"]))
    simplest["recommended"] = True


def paired_interval(a: np.ndarray, b: np.ndarray, confidence: float = 0.95, *, best_of: int = 2) -> tuple[float, float]:
    """Return an interval for the difference of two accuracies on the same images.

    It is Student's for the mean of the images' differences, with half an image more in each cell of the table of right
    and wrong answers (Agresti, Min 2005), so that few images without a difference are not taken for certain.

    What is best of several owes some of that to chance. So the upper end for the difference to it allows for all that
    it was the best of (multiple comparisons with the best, Hsu 1984).

    Parameters
    ----------
    a, b : ndarray, shape (n,)
        How often each image was labelled right, from 0 to 1.
    confidence : float
    best_of : int
        Among how many `b` was found to be the best.

    Examples
    --------
    >>> low, high = paired_interval(np.repeat([1.0, 0.0], [90, 10]), np.repeat([1.0, 0.0], [80, 20]))
    >>> round(low, 3), round(high, 3)
    (0.036, 0.16)
    """
    n = len(a) + 2
    difference = np.asarray(a, float) - np.asarray(b, float)
    mean = float(difference.sum()) / n
    deviation = np.sqrt(max(0.0, (float((difference**2).sum()) + 1) / n - mean**2) / n)
    below = 0.5 + confidence / 2
    above = _chance_of_each(below, best_of - 1)
    return mean - float(t.ppf(below, n - 1) * deviation), mean + float(t.ppf(above, n - 1) * deviation)


def _chance_of_each(together: float, rivals: int) -> float:
    """Return the chance with which each of several normal differences to one reference must stay below a value.

    Such that all of them do `together`; it is the level of Dunnett's (1955) one-sided quantile.
    """
    if rivals < 2:
        return together
    at, weights = hermegauss(64)

    def excess(z: float) -> float:
        return float(weights @ norm.cdf(np.sqrt(2) * z + at) ** rivals / weights.sum()) - together

    return float(norm.cdf(brentq(excess, 0, 10)))


def shown_row(row: dict[str, Any]) -> list[str]:
    """Return a row as the texts that are below `HEADERS`."""
    low, high = row["cv_interval"]
    to_best = f"{100 * row['difference']:+.1f}"
    if row["difference_interval"] is not None and row["difference"] < 0:
        to_best += " ({:+.1f} – {:+.1f})".format(*(100 * end for end in row["difference_interval"]))
    return [
        (" + ".join(row["layers"]) or BASELINES[row["clf"]]) + (" *" if row["recommended"] else ""),
        row["clf"] if row["layers"] else "",
        row["scale"],
        str(row["n_features"]),
        f"{row['C']:.3g}" if row["C"] is not None else "",
        f"{100 * row['cv_accuracy']:.1f} %",
        f"{100 * low:.1f} – {100 * high:.1f} %",
        to_best,
        f"{row['seconds']:.1f}",
    ]
