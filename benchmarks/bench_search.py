"""Does the search over C choose what all its values would have chosen, and is the classifier as good?

    python benchmarks/bench_search.py

Draws small sets of 30 to 250 images in two to seven classes at random, from Fashion-MNIST (of Debian's package
dataset-fashion-mnist) and from scikit-learn's digits, whose codes are extracted once and kept in the work folder. For
each set and classifier it chooses C as `cnncodes fit` does, and by trying all 45 values, each solved on each fold to
the tolerance of a fit that is kept. Printed are how often both are the same or within one step of the grid, the
accuracy on up to 2,000 other images, and the seconds of processor.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench_fashion_mnist import SOURCE, describe_machine, read_split
from sklearn.datasets import load_digits

from cnncodes import CodesFile, extract
from cnncodes.probes.calibration import brier_score, fit_temperature
from cnncodes.probes.choice import best_probabilities
from cnncodes.probes.decision_values import winner
from cnncodes.probes.folds import make_folds
from cnncodes.probes.out_of_fold import FoldByFold
from cnncodes.probes.probe import MAX_ITER, make_probe, usual_C
from cnncodes.probes.search import C_GRID, search_C
from cnncodes.solvers.threads import one_thread
from cnncodes.vocabulary import DEFAULT_SCALING

LAYERS = "penultimate", "layer3", "penultimate", "layer2"  # in turn
SIZES = 30, 60, 120, 250
TEST_IMAGES = 2000
FASHION_IMAGES = 12_000
SIDE = 96  # pixels
STEP = np.log(C_GRID[1] / C_GRID[0])


class Draw(NamedTuple):
    """One set: what the search and all values choose, the accuracy of that on other images, and seconds."""

    C: float
    C_of_all: float
    accuracy: float
    accuracy_of_all: float
    seconds: float
    seconds_of_all: float


def make_codes(folder: Path) -> list[Path]:
    images, labels = read_split(SOURCE, "train", FASHION_IMAGES)
    digits = load_digits()
    sets = {"fashion": (images, labels), "digits": ((digits.images * 15.9).astype(np.uint8), digits.target)}
    for name, (grey, classes) in sets.items():
        rgb = np.repeat(np.asarray(grey).reshape(len(grey), *grey.shape[1:3], 1), 3, axis=3)
        extract(rgb, folder / f"{name}.h5", labels=[str(label) for label in classes], image_size=SIDE)
    return [folder / f"{name}.h5" for name in sets]


def draw_sets(paths: list[Path], draws: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]]:
    """Yield codes and labels to fit to, codes and labels to test on, and a seed."""
    rng = np.random.default_rng(0)
    files = [CodesFile.open(path) for path in paths]
    for seed in range(draws):
        layer = LAYERS[seed % len(LAYERS)]
        for file in files:
            X, y = file.codes(layer), file.labels
            for n in SIZES:
                classes = rng.choice(np.unique(y), rng.integers(2, 8), replace=False)
                rows = rng.permutation(np.flatnonzero(np.isin(y, classes)))
                train, test = np.sort(rows[:n]), rows[n : n + TEST_IMAGES]
                counts = np.unique(y[train], return_counts=True)[1]
                if len(test) >= n and len(counts) == len(classes) and counts.min() >= 3:
                    yield X[train], y[train], X[test], y[test], seed


def choose_of_all(X: np.ndarray, y: np.ndarray, clf: str, seed: int) -> float:
    folds, _ = make_folds(y, seed=seed)
    options: dict[str, Any] = {"clf": clf, "scale": DEFAULT_SCALING, "class_weight": None, "max_iter": MAX_ITER}
    every = FoldByFold(X, y, folds, tol=1e-5, n_jobs=None, **options)
    decisions, _ = every.decide(C_GRID.tolist(), exact=True, n_folds=len(folds))
    truth = np.unique(y, return_inverse=True)[1]
    accuracy = np.array([np.mean(winner(values) == truth) for values in decisions])
    brier = np.array([brier_score(values, truth, fit_temperature(values, truth)) for values in decisions])
    return float(C_GRID[best_probabilities(accuracy, brier, len(y), np.log10(C_GRID / usual_C(X, clf)))])


def one_draw(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, seed: int, clf: str) -> Draw:
    began = time.process_time()
    C = search_C(X, y, clf=clf, seed=seed).C
    between = time.process_time()
    C_of_all = choose_of_all(X, y, clf, seed)
    ended = time.process_time()
    scores = [make_probe(clf, C=value).fit(X, y).score(X_test, y_test) for value in (C, C_of_all)]
    return Draw(C, C_of_all, *scores, between - began, ended - between)


def report(clf: str, draws: list[Draw]) -> str:
    steps = np.array([abs(np.log(draw.C / draw.C_of_all)) / STEP for draw in draws])
    gain = 100 * np.array([draw.accuracy - draw.accuracy_of_all for draw in draws])
    cells = [
        clf,
        str(len(draws)),
        f"{np.mean(steps < 0.5):.3f}",
        f"{np.mean(steps < 1.5):.3f}",
        f"{np.mean([draw.accuracy for draw in draws]):.4f}",
        f"{np.mean([draw.accuracy_of_all for draw in draws]):.4f}",
        f"{gain.mean():+.3f} ± {gain.std() / np.sqrt(len(gain)):.3f}",
        f"{np.mean([draw.seconds for draw in draws]):.3f}",
        f"{np.mean([draw.seconds_of_all for draw in draws]):.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-work/search"), help="where codes are kept")
    parser.add_argument("--draws", type=int, default=30, help="of each size from each file (default: 30)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    paths = make_codes(options.folder)
    columns = ["classifier", "sets", "same C", "within a step", "accuracy", "of all values", "difference, points"]
    columns += ["s of processor", "of all values"]
    print(f"| {' | '.join(columns)} |")
    print("|---" + "|--:" * (len(columns) - 1) + "|")
    with one_thread:
        sets = list(draw_sets(paths, options.draws))
        for clf in ("svm", "logreg"):
            print(report(clf, [one_draw(*drawn, clf) for drawn in sets]), flush=True)
    print(f"\n{describe_machine()}\ncommand: {shlex.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
