"""Compares layers, classifiers and scalings by cross-validation on the same folds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.errors import MismatchError
from cnncodes.insight.comparison import Comparison, Row
from cnncodes.insight.recommendation import recommended
from cnncodes.insight.tuned_row import Model, TunedAnswers, load_models, tuned_answers, tuned_row
from cnncodes.names import composed
from cnncodes.probes.calibration import log_losses
from cnncodes.probes.intervals import paired_interval
from cnncodes.probes.protocol import Codes, TrainingData
from cnncodes.probes.scores import majority_accuracy, score_shares
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO, DEFAULT_SCALING, as_names

__all__ = ["compare"]

ANSWERS_TO_AIM_AT = 1500  # fewer images are cross-validated more often
MAX_REPEATS = 5


class _Candidate(NamedTuple):
    """What is cross-validated."""

    data: TrainingData
    rows: np.ndarray  # images that are scored, as row numbers of the codes file
    layers: tuple[str, ...]
    clf: str
    scale: str


def compare(
    codes: Codes | Sequence[Codes] = "codes.h5",
    *,
    clfs: Sequence[str] = ("svm", "logreg"),
    layers: str | Sequence[str] = (),
    scales: Sequence[str] = (DEFAULT_SCALING,),
    cv: int = 5,
    seed: int = 0,
    repeats: int | None = None,
    guard: bool = True,
    models: Model | Sequence[Model] = (),
    n_jobs: int | str | None = AUTO,
    progress: Progress | None = None,
) -> Comparison:
    """Cross-validate layers × classifiers × scalings on the same folds.

    The answers to the same images are paired: a difference of two accuracies is known much better than either.
    Interrupted (Ctrl-C), it returns what is done so far.

    Parameters
    ----------
    codes : path, CodesFile or TrainingData, or sequence of these, default="codes.h5"
        Several (of other networks or poolings, say) must hold the same images, as the folds are the same for all.
    clfs : sequence of {"svm", "logreg"}, default=("svm", "logreg")
        Classifiers to compare: linear SVM, logistic regression.
    layers : str or sequence of str, default=()
        Layers to compare; ``"layer3+penultimate"`` are two side by side. None stands for all, one by one, and the last
        two together.
    scales : sequence of {"shrunk", "standard", "l2", "none"}, default=("shrunk",)
        Scalings of the codes to compare.
    cv, seed, guard, n_jobs
        As for `fit`.
    repeats : int, optional
        Cross-validations, each on other folds; by default as many as give 1,500 answers, up to 5. The first one chooses
        C, as `fit` does.
    models : path or ProbeModel, or sequence of these, default=()
        Fine-tuned models of the same training images, a row each. Their figures are those of their own fine-tuning.
    progress : callable, optional
        Called with (done, total, 0) before the first probe, and after each.

    Returns
    -------
    Comparison
        Its `rows` are best first, and one is `recommended`.

    Raises
    ------
    MismatchError
        The files hold other images or labels, or a model was fitted on other images or by another network.
    SettingError
        A model is not fine-tuned.
    ProbeError
        There are too few images.

    Examples
    --------
    >>> compare("codes.h5", layers=["layer3", "layer3+penultimate"]).command  # doctest: +SKIP
    'cnncodes fit codes.h5 --clf svm --layer layer3'
    """
    files = [codes] if isinstance(codes, (str, os.PathLike, CodesFile, TrainingData)) else list(codes)
    with ExitStack() as opened:
        every = [opened.enter_context(TrainingData.open(one)) for one in _distinct(files)]
        scored, groups, notes = _shared(every, guard=guard)
        y = every[0].labels[scored]
        tuned = [tuned_answers(every, scored, *model) for model in load_models(models)]
        names = list(dict.fromkeys(as_names(layers)))
        plan = _plan(every, scored, names, clfs, scales)
        repeats = repeats or min(MAX_REPEATS, max(1, round(ANSWERS_TO_AIM_AT / max(1, len(y)))))
        options: dict[str, Any] = {"cv": cv, "seeds": range(seed, seed + repeats), "n_jobs": n_jobs}
        return _run(plan, y, groups, notes, tuned, progress, **options)


def _distinct(files: Sequence[Codes]) -> list[Codes]:
    """Return each file once, though it be named twice."""
    return list({str(Path(one)) if isinstance(one, (str, os.PathLike)) else id(one): one for one in files}.values())


def _run(
    plan: list[_Candidate],
    y: np.ndarray,
    groups: np.ndarray,
    notes: list[str],
    tuned: Sequence[TunedAnswers],
    progress: Callable[[int, int, int], None] | None,
    **options: Any,
) -> Comparison:
    """Cross-validate the candidates, and put the others beside them; Ctrl-C ends it with what is done."""
    rows: list[Row] = []
    shares: list[np.ndarray] = []
    losses: list[np.ndarray] = []
    of_probes: dict[str, list[str]] = {}  # which probes have a note
    finished = True
    try:
        if progress is not None:
            progress(0, len(plan), 0)
        for candidate in plan:
            row, share, loss, row_notes = _cross_validate(candidate, groups, **options)
            rows.append(row)
            shares.append(share)
            losses.append(loss)
            for note in row_notes:
                of_probes.setdefault(note, []).append(f"{' + '.join(candidate.layers)}, {candidate.clf}")
            if progress is not None:
                progress(len(rows), len(plan), 0)
        best = plan[int(np.argmax([row.accuracy.value for row in rows]))]
        rows.append(_neighbour(best, groups, options["cv"], options["seeds"][0]))
    except KeyboardInterrupt:
        if not rows:
            raise
        finished = False
        notes.append(f"interrupted: {len(shares)} of {len(plan)} probes were compared")
    notes += [note if len(which) == len(shares) else f"{'; '.join(which)}: {note}" for note, which in of_probes.items()]
    rows.append(_majority(rows[0], y))
    rows = _with_differences(rows, shares, losses, groups)
    of_rows = {row.key: share for row, share in zip(rows, shares, strict=False)}
    best_share = shares[int(np.argmax([row.accuracy.value for row in rows[: len(shares)]]))]
    beside = [tuned_row(answers, rows[0], best_share, len(shares), groups, options["cv"]) for answers in tuned]
    rows, notes = rows + [row for row, _ in beside], notes + [note for _, note in beside]
    return Comparison(rows, notes, finished, of_rows, groups)


def _shared(every: list[TrainingData], *, guard: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return which training images are scored, the groups of these that stay together, and notes.

    The first file says what is a near-duplicate: the folds are the same for all.
    """
    notes: list[str] = []
    first = every[0]
    for data in every:
        notes += [note for note in data.split.notes if note not in notes]
        if data is first and guard:
            notes += data.guard().search_notes
        ids, first_ids = ([composed(name) for name in one.file.ids[one.train].tolist()] for one in (data, first))
        if ids != first_ids or data.labels.tolist() != first.labels.tolist():
            raise MismatchError(
                f"{data.file.path} and {first.file.path} hold other images or labels, so their scores cannot be "
                "compared; extract the same folder to each, and see `cnncodes info` for images that failed"
            )
    groups = first.groups(guard=guard)
    scored, left_out = first.scorable(groups)
    return scored, groups[scored], notes + left_out


def _plan(
    every: list[TrainingData], scored: np.ndarray, layers: list[str], clfs: Sequence[str], scales: Sequence[str]
) -> list[_Candidate]:
    """Return what to cross-validate."""
    plan: list[_Candidate] = []
    for data in every:
        file = data.file
        wanted = [(name,) if name in file.layers else tuple(name.split("+")) for name in layers]
        for names in wanted or _usual_layers(file):
            for name in names:
                file.n_features(name)  # refuses what is not there before anything is computed
            plan += [_Candidate(data, data.train[scored], names, clf, scale) for clf in clfs for scale in scales]
    return plan


def _usual_layers(file: CodesFile) -> list[tuple[str, ...]]:
    """Return the layers of a file one by one, and the last two together."""
    names = [name for name in file.finished_layers if name not in file.links]
    return [*((name,) for name in names), *([tuple(names[-2:])] if len(names) > 1 else [])]


def _cross_validate(
    candidate: _Candidate, groups: np.ndarray, *, cv: int, seeds: Sequence[int], n_jobs: int | str | None
) -> tuple[Row, np.ndarray, np.ndarray, list[str]]:
    """Return the row of a probe, the share of right answers to each image, the log loss of each, and notes."""
    started, y = time.perf_counter(), candidate.data.file.labels[candidate.rows]
    options: dict[str, Any] = {"clf": candidate.clf, "scale": candidate.scale, "groups": groups, "cv": cv}
    options |= {"rows": candidate.rows, "n_jobs": n_jobs}
    first = candidate.data.search(candidate.layers, seed=seeds[0], **options)
    others = [
        candidate.data.search(candidate.layers, seed=seed, Cs=[first.C], exact=False, **options) for seed in seeds[1:]
    ]
    searches = [first, *others]
    share = np.mean([search.predictions == y for search in searches], axis=0)
    truth = np.searchsorted(searches[0].classes, y)
    loss = np.mean([log_losses(search.decision, truth, search.temperature) for search in searches], axis=0)
    row = _row(
        candidate,
        started,
        clf=candidate.clf,
        C=first.C,
        cross_validated=score_shares(y, share, folds=first.folds, groups=groups),
        log_loss=float(loss.mean()),
        repeats=len(seeds),
    )
    return row, share, loss, searches[0].notes


def _row(candidate: _Candidate, started: float, **figures: Any) -> Row:
    """Return the row of a candidate whose work started at a time of `time.perf_counter`."""
    file, y = candidate.data.file, candidate.data.file.labels[candidate.rows]
    return Row(
        codes=str(file.path),
        backbone=file.provenance.backbone,
        pooling=file.provenance.pooling,
        layers=list(candidate.layers),
        depth=max(file.layers.index(name) for name in candidate.layers),
        n=len(y),
        classes=np.unique(y).tolist(),
        n_features=sum(file.n_features(name) for name in candidate.layers),
        baseline_accuracy=majority_accuracy(y),
        scale=candidate.scale,
        seconds=time.perf_counter() - started,
        **figures,
    )


def _neighbour(candidate: _Candidate, groups: np.ndarray, cv: int, seed: int) -> Row:
    """Return the row of the nearest neighbour by the codes of a candidate."""
    started, y = time.perf_counter(), candidate.data.file.labels[candidate.rows]
    folding: dict[str, Any] = {"groups": groups, "rows": candidate.rows, "cv": cv, "seed": seed}
    accuracy = candidate.data.neighbour_accuracy(candidate.layers, scale=candidate.scale, **folding)
    folds = candidate.data.folds(**folding)[0]
    scores = score_shares(y, np.full(len(y), accuracy), folds=folds, groups=groups)
    row = _row(candidate, started, clf="neighbour", C=None, cross_validated=scores, log_loss=None, repeats=1)
    return replace(row, layers=[], by_layers=row.layers)


def _majority(row: Row, y: np.ndarray) -> Row:
    """Return the row of the most frequent class, given that of a probe on the same images."""
    labels, counts = np.unique(y, return_counts=True)
    scores = score_shares(y, y == labels[counts.argmax()])
    nothing: dict[str, Any] = {"layers": [], "scale": "", "C": None, "n_features": 0, "log_loss": None, "seconds": 0.0}
    return replace(row, clf="majority", cross_validated=scores, **nothing)


def _with_differences(
    rows: list[Row], shares: list[np.ndarray], losses: list[np.ndarray], groups: np.ndarray | None = None
) -> list[Row]:
    """Return the rows with how far each is from the best probe, and one of them recommended.

    The probes come first, one for each of `shares` and `losses`; the baselines have no interval.
    """
    probes = rows[: len(shares)]
    best = int(np.argmax([row.accuracy.value for row in probes]))
    chosen = recommended(probes, losses, groups)
    options: dict[str, Any] = {"best_of": len(shares), "groups": groups}
    intervals = [list(paired_interval(share, shares[best], **options)) for share in shares]
    return [
        replace(
            row,
            difference=row.accuracy.value - rows[best].accuracy.value,
            difference_interval=interval,
            recommended=number == chosen,
        )
        for number, (row, interval) in enumerate(zip_longest(rows, intervals))
    ]
