"""The same image on both sides of a split flatters a score; the guard prevents it, and says by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnncodes import compare, evaluate, fit
from cnncodes.codes import ImageTable
from cnncodes.codes_writer import CodesWriter
from cnncodes.errors import ProbeError

N, N_FEATURES = 60, 200


def write_codes(
    path: Path, X: np.ndarray, labels: list[str], splits: list[str] | None = None, groups: list[str] | None = None
) -> Path:
    layers = {"penultimate": {"n_features": X.shape[1], "pooling": "avg", "map_shape": [X.shape[1]]}}
    description = {
        "backbone": "tiny",
        "layers": layers,
        "preprocessing": {},
        "weights_sha256": "0",
        "precision": "fp32",
        "pooling": "avg",
    }
    ids = [f"{row:04}.png" for row in range(len(X))]
    CodesWriter.create(path, ImageTable(ids, labels, groups, splits), description)
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
    plain = fit(doubled, C=0.01, guard=False)
    assert plain.scores["cv_accuracy"] > 0.8  # of the toss of a coin
    assert "n_duplicates" not in plain.scores
    guarded = fit(doubled, C=0.01)
    assert guarded.scores["cv_accuracy"] < 0.65
    assert guarded.scores["n_duplicates"] == 2 * N
    assert guarded.scores["unguarded_accuracy"] == plain.scores["cv_accuracy"]
    assert any(f"{2 * N} training images are near-duplicates" in note for note in guarded.notes)
    assert fit(doubled, C=0.01, nested=True).scores["nested_accuracy"] < 0.65


def test_where_duplicates_flatter_nothing_the_accuracy_is_told_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    side = np.repeat([0.0, 4.0], N // 2)  # far apart: all are right, with copies and without
    X = rng.normal(size=(N, N_FEATURES)) + side[:, None]
    labels = np.where(side > 0, "heads", "tails").tolist()
    both = np.concatenate([X, X + 0.1 * rng.normal(size=X.shape)])
    model = fit(write_codes(tmp_path / "codes.h5", both, labels + labels), C=0.01)
    assert model.scores["unguarded_accuracy"] == model.scores["cv_accuracy"] == 1
    (note,) = (note for note in model.notes if "near-duplicates" in note)
    assert note.endswith("the accuracy would look the same, 100.0 %")


def test_duplicates_do_not_flatter_a_comparison(doubled: Path) -> None:
    options = {"clfs": ["svm"], "cv": 5, "repeats": 1}
    guarded, plain = (compare(doubled, guard=guard, **options).rows[0]["cv_accuracy"] for guard in (True, False))
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
    expected = np.mean(model.predict(X[N:].astype(np.float32)) == labels[N:])
    assert model.scores["test_accuracy"] == expected
    assert fit(path, C=0.01, guard=False).scores["n_test"] == 35
    assert len(evaluate(path, model).y) == 20
    assert len(evaluate(path, model, guard=False).y) == 35


def test_a_class_that_is_one_image_twice_says_how_to_go_on(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(N, N_FEATURES))
    X[1] = X[0] + 0.01
    path = write_codes(tmp_path / "codes.h5", X, ["rare"] * 2 + ["heads", "tails"] * (N // 2 - 1))
    with pytest.raises(ProbeError, match=r"'rare' has one group only.*near-duplicates count as one group; --no-guard"):
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
    assert guarded.notes == plain.notes
