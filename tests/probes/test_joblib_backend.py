"""Folds on a cluster: the same results as here, from other processes, with the codes sent once."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import time
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
from cnncodes.probes import joblib_backend
from cnncodes.probes.joblib_backend import (
    check_workers,
    jobs_here,
    lost_workers_explained,
    on_cluster,
    received,
    sent_once,
)
from cnncodes.probes.out_of_core import memory_of_fit
from cnncodes.probes.search import jobs_that_pay

N = 400
VERSION = cnncodes.__version__
MISSING = ModuleNotFoundError("No module named 'cnncodes'")
NO_VERSION = AttributeError("module 'cnncodes' has no attribute '__version__'")  # a folder that is called so
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


class DaskClient:
    """A client of Dask with a worker, whose cnncodes or that of the scheduler may be another one, or not be there."""

    def __init__(self, *, worker: object, scheduler: object, status: str = "running") -> None:
        self.worker, self.scheduler, self.status = worker, scheduler, status

    def run(self, function: object, *args: object, on_error: str) -> dict[str, object]:
        assert (function, on_error) == (eval, "return")  # which every process has
        return {"tcp://10.0.0.7:1": self.worker}

    def run_on_scheduler(self, function: object, *args: object) -> object:
        assert function is eval
        if isinstance(self.scheduler, Exception):
            raise self.scheduler
        return self.scheduler


def name_dask(client: DaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `parallel_config` name the cluster of a client."""
    backend = type("DaskDistributedBackend", (), {"__module__": "joblib._dask", "client": client})()
    monkeypatch.setattr(joblib_backend, "get_active_backend", lambda: (backend, None))


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({"worker": "0.0.9", "scheduler": VERSION}, r"\(tcp://10.0.0.7:1: has cnncodes 0\.0\.9\)"),
        ({"worker": VERSION, "scheduler": "0.0.9"}, r"\(the scheduler: has cnncodes 0\.0\.9\)"),
        ({"worker": MISSING, "scheduler": VERSION}, r"\(tcp://10.0.0.7:1: No module named 'cnncodes'\)"),
        ({"worker": VERSION, "scheduler": MISSING}, r"\(the scheduler: No module named 'cnncodes'\)"),
        ({"worker": NO_VERSION, "scheduler": VERSION}, r"\(tcp://10.0.0.7:1: module 'cnncodes' has no .*\)"),
        ({"worker": VERSION, "scheduler": NO_VERSION}, r"\(the scheduler: module 'cnncodes' has no .*\)"),
    ],
)
def test_a_dask_cluster_with_another_cnncodes_or_none_is_refused(
    versions: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_dask(DaskClient(**versions), monkeypatch)
    with pytest.raises(ProbeError, match=f"{message}; install cnncodes {VERSION} for its scheduler and its workers"):
        check_workers()
    name_dask(DaskClient(worker=VERSION, scheduler=VERSION), monkeypatch)
    check_workers()


def test_a_dask_worker_that_does_not_answer_is_left_to_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that leaves while it is asked: its tasks go to the others."""
    name_dask(DaskClient(worker=ConnectionResetError("Connection reset by peer"), scheduler=VERSION), monkeypatch)
    check_workers()


def test_what_dask_calls_a_cancelled_task_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    client = DaskClient(worker=VERSION, scheduler=VERSION)
    name_dask(client, monkeypatch)
    for reason, words in [
        ("already forgotten", "it ended with the codes that it was sent"),
        ("scheduler-connection-lost", "the scheduler does not answer any more"),
        ("anything else", "batch_of_folds cancelled for reason: anything else"),
    ]:
        error = distributed.client.FutureCancelledError("batch_of_folds", reason)
        with pytest.raises(ProbeError, match=rf"was lost \(distributed: {words}"), lost_workers_explained():
            raise error
    client.status = "closed"
    with pytest.raises(ProbeError, match="the Dask client is closed; make a new one"), lost_workers_explained():
        raise AttributeError("'NoneType' object has no attribute 'ncores'")


def test_a_dask_scheduler_that_went_before_the_search_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    client = DaskClient(worker=VERSION, scheduler=VERSION)
    name_dask(client, monkeypatch)
    error = OSError("Timed out trying to connect to tcp://10.0.0.1:8786 after 30 s")
    with pytest.raises(OSError, match="Timed out"), lost_workers_explained():  # may be of anything else
        raise error
    message = r"the Dask scheduler does not answer \(Timed out trying to connect to tcp://10.0.0.1:8786 after 30 s\)"
    for client.status in ("connecting", "closing"):  # it looks for its scheduler, and gives up
        with pytest.raises(ProbeError, match=message), lost_workers_explained():
            raise error


def test_a_ray_worker_of_another_version_refuses_its_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "put", lambda array: ("in the store", array))
    monkeypatch.setattr(ray, "get", lambda reference: reference[1])
    backend = type("RayBackend", (), {"__module__": "ray.util.joblib.ray_backend"})()
    monkeypatch.setattr(joblib_backend, "get_active_backend", lambda: (backend, None))
    sent = sent_once(X_DIGITS)
    assert received(sent) is X_DIGITS
    monkeypatch.setattr(joblib_backend, "__version__", "0.0.9")
    with pytest.raises(ProbeError, match=rf"the Ray cluster has cnncodes 0\.0\.9; install {VERSION} there"):
        received(sent)


@contextmanager
def ray_nodes() -> Iterator[str]:
    """Two nodes with a core each, and object stores of their own; their address."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as short:  # sockets need short names
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_TMPDIR", short)  # where the address of this cluster is kept, for no other process to find
        Path(short, "ray").mkdir()
        cluster = Cluster(True, head_node_args=node | {"temp_dir": short, "include_dashboard": False})
        try:
            cluster.add_node(**node)
            yield cluster.address
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def ray_cluster() -> Iterator[None]:
    """The nodes of `ray_nodes` as the cluster that joblib takes."""
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    with ray_nodes() as address:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        with parallel_config(backend="ray", n_jobs=-1, ray_remote_args={"num_cpus": 1}):
            yield


@contextmanager
def dask_nodes() -> Iterator[str]:
    """Two processes with a core each; the address of their scheduler."""
    from distributed import LocalCluster

    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"processes": True, "local_directory": folder, "silence_logs": logging.CRITICAL}
        with LocalCluster(2, threads_per_worker=1, dashboard_address=None, **options) as cluster:
            yield cluster.scheduler_address


@contextmanager
def dask_cluster() -> Iterator[None]:
    """The processes of `dask_nodes` as the cluster that joblib takes."""
    from distributed import Client

    with dask_nodes() as address, Client(address), parallel_config(backend="dask"):
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_real_dask_cluster_with_another_cnncodes_is_refused_and_so_is_a_closed_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import default_client

    monkeypatch.setattr(cnncodes.probes.search, "side_by_side_pays", lambda *_: False)  # as with many images
    path = write_codes(tmp_path / "codes.h5", np.arange(N), Y_DIGITS[:N].astype(str).tolist())
    with dask_cluster():
        client = default_client()
        client.run(eval, "setattr(__import__('cnncodes'), '__version__', '0.0.9')")
        with pytest.raises(ProbeError, match=rf"\(tcp://.*: has cnncodes 0\.0\.9\); install cnncodes {VERSION}"):
            fit(path)
        assert len(client.scheduler_info()["workers"]) == 2  # no task of ours has ended one
        client.close()
        with pytest.raises(ProbeError, match="the Dask client is closed"):
            fit(path)


def example_of(cluster: str) -> str:
    """Return the Python that the guide prints for a cluster."""
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    (example,) = re.findall(rf"<!-- {cluster} example -->\n```python\n(.*?)\n```", guide, re.DOTALL)
    return example


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_for_ray_runs_as_it_is_printed(
    sample_codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(sample_codes, tmp_path / "codes.h5")
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    with ray_nodes() as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        exec(example_of("ray"), space)
    model = fit(sample_codes, clf="svm", layers=["layer4", "penultimate"])
    np.testing.assert_array_equal(ProbeModel.load("model.safetensors").coef, model.coef)
    assert space["comparison"].recommended is not None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_for_dask_runs_as_it_is_printed_and_extracts_no_image_twice(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    for name in ("Bag", "Sandal"):
        (folder := tmp_path / "photos" / name).mkdir(parents=True)
        for path in sorted((small_sample / "train" / name).iterdir())[:8]:
            shutil.copy(path, folder)
    (runs := tmp_path / "runs").mkdir()

    def watch() -> None:  # as part of this function it travels by value
        from cnncodes.extraction import engine

        run_batches = engine.run_batches

        def noted(images: Any, rows: np.ndarray, *args: Any, **options: Any) -> Any:
            Path(runs, f"{os.getpid()}-{len(rows)}-{time.time_ns()}").touch()
            return run_batches(images, rows, *args, **options)

        engine.run_batches = noted

    example = example_of("dask").replace("/shared", str(tmp_path))
    assert example.count(str(tmp_path)) == 2
    space: dict[str, Any] = {}
    with dask_nodes() as address:
        with Client(address) as client:
            client.run(watch)
        monkeypatch.setattr("cnncodes.extraction.engine.run_batches", lambda *_: pytest.fail("an image was run here"))
        exec(example.replace("scheduler:8786", address), space)
    search, images = space["search"], space["images"]
    pids, rows, _ = zip(*(file.name.split("-") for file in runs.iterdir()), strict=True)
    assert sum(map(int, rows)) == len(images)  # three layers and five folds later
    assert str(os.getpid()) not in pids
    far, best = search.cv_results_["mean_test_score"].tolist(), search.best_params_
    search.fit(images.sources, images.labels)
    assert (search.cv_results_["mean_test_score"].tolist(), search.best_params_) == (far, best)
    assert max(far) >= 0.8
