"""Which way to probabilities is best calibrated on new images?

    python benchmarks/bench_fashion_mnist.py --extract-only       # once: the codes of 70,000 images
    python benchmarks/bench_calibration.py

Draws small sets from the training images of Fashion-MNIST, fits a probe to each as `cnncodes fit` does, turns its
decision values into probabilities by parameters that are fitted to the out-of-fold decisions, and compares confidence
and accuracy on 10,000 held-out images: expected calibration error, log loss, and accuracy, as scaling each class by
itself can change answers.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_fashion_mnist import describe_machine
from joblib import Parallel, delayed
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from cnncodes import CodesFile
from cnncodes.probes.calibration import fit_temperature
from cnncodes.probes.decision_values import softmax
from cnncodes.probes.probe import LOSSES
from cnncodes.probes.search import fit_probe

CODES = Path("bench-work/fashion-mnist-all-squash-auto.h5")
BINS = 15  # of the expected calibration error (Guo et al. 2017)
Probabilities = Callable[[np.ndarray], np.ndarray]  # of decision values, (n, n_classes)


def read(path: Path, layer: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    with CodesFile.open(path) as file:
        return {split: (file.codes(layer, rows := file.rows(split)), file.labels[rows]) for split in ("train", "test")}


def draw_rows(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return as many rows of each class, at random."""
    rng = np.random.default_rng(seed)
    classes = np.unique(y)
    return np.concatenate(
        [rng.choice(np.flatnonzero(y == label), n // len(classes), replace=False) for label in classes]
    )


def expected_calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal width."""
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(sum(abs((confidence - right)[bins == i].sum()) for i in range(BINS)) / len(right))


def uncalibrated(decision: np.ndarray, truth: np.ndarray) -> Probabilities:
    """Leave decision values as they are: for logistic regression, its own probabilities."""
    return softmax


def temperature(decision: np.ndarray, truth: np.ndarray) -> Probabilities:
    """Divide all by one number (Guo et al. 2017): what is shipped."""
    found = fit_temperature(decision, truth)
    return lambda new: softmax(new, found)


def vector_scaling(decision: np.ndarray, truth: np.ndarray) -> Probabilities:
    """Scale and shift each class by itself (Guo et al. 2017), held near one temperature by a small penalty."""
    n, k = decision.shape
    wrong = 1 / (n + 2)
    target = np.full((n, k), wrong / (k - 1))
    target[np.arange(n), truth] = 1 - wrong
    unit = fit_temperature(decision, truth)

    def logs(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
        return log_softmax(values / unit * np.exp(weights[:k]) + weights[k:], axis=1)

    def loss(weights: np.ndarray) -> float:
        return float(-(target * logs(weights, decision)).sum() / n + 1e-3 * (weights**2).sum())

    weights = minimize(loss, np.zeros(2 * k), method="L-BFGS-B").x
    return lambda new: np.exp(logs(weights, new))


def sigmoids(decision: np.ndarray, truth: np.ndarray) -> Probabilities:
    """Fit a sigmoid to each class against the rest, then divide by the sum (Platt 1999, Zadrozny and Elkan 2002)."""
    fits = [LogisticRegression(C=1e6).fit(column[:, None], truth == k) for k, column in enumerate(decision.T)]
    slopes, shifts = np.array([(fit.coef_[0, 0], fit.intercept_[0]) for fit in fits]).T

    def probabilities(new: np.ndarray) -> np.ndarray:
        each = expit(new * slopes + shifts)
        return each / each.sum(axis=1, keepdims=True)

    return probabilities


WAYS = (uncalibrated, temperature, vector_scaling, sigmoids)


def one_draw(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], n: int, seed: int, clf: str
) -> dict[str, tuple[float, float, float]]:
    """Return calibration error, log loss and accuracy on the held-out images for each way."""
    rows = draw_rows(train[1], n, seed)
    X, y = train[0][rows], train[1][rows]
    with threadpool_limits(1):
        probe, search = fit_probe(X, y, clf=clf, seed=seed)
        decision = probe.decision_function(test[0])
        truth, truth_test = (np.searchsorted(search.classes, labels) for labels in (y, test[1]))
        found = {}
        for way in WAYS:
            chances = way(search.decision, truth)(decision)
            right = chances.argmax(axis=1) == truth_test
            of_true = np.maximum(chances[np.arange(len(truth_test)), truth_test], 1e-12)
            found[way.__name__] = (expected_calibration_error(chances, right), -np.log(of_true).mean(), right.mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=Path, default=CODES, help=f"codes of Fashion-MNIST (default: {CODES})")
    parser.add_argument("--layer", default="penultimate")
    parser.add_argument("--clf", choices=sorted(LOSSES), nargs="+", default=["svm", "logreg"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1000], help="images in a set")
    parser.add_argument("--draws", type=int, default=5, help="sets of each size (default: 5)")
    parser.add_argument("--jobs", type=int, default=1, help="threads")
    options = parser.parse_args()
    splits = read(options.codes, options.layer)
    print("| n | sets | probe | probabilities by | calibration error | largest | log loss | accuracy |")
    print("|--:|--:|---|---|--:|--:|--:|--:|")
    for n in options.sizes:
        for clf in options.clf:
            task = delayed(one_draw)
            draws = Parallel(options.jobs, prefer="threads")(
                task(splits["train"], splits["test"], n, seed, clf) for seed in range(options.draws)
            )
            figures = defaultdict(list)
            for draw in draws:
                for name, values in draw.items():
                    figures[name].append(values)
            for name, values in figures.items():
                error, loss, accuracy = np.mean(values, axis=0)
                largest = max(each[0] for each in values)
                print(
                    f"| {n} | {len(draws)} | {clf} | {name.replace('_', ' ')} | {error:.4f} | {largest:.4f} | "
                    f"{loss:.3f} | {accuracy:.4f} |",
                    flush=True,
                )
    print(f"\n{describe_machine()}\ncommand: {shlex.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
