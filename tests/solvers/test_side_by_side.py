"""Folds that are solved side by side give what each fold gives alone."""

from __future__ import annotations

import numpy as np
import pytest
from solver_problems import codes

from cnncodes.errors import RangeError
from cnncodes.solvers.coordinates import Fold
from cnncodes.solvers.path import fit_path
from cnncodes.solvers.side_by_side import SideBySide, bytes_side_by_side

CS = (1e-5, 1e-3, 0.1, 10.0)


def folds_of(n: int, d: int, k: int, dtype: type = np.float64, shift: float = 0.0) -> list[Fold]:
    """Three folds of different sizes."""
    X, y = codes(n, d, k)
    X = (X + shift).astype(dtype)
    labels = np.array([f"class {label}" for label in y])
    parts = np.array_split(np.arange(n), [n // 4, n // 2 + 3])
    return [Fold(np.delete(X, part, axis=0), np.delete(labels, part), X[part]) for part in parts]


def alone(fold: Fold, C: float, loss: str, class_weight: object) -> np.ndarray:
    path = fit_path(fold.train, fold.y, [C], loss=loss, class_weight=class_weight, tol=1e-8)
    return path.decision_function(fold.test)[0]


@pytest.mark.parametrize("class_weight", [None, "balanced", {"class 0": 3.0}])
@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
@pytest.mark.parametrize(
    ("n", "d", "k", "shift"), [(60, 200, 3, 0.0), (90, 10, 4, 0.0), (60, 30, 2, 0.0), (50, 80, 3, 5.0)]
)
def test_decisions_are_those_of_each_fold_alone(n, d, k, shift, loss, class_weight):
    folds = folds_of(n, d, k, shift=shift)
    together = SideBySide(folds, loss, class_weight)
    for C in CS:
        assert together.solve(C, 1e-9, 1000).tolist() == [True] * 3
        for fold, values in zip(folds, together.decisions(), strict=True):
            expected = alone(fold, C, loss, class_weight)
            assert values.shape == expected.shape == (len(fold.test), 1 if k == 2 else k)
            np.testing.assert_allclose(values, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
def test_order_of_the_values_leads_to_the_same_solutions(loss):
    folds = folds_of(60, 200, 3)
    up, down = SideBySide(folds, loss), SideBySide(folds, loss)
    for C in CS:
        up.solve(C, 1e-9, 1000)
    for C in CS[::-1]:
        down.solve(C, 1e-9, 1000)
    up.solve(CS[0], 1e-9, 1000)
    for one, other in zip(up.decisions(), down.decisions(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
def test_rough_and_single_precision_solutions_are_near(loss):
    exact, rough, single = folds_of(90, 60, 4), folds_of(90, 60, 4), folds_of(90, 60, 4, np.float32)
    solvers = [SideBySide(exact, loss), SideBySide(rough, loss), SideBySide(single, loss, None, np.float32)]
    for C in CS:
        for solver, gap in zip(solvers, (1e-9, 1e-3, 1e-4), strict=True):
            assert solver.solve(C, gap, 1000).all()
        expected, *others = ([*solver.decisions()] for solver in solvers)
        for values, tolerance in zip(others, (0.1, 0.03), strict=True):
            for one, other in zip(expected, values, strict=True):
                np.testing.assert_allclose(other, one, atol=tolerance * np.abs(one).max())


def test_columns_of_very_different_size_lose_nothing():
    folds = [Fold(f.train * s, f.y, f.test * s) for s in [np.geomspace(1e-3, 1e3, 80)] for f in folds_of(50, 80, 3)]
    together = SideBySide(folds, "squared_hinge")
    together.solve(0.01, 1e-9, 1000)
    for fold, values in zip(folds, together.decisions(), strict=True):
        expected = alone(fold, 0.01, "squared_hinge", None)
        np.testing.assert_allclose(values, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
def test_directions_and_solutions_of_other_rows_lead_to_the_same_solutions(loss):
    folds = folds_of(200, 30, 3)
    first = SideBySide(folds[:1], loss)
    assert first.solve(0.01, 1e-9, 1000).all()
    solvers = [SideBySide(folds[1:2], loss, beginning=beginning) for beginning in (None, first.beginning())]
    assert solvers[1].beginning().directions is first.beginning().directions
    for C in CS:
        for solver in solvers:
            assert solver.solve(C, 1e-9, 1000).all()
        for expected, values in zip(*(solver.decisions() for solver in solvers), strict=True):
            np.testing.assert_allclose(values, expected, atol=1e-4 * np.abs(expected).max())


def test_rows_begin_where_others_like_them_ended():
    folds = folds_of(200, 30, 3)
    first = SideBySide(folds[:1], "log_loss")
    first.solve(0.01, 1e-9, 1000)
    second = SideBySide(folds[:1], "log_loss", beginning=first.beginning())
    assert second.solve(0.01, 1e-9, 1).all()
    assert not SideBySide(folds[:1], "log_loss").solve(0.01, 1e-9, 1).all()


@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
def test_fewer_rows_than_columns_begin_anew(loss):
    many, few = folds_of(200, 30, 3)[:1], folds_of(30, 30, 3)[:1]
    first = SideBySide(many, loss)
    first.solve(0.01, 1e-9, 1000)
    solvers = [SideBySide(few, loss, beginning=beginning) for beginning in (None, first.beginning())]
    for solver in solvers:
        assert solver.solve(0.1, 1e-9, 1000).all()
    np.testing.assert_array_equal(*(solver.decisions()[0] for solver in solvers))


def test_few_rows_have_nothing_for_others_to_begin_with():
    few = SideBySide(folds_of(60, 200, 3)[:1], "log_loss")
    few.solve(0.01, 1e-9, 1000)
    assert few.beginning() == (None, {})


@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
@pytest.mark.parametrize("k", [2, 4])
def test_blocks_of_rows_are_summed(loss, k, monkeypatch):
    folds = folds_of(90, 60, k)
    whole = SideBySide(folds, loss)
    monkeypatch.setattr("cnncodes.solvers.side_by_side.WHOLE_BYTES", 0)
    monkeypatch.setattr("cnncodes.solvers.side_by_side.SMALL_PRODUCT", 40 * (k if k > 2 else 1) * whole.Z.shape[2])
    blocks = SideBySide(folds, loss)
    assert len(whole.blocks) == 1
    assert [rows.shape[1] for rows, _ in blocks.blocks] == [40, whole.Z.shape[1] - 40]
    for solver in (whole, blocks):
        assert solver.solve(0.1, 1e-9, 1000).all()
    for expected, values in zip(whole.decisions(), blocks.decisions(), strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-6 * np.abs(expected).max())


def test_blocks_of_many_classes_are_as_large_as_the_cache(monkeypatch):
    monkeypatch.setattr("cnncodes.solvers.side_by_side.WHOLE_BYTES", 0)
    monkeypatch.setattr("cnncodes.solvers.side_by_side.BLOCK_BYTES", 3 * 8 * 20 * 31)
    assert SideBySide(folds_of(200, 30, 40), "squared_hinge").blocks[0][0].shape == (3, 20, 31)


def test_steps_that_are_not_enough_are_told():
    together = SideBySide(folds_of(90, 60, 4), "log_loss")
    assert not together.solve(100.0, 1e-9, 1).any()
    assert together.solve(100.0, 1e-9, 1000).all()


def test_rows_that_are_all_the_same_end():
    folds = [Fold(np.ones((6, 3)), np.array(["a", "b"] * 3), np.ones((2, 3)))] * 2
    for loss in ("squared_hinge", "log_loss"):
        together = SideBySide(folds, loss)
        assert together.solve(1.0, 1e-7, 1000).all()
        np.testing.assert_allclose(together.decisions()[0], 0.0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_rows_that_say_nothing_end_at_once_with_the_shares_of_the_classes(n_classes, dtype):
    y = np.arange(49) % n_classes
    folds = [Fold(np.zeros((49 - i, 30)), y[i:], np.zeros((1, 30))) for i in range(3)]
    together = SideBySide(folds, "log_loss", None, dtype)
    for C in (1e-6, 1e-4, 1.0, 1e5):
        assert together.solve(C, 1e-5, 10).all()
    for fold, values in zip(folds, together.decisions(), strict=True):
        logs = np.log(np.bincount(fold.y))
        expected = logs[1:] - logs[0] if n_classes == 2 else logs - logs.mean()
        np.testing.assert_allclose(values[0], expected, atol=1e-5)


def test_a_class_that_alone_has_a_weight_wins_soon():
    y = np.array(["a", "b"] * 20)
    X = np.random.default_rng(0).normal(size=(40, 5))
    together = SideBySide([Fold(X, y, X)], "log_loss", {"a": 0.0})
    assert together.solve(1e-6, 1e-5, 100).all()
    assert together.decisions()[0].min() > 20


def test_a_solution_that_is_not_a_number_is_not_done(monkeypatch):
    together = SideBySide(folds_of(60, 30, 3), "log_loss")
    monkeypatch.setattr(together, "_newton_step", lambda point, *_: (together.W * np.nan, np.full((3, 1, 1), np.nan)))
    assert not together.solve(1.0, 1e-5, 3).any()


@pytest.mark.parametrize("size", [1e5, 1e6, 1e8])
def test_large_numbers_in_single_precision_end_without_a_warning(size):
    scaled = [
        Fold(f.train * np.float32(size), f.y, f.test * np.float32(size)) for f in folds_of(60, 100, 3, np.float32)
    ]
    expected = [fit_path(f.train, f.y, [1e-6], warn=False).decision_function(f.test)[0].argmax(axis=1) for f in scaled]
    together = SideBySide(scaled, "squared_hinge", None, np.float32)
    for C in np.logspace(-6, 5, 12):
        together.solve(C, 1e-3, 100)
        answers = np.concatenate([values.argmax(axis=1) for values in together.decisions()])
        assert np.mean(answers == np.concatenate(expected)) > 0.8


def test_half_precision_rows_are_centred_in_single_precision():
    folds = folds_of(50, 80, 3, np.float16, shift=0.3)
    wide = [Fold(fold.train.astype(np.float64), fold.y, fold.test.astype(np.float64)) for fold in folds]
    halves, doubles = SideBySide(folds, "log_loss"), SideBySide(wide, "log_loss")
    for solver in (halves, doubles):
        solver.solve(0.1, 1e-9, 1000)
    for one, other in zip(halves.decisions(), doubles.decisions(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_numbers_that_are_too_large_are_refused():
    folds = [Fold(np.full((4, 2), 1e35, np.float32), np.array(["a", "b"] * 2), np.ones((1, 2), np.float32))]
    with pytest.raises(RangeError):
        SideBySide(folds, "squared_hinge").solve(1.0, 1e-3, 10)


def test_rows_whose_squares_single_precision_does_not_hold_are_refused():
    folds = [Fold(np.full((4, 2), 1e25), np.array(["a", "b"] * 2), np.ones((1, 2)))]
    assert SideBySide(folds, "squared_hinge").solve(1e-6, 1e-3, 1000).shape == (1,)
    with pytest.raises(RangeError):
        SideBySide(folds, "squared_hinge", None, np.float32)


def test_memory_grows_with_the_smaller_side():
    assert bytes_side_by_side(5, 1000, 10_000, 2) < 1.01 * bytes_side_by_side(5, 1000, 1000, 2)
    assert bytes_side_by_side(5, 1000, 10, 2) < bytes_side_by_side(5, 1000, 1000, 2) / 20


def test_single_precision_halves_the_coordinates_and_nothing_else():
    double, single = (bytes_side_by_side(5, 1000, 500, 300, itemsize) for itemsize in (8, 4))
    assert double - single == 5 * 1000 * 501 * 4
