"""Linear probes on more codes than memory holds: C is chosen on a sample, and the fit is to all, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.class_weight import compute_class_weight

from cnncodes.codes import CodesFile
from cnncodes.errors import ProbeError
from cnncodes.memory import available_memory, resident_memory
from cnncodes.newton import CURVATURE_BYTES
from cnncodes.passes import fit_in_passes
from cnncodes.probes import CONVERGE, LOSSES, SCALINGS, Search, grid_of, make_probe, not_finite, search_C
from cnncodes.views import as_rows, repeated

__all__ = ["fit_large_probe", "memory_of_fit", "pieces", "sample_that_fits"]

CHUNK_BYTES = 16 << 20  # of float32 rows
ROW_BYTES = 250  # of an image, besides its codes: labels, digests
SPARE_BYTES = 200 << 20  # for chunks, libraries that are loaded late, and what memory loses to fragments
SAMPLE_ROWS = 20_000  # more say hardly more about C
MAX_PASSES = 200


def memory_of_fit(n: int, file: CodesFile, layers: list[str], n_classes: int, n_Cs: int, n_jobs: int | None) -> int:
    """Return how many bytes a fit to the codes of n images takes that are in memory, cross-validation included."""
    d = sum(file.n_features(name) for name in layers)
    rows, k, jobs = n * int(np.prod(file.views)), 1 if n_classes == 2 else n_classes, effective_n_jobs(n_jobs)
    square = 8 * min(rows, d + 1) ** 2
    decisions = 20 * k * n_Cs  # of each fold and of all, and a quarter more for what is not freed yet
    of_job = 8 * d + 80 * k  # training rows, taken out and scaled; the solver's margins
    return rows * (4 * d + decisions + jobs * of_job) + jobs * (4 * square + min(k * square, CURVATURE_BYTES))


def sample_that_fits(
    file: CodesFile,
    layers: list[str],
    n: int,
    n_classes: int,
    *,
    memory_limit: int | None,
    C: float | str,
    cv: int,
    n_jobs: int | None,
) -> int:
    """Return the codes of how many of n images can be in memory at once, and be fitted: n, where all can.

    Parameters
    ----------
    memory_limit : int, optional
        Bytes that the process may have; by default what it has, and what is free.

    Raises
    ------
    ProbeError
        The limit does not even allow a few images of each class.
    """
    held = resident_memory()
    limit = held + available_memory() if memory_limit is None else memory_limit

    def needed(m: int) -> int:
        return memory_of_fit(m, file, layers, n_classes, len(grid_of(C)), n_jobs)

    if held + needed(n) <= limit:
        return n
    base = held + SPARE_BYTES + ROW_BYTES * n
    least = min(n, 2 * cv * n_classes)
    m = min(n, SAMPLE_ROWS)
    while m > least and base + needed(m) > limit:
        m = max(least, int(0.95 * m))
    if base + needed(m) > limit:
        raise ProbeError(
            f"{file.path}: the memory is limited to {limit / 1e6:.0f} MB, but {(base + needed(m)) / 1e6:.0f} MB are "
            f"needed to fit to as few as {m} images at a time; raise --memory-limit, name fewer layers, or lower --jobs"
        )
    return m


def fit_large_probe(
    file: CodesFile,
    layers: list[str],
    rows: np.ndarray,
    m: int,
    *,
    clf: str = "svm",
    C: float | str = "auto",
    scale: str = "standard",
    class_weight: Any = None,
    groups: np.ndarray | None = None,
    cv: int = 5,
    seed: int = 0,
    **search_options: Any,
) -> tuple[Pipeline, Search, np.ndarray, np.ndarray]:
    """Choose C on a stratified sample, and fit the probe to all images, in passes over the file.

    Parameters
    ----------
    file : CodesFile
    layers : list of str
    rows : ndarray of int
        The images to train on, ascending.
    m : int
        Images of the sample, whose codes are all in memory.
    clf, C, scale, class_weight, groups, cv, seed, **search_options
        As for `cnncodes.probes.fit_probe`; groups of all `rows`.

    Returns
    -------
    probe : Pipeline
        Fitted to all images.
    search : Search
        On the sample.
    X : ndarray of float32
        Codes of the sample.
    kept : ndarray of int, shape (m,)
        Which of `rows` are the sample.

    Raises
    ------
    ProbeError
        As for `cnncodes.probes.search_C`.
    """
    y = file.labels[rows]
    classes, of_row = np.unique(y, return_inverse=True)
    kept = _stratified(of_row, m, cv, seed)
    scaler, X = _first_pass(file, layers, rows, kept, scale)
    search = search_C(
        X,
        y[kept],
        clf=clf,
        Cs=grid_of(C),
        scale=scale,
        class_weight=class_weight,
        groups=None if groups is None else groups[kept],
        cv=cv,
        seed=seed,
        **search_options,
    )

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for piece in pieces(file, layers, len(rows)):
            part = file.codes(layers, rows[piece], check=False)
            yield scaler.transform(as_rows(part)), repeated(of_row[piece], part)

    fitted = fit_in_passes(
        chunks,
        len(rows) * int(np.prod(file.views)),
        scaler.transform(as_rows(X)),
        repeated(of_row[kept], X),
        C=search.C,
        loss=LOSSES[clf],
        of_class=compute_class_weight(class_weight, classes=classes, y=y),
        max_passes=MAX_PASSES,
    )
    classifier = make_probe(clf, C=search.C, scale=scale, class_weight=class_weight)[-1]
    classifier.classes_, classifier.n_features_in_ = classes, fitted.coef.shape[1]
    classifier.coef_, classifier.intercept_, classifier.n_iter_ = fitted.coef, fitted.intercept, fitted.n_passes
    search.notes.append(
        f"the codes of all {len(rows)} images do not fit into the memory: C and the cross-validated figures are of a "
        f"stratified sample of {len(kept)}; the probe is fitted to all, in {fitted.n_passes} passes over the file"
    )
    if not fitted.converged:
        search.notes.append(
            f"the fit to all images did not converge within {fitted.n_passes} passes over the file; {CONVERGE}"
        )
    return make_pipeline(scaler, classifier), search, X, kept


def pieces(file: CodesFile, layers: list[str], n: int) -> Iterator[slice]:
    """Cut n images into pieces whose codes are of a bounded size, in order."""
    row_bytes = 4 * sum(file.n_features(name) for name in layers) * int(np.prod(file.views))
    step = max(1, CHUNK_BYTES // row_bytes)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _stratified(of_row: np.ndarray, m: int, cv: int, seed: int) -> np.ndarray:
    """Return which rows are a sample of about m, ascending: each class by its share, but enough for all folds."""
    counts = np.bincount(of_row)
    wanted = np.maximum(np.round(m * counts / len(of_row)), 2 * cv)
    order = np.random.default_rng(seed).permutation(len(of_row))
    order = order[np.argsort(of_row[order], kind="stable")]
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[of_row[order]]
    return np.sort(order[rank < wanted[of_row[order]]])


def _first_pass(
    file: CodesFile, layers: list[str], rows: np.ndarray, kept: np.ndarray, scale: str
) -> tuple[Any, np.ndarray]:
    """Check all codes, learn their scaling, and take the sample out."""
    scaler = SCALINGS[scale]()
    learn = getattr(scaler, "partial_fit", scaler.fit)  # those that need not learn from all rows have only `fit`
    sample = np.empty((len(kept), *file.views, sum(file.n_features(name) for name in layers)), np.float32)
    bad = 0
    for piece in pieces(file, layers, len(rows)):
        part = file.codes(layers, rows[piece])
        bad += int(np.sum(~np.isfinite(part).all(axis=tuple(range(1, part.ndim)))))
        if not bad:
            learn(as_rows(part))
        inside = slice(*np.searchsorted(kept, [piece.start, piece.stop]))
        sample[inside] = part[kept[inside] - piece.start]
    if bad:
        raise not_finite(bad, len(rows))
    return scaler, sample
