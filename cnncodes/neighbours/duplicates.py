"""Finds images that are there twice: byte for byte, or resized, recompressed, mirrored or slightly cropped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cnncodes.codes.file import CodesFile
from cnncodes.codes.views import averaged
from cnncodes.errors import ImagesError
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.neighbours.nearest import BLOCK_DISTANCES, nearest_rows, whitened
from cnncodes.neighbours.thumbnails import alike_in_colour, difference, read_thumbnails
from cnncodes.system.progress import Progress

__all__ = ["Duplicates", "find_duplicates", "join_groups", "nearest_by_codes"]

NEIGHBOURS = 10  # each image is compared with so many nearest ones
MIN_FEATURES = 128  # with fewer, different images lie too close together to be told apart
MOST = 50_000  # images among which near-duplicates are looked for: the time grows with the square
PRODUCTS_PER_SECOND = 4e10  # comparing the codes of 16,000 images, 1,280 features each, took 7.9 s on two cores
MIN_SECONDS_TO_TELL = 10.0  # a search that is expected to take less is not announced
# A duplicate is nearer than this share of the distance to the next image; measured by benchmarks/bench_audit.py.
CODES_GAP = 0.7
PIXELS_GAP = 0.2
MAX_DIFFERENCE = 0.05  # pictures that differ more are never the same

logger = logging.getLogger(__name__)


@dataclass
class Duplicates:
    """Pairs of images that are the same, or nearly.

    Attributes
    ----------
    pairs : ndarray of int, shape (n_pairs, 2)
        Positions in the rows that were compared; the first is the smaller.
    similarity : ndarray, shape (n_pairs,)
        Cosine of the whitened codes; with images, correlation of the best aligned pictures; 1 for exact ones.
    exact : ndarray of bool, shape (n_pairs,)
        Whether the files have the same bytes.
    notes : list of str
        Remarks for the user on what was not compared.
    by_codes : bool
        Whether near-duplicates were looked for, too.
    """

    pairs: np.ndarray
    similarity: np.ndarray
    exact: np.ndarray
    notes: list[str] = field(default_factory=list)
    by_codes: bool = True

    def __len__(self) -> int:
        return len(self.pairs)

    def among(self, n: int) -> Duplicates:
        """Return the pairs between the first `n` rows."""
        keep = self.pairs[:, 1] < n
        return Duplicates(self.pairs[keep], self.similarity[keep], self.exact[keep], self.notes, self.by_codes)


def find_duplicates(
    file: CodesFile,
    rows: np.ndarray,
    images: Any = None,
    *,
    near: bool = True,
    progress: Progress | None = None,
    nearest: Callable[[CodesFile, str, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
) -> Duplicates:
    """Find exact duplicates by the digests of the files, and near ones by their codes and pictures.

    The codes of the last layer (whitened) give the ten nearest images of each. A neighbour is a duplicate where it is
    far nearer than the one after it (Lowe 2004 tells matches apart by such a ratio). By codes alone that finds
    mirrored and hardly changed copies; compared as pictures, where the images are at hand, others as well.

    Parameters
    ----------
    file : CodesFile
        Codes of the images.
    rows : ndarray of int, shape (n,)
        Rows of `file` to compare.
    images : path, sequence, ndarray or ImageSet, optional
        Images that the file was made from; without them, codes alone decide.
    near : bool, default=True
        False looks for exact duplicates only.
    progress : callable, optional
        Called with (done, total, failed) while `images` are read.
    nearest : callable, optional
        Function to use instead of `nearest_by_codes`, for a caller that keeps its answers.

    Returns
    -------
    Duplicates

    Raises
    ------
    ImagesError
        None of `images` belongs to the file.
    """
    n, layer = len(rows), file.top_layer
    too_many = n > MOST or not near
    if too_many:
        logger.warning("only exact duplicates are looked for, near ones are left out: %s", _cost(n, file, layer))
    exact = _same_bytes(file.sha256[rows])
    notes: list[str] = []
    remarks: list[str] = []
    close, similarity = np.empty((0, 2), np.int64), np.empty(0)
    if too_many:
        notes.append("only exact duplicates are looked for: the codes are too many to be compared with each other")
    elif file.n_features(layer) < MIN_FEATURES:
        notes.append(f"near-duplicates are not looked for: {layer} has {file.n_features(layer)} features only")
    elif n > 2:
        neighbours, distances = (nearest or nearest_by_codes)(file, layer, rows)
        if images is None:
            close, apart = _standing_out(neighbours, distances, CODES_GAP, np.inf)
            similarity = 1 - apart**2 / 2
        else:
            image_set, absent = _located(file, rows, images)
            thumbnails = read_thumbnails(image_set, range(n), progress=progress)
            pairs, which = _pairs_of(neighbours)
            close, apart = _standing_out(neighbours, difference(thumbnails, pairs)[which], PIXELS_GAP, MAX_DIFFERENCE)
            alike = alike_in_colour(thumbnails, close)
            close, similarity = close[alike], 1 - apart[alike]
            if absent.any():
                remarks.append(f"{absent.sum()} of {n} images are not among those given: compared by their codes alone")
                by_codes, apart = _standing_out(neighbours, distances, CODES_GAP, np.inf)
                of_absent = absent[by_codes].any(axis=1)
                close = np.concatenate([close, by_codes[of_absent]])
                similarity = np.concatenate([similarity, 1 - apart[of_absent] ** 2 / 2])
    pairs = np.concatenate([exact, close])
    pairs, first = np.unique(pairs, axis=0, return_index=True)  # exact pairs come first, so they are kept
    similarity = np.concatenate([np.ones(len(exact)), similarity])[first]
    return Duplicates(pairs, similarity, first < len(exact), notes + remarks, not notes)


def nearest_by_codes(file: CodesFile, layer: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ten nearest others of each row by whitened codes, as positions, and how far they are."""
    n = len(rows)
    if _seconds(n, file, layer) >= MIN_SECONDS_TO_TELL:
        logger.warning("looking for near-duplicates: %s", _cost(n, file, layer))
    return nearest_rows(whitened(averaged(file.codes(layer, rows))), min(NEIGHBOURS, n - 1))


def _seconds(n: int, file: CodesFile, layer: str) -> float:
    return n**2 * file.n_features(layer) / PRODUCTS_PER_SECOND


def _cost(n: int, file: CodesFile, layer: str) -> str:
    """Return what it costs to compare the codes of n images in pairs."""
    seconds, codes = _seconds(n, file, layer), 4 * n * file.n_features(layer)  # bytes, in float32
    memory = codes + max(2 * codes, 5 * 4 * BLOCK_DISTANCES)  # two copies while they are whitened, then five blocks
    time = f"{seconds / 60:,.0f} minutes" if seconds >= 100 else f"{seconds:.0f} s"
    return f"comparing {n:,} images with each other takes about {time} on two cores, and {memory / 1e9:.1f} GB"


def join_groups(groups: np.ndarray, found: Duplicates) -> np.ndarray:
    """Return groups in which duplicates are together, with all that either of them was together with.

    Parameters
    ----------
    groups : ndarray of str, shape (n,)
        An empty string means a group of its own.
    found : Duplicates

    Examples
    --------
    >>> found = Duplicates(np.array([[0, 2]]), np.ones(1), np.ones(1, bool))
    >>> join_groups(np.array(["", "a", "a", ""]), found).tolist()
    ['0', '0', '0', '']
    """
    n = len(groups)
    names, of_name = np.unique(groups, return_inverse=True)
    grouped = np.flatnonzero(groups != "")
    ends = np.concatenate([found.pairs, np.column_stack([grouped, n + of_name[grouped]])])  # a node for each name too
    links = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(n + len(names),) * 2)
    joined = connected_components(links, directed=False)[1][:n]
    alone = np.bincount(joined)[joined] == 1
    return np.where(alone & (groups == ""), "", joined.astype(str))


def _same_bytes(digests: np.ndarray) -> np.ndarray:
    """Return pairs of equal digests, each image with the first that has it."""
    _, first, inverse = np.unique(digests, axis=0, return_index=True, return_inverse=True)
    original = first[inverse.ravel()]
    copies = np.flatnonzero((original != np.arange(len(digests))) & digests.any(axis=1))
    return np.column_stack([original[copies], copies])


def _located(file: CodesFile, rows: np.ndarray, images: Any) -> tuple[ImageSet, np.ndarray]:
    """Return the images of rows, and which of them are not among those given: they cannot be read."""
    given = load_images(images)
    row_of = given.row_of
    names = file.ids[rows].tolist()
    absent = np.array([name not in row_of for name in names])
    if absent.all():
        raise ImagesError(
            f"{images}: {len(names)} of the {len(rows)} images of {file.path} are not there, the first is "
            f"{names[0]!r}; give the folder or table that it was made from"
        )
    sources = [given.sources[row_of[name]] if name in row_of else Path() for name in names]
    failures = given.failures | {name: "not among the images given" for name in names if name not in row_of}
    return ImageSet(names, sources, failures=failures), absent


def _pairs_of(neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct pairs of images and their neighbours, and which of them stands in each place."""
    own = np.broadcast_to(np.arange(len(neighbours))[:, None], neighbours.shape)
    ends = np.sort(np.stack([own.ravel(), neighbours.ravel()], axis=1), axis=1)
    pairs, which = np.unique(ends, axis=0, return_inverse=True)
    return pairs, which.reshape(neighbours.shape)


def _standing_out(neighbours: np.ndarray, apart: np.ndarray, gap: float, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs that are far nearer than the images after them, and how far apart they are.

    Parameters
    ----------
    neighbours : ndarray of int, shape (n, k)
    apart : ndarray, shape (n, k)
        How far each is, in any order.
    gap : float
        Largest ratio of the distance of a pair to that which is usual around the two (the geometric mean).
    limit : float
        Largest distance.
    """
    ordered = np.sort(apart, axis=1)
    # In a cluster of copies, the first image that is no copy stands after the last wide gap
    wide = (ordered[:, :-1] <= gap * ordered[:, 1:]) & (ordered[:, :-1] <= limit)
    last = np.where(wide.any(axis=1), wide.shape[1] - 1 - wide[:, ::-1].argmax(axis=1), 0)
    usual = ordered[np.arange(len(ordered)), last + 1]
    close = (apart <= gap * np.sqrt(usual[:, None] * usual[neighbours])) & (apart <= limit)
    pairs, which = _pairs_of(neighbours)
    chosen = np.unique(which[close])
    least = np.full(len(pairs), np.inf)
    np.minimum.at(least, which, apart)
    return pairs[chosen], least[chosen]
