"""Rates and order of images are functions of the step and the seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.errors import SettingError
from cnncodes.finetuning.schedule import Recipe, epoch_order, layer_rates, rate_at


def test_rate_rises_for_an_epoch_and_falls_to_nearly_nothing():
    rates = [rate_at(step, 10, 8) for step in range(80)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert (np.diff(rates[10:]) <= 0).all()
    assert rates[10] == 1
    assert 0 < rates[-1] < 0.001
    assert rates[45] == pytest.approx(0.5)


def test_single_epoch_is_all_warm_up():
    assert [rate_at(step, 4, 1) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_rates_are_smaller_towards_the_bottom():
    rates = layer_rates({"a": 0.0, "b": 0.5, "c": 1.0})
    assert rates == pytest.approx({"a": 0.1, "b": 0.1**0.5, "c": 1.0})


def test_each_epoch_shows_each_image_once_in_an_order_of_its_own():
    recipe = Recipe(batch_size=8, seed=3)
    orders = [np.concatenate(epoch_order(50, 2, epoch, recipe)[0]) for epoch in (0, 1, 0)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert (orders[0] == orders[2]).all()
    assert (orders[0] != orders[1]).any()
    assert (orders[0] != np.concatenate(epoch_order(50, 2, 0, Recipe(batch_size=8, seed=4))[0])).any()
    rows, views = epoch_order(50, 2, 0, recipe)
    assert {len(part) for part in rows} == {7, 8}
    assert [len(part) for part in rows] == [len(part) for part in views]
    assert set(np.concatenate(views).tolist()) == {0, 1}
    assert len(rows) == recipe.steps_per_epoch(50) == 7


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": 2.0}, {"lr": float("nan")}])
def test_recipe_that_cannot_be_is_refused(wrong):
    with pytest.raises(SettingError, match="must be"):
        Recipe(**wrong)


@pytest.mark.parametrize(("n", "steps"), [(2, 1), (3, 1), (4, 2), (5, 2), (33, 16)])
def test_no_batch_of_one_image_is_normalised_by_itself(n, steps):
    recipe = Recipe(batch_size=2, batchnorm=True)
    rows, _ = epoch_order(n, 1, 0, recipe)
    assert (len(rows), min(map(len, rows)) >= 2) == (steps, True)
    assert np.sort(np.concatenate(rows)).tolist() == list(range(n))
