"""A path over C gives what separate fits give, from rows in memory or read in blocks."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from solver_problems import SHAPES, RowsElsewhere, codes, objective

from cnncodes.solvers import matrix
from cnncodes.solvers.classifiers import DenseLinearSVC
from cnncodes.solvers.path import fit_in_passes, fit_path


@pytest.mark.parametrize("shape", ["tall", "wide", "binary"])
def test_path_equals_separate_fits(shape):
    X, y = codes(*SHAPES[shape])
    Cs = [10.0, 1e-4, 1e-2, 1e3]  # the order of the caller is kept
    path = fit_path(X, y, Cs)
    assert path.converged.all()
    assert path.Cs.tolist() == Cs
    scores = path.decision_function(X[:7])
    for i, C in enumerate(Cs):
        model = DenseLinearSVC(C=C, tol=1e-6).fit(X, y)
        coef, intercept = path.coefficients(i)
        assert coef.shape == model.coef_.shape
        assert intercept.shape == model.intercept_.shape
        assert path.objective[i] == pytest.approx(objective(model, X, y), rel=1e-6)
        np.testing.assert_allclose(scores[i], X[:7] @ coef.T + intercept, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(scores[i], np.atleast_2d(model.decision_function(X[:7]).T).T, rtol=1e-2, atol=1e-3)


def test_one_class_is_an_error():
    with pytest.raises(ValueError, match="only one class: 3"):
        fit_path(np.eye(4), np.full(4, 3), [1.0])


def test_unknown_loss_is_an_error():
    with pytest.raises(ValueError, match="no loss 'hinge'; there are squared_hinge, log_loss"):
        fit_path(np.eye(4), [0, 1, 0, 1], [1.0], loss="hinge")


@pytest.mark.parametrize(
    ("Cs", "options", "message"),
    [
        ([], {}, "Cs are"),
        ([1.0, -1.0], {}, "Cs are"),
        ([np.nan], {}, "Cs are"),
        ([np.inf], {"loss": "log_loss"}, "Cs are"),
        ([1.0], {"intercept_scaling": -1.0}, "intercept_scaling"),
    ],
)
def test_numbers_that_make_no_objective_are_refused(Cs, options, message):
    with pytest.raises(ValueError, match=message):
        fit_path(*codes(50, 4, 2), Cs, **options)


def test_a_path_refuses_labels_that_are_no_classes():
    X, _ = codes(50, 4, 2)
    with pytest.raises(ValueError, match="continuous"):
        fit_path(X, X[:, 0] + 0.5, [1.0])


@pytest.mark.parametrize("class_weight", [None, {0: 0.5, 1: 3.0}])
@pytest.mark.parametrize("C", [1e-4, 0.01, 10.0])
@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
def test_rows_that_are_read_in_blocks_give_the_same_as_in_memory(loss, K, C, class_weight, monkeypatch):
    monkeypatch.setattr(matrix, "BLOCK_BYTES", 8 * 41 * 200)
    X, y = codes(1500, 40, K)
    elsewhere = RowsElsewhere(X)
    X = elsewhere.stored.astype(np.float32)
    known = {"loss": loss, "class_weight": class_weight}
    start = fit_path(X[:400], y[:400], [C * 1500 / 400], **known).coefficients(0)
    ours = fit_in_passes(elsewhere, y, C, start=start, memory=0, tol=1e-9, **known)
    assert ours.converged.all()
    assert elsewhere.most <= 210
    theirs = fit_path(X, y, [C], tol=1e-9, **known)
    assert ours.objective[0] == pytest.approx(theirs.objective[0], rel=1e-7)
    near = 0.01 * np.abs(theirs.decision_function(X)).max()
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=near)


def test_a_start_near_the_solution_saves_passes():
    X, y = codes(1500, 40, 4)
    read = []
    for start in (fit_path(X[:700], y[:700], [0.01 * 1500 / 700]).coefficients(0), (np.zeros((4, 40)), np.zeros(4))):
        elsewhere = RowsElsewhere(X)
        fit_in_passes(elsewhere, y, 0.01, loss="squared_hinge", class_weight=None, start=start, memory=1 << 30)
        read.append(elsewhere.read)
    assert read[0] < 0.8 * read[1]


@pytest.mark.parametrize("K", [10, 40])
def test_memory_of_a_fit_in_passes_is_bounded(K, monkeypatch):
    monkeypatch.setattr(matrix, "BLOCK_BYTES", 1 << 18)
    X, y = codes(4000, 300, K, spread=2.0)
    elsewhere = RowsElsewhere(X)
    start = np.zeros((K, 300)), np.zeros(K)
    memory = 20 << 20
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit_in_passes(
                elsewhere, y, 1.0, loss="squared_hinge", class_weight=None, start=start, memory=memory, max_iter=8
            )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.15 * memory
    assert elsewhere.most < 4000


def test_few_rows_elsewhere_are_not_read_at_once(monkeypatch):
    monkeypatch.setattr(matrix, "BLOCK_BYTES", 1 << 18)
    X, y = codes(500, 300, 3)
    elsewhere = RowsElsewhere(X)
    fitted = fit_in_passes(
        elsewhere,
        y,
        0.01,
        loss="squared_hinge",
        class_weight=None,
        start=(np.zeros((3, 300)), np.zeros(3)),
        memory=1 << 30,
    )
    assert elsewhere.most < 350  # the active rows of a class may be
    expected = fit_path(elsewhere.stored.astype(np.float32), y, [0.01])
    assert fitted.objective[0] == pytest.approx(expected.objective[0], rel=1e-6)
