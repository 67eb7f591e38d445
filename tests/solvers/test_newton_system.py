"""A Newton system has one solution, whichever way it is solved."""

from __future__ import annotations

import numpy as np
from solver_problems import codes

from cnncodes.solvers import hinge, hinge_path, matrix, newton_system
from cnncodes.solvers.path import fit_path


def always_iterate(self, classes, active, precision):
    self.expected = 100
    return True


def test_all_ways_to_solve_a_newton_system_agree(monkeypatch):
    X, y = codes(700, 30, 12)
    X = X.astype(np.float32)
    expected = fit_path(X, y, [1e-3, 0.1, 10.0], tol=1e-8)
    ways = {
        "by features": [(newton_system, "SAMPLE_FORM", 0.0)],
        "by samples": [(newton_system, "SAMPLE_FORM", 1e9), (matrix, "KERNEL_ROWS", 0)],
        "by all products of rows": [(newton_system, "SAMPLE_FORM", 1e9), (matrix, "KERNEL_ROWS", 1e9)],
        "one class at a time": [(hinge, "CURVATURE_BYTES", 0)],
        "in small blocks": [(matrix, "BLOCK_BYTES", 0)],
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
    monkeypatch.setattr(hinge_path._Descent, "_iterations_pay", always_iterate)
    path = fit_path(X, y, [1e-3, 0.1, 10.0])
    np.testing.assert_allclose(path.objective, expected.objective, rtol=1e-6)


def test_a_matrix_that_is_not_definite_is_shifted_until_it_is():
    factor = np.tril(newton_system.factorise(np.array([[1.0, 0.0], [2.0, 1.0]]), 1.0, 0.0).T)
    shift = factor @ factor.T - [[1, 2], [2, 1]]
    np.testing.assert_allclose(shift, shift[0, 0] * np.eye(2), atol=1e-12)
    assert 1 < shift[0, 0] < 8
