"""Fits probes to codes files: what `cnncodes fit` does."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.views import averaged
from cnncodes.display import percent, would_look
from cnncodes.errors import FoldsError, SettingError, parameter
from cnncodes.models.evaluate import predict_rows
from cnncodes.models.fitted_model import C_CHOSEN, C_GIVEN, PROTOCOL, fitted_model
from cnncodes.models.model import ProbeModel
from cnncodes.models.scores import Scores
from cnncodes.networks.licences import licence_notes
from cnncodes.probes.folds import Folds
from cnncodes.probes.novelty import learn_familiarity
from cnncodes.probes.out_of_core import fit_large_probe, sample_that_fits
from cnncodes.probes.protocol import Codes, TrainingData
from cnncodes.probes.scores import majority_accuracy, neighbour_accuracy, nested_predictions, score
from cnncodes.probes.search import fit_chosen, grid_of
from cnncodes.solvers.device import computing_on
from cnncodes.system.progress import Progress, part_of
from cnncodes.vocabulary import AUTO, DEFAULT_SCALING, as_names

__all__ = ["fit"]

logger = logging.getLogger(__name__)


def fit(
    codes: Codes | Sequence[str | os.PathLike[str]] = "codes.h5",
    *,
    clf: str = "svm",
    layers: str | Sequence[str] = ("penultimate",),
    C: float | str = "auto",
    scale: str = DEFAULT_SCALING,
    class_weight: str | None = None,
    cv: int = 5,
    seed: int = 0,
    one_se: bool = False,
    nested: bool = False,
    guard: bool = True,
    n_jobs: int | str | None = AUTO,
    memory_limit: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ProbeModel:
    """Fit a linear probe on codes, with a cross-validated score.

    Where the images have a split, training takes ``train`` and the held-out images are scored as well. Where memory
    does not hold the codes, C and the cross-validated figures come from a stratified sample, and the probe is fitted to
    all images, reading the file a block at a time; a note says so. A class of one image, or of near-duplicates of one,
    cannot be both learned from and tested on: the probe knows it, no cross-validated score counts it, a note says so.

    Parameters
    ----------
    codes : path, CodesFile or TrainingData, or sequence of paths, default="codes.h5"
        Several files, of different images that were extracted alike, are one training set; nothing is copied. What was
        cross-validated before with the same `TrainingData` is not cross-validated again.
    clf : {"svm", "logreg"}, default="svm"
        Linear SVM or logistic regression.
    layers : str or sequence of str, default=("penultimate",)
        Layers whose codes the probe takes; several are concatenated.
    C : float or "auto", default="auto"
        Inverse strength of the penalty; ``"auto"`` searches 45 values from 1e-6 to 1e5, from coarse to fine, by
        cross-validation.
    scale : {"shrunk", "standard", "l2", "none"}, default="shrunk"
        Scaling of the codes. ``"shrunk"``: each row of a layer to length 1, then each feature to mean 0, and to a
        deviation halfway between its own and the common one of the layer. ``"standard"``: each feature to mean 0 and
        deviation 1. ``"l2"``: each row to length 1.
    class_weight : {"balanced"}, optional
        ``"balanced"`` weighs each class by the inverse of its number of images.
    cv : int, default=5
        Folds.
    seed : int, default=0
        Seed of the shuffle into folds; the same seed gives the same scores.
    one_se : bool, default=False
        Choose the smallest C within one standard error of the best.
    nested : bool, default=False
        Also estimate the accuracy of the whole procedure, the choice of C included, by folds within folds.
    guard : bool, default=True
        Keep near-duplicates on the same side of each fold, and held-out images that have one among the training images
        out of the score. Images of one group are kept so in any case.
    n_jobs : int or "auto", default="auto"
        Folds that run in parallel; ``"auto"`` takes all cores where that pays, and memory allows it.
    memory_limit : int, optional
        Bytes of memory that the process may take; by default what is free.
    device : str, optional
        ``cuda`` or ``cuda:N`` computes the products there, one fold at a time; the fit is the same.
    progress : callable, optional
        Called with (done, total, 0) before the first step and after each. A step is a value of C, tried or left out, or
        the fit to all images; the nested estimate adds the values of C of each fold.

    Returns
    -------
    ProbeModel
        Its `scores` say how good it is, and by what protocol that was found; see `Scores`.

    Raises
    ------
    ProbeError
        Fewer than two classes that have two images, no labels, or codes that are not complete.
    SettingError, DeviceError
        A setting has no such value, or the device is not there.
    CodesFileError
        No such file or layer; or two of the files have the same image.
    MismatchError
        The files were made with different settings.

    Examples
    --------
    >>> model = fit("codes.h5", clf="svm", layers="layer3")  # doctest: +SKIP
    >>> print(model.scores.cross_validated.accuracy)  # doctest: +SKIP
    83.3 % (62.0 to 93.9 %)
    """
    started = time.perf_counter()
    names = list(as_names(layers))
    if not names or len(set(names)) < len(names):
        raise SettingError(f"the layers are {', '.join(names) or 'none at all'}; name at least one, and each once")
    options: dict[str, Any] = {"clf": clf, "C": C, "scale": scale, "class_weight": class_weight}
    options |= {"cv": cv, "seed": seed, "one_se": one_se, "n_jobs": n_jobs if device in (None, "cpu") else None}
    with computing_on(device), TrainingData.open(codes) as data:
        model = _fit_data(
            data, names, options, nested=nested, guard=guard, memory_limit=memory_limit, progress=progress
        )
    logger.info("fitted in %.1f s", time.perf_counter() - started)
    return model


def _fit_data(
    data: TrainingData,
    names: list[str],
    options: dict[str, Any],
    *,
    nested: bool,
    guard: bool,
    memory_limit: int | None,
    progress: Progress | None,
) -> ProbeModel:
    n_Cs = len(grid_of(options["C"]))
    total = n_Cs + 1 + nested * options["cv"] * n_Cs
    of_search = part_of(progress, 0, total)
    of_search(0, n_Cs, 0)
    file, train, every = data.file, data.train, data.labels
    source = file.provenance
    notes = [*licence_notes(source.weights, source.licence), *data.split.notes]
    test, leaked, groups = data.held_out, data.held_out[:0], data.groups(guard=False)
    scale, options["scale"] = options["scale"], data.scaling(names, options["scale"])
    limits = {"memory_limit": memory_limit, **{name: options[name] for name in ("C", "cv", "n_jobs")}}
    m, options["n_jobs"] = sample_that_fits(file, names, len(train), len(set(every)), **limits)
    whole = m == len(train)
    guarded = data.guard(near=whole) if guard else None
    if guarded is not None:
        leaked, test = test[guarded.leaked], test[~guarded.leaked]
        groups, notes = guarded.groups, notes + guarded.notes
    try:
        if whole:
            rest = {name: value for name, value in options.items() if name != "C"}
            rest |= {"scale": scale, "memory_limit": memory_limit, "progress": of_search}
            kept, scored = np.arange(m), data.scorable(groups)
            rest |= {"groups": groups[scored.rows], "rows": train[scored.rows]}
            search, X = data.search(names, Cs=grid_of(options["C"]), **rest), data.codes(names)
            probe = fit_chosen(X, every, search, **{name: options[name] for name in ("clf", "scale", "class_weight")})
        else:
            probe, search, X, kept, scored = fit_large_probe(
                file, names, train, m, memory_limit=memory_limit, groups=groups, progress=of_search, **options
            )
    except FoldsError as error:
        if guarded is None or not guarded.duplicated.any():
            raise
        advice = f"{parameter('guard', False)} takes each near-duplicate by itself"
        raise FoldsError(f"{error} ({advice})") from error
    familiar = learn_familiarity(
        lambda rows: averaged(X[rows]),
        np.unique(every[kept], return_inverse=True)[1],
        _of_all(search.folds, scored.rows, len(kept)),
    )
    n_duplicates = None if guarded is None else int(guarded.duplicated[kept].sum())
    if len(scored.rows) < len(kept):
        X, kept = X[scored.rows], kept[scored.rows]
    y, groups = every[kept], groups[kept]
    searched, folding = options["C"] == "auto", {"scale": scale, "cv": options["cv"], "seed": options["seed"]}
    scores = Scores(
        n=len(every),
        n_cv=len(y),
        classes=[str(label) for label in probe.classes_],
        clf=options["clf"],
        layers=names,
        n_features=X.shape[-1],
        scale=scale,
        C=search.C,
        class_weight=options["class_weight"],
        cv=options["cv"],
        seed=options["seed"],
        C_searched=searched,
        cross_validated=score(y, search.predictions, folds=search.folds, groups=groups),
        protocol=PROTOCOL.format(choice=C_CHOSEN if searched else C_GIVEN),
        baseline_accuracy=majority_accuracy(y if whole else every),
        neighbour_accuracy=data.neighbour_accuracy(names, groups=groups, rows=train[kept], **folding)
        if whole
        else neighbour_accuracy(X, y, search.folds, scale=options["scale"]),
    )
    model = fitted_model(probe, search, scores, file.provenance, file.sha256[train])
    model.notes = notes + scored.notes + search.notes
    model.training_codes, model.class_means, model.familiarity = familiar
    if guarded is not None:
        rest = {name: options[name] for name in options if name != "C"}
        figures, guard_notes = guarded.take(kept).measure(X, y, search, **rest)
        model.scores = replace(model.scores, **{**figures, "n_duplicates": n_duplicates})
        model.notes += guard_notes
    if nested:
        of_search(n_Cs + 1, n_Cs, 0)
        options["progress"] = part_of(progress, n_Cs + 1, total)
        predicted = nested_predictions(X, y, search.folds, groups=groups, notes=model.notes, **options)
        model.scores = replace(model.scores, nested=score(y, predicted, folds=search.folds, groups=groups))
    _score_held_out(file, model, test, leaked, data.split.grouped)
    of_search(total, n_Cs, 0)
    return model


def _of_all(folds: Folds, scored: np.ndarray, n: int) -> Folds:
    """Return folds of the rows that are scored as folds of all n rows, of which one more holds out the others."""
    if len(scored) == n:
        return folds
    others = np.setdiff1d(np.arange(n), scored)
    return [*((scored[train], scored[test]) for train, test in folds), (scored, others)]


def _score_held_out(
    file: CodesFile, model: ProbeModel, test: np.ndarray, leaked: np.ndarray, grouped: np.ndarray
) -> None:
    """Add the scores of held-out images, and what they would have looked like with those that are left out.

    Parameters
    ----------
    test : ndarray of int
        Rows that are scored.
    leaked, grouped : ndarray of int
        Rows with a near-duplicate among the training images, and rows whose group has training images.
    """
    y_test, predicted = file.labels[test], predict_rows(file, model, test)
    if len(test):
        if unknown := sorted(set(y_test) - set(model.classes)):
            model.notes.append(f"held-out images of classes without training images always miss: {', '.join(unknown)}")
        held_out = score(y_test, predicted, groups=file.groups[test])
        model.scores = replace(model.scores, n_test=len(test), held_out=held_out)
    if len(test) + len(leaked) + len(grouped):
        model.scores = replace(model.scores, n_test_grouped=len(grouped))
    for rows, key, what in (
        (leaked, "unguarded_test_accuracy", "near-duplicates of training images"),
        (grouped, "ungrouped_test_accuracy", "images that share a group with training images"),
    ):
        if len(rows):
            right = np.concatenate([predicted == y_test, predict_rows(file, model, rows) == file.labels[rows]])
            flattered: dict[str, Any] = {key: float(np.mean(right))}
            model.scores = replace(model.scores, **flattered)
            look = f"look like {percent(flattered[key])}; without them, none is left"
            if len(test):
                look = would_look(flattered[key], float(np.mean(right[: len(test)])))
            model.notes.append(f"with the held-out {what}, the held-out accuracy would {look}")
