"""One look at a codes file serves every verb: nothing that is the same is computed twice, and the figures agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_codes import DESCRIPTION, X_DIGITS, Y_DIGITS, names, write_codes
from plain_probes import PlainShrunkScaler

import cnncodes.codes.checksums
import cnncodes.pages.report
import cnncodes.probes.protocol
from cnncodes import ProbeModel, advise, audit, compare, evaluate, fit, report
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.writer import CodesWriter
from cnncodes.pages.answers import ask
from cnncodes.probes.folds import make_folds
from cnncodes.probes.protocol import TrainingData
from cnncodes.probes.search import search_C

N_FEATURES = 200  # enough for near-duplicates to be looked for by codes


def write_doubled(path: Path, splits: list[str] | None = None) -> Path:
    """Three digits blown up by a random matrix, with hardly changed copies of ten images at the end; two layers."""
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(Y_DIGITS < 3)[np.concatenate([np.arange(110), np.arange(10)])]
    X = X_DIGITS[rows] @ rng.normal(size=(64, N_FEATURES)) + 20 * rng.normal(size=(120, N_FEATURES))
    X[110:] = X[:10] + 0.5 * rng.normal(size=(10, N_FEATURES))
    layers = {
        name: {"n_features": N_FEATURES, "pooling": "avg", "map_shape": [N_FEATURES]}
        for name in ("layer1", "penultimate")
    }
    table = ImageTable([f"{i:03}.png" for i in range(120)], names(rows), splits=splits)
    CodesWriter.create(path, table, Provenance.from_dict({**DESCRIPTION, "layers": layers}))
    digests = rng.integers(0, 256, (120, 32), dtype=np.uint8)
    with CodesWriter(path) as file:
        codes = {"layer1": X[:, ::-1] + 9, "penultimate": X}
        file.write(np.arange(120), {name: np.float32(values) for name, values in codes.items()}, digests)
    return path


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_doubled(tmp_path_factory.mktemp("doubled") / "codes.h5")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = ["train"] * 80 + ["test"] * 35 + ["train"] * 5
    return write_doubled(tmp_path_factory.mktemp("split") / "codes.h5", splits)


class Calls:
    """Counts what is computed: searches for near-duplicates, checksums of codes rows, and cross-validations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.searches: Counter[bytes] = Counter()
        self.checksums: Counter[Any] = Counter()
        self.validations: Counter[Any] = Counter()
        nearest, checksums = cnncodes.probes.protocol.nearest_by_codes, cnncodes.codes.checksums.checksums
        search = cnncodes.probes.protocol.search_C

        def counted_nearest(file: CodesFile, layer: str, rows: np.ndarray) -> Any:
            self.searches[rows.tobytes()] += 1
            return nearest(file, layer, rows)

        def counted_checksums(seeds: list[int], rows: Iterable[memoryview]) -> Any:
            rows = list(rows)
            self.checksums.update(zip(seeds, map(bytes, rows), strict=True))  # the seed has the row's number
            return checksums(seeds, rows)

        def counted_search(X: np.ndarray, y: np.ndarray, *, folds: Any, **options: Any) -> Any:
            held_out = b"".join(test.tobytes() for _, test in folds)
            self.validations[X.tobytes(), held_out, options["clf"], options["scale"]] += 1
            return search(X, y, folds=folds, **options)

        monkeypatch.setattr(cnncodes.probes.protocol, "nearest_by_codes", counted_nearest)
        monkeypatch.setattr(cnncodes.codes.checksums, "checksums", counted_checksums)
        blank = {"facts": [], "commands": [], "layer_names": ""}  # no network has made these codes
        monkeypatch.setattr(cnncodes.pages.report, "provenance", lambda *about: blank)
        monkeypatch.setattr(cnncodes.probes.protocol, "search_C", counted_search)


def test_a_report_computes_nothing_twice(doubled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    made = report(doubled, advice=True, audit=True)
    assert not made.figures["held_out"]
    assert sum(calls.searches.values()) == 1
    assert len(calls.checksums) == 2 * 120  # of two layers
    assert set(calls.checksums.values()) == {1}
    assert len(calls.validations) == 3 * 5  # two layers, and both together; `fit`, `audit` and the answers add none
    assert set(calls.validations.values()) == {1}


def test_a_report_on_a_split_looks_for_near_duplicates_once(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    made = report(split, advice=True, audit=True)
    assert made.figures["held_out"]
    assert sum(calls.searches.values()) == 1
    assert set(calls.checksums.values()) == {1}
    assert set(calls.validations.values()) == {1}


@pytest.mark.parametrize("verb", [compare, advise, audit, fit])
def test_each_verb_alone_computes_nothing_twice(verb: Any, split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    verb(split, cv=3)
    assert sum(calls.searches.values()) == 1
    assert set(calls.checksums.values()) == {1}
    assert set(calls.validations.values()) == {1}


def test_what_is_shared_gives_the_figures_of_each_verb_alone(split: Path) -> None:
    with TrainingData.open(split) as data:
        shared = compare(data, cv=3), fit(data, cv=3), audit(data, cv=3), advise(data, cv=3)
        model = shared[1]
        result, answers = evaluate(data, model), ask(data, model)
    alone = compare(split, cv=3), fit(split, cv=3), audit(split, cv=3), advise(split, cv=3)

    def without_seconds(values: Any) -> Any:
        if isinstance(values, dict):
            return {name: without_seconds(value) for name, value in values.items() if name != "seconds"}
        return [without_seconds(value) for value in values] if isinstance(values, list) else values

    for one, other in zip(shared, alone, strict=True):
        figures = [
            without_seconds((each.scores if isinstance(each, ProbeModel) else each).to_dict()) for each in (one, other)
        ]
        assert figures[0] == figures[1]
        assert one.notes == other.notes
    np.testing.assert_array_equal(model.coef, alone[1].coef)
    assert result.to_dict()["test_accuracy"] == model.scores["test_accuracy"] == answers.accuracies.accuracy.value
    assert result.neighbour_accuracy == answers.result.neighbour_accuracy


def test_a_comparison_has_the_folds_of_fit_where_a_split_has_near_duplicates(split: Path) -> None:
    row = compare(split, clfs=["svm"], layers="penultimate", repeats=1).probes[0]
    scores = fit(split, layers="penultimate").scores
    assert scores["n_duplicates"] == 10
    assert scores["n_test_duplicates"] == 5
    assert (row.accuracy.value, row.accuracy.interval) == (scores["cv_accuracy"], scores["cv_interval"])


def test_a_search_is_that_of_plain_arrays(tmp_path: Path) -> None:
    rows = np.arange(150)
    with TrainingData.open(
        write_codes(tmp_path / "codes.h5", rows, names(rows), ["train"] * 100 + ["test"] * 50)
    ) as data:
        groups = data.groups(guard=False)
        search = data.search("penultimate", groups=groups, clf="logreg", cv=4, seed=7, Cs=[0.01, 1.0])
        X, y = data.codes("penultimate"), data.labels
        accuracy = data.neighbour_accuracy("penultimate", groups=groups, cv=4, seed=7)
    expected = search_C(X_DIGITS[:100, 24:].astype(np.float32), y, clf="logreg", cv=4, seed=7, Cs=[0.01, 1.0])
    np.testing.assert_array_equal(search.decision, expected.decision)
    assert y.tolist() == [f"digit {label}" for label in Y_DIGITS[:100]]
    right = []
    for train, test in make_folds(y, cv=4, seed=7)[0]:
        Z = PlainShrunkScaler().fit(X[train]).transform(X)
        nearest = ((Z[test][:, None] - Z[train]) ** 2).sum(axis=2).argmin(axis=1)
        right += (y[train][nearest] == y[test]).tolist()
    assert accuracy == pytest.approx(np.mean(right))


def test_notes_of_a_kept_search_are_not_added_to_by_others(tmp_path: Path) -> None:
    rows = np.arange(60)
    with TrainingData.open(write_codes(tmp_path / "codes.h5", rows, names(rows))) as data:
        groups = data.groups(guard=False)
        first = data.search("layer1", groups=groups, cv=2)
        first.notes.append("of one caller")
        assert "of one caller" not in data.search("layer1", groups=groups, cv=2).notes


def test_a_row_that_changes_on_the_disk_is_compared_again(tmp_path: Path) -> None:
    rows = np.arange(20)
    path = write_codes(tmp_path / "codes.h5", rows, names(rows))
    with CodesFile.open(path) as file:
        before = file.codes("layer1")
        with CodesWriter(path) as writer:
            writer.write(np.array([3]), {"layer1": np.ones((1, 24), np.float32)}, np.zeros((1, 32), np.uint8))
        after = file.codes("layer1")
        assert (after[3] == 1).all()
        np.testing.assert_array_equal(np.delete(after, 3, axis=0), np.delete(before, 3, axis=0))
