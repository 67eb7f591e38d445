"""Finds the images of a codes file that are nearest to a new one."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.views import averaged
from cnncodes.errors import CodesFileError, ImagesError
from cnncodes.extraction.in_memory import compute_codes
from cnncodes.images.image_set import ImageSource, name_of
from cnncodes.images.loading import load_images
from cnncodes.neighbours.nearest import unit_rows
from cnncodes.vocabulary import CODES_FILE, PENULTIMATE

__all__ = ["Neighbour", "nearest_codes", "similar"]

BLOCK_BYTES = 64 << 20  # codes in memory at a time
CANDIDATES = 10  # so many times k images are compared again in float64
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Neighbour:
    """An image of a codes file, and how like the query it is.

    Attributes
    ----------
    path : str
        Id of the image.
    label : str
        Empty where the image has none.
    similarity : float
        Cosine of the angle between the two codes, at most 1.
    """

    path: str
    label: str
    similarity: float


def similar(
    query: ImageSource,
    codes: str | os.PathLike[str] | CodesFile = CODES_FILE,
    *,
    allow_outside: bool = False,
    k: int = 9,
    layer: str = PENULTIMATE,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
) -> list[Neighbour]:
    """Find the images that are most like a new one, by the cosine similarity of their codes.

    The query takes the way that the images of the file have taken: the same network, weights and preprocessing. All
    images are compared, a part of the file at a time. The codes of several views are averaged.

    Parameters
    ----------
    query : path, PIL.Image.Image or ndarray of uint8, shape (H, W, 3) or (H, W)
        One image.
    codes : path or CodesFile, default="codes.h5"
        Codes file. One that is opened already keeps the network ready for the next query.
    allow_outside : bool, default=False
        Let a manifest that names the query name a file outside its folder.
    k : int, default=9
        Number of images to find; all of them where the file has fewer.
    layer : str, default="penultimate"
        Layer whose codes are compared.
    weights : path, optional
        Path of the weights file, if it has moved since the codes were made.
    device : str, optional
        Device that the network runs on; by default that of the codes.

    Returns
    -------
    list of Neighbour
        The nearest first.

    Raises
    ------
    ImagesError
        The query is not one image, or cannot be read.
    CodesFileError
        No such file or layer, or it holds no codes yet.

    Examples
    --------
    >>> similar("query.jpg", "codes.h5", k=3)[0].path  # doctest: +SKIP
    """
    source = query if isinstance(query, (str, os.PathLike)) else [query]
    images = load_images(source, labelled=False, allow_outside=allow_outside)
    if len(images) != 1:
        raise ImagesError(f"{name_of(query)}: holds {len(images)} images; give one")
    owner = codes if isinstance(codes, CodesFile) else None
    with contextlib.nullcontext(codes) if isinstance(codes, CodesFile) else CodesFile.open(codes) as file:
        file.n_features(layer)  # refuses what is not there before the network is loaded
        computed = compute_codes(
            images, file.provenance.only([layer]), weights=weights, device=device, workers=1, owner=owner
        )
        if computed.failures:
            raise ImagesError(f"{images.ids[0]}: {computed.failures[0]}")
        rows, similarities = nearest_codes(file, averaged(computed.codes[layer])[0], k, layer)
        columns = zip(file.ids[rows].tolist(), file.labels[rows].tolist(), similarities.tolist(), strict=True)
        return [Neighbour(*one) for one in columns]


def nearest_codes(file: CodesFile, code: np.ndarray, k: int, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows whose codes have the largest cosine with `code`, and these cosines, the largest first.

    Parameters
    ----------
    file : CodesFile
        Codes to search.
    code : ndarray, shape (n_features,)
        Code of the query, of the same layer.
    k : int
        Number of rows to find; all of them where the file has fewer.
    layer : str
        Layer whose codes are compared.

    Returns
    -------
    rows : ndarray of int, shape (min(k, n),)
    similarities : ndarray of float64, of that shape

    Raises
    ------
    CodesFileError
        No image of the file has codes.
    """
    rows = file.rows(labelled=False)
    if not len(rows):
        raise CodesFileError(f"{file.path}: no image has codes yet; run the same `cnncodes extract` again to finish it")
    direction = unit_rows(code.astype(np.float64))
    near = np.empty(len(rows), np.float32)
    step = max(1, BLOCK_BYTES // (4 * file.n_features(layer) * max((1, *file.views))))
    for start in range(0, len(rows), step):
        block = averaged(file.codes(layer, rows[start : start + step]))
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        near[start : start + step] = block @ direction.astype(np.float32) / np.maximum(lengths, TINY)
    # float32 may have the order of neighbours wrong
    candidates = rows[np.argsort(-near, kind="stable")[: CANDIDATES * k]]
    similarities = unit_rows(averaged(file.codes(layer, candidates)).astype(np.float64)) @ direction
    best = np.argsort(-similarities, kind="stable")[:k]
    return candidates[best], similarities[best]
