"""Folds on a cluster: the same results as here, from other processes, with the codes sent once."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from digit_codes import X_DIGITS, Y_DIGITS, write_codes
from joblib import Parallel, delayed, parallel_config, register_parallel_backend
from joblib.parallel import ThreadingBackend
from sklearn.model_selection import GridSearchCV

import cnncodes.probes.out_of_fold
from cnncodes import CodesFile, DenseLinearSVC, ProbeModel, compare, fit
from cnncodes.errors import ProbeError, RangeError
from cnncodes.probes.joblib_backend import jobs_here, lost_workers_explained, on_cluster
from cnncodes.probes.out_of_core import memory_of_fit
from cnncodes.probes.search import jobs_that_pay

N = 400
CS = [1e-3, 1e-2, 0.1]


class Elsewhere(ThreadingBackend):
    """A backend of a cluster with eight workers, as far as joblib can tell; like Ray, it takes one unless told more."""

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        return 8 if n_jobs == -1 else n_jobs or 1


register_parallel_backend("elsewhere", Elsewhere)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing", "sequential"])
def test_backends_of_this_machine_are_no_cluster(backend: str) -> None:
    assert not on_cluster()
    with parallel_config(backend=backend, n_jobs=2):
        assert not on_cluster()
        assert jobs_here(None) == joblib.effective_n_jobs(None)


def test_on_a_cluster_there_is_a_worker_for_each_fold() -> None:
    with parallel_config(backend="elsewhere"):
        assert on_cluster()
        assert (jobs_that_pay(1, 5), jobs_that_pay(1, 10)) == (5, 8)
    with parallel_config(backend="elsewhere", n_jobs=3):
        assert jobs_that_pay(1, 5) == 3


def test_folds_of_a_cluster_take_no_memory_here(tmp_path: Path) -> None:
    path = write_codes(tmp_path / "codes.h5", np.arange(N), Y_DIGITS[:N].astype(str).tolist())
    with CodesFile.open(path) as file:
        alone, four = (memory_of_fit(N, file, ["penultimate"], 10, 45, n_jobs) for n_jobs in (1, 4))
        with parallel_config(backend="elsewhere", n_jobs=-1):
            assert memory_of_fit(N, file, ["penultimate"], 10, 45, 4) == alone < four


def test_a_lost_worker_is_an_error_that_says_what_workers_need() -> None:
    killed = type("ActorDiedError", (Exception,), {"__module__": "ray.exceptions"})("The actor died.\nMore of it.")
    message = r"was lost \(ray: The actor died\.\); .* cnncodes among them$"
    with pytest.raises(ProbeError, match=message) as caught, lost_workers_explained():
        raise killed
    assert caught.value.__cause__ is killed
    for error in (RangeError("too large"), ValueError("of a fit"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as same, lost_workers_explained():
            raise error
        assert same.value is error


def test_a_process_that_is_killed_here_is_an_error_of_ours_too() -> None:
    message = r"was lost \(joblib: .*memory for three copies of the codes"
    with pytest.raises(ProbeError, match=message), lost_workers_explained():
        Parallel(n_jobs=2)(delayed(os._exit)(1) for _ in range(2))


@contextmanager
def ray_cluster() -> Iterator[None]:
    """Two nodes with a core each, and object stores of their own."""
    import ray
    from ray.cluster_utils import Cluster
    from ray.util.joblib import register_ray

    register_ray()
    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as short:  # sockets need short names
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_TMPDIR", short)  # where the address of this cluster is kept, for no other process to find
        Path(short, "ray").mkdir()
        cluster = Cluster(True, head_node_args=node | {"temp_dir": short, "include_dashboard": False})
        try:
            cluster.add_node(**node)
            ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
            with parallel_config(backend="ray", n_jobs=-1, ray_remote_args={"num_cpus": 1}):
                yield
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def dask_cluster() -> Iterator[None]:
    """Two processes with a core each."""
    from distributed import Client, LocalCluster

    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"processes": True, "local_directory": folder, "silence_logs": logging.CRITICAL}
        cluster = LocalCluster(2, threads_per_worker=1, dashboard_address=None, **options)
        with cluster, Client(cluster), parallel_config(backend="dask"):
            yield


@contextmanager
def counted(backend: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Collect the bytes of every array that is sent to the workers."""
    import distributed
    import ray

    sent: list[int] = []

    def count(send: Callable[..., Any], at: int) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            sent.append(getattr(args[at], "nbytes", 0))
            return send(*args, **options)

        return counting

    with monkeypatch.context() as patch:
        if backend == "ray":
            patch.setattr(ray, "put", count(ray.put, 0))
        else:
            patch.setattr(distributed.Client, "scatter", count(distributed.Client.scatter, 1))
        yield sent


def traced(folder: Path, backend: str) -> Callable[..., Any]:
    """Return the task of a fold, which leaves a file that is called like its worker's place and process."""
    run = cnncodes.probes.out_of_fold._fold_path

    def task(*args: Any, **options: Any) -> Any:  # as part of this function it travels by value
        import distributed
        import ray

        place = ray.get_runtime_context().get_node_id() if backend == "ray" else distributed.get_worker().name
        Path(folder, f"{place} {os.getpid()}").touch()
        return run(*args, **options)

    return task


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray and Dask leave sockets and files to the end of the process
@pytest.mark.parametrize(("backend", "cluster", "rounds"), [("ray", ray_cluster, 1), ("dask", dask_cluster, 6)])
def test_folds_on_a_cluster(
    backend: str, cluster: Any, rounds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnncodes.probes.search, "side_by_side_pays", lambda *_: False)  # as with many images
    path = write_codes(tmp_path / "codes.h5", np.arange(N), Y_DIGITS[:N].astype(str).tolist())
    grid = GridSearchCV(DenseLinearSVC(), {"C": CS}, cv=3)

    def results() -> tuple[ProbeModel, Any, Any]:
        model, rows = fit(path), compare(path, clfs=["logreg"], layers=["penultimate"], repeats=1).to_dict()["rows"]
        grid.fit(X_DIGITS[:N], Y_DIGITS[:N])
        return model, [row | {"seconds": 0} for row in rows], grid.cv_results_["mean_test_score"].tolist()

    def fails(*args: Any, **options: Any) -> None:
        raise RangeError("of a worker")

    def ends(*args: Any, **options: Any) -> None:
        os._exit(1)

    model, *others = results()
    (folder := tmp_path / "places").mkdir()
    with cluster(), monkeypatch.context() as patch:
        patch.setattr(cnncodes.probes.out_of_fold, "_fold_path", traced(folder, backend))
        with counted(backend, monkeypatch) as sent:
            far_model, *far_others = results()
        for task, error, message in [(fails, RangeError, "of a worker"), (ends, ProbeError, "a worker .* was lost")]:
            patch.setattr(cnncodes.probes.out_of_fold, "_fold_path", task)
            with pytest.raises(error, match=message):
                fit(path)
    for name in ("coef", "intercept"):
        np.testing.assert_array_equal(getattr(far_model, name), getattr(model, name))
    assert (far_model.scores.to_dict(), far_model.temperature) == (model.scores.to_dict(), model.temperature)
    assert far_others == others
    places, pids = zip(*(file.name.split() for file in folder.iterdir()), strict=True)
    assert len(set(places)) == 2
    assert str(os.getpid()) not in pids
    searches, bytes_of_codes = 2, 4 * N * 40
    assert 1 <= sent.count(bytes_of_codes) <= rounds * searches  # not once for each of five folds
