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
from cnncodes.codes.thumbnails import THUMBNAIL, present
from cnncodes.codes.views import averaged
from cnncodes.errors import ImagesError
from cnncodes.images.image_set import name_of
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.neighbours.copies import find_copies, near_by_codes, pairs_of
from cnncodes.neighbours.nearest import BLOCK_DISTANCES, nearest_rows, whitened
from cnncodes.neighbours.thumbnails import read_thumbnails
from cnncodes.solvers.threads import SMALL_FIT, few_threads
from cnncodes.system.progress import Progress

__all__ = ["Duplicates", "find_duplicates", "join_groups", "nearest_by_codes"]

NEIGHBOURS = 10  # each image is compared with so many nearest ones
MIN_FEATURES = 128  # with fewer, different images lie too close together to be told apart
MOST = 50_000  # images among which near-duplicates are looked for: the time grows with the square
PRODUCTS_PER_SECOND = 4e10  # comparing the codes of 16,000 images, 1,280 features each, took 7.9 s on two cores
MIN_SECONDS_TO_TELL = 10.0  # a search that is expected to take less is not announced
NO_THUMBNAILS = (
    "near-duplicates are looked for by their codes alone, which finds fewer: the codes file keeps no small pictures; "
    "extracting the same images with thumbnails adds them"
)

logger = logging.getLogger(__name__)


@dataclass
class Duplicates:
    """Pairs of images that are the same, or nearly.

    Attributes
    ----------
    pairs : ndarray of int, shape (n_pairs, 2)
        Positions in the rows that were compared; the first is the smaller.
    similarity : ndarray, shape (n_pairs,)
        Correlation of the small pictures, one laid over the other; cosine of the whitened codes where one is missing;
        1 for exact duplicates.
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
    """Find exact duplicates by the digests of the files, and near ones by their codes and small pictures.

    The codes of the last layer (whitened) give the ten nearest images of each, and the small pictures that the file
    keeps five more; `find_copies` compares what stands out among them. Images without a small picture are compared by
    their codes alone: a neighbour is a duplicate where it is far nearer than the one after it (Lowe 2004 tells matches
    apart by such a ratio). That finds mirrored and hardly changed copies only.

    Parameters
    ----------
    file : CodesFile
        Codes of the images.
    rows : ndarray of int, shape (n,)
        Rows of `file` to compare.
    images : path, sequence, ndarray or ImageSet, optional
        Images that the file was made from; those are read whose small picture it does not keep.
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
        records, remarks = _pictures(file, rows, images, progress)
        with few_threads(records["grey"], SMALL_FIT):
            close, apart = find_copies(records, neighbours, distances)
        by_codes, code_distances = _near_by_codes(neighbours, distances)
        unseen = ~present(records)[by_codes].all(axis=1)
        close = np.concatenate([close, by_codes[unseen]])
        similarity = np.concatenate([1 - apart, 1 - code_distances[unseen] ** 2 / 2])
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
    memory += n * THUMBNAIL.itemsize
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
            f"{name_of(images)}: {len(names)} of the {len(rows)} images of {file.path} are not there, the first is "
            f"{names[0]!r}; give the folder or table that it was made from"
        )
    sources = [given.sources[row_of[name]] if name in row_of else Path() for name in names]
    failures = given.failures | {name: "not among the images given" for name in names if name not in row_of}
    return ImageSet(names, sources, failures=failures), absent


def _near_by_codes(neighbours: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs whose codes are far nearer than those of the images after them, and how far apart they are."""
    pairs, place = pairs_of(neighbours)
    apart = np.full(len(pairs), np.inf)
    np.minimum.at(apart, place, distances)
    close = near_by_codes(apart, pairs, distances)
    return pairs[close], apart[close]


def _pictures(
    file: CodesFile, rows: np.ndarray, images: Any, progress: Progress | None
) -> tuple[np.ndarray, list[str]]:
    """Return the small pictures of rows, from the file or else made of the images, and what to say of those missing."""
    records = file.thumbnails(rows)
    missing = np.flatnonzero(~present(records))
    if images is not None:
        image_set, absent = _located(file, rows, images)
        records[missing] = read_thumbnails(image_set, missing.tolist(), progress=progress)
        if absent[missing].any():
            n_absent = absent[missing].sum()
            return records, [
                f"{n_absent} of {len(rows)} images are not among those given: compared by their codes alone"
            ]
    elif not file.has_thumbnails:
        return records, [NO_THUMBNAILS]
    elif len(missing):
        return records, [f"{len(missing)} of {len(rows)} images have no small picture: compared by their codes alone"]
    return records, []
