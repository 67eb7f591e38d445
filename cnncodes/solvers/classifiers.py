"""Linear SVM and logistic regression on dense rows, as drop-in replacements of scikit-learn's estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from cnncodes.solvers.path import FLOATS, fit_validated, warn_unconverged

__all__ = ["DenseLinearSVC", "DenseLogisticRegression"]

DENSE_ENTRIES = 1_000_000  # up to which a sparse matrix is simply made dense


class DenseLinearSVC(LinearSVC):
    """`sklearn.svm.LinearSVC`, solved by Newton's method with BLAS where X is dense and the penalty and loss allow it.

    A drop-in replacement: parameters, attributes, the penalised intercept and the objective are those of `LinearSVC`,
    ``class_weight`` included (with several classes liblinear applies it to the positive class of each one-vs-rest
    problem only). The squared hinge loss with the l2 penalty is solved here, one-vs-rest. Sparse X, ``loss="hinge"``,
    ``penalty="l1"`` and ``multi_class="crammer_singer"`` are passed on to scikit-learn.

    The objective of each class, with signs s_i of +1 for its rows and -1 for all others, weights r_i of the rows, and
    the constant column of the intercept in x_i, is

        P(w) = 1/2 |w|^2 + C sum_i r_i max(0, 1 - s_i w.x_i)^2.

    float32 input is used as it is, neither copied nor converted as a whole; all sums are float64.

    Parameters
    ----------
    penalty, loss, tol, C, multi_class, fit_intercept, intercept_scaling, class_weight
        As in `LinearSVC`. At the same `tol` the gradient is at least as small as liblinear's primal solver demands,
        and the objective at most 1e-7 (relative) above the optimum.
    dual, random_state, verbose
        As in `LinearSVC` where the problem is passed on to it. Elsewhere they have no effect: there is one algorithm,
        and it is deterministic.
    max_iter : int, default=1000
        Bound on the Newton steps of a class; about 10 are usual.

    Attributes
    ----------
    coef_, intercept_, classes_, n_iter_, n_features_in_, feature_names_in_
        As in `LinearSVC`; `coef_` is float64 of shape (1, n_features) for two classes, else (n_classes, n_features).

    References
    ----------
    Keerthi, DeCoste: A modified finite Newton method for fast solution of large scale linear SVMs. JMLR 6, 2005.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> DenseLinearSVC(C=0.1).fit(X, y).coef_.shape
    (3, 4)
    """

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> DenseLinearSVC:
        """Fit the classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows; those that are not positive leave the row out, as in liblinear.

        Returns
        -------
        self : DenseLinearSVC
            The fitted classifier.

        Raises
        ------
        ValueError
            The rows, labels or weights cannot be fitted to, for example because there is one class only.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If `max_iter` steps were not enough.
        """
        self._validate_params()
        ours = (self.penalty, self.loss, self.multi_class) == ("l2", "squared_hinge", "ovr")
        if ours:
            X = _made_dense(X)
        if issparse(X) or not ours:
            return super().fit(X, y, sample_weight)
        X, y = validate_data(self, X, y, dtype=FLOATS, order="C")
        check_classification_targets(y)
        path = fit_validated(
            X,
            y,
            [self.C],
            loss=self.loss,
            bias=float(self.intercept_scaling) if self.fit_intercept else 0.0,
            class_weight=self.class_weight,
            sample_weight=sample_weight,
            tol=self.tol,
            max_iter=self.max_iter,
        )
        warn_unconverged(path, self.max_iter)
        self.classes_ = path.classes
        self.coef_, intercept = path.coefficients(0)
        self.intercept_ = intercept if self.fit_intercept else 0.0
        self.n_iter_ = int(path.n_iter[0])
        return self


class DenseLogisticRegression(LogisticRegression):
    """`sklearn.linear_model.LogisticRegression`, solved by Newton's method where X is dense and the penalty is l2.

    A drop-in replacement: parameters, attributes and the objective are those of `LogisticRegression`. Its own solvers
    stop where the gradient is small against C and the number of rows, which on rows that can be separated may be far
    from the optimum. Sparse X, other penalties, ``solver="liblinear"``, an infinite `C` and `warm_start` are passed on
    to scikit-learn.

    The objective, with weights r_i of the rows, is

        P(W, b) = 1/2 |W|^2 + C sum_i r_i loss(y_i, W x_i + b),

    where the loss is the negative logarithm of the probability of the row's class.

    float32 input is used as it is, neither copied nor converted as a whole.

    Parameters
    ----------
    penalty, C, l1_ratio, dual, tol, fit_intercept, intercept_scaling, class_weight
        As in `LogisticRegression`. At the same `tol` the gradient is at least as small, and the objective is estimated
        to be at most 0.01 `tol` (relative) above the optimum; the estimate is low by up to ten times.
    solver, random_state, verbose, warm_start, n_jobs
        As in `LogisticRegression` where the problem is passed on to it. Elsewhere they have no effect: there is one
        algorithm, and it is deterministic.
    max_iter : int, default=100
        Bound on the Newton steps; about 10 are usual.

    Attributes
    ----------
    coef_, intercept_, classes_, n_iter_, n_features_in_, feature_names_in_
        As in `LogisticRegression`; `coef_` and `intercept_` are always float64.

    References
    ----------
    Nocedal, Wright: Numerical Optimization, 2nd edition, chapter 7.1 (Newton's method with conjugate gradients).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> DenseLogisticRegression(C=0.1).fit(X, y).coef_.shape
    (3, 4)
    """

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> DenseLogisticRegression:
        """Fit the classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows; those that are not positive leave the row out.

        Returns
        -------
        self : DenseLogisticRegression
            The fitted classifier.

        Raises
        ------
        ValueError
            The rows, labels or weights cannot be fitted to, for example because there is one class only.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If `max_iter` steps were not enough.
        """
        self._validate_params()
        usual = LogisticRegression().get_params()
        same = ("penalty", "l1_ratio", "dual", "warm_start", "n_jobs", "multi_class")  # the last until scikit-learn 1.7
        ours = self.solver != "liblinear" and not np.isinf(self.C)
        ours = ours and all(getattr(self, name) == usual[name] for name in same if name in usual)
        if ours:
            X = _made_dense(X)
        if issparse(X) or not ours:
            return super().fit(X, y, sample_weight)
        X, y = validate_data(self, X, y, dtype=FLOATS, order="C")
        check_classification_targets(y)
        path = fit_validated(
            X,
            y,
            [self.C],
            loss="log_loss",
            bias=float(self.fit_intercept),
            class_weight=self.class_weight,
            sample_weight=sample_weight,
            tol=self.tol,
            max_iter=self.max_iter,
        )
        warn_unconverged(path, self.max_iter)
        self.classes_ = path.classes
        self.coef_, self.intercept_ = path.coefficients(0)
        self.n_iter_ = path.n_iter.astype(np.int32)
        return self


def _made_dense(X: Any) -> Any:
    """Return X as an array where it is a small sparse matrix, and else as it is."""
    return X.toarray() if issparse(X) and X.shape[0] * X.shape[1] <= DENSE_ENTRIES else X
