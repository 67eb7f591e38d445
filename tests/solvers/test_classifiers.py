"""The dense solvers against liblinear run to a tight tolerance, against each other, and under scikit-learn's checks."""

from __future__ import annotations

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from cnncodes.solvers import hinge as newton
from cnncodes.solvers import matrix as rows
from cnncodes.solvers import newton_system as curvature
from cnncodes.solvers.classifiers import DenseLinearSVC, DenseLogisticRegression, fit_in_passes, fit_path
from cnncodes.solvers.row_space import RowSpace


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


def codes(n: int, d: int, K: int, *, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative skewed rows in overlapping clusters, like pooled activations after a ReLU."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(K), np.arange(K), rng.integers(0, K, n - 2 * K)])
    latent = rng.standard_normal((K, 12))[y] + spread * rng.standard_normal((n, 12))
    X = np.maximum(latent @ rng.standard_normal((12, d)) / 3 + 0.3 * rng.standard_normal((n, d)) - 0.3, 0.0)
    return X * rng.lognormal(0.0, 0.5, d), y


def unscaled(X: np.ndarray) -> np.ndarray:
    return X * np.logspace(-3, 3, X.shape[1])[np.random.default_rng(1).permutation(X.shape[1])]


def degenerate(X: np.ndarray) -> np.ndarray:
    """With constant, zero and repeated columns, and repeated rows."""
    X = np.column_stack([X, np.ones(len(X)), np.zeros(len(X)), X[:, :3]])
    X[1::7] = X[0]
    return X


def objective(model: LinearSVC, X: np.ndarray, y: np.ndarray, weight: np.ndarray | float = 1.0) -> float:
    """The sum of the one-vs-rest objectives, from the published attributes only."""
    total = 0.0
    X = np.asarray(X, dtype=np.float64)
    for k, (w, b) in enumerate(zip(model.coef_, model.intercept_, strict=True)):
        positive = model.classes_[1 if len(model.classes_) == 2 else k]
        slack = np.maximum(0.0, 1.0 - np.where(y == positive, 1.0, -1.0) * (X @ w + b))
        scaled = b / model.intercept_scaling
        total += 0.5 * (w @ w + scaled**2) + model.C * (weight * slack**2).sum()
    return total


def liblinear(model: DenseLinearSVC, X: np.ndarray, y: np.ndarray, **fit) -> LinearSVC:
    """The reference; at high C it may stop at its own bound on iterations, where only "not above it" can be asked."""
    parameters = model.get_params() | {"tol": 1e-10, "max_iter": 3000, "dual": X.shape[0] < X.shape[1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LinearSVC(**parameters).fit(X, y, **fit)


SHAPES = {
    "tall": (400, 20, 3),
    "square": (150, 140, 4),
    "wide": (60, 700, 3),
    "binary": (300, 30, 2),
    "hundred": (300, 30, 100),
}
COLUMNS = {
    "scaled": lambda X: (X - X.mean(0)) / X.std(0),
    "plain": lambda X: X,
    "unscaled": unscaled,
    "degenerate": degenerate,
}


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


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("bias", [0.0, 1.0, 10.0])
def test_reduction_to_the_span_of_the_rows_loses_nothing(columns, bias):
    X, _ = codes(40, 500, 3)
    X = COLUMNS[columns](X)
    rows, others = X[:30], X[30:]
    space = RowSpace(rows, bias)
    size = (np.linalg.norm(rows, axis=1) ** 2).max()
    np.testing.assert_allclose(space.Z @ space.Z.T, rows @ rows.T + bias**2, atol=1e-12 * size)
    W = space.Z.T @ np.random.default_rng(0).standard_normal((len(rows), 2))
    lifted = space.lift(W)
    expected = others @ lifted[: X.shape[1]] + (bias * lifted[-1] if bias else 0.0)
    np.testing.assert_allclose(space.project(others) @ W, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(np.linalg.norm(lifted, axis=0), np.linalg.norm(W, axis=0), rtol=1e-6)


def test_reduced_and_direct_solutions_agree(monkeypatch):
    X, y = codes(60, 300, 3)
    reduced = [DenseLinearSVC(C=C).fit(X, y) for C in (1e-4, 1.0, 1e4)]
    monkeypatch.setattr("cnncodes.solvers.classifiers.worth_reducing", lambda n, d: False)
    for model in reduced:
        direct = clone(model).fit(X, y)
        np.testing.assert_allclose(model.coef_, direct.coef_, rtol=1e-4, atol=1e-6 * np.abs(direct.coef_).max())


def test_all_ways_to_solve_a_newton_system_agree(monkeypatch):
    X, y = codes(700, 30, 12)
    X = X.astype(np.float32)
    expected = fit_path(X, y, [1e-3, 0.1, 10.0], tol=1e-8)
    ways = {
        "by features": [(curvature, "SAMPLE_FORM", 0.0)],
        "by samples": [(curvature, "SAMPLE_FORM", 1e9), (rows, "KERNEL_ROWS", 0)],
        "by all products of rows": [(curvature, "SAMPLE_FORM", 1e9), (rows, "KERNEL_ROWS", 1e9)],
        "one class at a time": [(newton, "CURVATURE_BYTES", 0)],
        "in small blocks": [(rows, "BLOCK_BYTES", 0)],
    }
    for name, settings in ways.items():
        with monkeypatch.context() as patch:
            for module, constant, value in settings:
                patch.setattr(module, constant, value)
            path = fit_path(X, y, [1e-3, 0.1, 10.0], tol=1e-8)
        for i in range(3):
            np.testing.assert_allclose(
                path.coefficients(i)[0], expected.coefficients(i)[0], rtol=1e-6, atol=1e-6, err_msg=name
            )
    monkeypatch.setattr(newton._Descent, "_iterations_pay", always_iterate)
    path = fit_path(X, y, [1e-3, 0.1, 10.0])
    np.testing.assert_allclose(path.objective, expected.objective, rtol=1e-6)


def always_iterate(self, classes, active, precision):
    self.expected = 100
    return True


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


def test_one_class_is_an_error():
    with pytest.raises(ValueError, match="only one class: 3"):
        fit_path(np.eye(4), np.full(4, 3), [1.0])


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


def logistic_objective(coef: np.ndarray, intercept: np.ndarray, X: np.ndarray, y: np.ndarray, C: float) -> float:
    scores = X @ coef.T + intercept
    if scores.shape[1] == 1:
        losses = np.logaddexp(0.0, scores[:, 0]) - (y == 1) * scores[:, 0]
    else:
        losses = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(y)), y]
    return 0.5 * (coef**2).sum() + C * losses.sum()


@pytest.mark.parametrize("columns", ["scaled", "plain", "degenerate"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logistic_path_reaches_the_objective_of_scikit_learn(shape, columns):
    X, y = codes(*SHAPES[shape])
    X = COLUMNS[columns](X)
    Cs = [1e-6, 1e-3, 0.1, 1.0]
    path = fit_path(X, y, Cs, loss="log_loss", tol=1e-8, max_iter=3000)
    assert path.converged.all()
    for i, C in enumerate(Cs):
        coef, intercept = path.coefficients(i)
        ours = logistic_objective(coef, intercept, X, y, C)
        assert ours == pytest.approx(path.objective[i], rel=1e-9)
        np.testing.assert_allclose(path.decision_function(X[:5])[i], X[:5] @ coef.T + intercept, atol=1e-8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            reference = LogisticRegression(C=C, tol=1e-8, max_iter=500).fit(X, y)
        assert ours <= logistic_objective(reference.coef_, reference.intercept_, X, y, C) * (1 + 1e-6)


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


def test_logistic_path_in_single_precision():
    X, y = codes(600, 60, 5)
    X = X.astype(np.float32)
    exact = fit_path(X.astype(np.float64), y, np.logspace(-5, 2, 15), loss="log_loss", tol=1e-8)
    usual = fit_path(X, y, exact.Cs, loss="log_loss")
    assert usual.converged.all()
    assert (usual.decision_function(X).argmax(2) == exact.decision_function(X).argmax(2)).mean() > 0.99
    tight = fit_path(X, y, exact.Cs, loss="log_loss", tol=1e-8)
    np.testing.assert_allclose(tight.objective, exact.objective, rtol=1e-9)


@pytest.mark.parametrize("K", [2, 4])
def test_logistic_weights_and_intercept_mean_what_they_mean_to_scikit_learn(K):
    X, y = codes(200, 15, K)
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    for settings in ({"class_weight": "balanced"}, {"class_weight": {0: 3.0}}, {"fit_intercept": False}):
        path = fit_path(X, y, [0.1], loss="log_loss", sample_weight=weight, tol=1e-9, **settings)
        reference = LogisticRegression(C=0.1, tol=1e-9, max_iter=5000, **settings).fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(path.coefficients(0)[0], reference.coef_, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(path.coefficients(0)[1] - reference.intercept_, 0.0, atol=1e-5)


def test_unknown_loss_is_an_error():
    with pytest.raises(ValueError, match="no loss 'hinge'; there are squared_hinge, log_loss"):
        fit_path(np.eye(4), [0, 1, 0, 1], [1.0], loss="hinge")


class RowsElsewhere:
    """Stands in for an array that memory does not hold, and counts what is read of it."""

    dtype = np.dtype(np.float32)

    def __init__(self, X: np.ndarray) -> None:
        self.stored, self.shape, self.most, self.read = X.astype(np.float16), X.shape, 0, 0

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        part = self.stored[index].astype(np.float32)
        self.most, self.read = max(self.most, len(part)), self.read + len(part)
        return part


@pytest.mark.parametrize("class_weight", [None, {0: 0.5, 1: 3.0}])
@pytest.mark.parametrize("C", [1e-4, 0.01, 10.0])
@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
def test_rows_that_are_read_in_blocks_give_the_same_as_in_memory(loss, K, C, class_weight, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_BYTES", 8 * 41 * 200)
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


def test_a_matrix_that_is_not_definite_is_shifted_until_it_is():
    factor = np.tril(curvature.factorise(np.array([[1.0, 0.0], [2.0, 1.0]]), 1.0, 0.0).T)
    shift = factor @ factor.T - [[1, 2], [2, 1]]
    np.testing.assert_allclose(shift, shift[0, 0] * np.eye(2), atol=1e-12)
    assert 1 < shift[0, 0] < 8


@pytest.mark.parametrize(("n", "d"), [(700, 30), (2500, 60)])
@pytest.mark.parametrize("C", [1.0, 1e5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_float32_rows_that_are_far_from_0_are_solved_as_those_of_float64(n, d, C, seed):
    X, y = codes(n, d, 3, seed=seed)
    X = (1000 + (X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    single, double = DenseLinearSVC(C=C).fit(X, y), DenseLinearSVC(C=C).fit(X.astype(np.float64), y)
    assert objective(single, X, y) <= objective(double, X, y) * (1 + 1e-6)
    assert single.n_iter_ < 50


@pytest.mark.parametrize("value", [1e3, 1e4, 1e6, 1e8, 1e10, 1e18])
def test_a_float32_row_that_outweighs_all_others_is_solved_as_in_float64(value):
    X, y = codes(400, 10, 2)
    X = X.astype(np.float32)
    X[0, 0] = value
    single, double = DenseLinearSVC().fit(X, y), DenseLinearSVC().fit(X.astype(np.float64), y)
    assert objective(single, X, y) <= objective(double, X, y) * (1 + 1e-6)
    assert single.n_iter_ < 50


def test_rows_that_are_too_large_for_products_are_refused():
    X, y = codes(100, 10, 2)
    with pytest.raises(ValueError, match="scale them"), np.errstate(all="ignore"):
        DenseLinearSVC().fit(X * 1e160, y)


@pytest.mark.parametrize("kind", [DenseLinearSVC, DenseLogisticRegression])
def test_rows_in_which_the_penalty_is_lost_are_refused_at_once(kind):
    X, y = codes(100, 10, 2)
    with pytest.raises(ValueError, match="scale them"):
        kind().fit(X * 1e100, y)


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


def test_a_path_refuses_labels_that_are_no_classes_and_rows_of_another_width():
    X, y = codes(50, 4, 2)
    with pytest.raises(ValueError, match="continuous"):
        fit_path(X, X[:, 0] + 0.5, [1.0])
    with pytest.raises(ValueError, match="4 features"):
        fit_path(X, y, [1.0]).decision_function(X[:, :2])


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


@pytest.mark.parametrize("K", [10, 40])
def test_memory_of_a_fit_in_passes_is_bounded(K, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_BYTES", 1 << 18)
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
    monkeypatch.setattr(rows, "BLOCK_BYTES", 1 << 18)
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
