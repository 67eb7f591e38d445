"""The audit finds what was planted: wrong labels, duplicates, outliers, broken files, imbalance."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from cnncodes import audit, extract
from cnncodes.cli.main import main
from cnncodes.insight.audit import FIELDS, Audit
from cnncodes.insight.label_errors import find_label_errors
from cnncodes.insight.suspects import SAMPLE_ROWS, Suspect, out_of_fold
from cnncodes.probes.calibration import softmax


@pytest.mark.parametrize("seed", range(5))
def test_suspects_are_those_of_cleanlab(seed: int) -> None:
    filters = pytest.importorskip("cleanlab.filter")
    X, truth = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(X), 500, replace=False)
    given = truth[rows].copy()
    wrong = rng.choice(500, 30, replace=False)
    given[wrong] = (given[wrong] + rng.integers(1, 10, 30)) % 10
    model = LogisticRegression(C=0.001, max_iter=500)
    probabilities = cross_val_predict(model, X[rows], given, cv=3, method="predict_proba")
    expected = filters.find_label_issues(given, probabilities, filter_by="low_self_confidence", n_jobs=1)
    found = find_label_errors(given, probabilities)
    assert sorted(found.tolist()) == np.flatnonzero(expected).tolist()
    own = probabilities[np.arange(500), given]
    assert (np.diff(own[found]) >= 0).all()
    assert np.isin(found, wrong).mean() > 0.5


def test_of_many_images_a_sample_says_which_C_and_all_are_judged() -> None:
    X, truth = load_digits(return_X_y=True)
    shares = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        given = truth.copy()
        wrong = rng.choice(len(X), 90, replace=False)
        given[wrong] = (given[wrong] + rng.integers(1, 10, 90)) % 10
        search = out_of_fold(X.astype(np.float32), given)
        assert search.Cs.shape == (1,)
        assert sorted(np.concatenate([test for _, test in search.folds]).tolist()) == list(range(len(X)))
        found = find_label_errors(given, softmax(search.decision, search.temperature))
        shares.append((np.isin(wrong, found).mean(), np.isin(found, wrong).mean()))
    assert np.mean(shares, axis=0)[0] > 0.8
    assert np.min(shares, axis=0)[1] > 0.9
    some = rng.choice(len(X), SAMPLE_ROWS, replace=False)
    assert len(out_of_fold(X[some].astype(np.float32), given[some]).Cs) == 45


def test_the_sample_has_some_of_each_of_many_classes() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(150), 12)
    X = rng.normal(size=(150, 20))[y] + 0.3 * rng.normal(size=(len(y), 20))
    search = out_of_fold(X.astype(np.float32), y, groups=np.arange(len(y)).astype(str))
    assert search.Cs.shape == (1,)
    assert np.mean(search.predictions == y) > 0.95


def test_all_images_are_searched_where_the_sample_lacks_a_group() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(["many", "few"], [1400, 12])
    X = rng.normal(size=(len(y), 5)).astype(np.float32) + (y == "few")[:, None]
    groups = np.arange(len(y)).astype(str)
    groups[1400:1411] = "a flock"
    for seed in range(5):  # in some samples the only other one is left out
        assert len(out_of_fold(X, y, groups, seed=seed).predictions) == len(y)


@pytest.fixture(scope="module")
def planted(small_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sample with two swapped labels, a copy in another split, a copy in another class, and a broken image."""
    root = tmp_path_factory.mktemp("audit")
    images = root / "images"
    shutil.copytree(small_sample, images)
    bag, sandal, trouser = (sorted((images / "train" / name).iterdir()) for name in ("Bag", "Sandal", "Trouser"))
    bag[0].rename(images / "train" / "Trouser" / "bag.png")
    trouser[0].rename(images / "train" / "Bag" / "trouser.png")
    shutil.copy(sandal[1], images / "test" / "Sandal" / "again.png")
    with Image.open(sandal[2]) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(images / "train" / "Bag" / "mirrored.png")
    (images / "train" / "Bag" / "broken.png").write_bytes(b"")
    codes = root / "codes.h5"
    extract(images, codes, layers=["penultimate"], resize="squash")
    return codes, images


def test_what_was_planted_is_found(planted: tuple[Path, Path]) -> None:
    found = audit(*planted, clf="logreg")
    assert found.n == 47
    assert found.classes == {"Sandal": 16, "Bag": 16, "Trouser": 15}
    wrong = {row.id: row.suggested for row in found.suspects}
    expected = {"Trouser/bag.png": "Bag", "Bag/trouser.png": "Trouser", "Bag/mirrored.png": "Sandal"}
    assert wrong.items() <= {f"train/{name}": label for name, label in expected.items()}.items()
    assert len(wrong) >= 2  # of so few images, the third is a near miss on some processors
    assert all(row.label_confidence < row.confidence < 1 for row in found.suspects)
    exact = [row for row in found.duplicates if row.kind == "exact"]
    assert [(row.across_splits, row.across_classes, row.similarity) for row in exact] == [(True, False, 1.0)]
    mirrored = [row for row in found.duplicates if "train/Bag/mirrored.png" in (row.id, row.other)]
    assert [(row.kind, row.across_classes) for row in mirrored] == [("near", True)]
    assert found.duplicates == mirrored + exact  # across classes first
    assert [row.id for row in found.unreadable] == ["train/Bag/broken.png"]
    assert "empty" in found.unreadable[0].reason
    assert 0.8 < found.accuracy < 1


def test_the_table_has_a_row_for_each_finding(planted: tuple[Path, Path]) -> None:
    found = audit(*planted)
    frame = found.to_frame()
    assert list(frame.columns) == list(FIELDS)
    assert len(frame) == sum(map(len, (found.suspects, found.duplicates, found.outliers, found.unreadable)))
    assert {"suspect label", "exact duplicate", "near duplicate", "unreadable"} <= set(frame["kind"])


def test_the_command_writes_what_python_gives(planted: tuple[Path, Path], tmp_path: Path) -> None:
    codes, images = map(str, planted)
    result = CliRunner().invoke(main, ["audit", codes, images, "--json", "-o", str(tmp_path / "audit.csv")])
    assert result.exit_code == 0, result.output
    expected = audit(codes, images)
    assert json.loads(result.stdout) == json.loads(json.dumps(expected.to_dict()))
    with (tmp_path / "audit.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["kind"], row["id"]) for row in rows] == [(row["kind"], row["id"]) for row in expected.findings()]
    shown = CliRunner().invoke(main, ["audit", codes, images, "--clf", "logreg"]).stdout
    assert "train/Trouser/bag.png" in shown
    assert "unreadable images: 1" in shown
    accuracy = audit(codes, images, clf="logreg").accuracy
    assert f"out-of-fold accuracy {100 * accuracy:.1f} % (logreg on penultimate)" in shown
    assert f"always the most frequent class: {100 * 16 / 47:.1f} %" in shown


def test_a_photograph_among_clothes_is_an_outlier_and_labels_are_not_needed(small_sample: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in small_sample.rglob("*.png"):
        shutil.copy(path, images / "-".join(path.parts[-3:]))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "noise.png")
    extract(images, tmp_path / "codes.h5", layers=["penultimate"])
    found = audit(tmp_path / "codes.h5")
    assert (found.n, found.classes, found.accuracy, found.suspects) == (46, {}, None, [])
    assert found.imbalance == 1
    assert any("suspect labels are not looked for" in note for note in found.notes)
    assert [row.id for row in found.outliers][:1] == ["noise.png"]
    assert len(found.outliers) <= 2


def test_a_classifier_that_cannot_tell_suspects_nothing(small_sample: Path, tmp_path: Path) -> None:
    for name in ("Bag", "Sandal"):
        (tmp_path / "images" / name).mkdir(parents=True)
    for i, path in enumerate(sorted((small_sample / "train").rglob("*.png"))[:20]):  # labels at random
        shutil.copy(path, tmp_path / "images" / ("Bag", "Sandal")[i % 2])
    extract(tmp_path / "images", tmp_path / "codes.h5", layers=["penultimate"])
    found = audit(tmp_path / "codes.h5")
    assert found.accuracy < 0.75
    assert found.baseline_accuracy == 0.5
    assert found.suspects == []
    assert any("not significantly more than the 50.0% of the most frequent class" in note for note in found.notes)


def test_imbalance_is_noted(small_sample: Path, tmp_path: Path) -> None:
    for name, count in (("Bag", 10), ("Sandal", 1)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for path in sorted((small_sample / "train" / name).iterdir())[:count]:
            shutil.copy(path, tmp_path / "images" / name)
    extract(tmp_path / "images", tmp_path / "codes.h5", layers=["penultimate"])
    found = audit(tmp_path / "codes.h5")
    assert found.imbalance == 10
    assert any("10 images of 'Bag', 1 of 'Sandal'" in note for note in found.notes)
    assert any("suspect labels are not looked for" in note for note in found.notes)


def test_a_notebook_shows_what_was_found(planted: tuple[Path, Path], tmp_path: Path) -> None:
    found = audit(*planted)
    shown = found._repr_html_()
    assert f"{found.n} images. suspect label: {len(found.suspects)}, " in shown
    assert f"<td>{found.suspects[0].id}</td>" in shown
    assert "<td>train/Bag/broken.png</td>" in shown
    markup = "<b>$x$</b>"
    suspects = [Suspect(f"{i}.png", markup, markup, markup, 0.5, 0.1) for i in range(99)]
    many = Audit(99, {markup: 99}, suspects=suspects)
    shown = many._repr_html_()
    assert shown.count("&lt;b&gt;$x$&lt;/b&gt;") == 3 * 10
    assert "<b>" not in shown
    assert "suspect label: 99; the first 10 of each kind are shown" in shown
    assert "nothing found" in Audit(3, {})._repr_html_()
    many.plot().figure.savefig(tmp_path / "plot.svg")


def test_the_plot_counts_images_and_suspects_of_each_class(planted: tuple[Path, Path]) -> None:
    found = audit(*planted)
    ax = found.plot()
    names = [label.get_text() for label in ax.get_yticklabels()]
    suspects, others = ([bar.get_width() for bar in bars] for bars in ax.containers)
    assert names == list(found.classes)
    assert [a + b for a, b in zip(suspects, others, strict=True)] == list(found.classes.values())
    assert sum(suspects) == len(found.suspects) > 0
