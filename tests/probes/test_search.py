"""Probes: against plain scikit-learn, with folds that hold what they promise, and no warning lost."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
from joblib import parallel_config
from plain_probes import plain_probe
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

import cnncodes.probes.coarse_to_fine
import cnncodes.probes.out_of_fold
import cnncodes.probes.search
from cnncodes.errors import ProbeError, SettingError
from cnncodes.probes.calibration import fit_temperature
from cnncodes.probes.decision_values import softmax
from cnncodes.probes.folds import make_folds
from cnncodes.probes.scaling import CodeScaler
from cnncodes.probes.search import C_GRID, fit_probe, search_C


@pytest.fixture(scope="module")
def long_rows(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Fewer rows than columns."""
    X, y = digits
    mixing = np.random.default_rng(0).normal(size=(X.shape[1], 300))
    return np.maximum(X[:60] @ mixing, 0), y[:60]


def noisy(n: int = 60, d: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    y = np.arange(n) % 3
    return rng.normal(size=(n, d)) + 0.7 * np.eye(3)[y] @ rng.normal(size=(3, d)), y.astype(str)


def test_grid_of_C_is_that_of_the_literature():
    assert len(C_GRID) == 45
    np.testing.assert_allclose(np.log10(C_GRID[[0, -1]]), [-6, 5])
    np.testing.assert_allclose(np.diff(np.log10(C_GRID)), 0.25)


# ----------------------------------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("clf", ["svm", "logreg"])
@pytest.mark.parametrize("data", ["digits", "long_rows", "two classes"])
def test_search_agrees_with_a_plain_loop_over_folds(clf, data, class_weight, digits, long_rows):
    X, y = long_rows if data == "long_rows" else digits
    if data == "two classes":
        kept = np.isin(y, ["digit 1", "digit 4"])
        X, y = X[kept], y[kept]
    Cs = np.array([1e-5, 1e-3, 0.1])
    search = search_C(X, y, clf=clf, Cs=Cs, cv=3, class_weight=class_weight)
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    plain = [[plain_probe(clf, C, class_weight=class_weight).fit(X[a], y[a]) for C in Cs] for a, _ in folds]
    accuracy = [[probe.score(X[b], y[b]) for probe in row] for row, (_, b) in zip(plain, folds, strict=True)]
    # an out-of-fold value next to the border may fall on either side of it
    np.testing.assert_allclose(search.accuracy, accuracy, atol=1.01 / len(folds[0][1]))
    chosen = list(Cs).index(search.C)
    for row, (_, b) in zip(plain, folds, strict=True):
        expected = row[chosen].decision_function(X[b]).reshape(len(b), -1)
        np.testing.assert_allclose(search.decision[b], expected, atol=5e-3 * np.abs(expected).max())
    assert search.classes.tolist() == sorted(set(y))


def test_predictions_are_those_of_the_chosen_C(digits):
    X, y = digits
    search = search_C(X, y, Cs=[1e-5, 1e-3, 0.1])
    fold_accuracy = search.accuracy[:, search.Cs.tolist().index(search.C)]
    sizes = [len(test) for _, test in search.folds]
    assert np.mean(search.predictions == y) == pytest.approx(np.average(fold_accuracy, weights=sizes))


def test_one_standard_error_chooses_the_most_regularised_of_those_as_good():
    X, y = noisy(200)
    best, simple = (search_C(X, y, scale="standard", one_se=one_se) for one_se in (False, True))
    means = simple.accuracy.mean(axis=0)
    top = int(np.argmax(means))
    error = simple.accuracy[:, top].std(ddof=1) / np.sqrt(5)
    assert simple.C == simple.Cs[means >= means[top] - error].min() < best.C
    place = int(np.searchsorted(C_GRID, simple.C))
    assert place == 0 or C_GRID[place - 1] in simple.Cs


def test_folds_in_parallel_give_what_one_after_the_other_gives(digits):
    alone, together = (search_C(*digits, Cs=[1e-3, 0.1], n_jobs=n_jobs) for n_jobs in (None, 2))
    np.testing.assert_array_equal(alone.decision, together.decision)


def test_of_values_that_are_as_accurate_that_of_the_best_probabilities_is_chosen():
    X, y = noisy(90)
    Cs = np.logspace(-6, 1, 15)
    search = search_C(X, y, Cs=Cs, scale="standard")
    folds, _ = make_folds(y)
    truth = y.astype(int)
    accuracies, scores = [], []
    for C in Cs:
        decision = np.empty((90, 3))
        for train, test in folds:
            decision[test] = plain_probe("svm", C, "standard").fit(X[train], y[train]).decision_function(X[test])
        chances = softmax(decision, fit_temperature(decision, truth))
        accuracies.append(np.mean(decision.argmax(axis=1) == truth))
        scores.append(((chances - np.eye(3)[truth]) ** 2).sum(axis=1).mean())
    best = max(accuracies)
    close = np.array(accuracies) >= best - np.sqrt(best * (1 - best) / 90)
    assert 2 <= close.sum() < 15
    assert Cs[close][np.array(scores)[close].argmin()] == search.C


def test_values_that_are_all_right_are_no_reason_for_a_note(digits):
    X, y = digits
    X = X + 100 * np.eye(5, X.shape[1])[np.unique(y, return_inverse=True)[1]]
    search = search_C(X, y, Cs=[1e-2, 1.0, 100.0], scale="none")
    assert (search.accuracy == 1).all()
    assert search.notes == []


@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_codes_too_large_to_compute_with_are_an_error_that_says_what_to_do(clf):
    X, y = noisy(60)
    huge = (X * np.float32(1e35)).astype(np.float32)
    with pytest.raises(ProbeError, match=r"scale=.shrunk"), np.errstate(all="ignore"):
        search_C(huge, y, clf=clf, scale="none", Cs=[1.0])


def test_best_value_at_the_edge_of_the_grid_is_noted():
    X, y = noisy(300)
    inner = search_C(X, y, clf="logreg", scale="standard")
    assert not any("edge" in note for note in inner.notes)
    at = int(np.argmax(C_GRID == inner.C))
    edge = search_C(X, y, clf="logreg", scale="standard", Cs=C_GRID[at:])
    assert edge.C == inner.C
    assert any(f"the best C, {inner.C:g}, lies at the edge" in note for note in edge.notes)


def test_one_standard_error_never_chooses_less_regularisation(monkeypatch):
    X, y = noisy()
    usual = search_C(X, y)
    # The likeliest of those that are close may be more regularised than any within an error that is nearly none.
    monkeypatch.setattr(cnncodes.probes.coarse_to_fine, "most_regularised", lambda accuracy: accuracy.shape[1] - 1)
    assert search_C(X, y, one_se=True).C == usual.C < C_GRID[-1]


def test_order_of_the_grid_does_not_matter():
    X, y = noisy()
    up, down = search_C(X, y, Cs=[1e-3, 1e-2, 1.0]), search_C(X, y, Cs=[1.0, 1e-2, 1e-3])
    assert up.C == down.C
    np.testing.assert_array_equal(up.decision, down.decision)
    np.testing.assert_array_equal(up.Cs, down.Cs)


def test_arrays_of_the_caller_are_left_alone():
    X, y = noisy()
    before = X.copy()
    X.setflags(write=False)
    search_C(X, y, Cs=[1e-2, 1.0])
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_codes_that_are_not_finite_are_refused(bad):
    X, y = noisy()
    X[3, 4] = bad
    with pytest.raises(ProbeError, match="1 of 60 images are not finite"):
        search_C(X, y)


# ------------------------------------------------------------------------------------------------- nothing is swallowed


@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_fit_that_does_not_converge_becomes_a_note_that_says_what_to_do(clf, monkeypatch):
    X, y = noisy()
    monkeypatch.setattr(cnncodes.probes.search, "MAX_ITER", 1)
    search = search_C(X, y, clf=clf, scale="standard", Cs=[1e-2, 1.0, 100.0])
    (note,) = (note for note in search.notes if "converge" in note)
    assert "of 15 fits did not converge within 1 steps" in note
    assert "chosen C is" in note
    assert "scaling 'shrunk'" in note
    assert "a smaller C" in note


def test_convergence_note_counts_the_fits_and_names_their_C():
    converged = np.array([[True, True, False], [True, False, False]])
    Cs = np.array([0.1, 1.0, 10.0])
    (note,) = cnncodes.probes.search._unconverged(converged, Cs, best=0)
    assert "3 of 6 fits" in note
    assert "C = 1 to 10; the chosen C is not among them" in note
    (note,) = cnncodes.probes.search._unconverged(converged, Cs, best=1)
    assert "the chosen C is among them" in note
    assert cnncodes.probes.search._unconverged(np.ones((2, 3), bool), Cs, best=0) == []


def test_final_fit_that_does_not_converge_is_noted_as_well(monkeypatch):
    X, y = noisy()
    make = cnncodes.probes.search.make_probe
    monkeypatch.setattr(
        cnncodes.probes.search, "make_probe", lambda clf, **options: make(clf, **{**options, "max_iter": 1})
    )
    _, search = fit_probe(X, y, clf="logreg", C=10.0)
    assert [note for note in search.notes if "the fit to all images did not converge" in note]


def test_fit_probe_fits_all_rows_with_the_chosen_C(digits):
    X, y = digits
    probe, search = fit_probe(X, y, clf="svm", cv=3)
    assert probe[-1].C == search.C
    expected = plain_probe("svm", search.C).fit(X, y).decision_function(X)
    np.testing.assert_allclose(probe.decision_function(X), expected, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("C", [1.0, 1e5])
def test_probe_that_is_kept_is_the_one_that_was_cross_validated(C, long_rows):
    X, y = long_rows
    probe, search = fit_probe(X, y, clf="logreg", C=C, scale="standard", cv=3)
    alike = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=500)
    scaler = CodeScaler().fit(X)
    expected = alike.fit(scaler.transform(X), y).decision_function(scaler.transform(X))
    np.testing.assert_allclose(probe.decision_function(X), expected, atol=5e-3 * np.abs(expected).max())
    train, test = search.folds[0]
    scaler = CodeScaler().fit(X[train])
    expected = alike.fit(scaler.transform(X[train]), y[train]).decision_function(scaler.transform(X[test]))
    np.testing.assert_allclose(search.decision[test], expected, atol=5e-3 * np.abs(expected).max())
    assert search.notes == []


def test_folds_in_threads_leave_the_warnings_of_the_process_alone(monkeypatch):
    X, y = noisy()
    seen, path = [], cnncodes.probes.out_of_fold.fit_path
    monkeypatch.setattr(cnncodes.probes.search, "side_by_side_pays", lambda *_: False)

    def watched(*arguments, **options):
        seen.append(warnings.showwarning)
        return path(*arguments, **options)

    monkeypatch.setattr(cnncodes.probes.out_of_fold, "fit_path", watched)
    monkeypatch.setattr(cnncodes.probes.search, "MAX_ITER", 1)
    before = warnings.showwarning, list(warnings.filters)
    with parallel_config(backend="threading", n_jobs=2):
        search = search_C(X, y, Cs=[1e-2, 1.0, 100.0])
    assert (warnings.showwarning, list(warnings.filters)) == before
    assert len(set(map(id, seen))) == 1  # no fold catches warnings for itself: another thread would lose them
    assert any("did not converge" in note for note in search.notes)


def test_other_warnings_of_a_fit_reach_the_caller(monkeypatch):
    X, y = noisy()
    path = cnncodes.probes.out_of_fold.fit_path
    monkeypatch.setattr(cnncodes.probes.search, "side_by_side_pays", lambda *_: False)

    def warning(*arguments, **options):
        warnings.warn("columns are odd", UserWarning, stacklevel=1)
        return path(*arguments, **options)

    monkeypatch.setattr(cnncodes.probes.out_of_fold, "fit_path", warning)
    with pytest.warns(UserWarning, match="columns are odd"):
        search_C(X, y, Cs=[1e-2, 1.0])


def test_fits_in_two_threads_leave_the_warnings_of_the_process_alone(monkeypatch):
    """The first one to begin is the first one to end, while the other is still at it."""
    X, y = noisy()
    path, searches = cnncodes.probes.search.fit_path, {}
    first_inside, second_inside, first_ended = threading.Event(), threading.Event(), threading.Event()

    def overlapping(*arguments, **options):
        if threading.current_thread().name == "first":
            first_inside.set()
            assert second_inside.wait(60)
        else:
            second_inside.set()
            assert first_ended.wait(60)
        return path(*arguments, **options)

    def fit():
        name = threading.current_thread().name
        searches[name] = fit_probe(X, y, C=100.0)[1]
        if name == "first":
            first_ended.set()

    monkeypatch.setattr(cnncodes.probes.search, "fit_path", overlapping)
    monkeypatch.setattr(cnncodes.probes.search, "MAX_ITER", 1)
    before = warnings.showwarning, list(warnings.filters)
    threads = [threading.Thread(target=fit, name=name) for name in ("first", "second")]
    threads[0].start()
    assert first_inside.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert (warnings.showwarning, list(warnings.filters)) == before
    assert searches["first"].notes == searches["second"].notes
    assert any("did not converge" in note for note in searches["first"].notes)


@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_the_final_fit_is_that_of_the_classifier_itself(clf, digits):
    X, y = digits
    probe, _ = fit_probe(X, y, clf=clf, C=0.01)
    expected = cnncodes.probes.search.make_probe(clf, C=0.01).fit(X, y)
    assert vars(probe[-1]).keys() == vars(expected[-1]).keys()
    for name in ("coef_", "intercept_", "classes_", "n_iter_", "n_features_in_"):
        np.testing.assert_array_equal(getattr(probe[-1], name), getattr(expected[-1], name))
    np.testing.assert_array_equal(probe.predict(X), expected.predict(X))


@pytest.mark.parametrize("C", ["automatic", -1, None])
def test_wrong_C_is_refused(C):
    with pytest.raises(SettingError, match="'auto' or a positive number"):
        fit_probe(*noisy(), C=C)


def test_folds_run_in_parallel_where_that_pays(digits, monkeypatch):
    asked = []

    class Watched(cnncodes.probes.out_of_fold.Parallel):
        def __init__(self, n_jobs=None, **options):
            asked.append(n_jobs)
            super().__init__(n_jobs=n_jobs, **options)

    monkeypatch.setattr(cnncodes.probes.out_of_fold, "Parallel", Watched)
    monkeypatch.setattr(cnncodes.probes.search, "side_by_side_pays", lambda *_: False)
    monkeypatch.setattr(cnncodes.probes.search, "cpu_count", lambda: 2)
    few = search_C(*digits, Cs=[0.1], n_jobs="auto")
    monkeypatch.setattr(cnncodes.probes.search, "PARALLEL", digits[0].size)
    many = search_C(*digits, Cs=[0.1], n_jobs="auto")
    with parallel_config(backend="threading", n_jobs=3):
        search_C(*digits, Cs=[0.1], n_jobs="auto")
    assert asked == [None, 2, None]
    np.testing.assert_array_equal(few.decision, many.decision)
