"""The dense classifiers against those of scikit-learn run to a tight tolerance, and under its checks."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from solver_problems import COLUMNS, SHAPES, codes, liblinear, logistic_objective, objective

from cnncodes.solvers.classifiers import DenseLinearSVC, DenseLogisticRegression
from cnncodes.solvers.path import fit_path


@parametrize_with_checks(
    [
        DenseLinearSVC(),
        DenseLinearSVC(C=100.0, class_weight="balanced"),
        DenseLogisticRegression(tol=1e-12),
        DenseLogisticRegression(tol=1e-12, C=100.0, class_weight="balanced"),
    ]
)
def test_scikit_learn_checks(estimator, check, request):
    check(estimator)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_objective_is_that_of_liblinear_or_lower(shape, columns):
    n, d, K = SHAPES[shape]
    X, y = codes(n + 100, d, K)
    X = COLUMNS[columns](X)
    X, held_out, y = X[:n], X[n:], y[:n]
    for C in (1e-6, 1e-3, 1.0, 1e5) if K < 100 else (1e-3, 1.0):
        model = DenseLinearSVC(C=C, max_iter=2000).fit(X, y)
        reference = liblinear(model, X, y)
        ours, theirs = objective(model, X, y), objective(reference, X, y)
        assert ours <= theirs * (1 + 1e-6), C
        if ours >= theirs * (1 - 1e-9):  # the reference has converged as well: the minimiser is unique
            scores, expected = model.decision_function(held_out), reference.decision_function(held_out)
            margin = np.abs(expected) if K == 2 else np.diff(np.sort(expected, axis=1)[:, -2:], axis=1)[:, 0]
            same = model.predict(held_out) == reference.predict(held_out)
            assert same[margin > 1e-3 * np.abs(scores).max()].all(), C


def test_single_precision_input_reaches_the_same_objective():
    X, y = codes(600, 60, 5)
    X = X.astype(np.float32)
    for C in (1e-3, 1.0, 1e3):
        model = DenseLinearSVC(C=C).fit(X, y)
        exact = DenseLinearSVC(C=C, tol=1e-8).fit(X.astype(np.float64), y)
        assert model.coef_.dtype == np.float64
        assert objective(model, X, y) == pytest.approx(objective(exact, X, y), rel=1e-6)


def test_sample_weights_are_repetitions_and_zero_leaves_a_row_out():
    X, y = codes(200, 15, 4)
    counts = np.random.default_rng(0).integers(0, 3, len(y))
    weighted = DenseLinearSVC(C=0.5, tol=1e-8).fit(X, y, sample_weight=counts)
    repeated = DenseLinearSVC(C=0.5, tol=1e-8).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 5.0, 1: 0.2}])
@pytest.mark.parametrize(("n", "d"), [(200, 15), (50, 300)])
def test_class_weights_mean_what_they_mean_to_liblinear(K, class_weight, n, d):
    X, y = codes(n, d, K)
    X, y = X[y < 1], y[y < 1]
    X, y = np.vstack([X, codes(n, d, K, seed=1)[0]]), np.concatenate([y, codes(n, d, K, seed=1)[1]])
    weight = np.random.default_rng(2).uniform(0.5, 2.0, len(y))
    model = DenseLinearSVC(C=0.3, class_weight=class_weight, tol=1e-8).fit(X, y, sample_weight=weight)
    reference = liblinear(model, X, y, sample_weight=weight)
    np.testing.assert_allclose(model.coef_, reference.coef_, rtol=1e-3, atol=1e-5 * np.abs(reference.coef_).max())


@pytest.mark.parametrize("parameters", [{"fit_intercept": False}, {"intercept_scaling": 20.0}])
@pytest.mark.parametrize(("n", "d"), [(200, 15), (50, 300)])
def test_intercept_is_penalised_like_liblinears(parameters, n, d):
    X, y = codes(n, d, 3)
    model = DenseLinearSVC(C=0.3, tol=1e-8, **parameters).fit(X, y)
    reference = liblinear(model, X, y)
    np.testing.assert_allclose(model.intercept_, reference.intercept_, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(model.coef_, reference.coef_, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "parameters",
    [{"loss": "hinge"}, {"penalty": "l1"}, {"multi_class": "crammer_singer"}],
    ids=["hinge", "l1", "crammer_singer"],
)
def test_what_is_not_solved_here_is_scikit_learns(parameters):
    X, y = codes(120, 10, 3)
    ours = DenseLinearSVC(random_state=0, max_iter=100_000, **parameters).fit(X, y)
    theirs = LinearSVC(random_state=0, max_iter=100_000, **parameters).fit(X, y)
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)


def test_sparse_rows_large_and_small(monkeypatch):
    X, y = codes(120, 10, 3)
    dense = DenseLinearSVC(C=0.1, tol=1e-8).fit(X, y)
    small = DenseLinearSVC(C=0.1, tol=1e-8).fit(sparse.csr_array(X), y)
    np.testing.assert_array_equal(small.coef_, dense.coef_)
    monkeypatch.setattr("cnncodes.solvers.classifiers.DENSE_ENTRIES", 0)
    large = DenseLinearSVC(C=0.1, tol=1e-8, max_iter=10_000).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(large.coef_, dense.coef_, rtol=1e-3, atol=1e-4)


def test_too_few_steps_are_reported_with_what_to_do():
    X, y = make_classification(300, 20, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"max_iter=1 .*C=100.*Scale the columns"):
        DenseLinearSVC(C=100.0, max_iter=1).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="C=1000, 100000"):
        path = fit_path(X, y, [1e-9, 1e3, 1e5], max_iter=0 + 1)
    assert path.converged.tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(100, 8), (20, 300)])
def test_arrays_of_the_caller_are_left_alone(dtype, n, d):
    X, y = codes(n, d, 3)
    X = X.astype(dtype)
    weight = np.ones(n)
    before = X.copy(), y.copy(), weight.copy()
    for array in (X, y, weight):
        array.setflags(write=False)
    model = DenseLinearSVC().fit(X, y, sample_weight=weight)
    for array, copy in zip((X, y, weight), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).coef_, model.coef_)


def test_fit_is_deterministic():
    X, y = codes(300, 40, 5)
    np.testing.assert_array_equal(DenseLinearSVC().fit(X, y).coef_, DenseLinearSVC().fit(X, y).coef_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "K"), [(60, 200, 5), (150, 200, 2), (400, 40, 3)])
def test_logistic_regression_is_near_the_optimum_where_classes_can_be_separated(n, d, K, dtype):
    """There the gradient that scikit-learn demands is one that nearly any weights have."""
    X, y = codes(n, d, K, spread=0.3)
    X = ((X - X.mean(axis=0)) / (X.std(axis=0) + 0.1)).astype(dtype)
    Cs = np.logspace(-3, 5, 9)
    path = fit_path(X, y, Cs, loss="log_loss")
    assert path.converged.all()
    for i in (3, 6, 8):
        reference = LogisticRegression(C=Cs[i], solver="newton-cholesky", tol=1e-12, max_iter=500)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference.fit(X.astype(np.float64), y)
        least = logistic_objective(reference.coef_, reference.intercept_, X, y, Cs[i])
        alone = DenseLogisticRegression(C=Cs[i]).fit(X, y)
        for coef, intercept in (path.coefficients(i), (alone.coef_, alone.intercept_)):
            assert logistic_objective(coef, intercept, X.astype(np.float64), y, Cs[i]) <= least * (1 + 1e-5)


@pytest.mark.parametrize(
    "parameters",
    [{"l1_ratio": 1.0, "solver": "saga"}, {"C": np.inf}, {"solver": "liblinear"}, {"warm_start": True}],
    ids=["l1", "no penalty", "liblinear", "warm start"],
)
def test_what_logistic_regression_is_not_solved_here_is_scikit_learns(parameters):
    X, y = codes(200, 5, 2, spread=3.0)
    ours, theirs = (
        kind(random_state=0, max_iter=10_000, **parameters).fit(X, y)
        for kind in (DenseLogisticRegression, LogisticRegression)
    )
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)


def test_logistic_regression_of_sparse_rows_is_that_of_dense_ones(monkeypatch):
    X, y = codes(120, 10, 3)
    dense = DenseLogisticRegression(C=0.1, tol=1e-8).fit(X, y)
    small = DenseLogisticRegression(C=0.1, tol=1e-8).fit(sparse.csr_array(X), y)
    np.testing.assert_array_equal(small.coef_, dense.coef_)
    monkeypatch.setattr("cnncodes.solvers.classifiers.DENSE_ENTRIES", 0)
    large = DenseLogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(large.coef_, dense.coef_, rtol=1e-3, atol=1e-4)


def test_a_single_weighed_class_is_an_error_for_logistic_regression():
    X, y = codes(50, 4, 2)
    with pytest.raises(ValueError, match="one class only"):
        DenseLogisticRegression().fit(X, y, sample_weight=y == 1)


def test_classes_that_all_weigh_nothing_are_an_error_for_logistic_regression():
    X, y = codes(50, 4, 2)
    with pytest.raises(ValueError, match="at least one class must weigh more than 0"):
        DenseLogisticRegression(class_weight={0: 0.0, 1: 0.0}).fit(X, y)


def test_rows_that_are_too_large_for_products_are_refused():
    X, y = codes(100, 10, 2)
    with pytest.raises(ValueError, match="scale them"), np.errstate(all="ignore"):
        DenseLinearSVC().fit(X * 1e160, y)


@pytest.mark.parametrize("kind", [DenseLinearSVC, DenseLogisticRegression])
def test_rows_in_which_the_penalty_is_lost_are_refused_at_once(kind):
    X, y = codes(100, 10, 2)
    with pytest.raises(ValueError, match="scale them"):
        kind().fit(X * 1e100, y)


@pytest.mark.parametrize("kind", [DenseLinearSVC, DenseLogisticRegression])
def test_one_weight_for_all_rows_is_taken_and_a_negative_class_weight_refused(kind):
    X, y = codes(50, 4, 3)
    np.testing.assert_allclose(kind(C=0.2).fit(X, y).coef_, kind(C=0.1).fit(X, y, sample_weight=2.0).coef_, atol=1e-3)
    with pytest.raises(ValueError, match="class_weight"):
        kind(class_weight={0: -1.0}).fit(X, y)


def test_without_an_intercept_it_is_the_0_of_scikit_learn():
    X, y = codes(50, 4, 3)
    ours, theirs = (kind(fit_intercept=False).fit(X, y).intercept_ for kind in (DenseLinearSVC, LinearSVC))
    assert type(ours) is type(theirs)
    assert ours == theirs == 0
