"""Coordinates of rows along the eigenvectors of their products, which make these products a diagonal matrix."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from cnncodes.solvers.matrix import Rows
from cnncodes.solvers.row_space import RowSpace

__all__ = ["Coordinates", "Fold", "coordinates_of"]

Array = NDArray[np.float64]


class Fold(NamedTuple):
    """Rows to fit to, their labels, and rows to decide on.

    Attributes
    ----------
    train : ndarray of shape (n, d)
        float32 or float64.
    y : ndarray of shape (n,)
        Labels; every fold has all classes.
    test : ndarray of shape (m, d)
    """

    train: NDArray
    y: NDArray
    test: NDArray


class Coordinates(NamedTuple):
    """Coordinates of the rows of a fold.

    Attributes
    ----------
    Z : ndarray of shape (n, r)
        Those of the rows to fit to.
    test : ndarray of shape (m, r)
    squares : ndarray of shape (r,)
        The diagonal of Z^T Z.
    free : ndarray of shape (r,)
        1 where a weight is not penalised, 0 elsewhere.
    directions : ndarray of shape (d, d) or (d + 1, d + 1), or None
        Orthonormal columns, along which the coordinates are; None where there are fewer rows than these.
    """

    Z: Array
    test: Array
    squares: Array
    free: Array
    directions: NDArray | None


def coordinates_of(
    fold: Fold, dtype: type, strongest: float, directions: NDArray | None, *, free_intercept: bool
) -> Coordinates:
    """Return the rows of a fold along the eigenvectors of their products, and the column of the intercept.

    A penalised intercept is a column of ones that lies in the span. A free one is a coordinate of its own, to which
    centred rows are orthogonal.

    Parameters
    ----------
    fold : Fold
    dtype : type
        The type that the coordinates have.
    strongest : float
        The largest C that they are for, times the weight of a row; see `RowSpace`.
    directions : ndarray, optional
        Those of other rows like these, if they are known: where there are more rows than columns, the eigenvectors
        take as long as all else, and along these the products are nearly diagonal.
    free_intercept : bool
    """
    if not free_intercept:
        Z, test, squares, directions = _along_eigenvectors(fold.train, fold.test, 1.0, dtype, strongest, directions)
        return Coordinates(Z, test, squares, np.zeros(len(squares)), directions)
    centre = fold.train.mean(axis=0, dtype=np.float64).astype(np.result_type(fold.train, np.float32))
    train, others = fold.train - centre, fold.test - centre
    Z, test, squares, directions = _along_eigenvectors(train, others, 0.0, dtype, strongest, directions)
    return Coordinates(
        np.column_stack([Z, np.ones(len(Z), dtype)]),
        np.column_stack([test, np.ones(len(test), dtype)]),
        np.append(squares, float(len(Z))),
        np.append(np.zeros(len(squares)), 1.0),
        directions,
    )


def _along_eigenvectors(
    rows: NDArray, others: NDArray, bias: float, dtype: type, strongest: float, directions: NDArray | None
) -> tuple[NDArray, NDArray, Array, NDArray | None]:
    """Return the coordinates of rows and of other rows, and the diagonal of the products of the former's columns.

    The last result are the directions of the coordinates, where they can serve for other rows.
    """
    first: NDArray
    second: NDArray
    if len(rows) > rows.shape[1] + (bias > 0):
        first, second = (Rows(part, bias).take(slice(None), dtype) for part in (rows, others))
        if directions is None:
            directions = _eigenvectors(first)[1]
        Z = first @ directions
        return Z, second @ directions, np.einsum("ij,ij->j", Z, Z, dtype=np.float64), directions
    space = RowSpace(rows, bias, strongest)
    if space.squares is not None:
        return space.Z, space.project(others), space.squares, None
    first, second = (part.astype(dtype) for part in (space.Z, space.project(others)))
    squares, vectors = _eigenvectors(first)
    return first @ vectors, second @ vectors, np.maximum(squares, 0.0).astype(np.float64), None


def _eigenvectors(rows: NDArray) -> tuple[NDArray, NDArray]:
    """Return the eigenvalues of the products of the columns, and the eigenvectors as columns."""
    values, vectors = eigh(rows.T @ rows, overwrite_a=True, check_finite=False, driver="evd")
    return values, vectors
