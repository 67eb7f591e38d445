"""Lays codes out in the plane, so that like images lie together."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from cnncodes.codes.views import averaged
from cnncodes.probes.scaling import Scaling, make_scaler
from cnncodes.vocabulary import DEFAULT_SCALING

__all__ = ["lay_out"]

PCA_DIMENSIONS = 50  # the codes are first reduced to this many (van der Maaten, Hinton 2008 took 30)
PERPLEXITY = 30.0
MAX_IMAGES_BY_PCA = 4  # t-SNE of fewer than five images says no more than their main directions


def lay_out(X: np.ndarray, *, scale: Scaling = DEFAULT_SCALING, seed: int = 0) -> np.ndarray:
    """Return places of images in the plane, by t-SNE.

    Parameters
    ----------
    X : ndarray, shape (n, n_features) or (n, n_views, n_features)
        Codes; those of an image's views are averaged.
    scale : {"shrunk", "standard", "l2", "none"} or transformer, default="shrunk"
        Scaling of the codes before distances are measured.
    seed : int, default=0
        Seed of the randomised PCA and of t-SNE.

    Returns
    -------
    ndarray, shape (n, 2)
        The first column runs from 0 to 1; the second has the same scale, with 0.5 in the middle.

    References
    ----------
    van der Maaten, Hinton (2008), Visualizing data using t-SNE, Journal of Machine Learning Research 9.
    """
    X = averaged(X)
    if len(X) < 2:
        return np.full((len(X), 2), 0.5)
    with threadpool_limits(limits=1):  # the threads of t-SNE meet thousands of times, and wait for each other
        Z, row_of = _distinct(make_scaler(scale).fit_transform(X))
        if len(Z) < 2:
            return np.full((len(X), 2), 0.5)
        places = _lay_out(Z, seed)[row_of]
    if places.shape[1] == 1:
        places = np.hstack([places, np.zeros_like(places)])
    low, high = places.min(axis=0), places.max(axis=0)
    width = max(float(high[0] - low[0]), np.finfo(np.float32).tiny)
    return 0.5 + (places - (low + high) / 2) / width


def _distinct(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows, in the order in which they come, and which of them each row is."""
    _, first, row_of = np.unique(Z, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return Z[first[order]], np.argsort(order)[row_of.ravel()]


def _lay_out(Z: np.ndarray, seed: int) -> np.ndarray:
    """Return places of distinct rows. Without any spread, t-SNE would divide by 0, and crash on what comes of that."""
    n = len(Z)
    Z = Z - Z.mean(axis=0)
    Z /= np.abs(Z).max() or 1.0  # squares of tiny numbers would be 0
    Z = PCA(min(PCA_DIMENSIONS, *Z.shape), svd_solver="randomized", random_state=seed).fit_transform(Z)
    if n <= MAX_IMAGES_BY_PCA or Z.shape[1] == 1:
        return Z[:, :2]
    tsne = TSNE(perplexity=min(PERPLEXITY, (n - 1) / 3), init="pca", random_state=seed)
    return PCA(2).fit_transform(tsne.fit_transform(Z))  # rotated, so that the map is wider than high
