"""Rows of views become rows of images."""

from __future__ import annotations

import numpy as np

from cnncodes.codes.views import as_rows, averaged, repeated, summed


def test_rows_of_views_become_rows_of_images() -> None:
    X = np.arange(12.0).reshape(2, 3, 2)  # two images of three views
    assert as_rows(X).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert repeated(np.array(["a", "b"]), X).tolist() == ["a", "a", "a", "b", "b", "b"]
    assert averaged(X).tolist() == [[2, 3], [8, 9]]
    assert summed(as_rows(X), X).tolist() == [[6, 9], [24, 27]]
    assert summed(np.stack([as_rows(X), -as_rows(X)]), X[:1]).tolist() == [[[6, 9], [24, 27]], [[-6, -9], [-24, -27]]]
    plain = X[:, 0]
    for same in (as_rows(plain), averaged(plain), repeated(plain, plain), summed(plain, plain)):
        assert same.tolist() == plain.tolist()
