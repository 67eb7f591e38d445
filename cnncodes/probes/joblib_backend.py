"""What computes folds: processes and threads of this machine, or a cluster that joblib's `parallel_config` names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from joblib.parallel import BACKENDS, get_active_backend

from cnncodes.errors import CnnCodesError, ProbeError, first_line
from cnncodes.system.interrupt import was_interrupted
from cnncodes.system.optional import require

__all__ = ["jobs_here", "lost_workers_explained", "on_cluster", "received", "sent_once"]

OF_THIS_MACHINE = ("sequential", "threading", "loky", "multiprocessing")  # the others come with Ray, Dask and the like
RUNNERS = {"joblib", "ray", "distributed"}  # an error of theirs says that a worker is lost, not that a fit has failed


def on_cluster() -> bool:
    """Whether `parallel_config` names a backend whose workers may be on other machines."""
    return type(get_active_backend()[0]) not in {BACKENDS.get(name) for name in OF_THIS_MACHINE}


def jobs_here(n_jobs: int | None) -> int:
    """Return how many fits at a time take memory of this machine; with a cluster, only the last one does."""
    return 1 if on_cluster() else effective_n_jobs(n_jobs)


def sent_once(array: np.ndarray) -> Any:
    """Return what tasks take in the place of an array: Ray would send it with each of them, Dask and loky do not."""
    if type(get_active_backend()[0]).__module__.partition(".")[0] != "ray":
        return array
    return require("ray", "joblib's backend").put(array)


def received(array: Any) -> np.ndarray:
    """Return the array that `sent_once` was given."""
    if isinstance(array, np.ndarray):
        return array
    return require("ray", "joblib's backend").get(array)


@contextmanager
def lost_workers_explained() -> Iterator[None]:
    """Raise a `ProbeError` where a worker ends or cannot start; what a fit itself raises comes through as it is."""
    try:
        yield
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if isinstance(error, CnnCodesError) or package not in RUNNERS or was_interrupted():
            raise
        reason = first_line(getattr(error, "cause", None) or error)  # Ray's own first line only names the worker
        raise ProbeError(
            f"a worker that computes folds was lost ({package}: {reason}); each needs memory for three "
            "copies of the codes, and on other machines the same Python and libraries as here, cnncodes among them"
        ) from error
