"""The same image on both sides of a split flatters a score; the guard prevents it, and says by how much."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from digit_codes import DESCRIPTION

import cnncodes.probes.guard
from cnncodes import audit, compare, evaluate, extract, fit
from cnncodes.cli.main import main
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import ProbeError, SettingError
from cnncodes.images.loading import ImageSet
from cnncodes.models.model import ProbeModel
from cnncodes.neighbours.duplicates import NO_THUMBNAILS
from cnncodes.pages.answers import Answers, ask
from cnncodes.probes.guard import Guard
from cnncodes.probes.intervals import paired_interval, wilson_interval
from cnncodes.probes.scores import score
from cnncodes.probes.search import search_C

N, N_FEATURES = 60, 200
MEMORISING = 10.0  # a C that learns each training image by heart


def write_codes(
    path: Path, X: np.ndarray, labels: list[str], splits: list[str] | None = None, groups: list[str] | None = None
) -> Path:
    layers = {"penultimate": {"n_features": X.shape[1], "pooling": "avg", "map_shape": [X.shape[1]]}}
    description = {**DESCRIPTION, "layers": layers}
    ids = [f"{row:04}.png" for row in range(len(X))]
    CodesWriter.create(path, ImageTable(ids, labels, groups, splits), Provenance.from_dict(description))
    digests = np.random.default_rng(1).integers(0, 256, (len(X), 32), dtype=np.uint8)
    with CodesWriter(path) as file:
        file.write(np.arange(len(X)), {"penultimate": X.astype(np.float32)}, digests)
    return path


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """Noise with labels by the toss of a coin; each image is there twice, hardly changed."""
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(N, N_FEATURES)), rng.choice(["heads", "tails"], N).tolist()
    return write_codes(tmp_path / "codes.h5", np.concatenate([X, X + 0.1 * rng.normal(size=X.shape)]), labels + labels)


def test_duplicates_do_not_flatter_cross_validation(doubled: Path) -> None:
    plain = fit(doubled, C=MEMORISING, guard=False)
    assert plain.scores["cv_accuracy"] > 0.8  # of the toss of a coin
    assert "n_duplicates" not in plain.scores
    guarded = fit(doubled, C=MEMORISING)
    assert guarded.scores["cv_accuracy"] < 0.65
    assert guarded.scores["n_duplicates"] == 2 * N
    assert guarded.scores["unguarded_accuracy"] == plain.scores["cv_accuracy"]
    assert any(f"{2 * N} training images are near-duplicates" in note for note in guarded.notes)
    assert fit(doubled, C=MEMORISING, nested=True).scores["nested_accuracy"] < 0.65


def test_where_duplicates_flatter_nothing_the_accuracy_is_told_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    side = np.repeat([0.0, 4.0], N // 2)  # far apart: all are right, with copies and without
    X = rng.normal(size=(N, N_FEATURES)) + side[:, None]
    labels = np.where(side > 0, "heads", "tails").tolist()
    both = np.concatenate([X, X + 0.1 * rng.normal(size=X.shape)])
    model = fit(write_codes(tmp_path / "codes.h5", both, labels + labels), C=0.01)
    assert model.scores["unguarded_accuracy"] == model.scores["cv_accuracy"] == 1
    (note,) = (note for note in model.notes if "near-duplicates of others" in note)
    assert note.endswith("the accuracy would look the same, 100.0 %")


def test_one_held_out_copy_is_told_in_the_singular(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N + 5, N_FEATURES))
    copy = X[:1] + 0.1 * rng.normal(size=(1, N_FEATURES))
    labels = rng.choice(["heads", "tails"], N + 5).tolist()
    splits = ["train"] * N + ["test"] * 6
    model = fit(write_codes(tmp_path / "codes.h5", np.concatenate([X, copy]), labels + labels[:1], splits), C=0.01)
    assert model.scores["n_test_duplicates"] == 1
    assert any(note.startswith("1 held-out image is left out of the score") for note in model.notes)


def test_duplicates_do_not_flatter_a_comparison(doubled: Path) -> None:
    options = {"clfs": ["svm"], "cv": 5, "repeats": 1}
    guarded, plain = (compare(doubled, guard=guard, **options).rows[0].accuracy.value for guard in (True, False))
    assert plain > 0.8
    assert guarded < 0.65


def test_held_out_duplicates_of_training_images_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N + 20, N_FEATURES))
    copies = X[:15] + 0.1 * rng.normal(size=(15, N_FEATURES))
    labels = rng.choice(["heads", "tails"], N + 20)
    path = write_codes(
        tmp_path / "codes.h5",
        np.concatenate([X, copies]),
        [*labels.tolist(), *labels[:15].tolist()],
        ["train"] * N + ["test"] * 35,
    )
    model = fit(path, C=0.01)
    assert (model.scores["n_test"], model.scores["n_test_duplicates"], model.scores["n_duplicates"]) == (20, 15, 0)
    assert any("15 held-out images are left out" in note for note in model.notes)
    assert "unguarded_accuracy" not in model.scores
    flattered = fit(path, C=0.01, guard=False).scores["test_accuracy"]
    assert model.scores["unguarded_test_accuracy"] == pytest.approx(flattered)
    assert any(f"would look like {100 * flattered:.1f} %, and not" in note for note in model.notes)
    expected = np.mean(model.predict(X[N:].astype(np.float32)) == labels[N:])
    assert model.scores["test_accuracy"] == expected
    assert fit(path, C=0.01, guard=False).scores["n_test"] == 35
    assert len(evaluate(path, model).y) == 20
    assert not any("baseline" in note for note in evaluate(path, model).notes)
    assert len(evaluate(path, model, guard=False).y) == 35


@pytest.fixture
def only_copies(tmp_path: Path) -> Path:
    """All held-out images are among the training images."""
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(N, N_FEATURES)), rng.choice(["heads", "tails"], N).tolist()
    copies = X[:20] + 0.1 * rng.normal(size=(20, N_FEATURES))
    splits = ["train"] * N + ["test"] * 20
    return write_codes(tmp_path / "codes.h5", np.concatenate([X, copies]), labels + labels[:20], splits)


def test_where_only_copies_are_held_out_no_score_is_left_and_fit_says_so(only_copies: Path, tmp_path: Path) -> None:
    flattered = fit(only_copies, C=MEMORISING, guard=False).scores["test_accuracy"]
    assert flattered == 1.0
    words = ["fit", str(only_copies), "-C", str(MEMORISING), "-o", str(tmp_path / "model.safetensors")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "would look like 100.0 %; without them, none is left" in " ".join(result.stderr.split())
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("near-duplicates"))
    assert "0 images; 20 held-out ones left out" in line
    assert "look like 100.0 %; none is left, so there is no held-out accuracy" in line
    assert "held-out accuracy  " not in result.stdout
    scores = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert (scores["n_test_duplicates"], scores["unguarded_test_accuracy"]) == (20, 1.0)
    assert "test_accuracy" not in scores


def test_where_only_copies_are_held_out_nothing_is_evaluated(only_copies: Path) -> None:
    model = fit(only_copies, C=0.01)
    with pytest.raises(ProbeError, match=r"all 20 held-out images are near-duplicates.*guard=False"):
        evaluate(only_copies, model)
    assert len(evaluate(only_copies, model, guard=False).y) == 20


def test_guard_that_does_not_look_at_codes_says_so(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(N, 20))
    path = write_codes(tmp_path / "codes.h5", X, ["heads", "tails"] * (N // 2))
    result = CliRunner().invoke(main, ["fit", str(path), "-C", "0.01", "-o", str(tmp_path / "model.safetensors")])
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("near-duplicates"))
    assert line.endswith("not looked for by codes (exact copies only): 0 images")


def test_notes_of_the_search_without_the_guard_are_handed_on(doubled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = cnncodes.probes.guard.search_C

    def noting(*arguments: Any, **options: Any) -> Any:
        found = search(*arguments, **options)
        found.notes.append("it did not converge")
        return found

    monkeypatch.setattr(cnncodes.probes.guard, "search_C", noting)
    assert "without the guard: it did not converge" in fit(doubled, C=0.01).notes


def test_only_errors_about_folds_speak_of_near_duplicates(doubled: Path) -> None:
    for C, message in ((np.inf, "finite"), (1e300, "from 1e-12 to 1e\\+12")):
        with pytest.raises(SettingError, match=message) as caught:
            fit(doubled, C=C)
        assert "near-duplicates" not in str(caught.value)


def test_a_class_that_is_one_image_twice_is_learned_and_counts_in_no_score(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(N, N_FEATURES))
    X[1] = X[0] + 0.01
    path = write_codes(tmp_path / "codes.h5", X, ["rare"] * 2 + ["heads", "tails"] * (N // 2 - 1))
    model = fit(path, C=0.01)
    assert model.classes == ["heads", "rare", "tails"]
    assert (model.scores["n"], model.scores["n_cv"], model.scores["n_duplicates"]) == (N, N - 2, 2)
    assert "the class 'rare' has near-duplicates only, which cannot be" in "".join(model.notes)
    unguarded = fit(path, C=0.01, guard=False)
    assert (unguarded.scores["n_cv"], [note for note in unguarded.notes if "'rare' has near" in note]) == (N, [])


def test_where_all_classes_but_one_are_copies_the_error_says_how_to_go_on(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(N, N_FEATURES))
    X[1] = X[0] + 0.01
    path = write_codes(tmp_path / "codes.h5", X, ["rare"] * 2 + ["heads"] * (N - 2))
    with pytest.raises(ProbeError, match=r"'rare' has near-duplicates.*add other images.*\(guard=False takes each"):
        fit(path, C=0.01)
    assert fit(path, C=0.01, guard=False).scores["n"] == N


def test_without_duplicates_the_guard_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write_codes(
        tmp_path / "codes.h5",
        rng.normal(size=(N, N_FEATURES)),
        ["heads", "tails"] * (N // 2),
        groups=[f"g{i // 3}" if i < 30 else "" for i in range(N)],
    )
    guarded, plain = fit(path, C=0.01), fit(path, C=0.01, guard=False)
    assert guarded.scores["n_duplicates"] == 0
    assert guarded.scores["cv_accuracy"] == plain.scores["cv_accuracy"]
    assert guarded.notes == [NO_THUMBNAILS, *plain.notes]
    (note,) = (note for note in evaluate(path, plain).notes if "nearest-neighbour baseline" in note)
    assert "training and held-out images" in note


N_PATIENTS, OF_PATIENT = 8, 12


def patients(path: Path, shared: int, alone: int = 0) -> Path:
    """Images that tell the patient and little more: a label by patient, and a new split of the first `shared` of them.

    Parameters
    ----------
    shared : int
        Patients with 8 training images and 4 held-out ones.
    alone : int
        Patients with held-out images only; the others have training images only.
    """
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(N_PATIENTS + alone), OF_PATIENT)
    look = rng.normal(size=(N_PATIENTS + alone, N_FEATURES))
    X = look[patient] + 0.8 * rng.normal(size=(len(patient), N_FEATURES))
    held_out = (patient < shared) & (np.arange(len(patient)) % OF_PATIENT >= 8) | (patient >= N_PATIENTS)
    return write_codes(
        path,
        X,
        np.where(patient % 2, "ill", "well").tolist(),
        np.where(held_out, "test", "train").tolist(),
        [f"p{number}" for number in patient],
    )


def test_a_group_on_both_sides_of_the_split_counts_in_no_score(tmp_path: Path) -> None:
    path = patients(tmp_path / "codes.h5", shared=N_PATIENTS, alone=2)
    model = fit(path, C=0.01, cv=4)
    assert (model.scores["n_test"], model.scores["n_test_grouped"]) == (24, 32)
    X, y, groups = _held_out(path)
    right = model.predict(X) == y
    alone = np.isin(groups, ["p8", "p9"])
    assert model.scores["test_accuracy"] == right[alone].mean() < 0.8
    assert right[~alone].mean() == 1.0  # each patient was learned by heart
    assert model.scores["ungrouped_test_accuracy"] == pytest.approx(right.mean())
    said = "32 held-out images of 8 groups that have training images, too ('p0', 'p1', 'p2' and 5 more)"
    assert f"left out of the held-out score: {said}" in model.notes
    words = f"would look like {100 * right.mean():.1f} %, and not {100 * right[alone].mean():.1f} %"
    assert any(
        note.startswith("with the held-out images that share a group") and note.endswith(words) for note in model.notes
    )

    plain = fit(path, C=0.01, cv=4, guard=False).scores  # groups are what the user says, not what the guard finds
    assert (plain["n_test"], plain["n_test_grouped"]) == (24, 32)
    assert plain["test_accuracy"] == model.scores["test_accuracy"]
    for guard in (True, False):
        result = evaluate(path, model, guard=guard)
        assert (len(result.y), result.n_grouped, result.to_dict()["n_test_grouped"]) == (24, 32, 32)
        assert result.to_dict()["test_accuracy"] == model.scores["test_accuracy"]
        assert f"left out of the held-out score: {said}" in result.notes
    answers = _answers(path, model)
    assert (len(answers.rows), answers.accuracies.accuracy.value) == (24, model.scores["test_accuracy"])
    assert any(said in note for note in answers.notes)
    assert any(said in note for note in compare(path, clfs=["svm"], repeats=1, cv=4).notes)
    assert any(said in note for note in audit(path, cv=4).notes)


def test_images_of_a_group_count_together_in_every_interval(tmp_path: Path) -> None:
    path = patients(tmp_path / "codes.h5", shared=0, alone=6)
    model = fit(path, C=0.01, cv=4)
    X, y, groups = _held_out(path)
    assert len(set(groups)) == 6
    expected = score(y, model.predict(X), groups=groups)
    low, high = wilson_interval(model.scores["test_accuracy"] * len(y), len(y))
    assert expected.accuracy.high - expected.accuracy.low > 2 * (high - low)
    for scores in (model.scores, evaluate(path, model).to_dict()):
        assert scores["test_interval"] == expected.accuracy.interval
        assert scores["test_balanced_interval"] == expected.balanced.interval
    assert _answers(path, model).accuracies == expected

    whole = patients(tmp_path / "whole.h5", shared=0)
    model, comparison = fit(whole, C=0.01, cv=4), compare(whole, clfs=["svm"], cv=4, repeats=1)
    assert _answers(whole, model).accuracies == model.scores.cross_validated
    low, high = model.scores["cv_interval"]
    by_images = wilson_interval(model.scores["cv_accuracy"] * 96, 96)
    assert high - low > 2 * (by_images[1] - by_images[0])
    (row,) = (row for row in comparison.rows if row.clf == "svm")
    assert row.accuracy.interval == pytest.approx(fit(whole, cv=4).scores["cv_interval"])
    other = replace(row, clf="logreg")
    comparison.shares = {row.key: np.ones(96), other.key: np.repeat([0.0, 1.0], 48)}  # wrong for four patients
    low, high = comparison.interval(row, other)
    assert high - low > 2 * np.diff(paired_interval(comparison.shares[row.key], comparison.shares[other.key]))[0]


def _answers(path: Path, model: ProbeModel) -> Answers:
    with CodesFile.open(path) as file:
        return ask(file, model)


def _held_out(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with CodesFile.open(path) as file:
        rows = file.rows("test")
        return file.codes("penultimate", rows), file.labels[rows], file.groups[rows]


def test_where_all_groups_are_on_both_sides_there_is_no_held_out_score(tmp_path: Path) -> None:
    path = patients(tmp_path / "codes.h5", shared=N_PATIENTS)
    words = ["fit", str(path), "-C", "0.01", "--cv", "4", "-o", str(tmp_path / "model.safetensors")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("groups in train and test"))
    assert line.endswith(
        "32 held-out ones left out, with which held-out accuracy would look like 100.0 %; none is left, so there is no "
        "held-out accuracy"
    )
    assert "would look like 100.0 %; without them, none is left" in " ".join(result.stderr.split())
    assert "held-out accuracy  " not in result.stdout
    scores = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert (scores["n_test_grouped"], scores["ungrouped_test_accuracy"]) == (32, 1.0)
    assert "test_accuracy" not in scores
    model = fit(path, C=0.01, cv=4)
    for guard in (True, False):
        with pytest.raises(
            ProbeError, match=r"all 32 held-out images are of groups that have training.*split by group"
        ):
            evaluate(path, model, guard=guard)
    answers = _answers(path, model)
    assert not answers.held_out
    assert len(answers.rows) == 64
    assert answers.accuracies.accuracy.value == model.scores["cv_accuracy"]  # cross-validated with whole groups


def test_groups_on_one_side_change_nothing(tmp_path: Path) -> None:
    path = patients(tmp_path / "codes.h5", shared=0, alone=3)
    model = fit(path, C=0.01, cv=4)
    assert (model.scores["n_test"], model.scores["n_test_grouped"]) == (36, 0)
    assert "ungrouped_test_accuracy" not in model.scores
    assert not [note for note in model.notes + audit(path, cv=4).notes if "group" in note]
    assert evaluate(path, model).n_grouped == 0


def test_images_without_a_group_are_of_no_common_group(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(N, N_FEATURES))
    groups = ["g"] * 4 + [""] * 52 + ["g"] * 4
    path = write_codes(tmp_path / "codes.h5", X, ["heads", "tails"] * (N // 2), ["train"] * 40 + ["test"] * 20, groups)
    model = fit(path, C=0.01)
    assert (model.scores["n_test"], model.scores["n_test_grouped"]) == (16, 4)
    assert any("4 held-out images of 1 group that has training images, too ('g')" in note for note in model.notes)


def test_group_mates_of_images_that_the_model_was_fitted_on_are_not_scored(tmp_path: Path) -> None:
    """Without a split in the file that is evaluated: which images were fitted on is known by their content."""
    both = patients(tmp_path / "codes.h5", shared=N_PATIENTS, alone=2)
    model = fit(both, C=0.01, cv=4)
    with CodesFile.open(both) as file:
        X, labels, groups = file.codes("penultimate"), file.labels.tolist(), file.groups.tolist()
    whole = write_codes(tmp_path / "whole.h5", X, labels, None, groups)  # the same digests
    result = evaluate(whole, model)
    assert (len(result.y), result.n_seen, result.n_grouped) == (24, 64, 32)
    assert result.to_dict()["test_accuracy"] == model.scores["test_accuracy"]
    assert any("left out of the score: 32 held-out images of 8 groups" in note for note in result.notes)
    answers = _answers(whole, model)
    assert (len(answers.rows), answers.accuracies.accuracy.value) == (24, model.scores["test_accuracy"])
    known = write_codes(tmp_path / "known.h5", X[:96], labels[:96], None, groups[:96])
    with pytest.raises(ProbeError, match="fitted on 64 of these images, and the other 32 are of their groups"):
        evaluate(known, model)
    assert not _answers(known, model).held_out


def test_group_mates_among_images_are_not_scored(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (20, 16, 16, 3), dtype=np.uint8)
    pixels[::2] += 100
    groups = [f"g{number // 4}" for number in range(20)]
    images = ImageSet([str(i) for i in range(20)], list(pixels), ["light", "dark"] * 10, groups)
    extract(images.take([0, 1, 4, 5, 8, 9]), tmp_path / "codes.h5", layers=["layer1"])
    model = fit(tmp_path / "codes.h5", layers="layer1", C=1.0, cv=3)
    result = evaluate(images, model)
    assert (len(result.y), result.n_seen, result.n_grouped) == (8, 6, 6)  # g3 and g4 are new
    assert any(
        "6 held-out images of 3 groups that have training images, too ('g0', 'g1'" in one for one in result.notes
    )


@pytest.mark.parametrize(("n", "measured"), [(2_000, True), (2_001, False)])
def test_too_few_duplicates_to_be_seen_are_counted_and_cost_no_fits(n: int, measured: bool) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, 5)), np.arange(n) % 2
    X[:, 0] += 3 * y
    groups = np.array([f"{i}" for i in range(n)], dtype=object)
    groups[1] = groups[3] = "pair"
    duplicated = np.isin(np.arange(n), [1, 3])
    guard = Guard(groups, np.full(n, ""), duplicated, np.zeros(0, bool), [])
    search = search_C(X, y, Cs=[0.1], groups=groups)
    figures, notes = guard.measure(X, y, search)
    assert figures["n_duplicates"] == 2
    assert ("unguarded_accuracy" in figures) == measured
    assert ("differ by less than 0.1 points" in notes[-1]) != measured
