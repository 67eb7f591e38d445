"""Compares layers, classifiers and scalings by cross-validation on the same folds."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.errors import MismatchError
from cnncodes.insight.comparison import Comparison, key_of
from cnncodes.probes.calibration import log_loss
from cnncodes.probes.folds import make_folds
from cnncodes.probes.guard import guard_splits
from cnncodes.probes.intervals import paired_interval
from cnncodes.probes.scores import majority_accuracy, neighbour_accuracy, score_shares
from cnncodes.probes.search import search_C
from cnncodes.probes.split import split_rows
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO

__all__ = ["compare"]

ENOUGH_IMAGES = 1500  # that many answers are asked for: fewer images are cross-validated more often
MOST_REPEATS = 5


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
    progress: Progress | None = None,
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
        Called with (done, total, 0) before the first probe, and after each.

    Returns
    -------
    Comparison

    Raises
    ------
    MismatchError
        The files hold other images or labels.
    ProbeError
        There are too few images.

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
    of_probes: dict[str, list[str]] = {}  # which probes have a note
    finished = True
    try:
        if progress is not None:
            progress(0, len(plan), 0)
        for candidate in plan:
            row, share, found = _cross_validate(candidate, groups, **options)
            rows.append(row)
            shares.append(share)
            for note in found:
                of_probes.setdefault(note, []).append(f"{' + '.join(candidate.layers)}, {candidate.clf}")
            if progress is not None:
                progress(len(rows), len(plan), 0)
        best = plan[int(np.argmax([row["cv_accuracy"] for row in rows]))]
        rows.append(_neighbour(best, groups, cv, seed))
    except KeyboardInterrupt:
        if not rows:
            raise
        finished = False
        notes.append(f"interrupted: {len(shares)} of {len(plan)} probes were compared")
    notes += [note if len(which) == len(shares) else f"{'; '.join(which)}: {note}" for note, which in of_probes.items()]
    rows.append(_majority(rows[0], y))
    _add_differences(rows, shares)
    return Comparison(rows, notes, finished, {key_of(row): share for row, share in zip(rows, shares, strict=False)})


def _shared(paths: list[str], *, guard: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the labels that all files share, the groups that stay together, and notes."""
    notes: list[str] = []
    first: tuple[list[str], list[str]] | None = None
    for path in paths:
        with CodesFile.open(path) as file:
            train, _, _, found = split_rows(file)
            y = file.labels[train]
            here = (file.ids[train].tolist(), y.tolist())
            if first is None:
                first, groups = here, file.groups[train]
                if guard:  # the first file speaks for all: the folds are the same
                    guarded = guard_splits(file, train, train[:0])
                    groups, found = guarded.groups, found + guarded.notes
            if here != first:
                raise MismatchError(
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
        "repeats": len(seeds),
        "seconds": time.perf_counter() - started,
    }
    return row, share, searches[0].notes


def _training_codes(candidate: _Candidate) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return codes, labels, and what a row says of them."""
    with CodesFile.open(candidate.codes) as file:
        train = split_rows(file).train
        X, y = file.codes(candidate.layers, train), file.labels[train]
        about = {
            "codes": candidate.codes,
            "backbone": file.provenance.backbone,
            "pooling": file.provenance.pooling,
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
        "by_layers": about["layers"],
        "clf": "neighbour",
        "scale": candidate.scale,
        "C": None,
        **scores,
        "cv_log_loss": None,
        "repeats": 1,
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
