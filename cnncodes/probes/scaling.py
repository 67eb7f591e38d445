"""Scalings of codes, as scikit-learn transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.utils.validation import FLOAT_DTYPES, validate_data

from cnncodes.errors import SettingError, nearest
from cnncodes.neighbours.nearest import unit_parts

__all__ = ["SCALINGS", "CodeScaler", "Scaling", "ShrunkScaler", "make_scaler", "scaling_of"]

DEAD = 1e-6  # of the largest deviation: a column that varies less is rounding noise
OWN_SHARE = 0.5  # of a column's own variance in what it is scaled by; benchmarks/bench_small_sets.py compares others

Scaling: TypeAlias = "str | ShrunkScaler"  # the name of a scaling, or a transformer that is not fitted


class CodeScaler(StandardScaler):
    """`StandardScaler` that leaves columns which hardly vary as small as they are.

    Divided by its own deviation, a column that was nearly dead in training (4e-9 was seen) outweighs all others as soon
    as one image wakes it up. So a deviation of at most 1e-6 of the largest is replaced by the largest. Parameters and
    attributes are those of `StandardScaler`.
    """

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> CodeScaler:
        """Learn mean and deviation of each column, from these rows and those before; `fit` forgets those before."""
        super().partial_fit(X, y, sample_weight)
        deviation = np.sqrt(self.var_)
        largest = deviation.max()
        if largest > 0:
            self.scale_ = np.where(deviation <= DEAD * largest, largest, deviation)
        return self


class ShrunkScaler(StandardScaler):
    """Rows of length 1, centred, and scaled by deviations that are shrunk towards a common one.

    Each row of a layer is divided by its length. Of each column the mean is taken, and it is divided by the root of the
    mean of its own variance and the mean variance of the layer: with few images a column's own deviation is known
    badly, and one that is nearly dead must not outweigh the others. At last each layer is divided by the deviation that
    it then has as a whole. So each layer counts the same, and a row has a length of about 1 for each layer: the
    intercept of a linear SVM, which is penalised as if it were the weight of a column of ones, is then as good as free.

    Parameters
    ----------
    widths : sequence of int, optional
        Columns of each layer, in order; by default all are one layer's.

    Attributes
    ----------
    mean_, var_, scale_ : ndarray, shape (n_features,)
        Mean and variance of the columns of rows of length 1, and what the centred columns are divided by.
    n_features_in_, n_samples_seen_ : int
        As in `StandardScaler`.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    >>> float(ShrunkScaler().fit_transform(X).var(axis=0).sum().round(6))
    1.0
    """

    def __init__(self, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        self.widths = widths

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> ShrunkScaler:
        """Learn mean and variance of each column, from these rows and those before; `fit` forgets those before."""
        super().partial_fit(unit_parts(np.asarray(X), self.widths), y, sample_weight)
        self.scale_ = np.concatenate([_shrunk(part) for part in _parts(self.var_, self.widths)])
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Learn from rows and return them scaled, shape (n, n_features), in half the time of one after the other."""
        if fit_params:
            return np.asarray(super().fit_transform(X, y, **fit_params))
        rows = unit_parts(validate_data(self, X, dtype=FLOAT_DTYPES), self.widths)
        self.mean_, self.n_samples_seen_ = rows.mean(axis=0, dtype=np.float64), len(rows)
        rows -= self.mean_.astype(rows.dtype)
        self.var_ = np.einsum("ij,ij->j", rows, rows, dtype=np.float64) / len(rows)
        self.scale_ = np.concatenate([_shrunk(part) for part in _parts(self.var_, self.widths)])
        rows /= self.scale_.astype(rows.dtype)
        return rows

    def transform(self, X: Any, copy: bool | None = None) -> np.ndarray:
        """Return scaled rows, shape (n, n_features)."""
        return super().transform(unit_parts(np.asarray(X), self.widths), copy=copy)


def _parts(values: np.ndarray, widths: Sequence[int] | None) -> list[np.ndarray]:
    return [values] if widths is None else np.split(values, np.cumsum(widths)[:-1])


def _shrunk(variance: np.ndarray) -> np.ndarray:
    """Return what the centred columns of a layer are divided by."""
    if not (common := variance.mean()) > 0:
        return np.ones_like(variance)
    mixed = OWN_SHARE * variance + (1 - OWN_SHARE) * common
    return np.sqrt(mixed * (variance / mixed).sum())


SCALINGS = {
    "shrunk": ShrunkScaler,
    "standard": CodeScaler,  # each column to mean 0 and deviation 1
    "l2": Normalizer,  # each row to length 1
    "none": FunctionTransformer,
}


def make_scaler(scale: Scaling) -> Any:
    """Return an unfitted transformer.

    Parameters
    ----------
    scale : str or transformer
        A name of `SCALINGS`, or what `scaling_of` returned.

    Raises
    ------
    SettingError
        No such scaling.
    """
    if not isinstance(scale, str):
        return clone(scale)
    if scale not in SCALINGS:
        raise SettingError(f"no scale {scale!r}.{nearest(scale, SCALINGS)} There are {', '.join(SCALINGS)}")
    return SCALINGS[scale]()


def scaling_of(scale: str, widths: Sequence[int]) -> Scaling:
    """Return a scaling for layers side by side, as `make_scaler` takes it.

    Parameters
    ----------
    scale : str
    widths : sequence of int
        Features of each layer.
    """
    return ShrunkScaler(tuple(widths)) if scale == "shrunk" and len(widths) > 1 else scale
