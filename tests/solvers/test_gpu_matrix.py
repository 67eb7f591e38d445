"""Products on another device lead to the same fits; here torch computes them on the processor, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

import cnncodes.solvers.device
import cnncodes.solvers.gpu_matrix
from cnncodes.errors import DeviceError
from cnncodes.solvers.classifiers import DenseLinearSVC
from cnncodes.solvers.device import computing_on, rows_of
from cnncodes.solvers.gpu_matrix import DeviceRows
from cnncodes.solvers.matrix import Rows
from cnncodes.solvers.path import fit_in_passes, fit_path

X, Y = load_digits(return_X_y=True)
X = (X - X.mean(axis=0)) / 8
CS = [1e-4, 1e-2, 1.0, 100.0]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Products by torch, in small blocks."""
    monkeypatch.setattr(cnncodes.solvers.gpu_matrix, "BLOCK_BYTES", 8 * 65 * 500)
    token = cnncodes.solvers.device._device.set(request.param)
    yield request.param
    cnncodes.solvers.device._device.reset(token)


class Slow:
    """Rows that are not in memory."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.rows[index].copy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stored", [np.asarray, Slow])
def test_products_are_those_of_numpy(device: str, dtype: type, stored: Any) -> None:
    rng = np.random.default_rng(0)
    rows = X.astype(dtype)
    rows.flags.writeable = False
    ours, exact = DeviceRows(stored(rows), 2.0, device), np.column_stack([rows, np.full(len(X), 2.0)]).astype(float)
    W, R, weights = rng.normal(size=(65, 3)), rng.normal(size=(len(X), 3)), rng.random((len(X), 3))
    close = {"rtol": 1e-5, "atol": 1e-2} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-9}
    np.testing.assert_allclose(ours.scores(W), exact @ W, rtol=1e-10)
    np.testing.assert_allclose(ours.pull(R), exact.T @ R, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.hessian_dot(W, weights), exact.T @ (weights * (exact @ W)), **close)
    gram, index = np.zeros((65, 65)), rng.choice(len(X), 700, replace=False)
    ours.add_gram(gram, index, weights[:700, 0], -1.0)
    expected = -(exact[index].T * weights[:700, 0]) @ exact[index]
    np.testing.assert_allclose(np.tril(gram), np.tril(expected), **close)
    bare = DeviceRows(stored(rows), 0.0, device)
    squares = bare.sweep(W[:64].astype(dtype), lambda block, scores: scores**2 * weights[block].astype(dtype))
    np.testing.assert_allclose(squares, exact[:, :64].T @ (weights * (exact[:, :64] @ W[:64]) ** 2), **close)


@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
@pytest.mark.parametrize("rows", [slice(None), slice(0, 40)], ids=["all", "fewer than columns"])
def test_a_path_is_the_same(device: str, loss: str, rows: slice) -> None:
    found = fit_path(X[rows], Y[rows], CS, loss=loss, tol=1e-6)
    with computing_on("cpu"):
        assert type(rows_of(X)) is Rows
        expected = fit_path(X[rows], Y[rows], CS, loss=loss, tol=1e-6)
    assert type(rows_of(X)) is DeviceRows
    assert found.converged.all()
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-7)
    answers = [path.decision_function(X).argmax(axis=2) for path in (found, expected)]
    assert np.mean(answers[0] == answers[1]) > 0.999


def test_objectives_are_those_of_scikit_learn(device: str) -> None:
    ours = DenseLinearSVC(C=0.01).fit(X.astype(np.float32), Y)
    theirs = LinearSVC(C=0.01, dual=False, tol=1e-8, max_iter=10_000).fit(X, Y)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=2e-3)
    path = fit_path(X, Y, [0.01], loss="log_loss", tol=1e-7)
    theirs = LogisticRegression(C=0.01, tol=1e-9, max_iter=10_000).fit(X, Y)
    np.testing.assert_allclose(path.decision_function(X)[0], theirs.decision_function(X), atol=1e-4)


@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
def test_rows_that_are_not_in_memory_are_taken_up_a_block_at_a_time(device: str, loss: str) -> None:
    start = fit_path(X[::2], Y[::2], [0.02], loss=loss).coefficients(0)
    options: dict[str, Any] = {"loss": loss, "class_weight": None, "start": start, "memory": 10**9}
    found = fit_in_passes(Slow(X), Y, 0.01, **options)
    expected = fit_path(X, Y, [0.01], loss=loss)
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-5)


def test_a_device_whose_memory_is_too_small_is_named(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(cnncodes.solvers.gpu_matrix.DeviceRows, "add_gram", full)
    with pytest.raises(DeviceError, match=r"memory of .* is too small"), computing_on(torch.device(device).type + ":0"):
        DenseLinearSVC(C=1e-6).fit(X, Y)
