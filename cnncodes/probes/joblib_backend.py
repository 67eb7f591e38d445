"""What computes folds: processes and threads of this machine, or a cluster that joblib's `parallel_config` names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from joblib.parallel import BACKENDS, get_active_backend

from cnncodes import __version__
from cnncodes.errors import CnnCodesError, ProbeError, first_line
from cnncodes.system.interrupt import was_interrupted
from cnncodes.system.optional import require

__all__ = ["check_workers", "jobs_here", "lost_workers_explained", "on_cluster", "received", "sent_once"]

OF_THIS_MACHINE = ("sequential", "threading", "loky", "multiprocessing")  # the others come with Ray, Dask and the like
RUNNERS = {"joblib", "ray", "distributed"}  # an error of theirs says that a worker is lost, not that a fit has failed
CANCELLED = {  # why Dask forgets a task
    "already forgotten": "it ended with the codes that it was sent",
    "scheduler-connection-lost": "the scheduler does not answer any more",
}
VERSION_THERE = "__import__('cnncodes').__version__"  # as text: a function of ours needs cnncodes to arrive


def on_cluster() -> bool:
    """Whether `parallel_config` names a backend whose workers may be on other machines."""
    return type(get_active_backend()[0]) not in {BACKENDS.get(name) for name in OF_THIS_MACHINE}


def jobs_here(n_jobs: int | None) -> int:
    """Return how many fits at a time take memory of this machine; with a cluster, only the last one does."""
    return 1 if on_cluster() else effective_n_jobs(n_jobs)


def check_workers() -> None:
    """Refuse a Dask cluster where cnncodes is missing or another version, before it is sent a task of ours.

    A scheduler that cannot import a task never answers, and a worker that cannot import it ends.

    Raises
    ------
    ProbeError
        It names the process and the version.
    """
    client = _dask_client()
    if client is None:
        return
    with lost_workers_explained():
        versions = client.run(eval, VERSION_THERE, on_error="return")
        try:
            versions["the scheduler"] = client.run_on_scheduler(eval, VERSION_THERE)
        except (ImportError, AttributeError) as error:
            versions["the scheduler"] = error
    for name, version in versions.items():
        # A worker that has gone away is no reason: Dask gives its tasks to the others
        if version != __version__ and not isinstance(version, OSError):
            reason = f"has cnncodes {version}" if isinstance(version, str) else first_line(version)
            raise ProbeError(
                f"the Dask cluster cannot compute folds ({name}: {reason}); install cnncodes {__version__} for its "
                "scheduler and its workers, as here, and start them again"
            )


def _dask_client() -> Any:
    """Return the client of the Dask cluster that `parallel_config` names, if it names one."""
    backend: Any = get_active_backend()[0]
    return backend.client if type(backend).__module__ == "joblib._dask" else None


@dataclass(frozen=True)
class _Sent:
    """An array in Ray's object store, and the version of whoever put it there."""

    reference: Any
    version: str


def sent_once(array: np.ndarray) -> Any:
    """Return what tasks take in the place of an array: Ray would send it with each of them, Dask and loky do not."""
    if type(get_active_backend()[0]).__module__.partition(".")[0] != "ray":
        return array
    return _Sent(require("ray", "joblib's backend").put(array), __version__)


def received(array: Any) -> np.ndarray:
    """Return the array that `sent_once` was given.

    Raises
    ------
    ProbeError
        This process has another version of cnncodes.
    """
    if isinstance(array, np.ndarray):
        return array
    if array.version != __version__:
        raise ProbeError(
            f"a worker of the Ray cluster has cnncodes {__version__}; install {array.version} there, as here"
        )
    return require("ray", "joblib's backend").get(array.reference)


@contextmanager
def lost_workers_explained() -> Iterator[None]:
    """Raise a `ProbeError` where a worker ends or cannot start; what a fit itself raises comes through as it is."""
    try:
        yield
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if isinstance(error, CnnCodesError) or was_interrupted():
            raise
        status = "" if (client := _dask_client()) is None else client.status
        if status in ("connecting", "closing") and package not in RUNNERS and isinstance(error, OSError):
            raise ProbeError(
                f"the Dask scheduler does not answer ({first_line(error)}); start it again, and make a new client"
            ) from error
        if status in ("closing", "closed"):
            raise ProbeError("the Dask client is closed; make a new one, and enter parallel_config again") from error
        if package not in RUNNERS:
            raise
        # Ray's own first line only names the worker, and Dask's the task
        reason = CANCELLED.get(str(getattr(error, "reason", "")), first_line(getattr(error, "cause", None) or error))
        raise ProbeError(
            f"a worker that computes folds was lost ({package}: {reason}); each needs memory for three "
            "copies of the codes, and on other machines the same Python and libraries as here, cnncodes among them"
        ) from error
