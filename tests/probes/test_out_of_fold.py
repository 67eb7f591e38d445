"""Both ways to out-of-fold decisions give the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnncodes.probes.out_of_fold
from cnncodes.probes.folds import make_folds
from cnncodes.probes.out_of_fold import FoldByFold, FoldsSideBySide, ScaledFolds, side_by_side_pays
from cnncodes.solvers.device import computing_on

CS = [1e-3, 0.1]


def photos(n: int = 60, d: int = 40, *, views: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    y = np.arange(n) % 3
    X = rng.normal(size=(n, views, d)) + (0.7 * np.eye(3)[y] @ rng.normal(size=(3, d)))[:, None]
    return (X[:, 0] if views == 1 else X).astype(np.float32), np.array(["a", "b", "c"])[y]


def both(X: np.ndarray, y: np.ndarray, clf: str, scale: str = "standard") -> tuple[FoldsSideBySide, FoldByFold]:
    folds, _ = make_folds(y, cv=3)
    options: dict[str, Any] = {"clf": clf, "scale": scale, "class_weight": None, "max_iter": 1000, "n_jobs": None}
    return FoldsSideBySide(X, y, folds, **options), FoldByFold(X, y, folds, tol=1e-6, **options)


@pytest.mark.parametrize("clf", ["svm", "logreg"])
@pytest.mark.parametrize(("views", "scale"), [(1, "standard"), (3, "standard"), (1, "l2"), (1, "none")])
def test_side_by_side_decides_as_fold_by_fold(clf, views, scale):
    X, y = photos(views=views)
    together, alone = both(X, y, clf, scale)
    (decision, converged), (expected, _) = (way.decide(CS, exact=True, n_folds=3) for way in (together, alone))
    assert converged.tolist() == [[True, True]] * 3
    assert decision.shape == (2, 60, 3)
    np.testing.assert_allclose(decision, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("scale", ["shrunk", "l2"])  # centred, and not
@pytest.mark.parametrize("order", [("svm", "logreg"), ("logreg", "svm")])
def test_scaled_folds_are_shared_by_both_classifiers(order, scale, monkeypatch):
    X, y = photos()
    folds, _ = make_folds(y, cv=3)
    options: dict[str, Any] = {"scale": scale, "class_weight": None, "max_iter": 1000}
    expected = [FoldsSideBySide(X, y, folds, clf=clf, **options).decide(CS, exact=True, n_folds=3)[0] for clf in order]
    times: list[int] = []
    scaled = cnncodes.probes.out_of_fold._scaled
    monkeypatch.setattr(cnncodes.probes.out_of_fold, "_scaled", lambda *args: (times.append(1), scaled(*args))[1])
    shared = ScaledFolds()
    for clf, alone in zip(order, expected, strict=True):
        decision, _ = FoldsSideBySide(X, y, folds, clf=clf, shared=shared, **options).decide(CS, exact=True, n_folds=3)
        np.testing.assert_allclose(decision, alone, atol=2e-3 * np.abs(alone).max())
    assert len(times) == 3


@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_many_rows_are_solved_fold_by_fold_in_single_precision(clf, monkeypatch):
    X, y = photos(120)
    small, _ = both(X, y, clf)
    monkeypatch.setattr(cnncodes.probes.out_of_fold, "SMALL_BYTES", 0)
    monkeypatch.setattr(cnncodes.probes.out_of_fold, "ENOUGH_ANSWERS", 40)
    large, _ = both(X, y, clf)
    assert (small.first_folds, large.first_folds) == (3, 1)
    assert large.parts == [[0], [1], [2]]
    expected, _ = small.decide(CS, exact=True, n_folds=3)
    first, _ = large.decide(CS, exact=False, n_folds=1)
    held_out = large.folds[0][1]
    np.testing.assert_allclose(first[:, held_out], expected[:, held_out], atol=0.02 * np.abs(expected).max())
    assert large._solvers[0] is not None
    assert large._solvers[1:] == [None, None]  # not made before they are wanted
    every, _ = large.decide(CS, exact=True, n_folds=3)
    np.testing.assert_allclose(every, expected, atol=5e-3 * np.abs(expected).max())


def test_folds_in_threads_decide_as_one_after_the_other(monkeypatch):
    X, y = photos(120)
    monkeypatch.setattr(cnncodes.probes.out_of_fold, "SMALL_BYTES", 0)
    alone, _ = both(X, y, "svm")
    threads, _ = both(X, y, "svm")
    threads.n_jobs = 2
    np.testing.assert_array_equal(*(way.decide(CS, exact=True, n_folds=3)[0] for way in (alone, threads)))


def test_what_pays_is_what_memory_has_room_for(monkeypatch):
    X, y = photos()
    folds, _ = make_folds(y, cv=3)
    assert side_by_side_pays(X, y, folds)
    monkeypatch.setattr(cnncodes.probes.out_of_fold, "SMALL_BYTES", 0)
    assert side_by_side_pays(X, y, folds)
    assert not side_by_side_pays(X, y, folds, memory_limit=1)
    monkeypatch.setattr(cnncodes.probes.out_of_fold, "on_cpu", lambda: False)
    assert not side_by_side_pays(X, y, folds)


def test_processor_is_the_usual_device():
    assert cnncodes.probes.out_of_fold.on_cpu()
    with computing_on("cpu"):
        assert cnncodes.probes.out_of_fold.on_cpu()


def test_folds_without_one_of_the_classes_are_not_stacked():
    X, y = photos()
    first = np.flatnonzero(y == "a")
    assert not side_by_side_pays(X, y, [(np.setdiff1d(np.arange(60), first), first)])
