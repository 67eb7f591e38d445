"""Finds copies of images by their codes and small pictures together.

Codes see through a mirror, a turn, a frame; small pictures through a poor quality, a low resolution, a lost colour.
Either proposes candidates, and what stands out among them is compared as pictures, laid over each other.
"""

from __future__ import annotations

import numpy as np

from cnncodes.codes.thumbnails import present
from cnncodes.neighbours.nearest import nearest_pictures
from cnncodes.neighbours.pictures import FEW_STEPS, STEPS, Comparison, compare_pictures, plain_differences, plain_parts

__all__ = ["find_copies", "pairs_of", "usual_distance"]

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
    parts = plain_parts(records["grey"])
    by_picture, plain = nearest_pictures(parts, min(NEIGHBOURS, len(records) - 1))
    candidates = np.concatenate([neighbours, by_picture], axis=1)
    pairs, place = pairs_of(candidates)
    code_distance = np.full(len(pairs), np.inf)
    np.minimum.at(code_distance, place[:, : neighbours.shape[1]], distances)
    plain_difference, mirrored = plain_differences(parts, pairs)
    codes = _share(code_distance, pairs, _column(distances, USUAL_CODE), 0)
    pictures = _share(plain_difference, pairs, _column(plain, USUAL_PICTURE), SMALL)
    both_here = present(records)[pairs].all(axis=1)
    stands_out = (codes <= CODE_SHARE) | (pictures <= PICTURE_SHARE)
    result = Comparison(np.ones(len(pairs)), np.zeros(len(pairs), bool))
    compared = ~both_here

    def compare(chosen: np.ndarray, steps: tuple[int, int], framed: np.ndarray | None = None) -> None:
        at = np.flatnonzero(chosen & ~compared)
        compared[at] = True
        frames = None if framed is None else framed[at]
        some = compare_pictures(records, pairs[at], mirrored[at], framed=frames, steps=steps)
        result.difference[at], result.is_like_a_copy[at] = some.difference, some.is_like_a_copy

    compare(stands_out, STEPS, codes <= CODE_SHARE)
    likely = result.is_like_a_copy & (result.difference <= MAX_DIFFERENCE)

    def shares(place: np.ndarray) -> np.ndarray:
        """Compare images that may be copies with their candidates, and return the shares of what is usual there."""
        around = np.zeros(len(pairs), bool)
        around[place[np.unique(pairs[likely])]] = True
        compare(around, FEW_STEPS)
        usual = usual_distance(_once(place, result.difference), CLUSTER_GAP, CLUSTER_DIFFERENCE)
        return _share(result.difference, pairs, usual, 0)

    last = neighbours.shape[1] - 1
    glance = place[:, np.unique([0, min(1, last), last, *range(last + 1, min(last + 3, place.shape[1]))])]
    likely &= shares(glance) <= MAX_SHARE_AT_A_GLANCE  # where all are alike, few candidates tell
    share = shares(place)
    near = (codes <= NEAR_CODE_SHARE) | (pictures <= NEAR_PICTURE_SHARE)
    chosen = likely & (share <= np.where(near, MAX_SHARE_NEAR, MAX_SHARE))
    return pairs[chosen], result.difference[chosen]


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
    return np.where(again, 2.0, values[place])
