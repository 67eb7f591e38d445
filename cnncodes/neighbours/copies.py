"""Finds copies of images by their codes and small pictures together.

Codes see through a mirror, a turn, a frame; small pictures through a poor quality, a low resolution, a lost colour.
Either proposes candidates, and what stands out among them is compared as pictures, laid over each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnncodes.codes.thumbnails import present
from cnncodes.neighbours.nearest import nearest_pictures
from cnncodes.neighbours.pictures import (
    FEW_STEPS,
    STEPS,
    compare_pictures,
    detail,
    plain_differences,
    plain_parts,
)

__all__ = ["find_copies", "near_by_codes", "pairs_of", "usual_distance"]

NEIGHBOURS = 5  # nearest pictures of each image that are candidates
# A candidate is compared if it is nearer than this share of the distance to the sixth by codes, or the fifth by picture
USUAL_CODE, CODE_SHARE = 5, 0.95
USUAL_PICTURE, PICTURE_SHARE = 4, 0.5
MAX_DIFFERENCE = 0.1  # pictures that differ more are never the same
MAX_SHARE = 0.3  # a copy differs by at most this share of what is usual around the two
NEAR_CODE_SHARE, NEAR_PICTURE_SHARE = 0.75, 0.12  # where codes or pictures stand out by themselves …
MAX_SHARE_NEAR = 0.5  # … so much
MAX_SHARE_AT_A_GLANCE = 0.6  # and so much of what is usual among a few of the candidates
CLUSTER_GAP, CLUSTER_DIFFERENCE = 0.2, 0.02  # where the copies of an image end, and others begin
CODES_GAP = 0.7  # by codes alone, a copy is nearer than this share of the distance to the next image
# In a large cluster the candidates are copies, too, and say nothing of what is usual
PLAINLY_ALIKE = 0.005  # pictures that differ less, not laid over each other, are always compared
NEARLY_EQUAL = 0.0015  # different images differ by 0.0041 or more in bench_audit.py; trousers of 10,000 by 0.0015
MAX_DIFFERENCE_NEAR_BY_CODES = 0.03  # where codes alone tell a copy
LEAST_DETAIL = 12.0  # grey levels; plainer pictures (sky) are nearly equal without being copies
FAR = 2.0  # no pictures differ more
SMALL = 0.002  # difference that means nothing


def find_copies(records: np.ndarray, neighbours: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find pairs of images that are copies of each other, or of a third.

    Parameters
    ----------
    records : ndarray of THUMBNAIL, shape (n,)
        Small pictures of the images; pairs with a blank one are left out.
    neighbours : ndarray of int, shape (n, k)
        Nearest images of each by codes.
    distances : ndarray, shape (n, k)
        Distances of their codes.

    Returns
    -------
    pairs : ndarray of int, shape (n_pairs, 2)
        Positions; the first is the smaller.
    difference : ndarray, shape (n_pairs,)
        1 less the correlation of the two pictures.
    """
    search = _Search(records, neighbours, distances)
    search.compare(search.stand_out, STEPS, framed=search.code_share <= CODE_SHARE)
    difference = search.difference
    likely = search.is_like_a_copy & (difference <= MAX_DIFFERENCE)
    nearly_equal = difference <= np.where(search.near_by_codes, MAX_DIFFERENCE_NEAR_BY_CODES, NEARLY_EQUAL)
    nearly_equal &= likely & search.detailed
    near = (search.code_share <= NEAR_CODE_SHARE) | (search.picture_share <= NEAR_PICTURE_SHARE)
    max_share = np.where(near, MAX_SHARE_NEAR, MAX_SHARE)
    k, n_candidates = neighbours.shape[1], search.place.shape[1]
    glance = np.unique([0, min(1, k - 1), k - 1, *range(k, min(k + 2, n_candidates))])
    for columns in ([], [k - 1], [0, k], glance):  # what few candidates rule out is not compared with the others
        likely &= search.shares(likely, columns) <= max_share
    likely &= search.shares(likely, glance, only=True) <= MAX_SHARE_AT_A_GLANCE
    for columns in (np.arange(k // 2), np.arange(n_candidates)):
        likely &= search.shares(likely, columns) <= max_share
    chosen = nearly_equal | likely
    return search.pairs[chosen], difference[chosen]


class _Search:
    """Pairs of images and their candidates, and what comparing them as pictures has told so far.

    Attributes
    ----------
    pairs : ndarray of int, shape (n_pairs, 2)
    place : ndarray of int, shape (n, n_candidates)
        Pair of each image and candidate: first the neighbours by codes, then those by picture.
    code_share, picture_share : ndarray, shape (n_pairs,)
        How far codes, and pictures that are not laid over each other, are apart, as shares of what is usual there.
    near_by_codes, detailed, stand_out : ndarray of bool, shape (n_pairs,)
        Pairs that are copies by codes alone; of pictures that are not plain; worth comparing as pictures.
    difference : ndarray, shape (n_pairs,)
    is_like_a_copy : ndarray of bool, shape (n_pairs,)
        As in `Comparison`; 1 and False where pictures were not compared.
    """

    def __init__(self, records: np.ndarray, neighbours: np.ndarray, distances: np.ndarray) -> None:
        parts = plain_parts(records["grey"])
        by_picture, plain = nearest_pictures(parts, min(NEIGHBOURS, len(records) - 1))
        self.records = records
        self.pairs, self.place = pairs_of(np.concatenate([neighbours, by_picture], axis=1))
        code_distance = np.full(len(self.pairs), np.inf)
        np.minimum.at(code_distance, self.place[:, : neighbours.shape[1]], distances)
        plain_difference, self._mirrored = plain_differences(parts, self.pairs)
        self.code_share = _share(code_distance, self.pairs, _column(distances, USUAL_CODE), 0)
        self.picture_share = _share(plain_difference, self.pairs, _column(plain, USUAL_PICTURE), SMALL)
        self.near_by_codes = near_by_codes(code_distance, self.pairs, distances)
        self.stand_out = (self.code_share <= CODE_SHARE) | (self.picture_share <= PICTURE_SHARE)
        self.detailed = (detail(records["grey"]) >= LEAST_DETAIL)[self.pairs].all(axis=1)
        self.stand_out |= self.detailed & (self.near_by_codes | (plain_difference <= PLAINLY_ALIKE))
        self.difference, self.is_like_a_copy = np.ones(len(self.pairs)), np.zeros(len(self.pairs), bool)
        self._compared = ~present(records)[self.pairs].all(axis=1)

    def compare(self, chosen: np.ndarray, steps: tuple[int, int], framed: np.ndarray | None = None) -> None:
        """Compare chosen pairs as pictures, but for those that were compared before."""
        at = np.flatnonzero(chosen & ~self._compared)
        self._compared[at] = True
        frames = None if framed is None else framed[at]
        result = compare_pictures(self.records, self.pairs[at], self._mirrored[at], framed=frames, steps=steps)
        self.difference[at], self.is_like_a_copy[at] = result.difference, result.is_like_a_copy

    def shares(self, likely: np.ndarray, columns: Sequence[int] | np.ndarray, *, only: bool = False) -> np.ndarray:
        """Compare images of likely pairs with candidates in these columns, and return the shares of what is usual.

        What is usual is taken from all that were compared by now, or from these candidates only. More candidates never
        make a share smaller.
        """
        around = np.zeros(len(self.pairs), bool)
        around[self.place[:, columns][np.unique(self.pairs[likely])]] = True
        self.compare(around, FEW_STEPS)
        place = self.place[:, columns] if only else self.place
        known = np.where(self._compared, self.difference, FAR)
        usual = usual_distance(_once(place, known), CLUSTER_GAP, CLUSTER_DIFFERENCE)
        return _share(self.difference, self.pairs, usual, 0)


def near_by_codes(apart: np.ndarray, pairs: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return which pairs have codes that are far nearer than those of the images after them.

    Parameters
    ----------
    apart : ndarray, shape (n_pairs,)
        Distances of their codes.
    pairs : ndarray of int, shape (n_pairs, 2)
    distances : ndarray, shape (n, k)
        Distances of the nearest codes of each image, the nearest first.
    """
    return _share(apart, pairs, usual_distance(distances, CODES_GAP, np.inf), 0) <= CODES_GAP


def pairs_of(candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct pairs of images and their candidates, and which of them stands in each place.

    Parameters
    ----------
    candidates : ndarray of int, shape (n, k)

    Returns
    -------
    pairs : ndarray of int, shape (n_pairs, 2)
        The first is the smaller.
    place : ndarray of int, shape (n, k)
    """
    own = np.broadcast_to(np.arange(len(candidates))[:, None], candidates.shape)
    ends = np.sort(np.stack([own.ravel(), candidates.ravel()], axis=1), axis=1)
    pairs, place = np.unique(ends, axis=0, return_inverse=True)
    return pairs, place.reshape(candidates.shape)


def usual_distance(apart: np.ndarray, gap: float, limit: float) -> np.ndarray:
    """Return how far the nearest image is that is no copy, shape (n,).

    In a cluster of copies, the first image that is no copy stands after the last wide gap.

    Parameters
    ----------
    apart : ndarray, shape (n, k)
        How far candidates are, in any order.
    gap : float
        Largest ratio of the distances before and after a gap.
    limit : float
        Largest distance before a gap.
    """
    ordered = np.sort(apart, axis=1)
    wide = (ordered[:, :-1] <= gap * ordered[:, 1:]) & (ordered[:, :-1] <= limit)
    last = np.where(wide.any(axis=1), wide.shape[1] - 1 - wide[:, ::-1].argmax(axis=1), 0)
    return ordered[np.arange(len(ordered)), last + 1]


def _share(apart: np.ndarray, pairs: np.ndarray, usual: np.ndarray, least: float) -> np.ndarray:
    """Return how far pairs are apart, as a share of what is usual around the two: the geometric mean."""
    around = np.sqrt(usual[pairs[:, 0]] * usual[pairs[:, 1]])
    return (apart + least) / np.maximum(around + least, np.finfo(np.float32).tiny)


def _column(table: np.ndarray, at: int) -> np.ndarray:
    return table[:, min(at, table.shape[1] - 1)]


def _once(place: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the values of the candidates of each image, those that occur again as far as can be."""
    order = np.argsort(place, axis=1, kind="stable")
    again = np.zeros(place.shape, bool)
    ordered = np.take_along_axis(place, order, axis=1)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return np.where(again, FAR, values[place])
