"""Linear probes on more codes than memory holds: C is chosen on a sample, and the fit is to all, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline

from cnncodes.codes.file import CodesFile
from cnncodes.codes.views import as_rows, repeated
from cnncodes.errors import ProbeError, parameter
from cnncodes.probes.folds import Scorable, scorable
from cnncodes.probes.joblib_backend import jobs_here, on_cluster
from cnncodes.probes.probe import LOSSES, make_probe, set_fitted
from cnncodes.probes.sampling import stratified_sample
from cnncodes.probes.scaling import Scaling, make_scaler
from cnncodes.probes.search import CONVERGE, Search, grid_of, jobs_that_pay, not_finite, search_C
from cnncodes.solvers.hinge import CURVATURE_BYTES, ROW_BYTES, SHARED_MATRICES
from cnncodes.solvers.path import fit_in_passes, fit_path
from cnncodes.system.memory import memory_left, resident_memory
from cnncodes.vocabulary import DEFAULT_SCALING

__all__ = ["fit_large_probe", "memory_of_fit", "pieces", "sample_that_fits"]

CHUNK_BYTES = 16 << 20  # of float32 rows
IMAGE_BYTES = 250  # of an image, besides its codes: labels, digests
SPARE_BYTES = 200 << 20  # for chunks, libraries that are loaded late, and what memory loses to fragments
WORKER_BYTES = 250 << 20  # of a process for some of the folds, libraries and all
SAMPLE_ROWS = 20_000  # more say hardly more about C
MAX_ITER = 200  # steps, each of which reads the file once to a few times


def memory_of_fit(n: int, file: CodesFile, layers: list[str], n_classes: int, n_Cs: int, n_jobs: int | None) -> int:
    """Return how many bytes a fit to the codes of n images takes that are in memory, cross-validation included."""
    d = sum(file.n_features(name) for name in layers)
    rows, k, jobs = n * int(np.prod(file.views)), 1 if n_classes == 2 else n_classes, jobs_here(n_jobs)
    square = 8 * min(rows, d + 1) ** 2
    decisions = 20 * k * n_Cs  # of each fold and of all, and a quarter more for what is not freed yet
    of_class = 2 * square + ROW_BYTES * rows
    of_solver = SHARED_MATRICES * square + min(k * of_class, max(of_class, CURVATURE_BYTES))
    of_job = 8 * d * rows + of_solver  # training rows, taken out and scaled; what the solver keeps of them
    return rows * (4 * d + decisions) + jobs * of_job


def sample_that_fits(
    file: CodesFile,
    layers: list[str],
    n: int,
    n_classes: int,
    *,
    memory_limit: int | None,
    C: float | str,
    cv: int,
    n_jobs: int | str | None,
) -> tuple[int, int | None]:
    """Return the codes of how many of n images can be in memory at once, and be fitted, and in how many jobs.

    Parameters
    ----------
    memory_limit : int, optional
        Bytes that the process may have; by default what it has, and what is free.
    n_jobs : int or "auto", optional
        Folds that run in parallel; ``"auto"`` is as many as pay, and as memory allows.

    Returns
    -------
    m : int
        n, where all can.
    n_jobs : int, optional

    Raises
    ------
    ProbeError
        The limit does not even allow a few images of each class.
    """
    limit, d = _limit(memory_limit), sum(map(file.n_features, layers))
    rows_each = int(np.prod(file.views))

    def needed(m: int, jobs: int | None) -> int:
        return base + memory_of_fit(m, file, layers, n_classes, len(grid_of(C)), jobs)

    def most_jobs(m: int) -> int | None:
        if not isinstance(n_jobs, str):
            return n_jobs
        jobs = jobs_that_pay(m * rows_each * d * len(grid_of(C)), cv)
        while jobs is not None and not on_cluster() and needed(m, jobs) + jobs * WORKER_BYTES > limit:
            jobs = jobs - 1 if jobs > 2 else None
        return jobs

    base, few = resident_memory(), None if isinstance(n_jobs, str) else n_jobs
    if needed(n, few) <= limit:
        return n, most_jobs(n)
    base += SPARE_BYTES + IMAGE_BYTES * n
    least = min(n, 2 * cv * n_classes)
    m = min(n, SAMPLE_ROWS)
    while m > least and needed(m, few) > limit:
        m = max(least, int(0.95 * m))
    in_passes = base + n * rows_each * ROW_BYTES + (SHARED_MATRICES + 2) * 8 * d**2  # of all rows and of one class
    least_bytes = max(needed(m, few), in_passes)
    if least_bytes > limit:
        raise ProbeError(
            f"{file.path}: the memory is limited to {limit / 1e6:.0f} MB, but {least_bytes / 1e6:.0f} MB are needed to "
            f"choose C on {m} images, and to fit to all a block at a time; raise {parameter('memory_limit')}, "
            f"name fewer or shorter layers, or lower {parameter('n_jobs')}"
        )
    return m, most_jobs(m)


def _limit(memory_limit: int | None) -> int:
    return resident_memory() + memory_left() if memory_limit is None else memory_limit


def fit_large_probe(
    file: CodesFile,
    layers: list[str],
    rows: np.ndarray,
    m: int,
    *,
    memory_limit: int | None = None,
    clf: str = "svm",
    C: float | str = "auto",
    scale: Scaling = DEFAULT_SCALING,
    class_weight: Any = None,
    groups: np.ndarray | None = None,
    cv: int = 5,
    seed: int = 0,
    **search_options: Any,
) -> tuple[Pipeline, Search, np.ndarray, np.ndarray, Scorable]:
    """Choose C on a stratified sample, and fit the probe to all images, reading the file a block at a time.

    Parameters
    ----------
    file : CodesFile
    layers : list of str
    rows : ndarray of int
        The images to train on, ascending.
    m : int
        Images of the sample, whose codes are all in memory.
    memory_limit : int, optional
        Bytes that the process may have; by default what it has, and what is free.
    clf, C, scale, class_weight, groups, cv, seed, **search_options
        As for `cnncodes.probes.search.fit_probe`; groups of all `rows`.

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
    scored : Scorable
        Which of the sample the search has scored.

    Raises
    ------
    ProbeError, SettingError
        As for `cnncodes.probes.search.search_C`.
    """
    y = file.labels[rows]
    kept = stratified_sample(np.unique(y, return_inverse=True)[1], m, least=2 * cv, seed=seed)
    scaler, X = _first_pass(file, layers, rows, kept, scale)
    groups = np.full(len(rows), "") if groups is None else groups
    scored = scorable(y[kept], groups[kept], file.groups[rows[kept]])
    some = slice(None) if len(scored.rows) == len(kept) else scored.rows
    search = search_C(
        X[some],
        y[kept][some],
        clf=clf,
        Cs=grid_of(C),
        scale=scale,
        class_weight=class_weight,
        groups=groups[kept][some],
        cv=cv,
        seed=seed,
        memory_limit=memory_limit,
        **search_options,
    )

    sample, of_sample = scaler.transform(as_rows(X)), repeated(y[kept], X)
    objective: dict[str, Any] = {"loss": LOSSES[clf], "class_weight": class_weight}
    n_views = len(sample) // len(kept)
    near = fit_path(sample, of_sample, [search.C * len(rows) / len(kept)], warn=False, **objective)
    start = near.coefficients(0)
    del sample, near
    fitted = fit_in_passes(
        ScaledRows(file, layers, rows, scaler),
        np.repeat(y, n_views),
        search.C,
        start=start,
        memory=memory_left(memory_limit) - SPARE_BYTES,
        max_iter=MAX_ITER,
        **objective,
    )
    classifier = make_probe(clf, C=search.C, scale=scale, class_weight=class_weight)[-1]
    set_fitted(classifier, fitted)
    search.notes.append(
        f"the codes of all {len(rows)} images do not fit into the memory: C and the cross-validated figures are of a "
        f"stratified sample of {len(kept)}; the probe is fitted to all"
    )
    if not fitted.converged[0]:
        search.notes.append(f"the fit to all images did not converge within {MAX_ITER} steps; {CONVERGE}")
    return make_pipeline(scaler, classifier), search, X, kept, scored


class ScaledRows:
    """The codes of some images as the matrix that a probe is fitted to, read and scaled where they are asked for.

    Parameters
    ----------
    file : CodesFile
    layers : list of str
    rows : ndarray of int
        Their row numbers, ascending. Several views of an image are rows of the matrix, one after the other.
    scaler : fitted transformer
    """

    dtype = np.dtype(np.float32)

    def __init__(self, file: CodesFile, layers: list[str], rows: np.ndarray, scaler: Any) -> None:
        self.file, self.layers, self.rows, self.scaler = file, layers, rows, scaler
        self.n_views = int(np.prod(file.views))
        self.shape = (len(rows) * self.n_views, sum(file.n_features(name) for name in layers))

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        images = wanted = np.arange(*index.indices(self.shape[0])) if isinstance(index, slice) else index
        if self.n_views > 1:
            images, at = np.unique(wanted // self.n_views, return_inverse=True)
        codes = as_rows(self.file.codes(self.layers, self.rows[images], check=False))
        if self.n_views > 1:
            codes = codes[at * self.n_views + wanted % self.n_views]
        return self.scaler.transform(codes)


def pieces(file: CodesFile, layers: list[str], n: int) -> Iterator[slice]:
    """Cut n images into pieces whose codes are of a bounded size, in order."""
    row_bytes = 4 * sum(file.n_features(name) for name in layers) * int(np.prod(file.views))
    step = max(1, CHUNK_BYTES // row_bytes)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _first_pass(
    file: CodesFile, layers: list[str], rows: np.ndarray, kept: np.ndarray, scale: Scaling
) -> tuple[Any, np.ndarray]:
    """Check all codes, learn their scaling, and take the sample out."""
    scaler = make_scaler(scale)
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
