"""Coordinates of rows along the eigenvectors of their products, which make these products a diagonal matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from cnncodes.solvers.matrix import Rows
from cnncodes.solvers.row_space import RowSpace

__all__ = ["Coordinates", "Fold", "SharedCoordinates", "coordinates_of"]

Array = NDArray[np.float64]

CENTRED = 1e-6  # length of the mean row, relative to that of the rows: with less, they are centred but for rounding


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
    centred : bool
        Whether the rows are centred, so that the last coordinate is the intercept, penalised or not.
    """

    Z: Array
    test: Array
    squares: Array
    free: Array
    directions: NDArray | None
    centred: bool


class SharedCoordinates:
    """Coordinates of folds, made once for both losses: those of centred rows differ in what is penalised alone."""

    def __init__(self) -> None:
        self._made: tuple[Sequence[Fold], type, float, list[Coordinates]] | None = None

    def of(
        self,
        folds: Sequence[Fold],
        dtype: type,
        strongest: float,
        directions: NDArray | None,
        *,
        free_intercept: bool,
    ) -> list[Coordinates]:
        """Return what `coordinates_of` does for each fold, or what it did for the same ones."""
        free = 1.0 if free_intercept else 0.0
        if self._made is not None:
            same, made_dtype, made_strongest, spaces = self._made
            if same is folds and made_dtype is dtype and made_strongest >= strongest:
                return [space._replace(free=np.append(space.free[:-1], free)) for space in spaces]
        spaces = [coordinates_of(fold, dtype, strongest, directions, free_intercept=free_intercept) for fold in folds]
        if all(space.centred for space in spaces):
            self._made = folds, dtype, strongest, spaces
        return spaces


def coordinates_of(
    fold: Fold, dtype: type, strongest: float, directions: NDArray | None, *, free_intercept: bool
) -> Coordinates:
    """Return the rows of a fold along the eigenvectors of their products, and the column of the intercept.

    The intercept is a coordinate of its own, to which centred rows are orthogonal. Where it is penalised, rows that are
    not centred stay so, and its column of ones lies in the span.

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
    centre = fold.train.mean(axis=0, dtype=np.float64)
    centred = bool(len(fold.train) * (centre @ centre) <= CENTRED**2 * Rows(fold.train).squares)
    if not free_intercept and not centred:
        Z, test, squares, directions = _along_eigenvectors(fold.train, fold.test, 1.0, dtype, strongest, directions)
        return Coordinates(Z, test, squares, np.zeros(len(squares)), directions, False)
    train, others = fold.train, fold.test
    if not centred or dtype is np.float64:  # a mean that is left by rounding in float32 costs a step for each C
        centre = centre.astype(np.result_type(train, dtype))
        train, others = train - centre, others - centre
    Z, test, squares, directions = _along_eigenvectors(train, others, 0.0, dtype, strongest, directions)
    return Coordinates(
        np.column_stack([Z, np.ones(len(Z), dtype)]),
        np.column_stack([test, np.ones(len(test), dtype)]),
        np.append(squares, float(len(Z))),
        np.append(np.zeros(len(squares)), 1.0 if free_intercept else 0.0),
        directions,
        centred,
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
