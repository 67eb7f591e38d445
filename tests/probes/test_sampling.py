"""Samples: each class by its share, but enough of each, and no more rows than asked for."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.probes.sampling import stratified_sample

COUNTS = np.array([200_000, *[200] * 98, 4])


@pytest.mark.parametrize("m", [1000, 2000, 20_000])
def test_sample_is_no_larger_than_asked_and_has_enough_of_each_class(m: int) -> None:
    of_row = np.repeat(np.arange(100), COUNTS)
    kept = stratified_sample(of_row, m, least=10, seed=0)
    sizes = np.bincount(of_row[kept])
    assert m - 100 <= len(kept) <= m
    assert sizes[1:-1].min() >= 10
    assert sizes[-1] == 4


def test_more_classes_than_rows_asked_for_give_the_least_of_each() -> None:
    of_row = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 20))
    kept = stratified_sample(of_row, 40, least=2, seed=0)
    assert np.bincount(of_row[kept]).tolist() == [2] * 30
    assert (np.diff(kept) > 0).all()


def test_few_rows_are_all_taken_and_the_seed_decides_of_many() -> None:
    of_row = np.tile([0, 1, 2], 7)
    assert stratified_sample(of_row, 21, least=2, seed=0).tolist() == list(range(21))
    samples = [stratified_sample(of_row, 12, least=2, seed=seed).tolist() for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
