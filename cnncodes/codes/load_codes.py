"""Codes and labels as arrays, from the path of a codes file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, overload

import numpy as np

from cnncodes.codes.file import CodesFile

__all__ = ["load_codes"]


@overload
def load_codes(
    path: str | os.PathLike[str],
    layer: str | Sequence[str] = ...,
    *,
    split: str | None = ...,
    return_X_y: Literal[False] = ...,
) -> np.ndarray: ...
@overload
def load_codes(
    path: str | os.PathLike[str],
    layer: str | Sequence[str] = ...,
    *,
    split: str | None = ...,
    return_X_y: Literal[True],
) -> tuple[np.ndarray, np.ndarray]: ...
def load_codes(
    path: str | os.PathLike[str],
    layer: str | Sequence[str] = "penultimate",
    *,
    split: str | None = None,
    return_X_y: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Read the codes of one layer, or of several concatenated.

    Parameters
    ----------
    path : path
    layer : str or sequence of str
    split : str, optional
        Only the images of this split.
    return_X_y : bool
        Return labels as well, and only labelled images.

    Returns
    -------
    X : ndarray of float32, shape (n_images, n_features)
        Or (n_images, n_views, n_features) where the file has several views of each image: ``X.mean(axis=1)`` is a table
        with a row for each image.
    y : ndarray of str, shape (n_images,)
        Only with ``return_X_y``.

    Examples
    --------
    >>> X, y = load_codes("codes.h5", layer="layer3", return_X_y=True)  # doctest: +SKIP
    """
    with CodesFile.open(path) as file:
        rows = file.rows(split, labelled=return_X_y)
        X = file.codes(layer, rows)
        return (X, file.labels[rows]) if return_X_y else X
