"""Does the printed 95 % interval contain the accuracy that the probe then has, and does the choice of C cost much?

    python benchmarks/bench_fashion_mnist.py --extract-only       # once: the codes of 70,000 images
    python benchmarks/bench_intervals.py

Draws many small sets from the training images of Fashion-MNIST, chooses C and fits as `cnncodes fit` does, and looks at
10,000 held-out images: how often the interval of the cross-validated accuracy contains the accuracy of that fitted
probe, and the mean accuracy of all probes of that size (the procedure); how wide it is beside the exact binomial one;
what the best C in hindsight would have given; and how well the probabilities are calibrated.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bench_fashion_mnist import describe_machine
from joblib import Parallel, delayed
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from cnncodes import CodesFile
from cnncodes.probes.calibration import fit_temperature
from cnncodes.probes.decision_values import softmax, winner
from cnncodes.probes.estimate import Estimate
from cnncodes.probes.probe import LOSSES
from cnncodes.probes.scaling import make_scaler
from cnncodes.probes.scores import nested_predictions, score
from cnncodes.probes.search import C_GRID, fit_probe
from cnncodes.solvers.path import fit_path
from cnncodes.vocabulary import DEFAULT_SCALING

CODES = Path("bench-work/fashion-mnist-all-squash-auto.h5")
BINS = 15  # of the expected calibration error (Guo et al. 2017)


class Draw(NamedTuple):
    """What one small set gives."""

    estimate: float  # cross-validated accuracy
    interval: tuple[float, float]
    exact_width: float  # of Clopper and Pearson's interval
    nested: float
    nested_interval: tuple[float, float]
    truth: float  # accuracy of the fitted probe on the held-out images
    best: float  # of the best C in hindsight
    calibration: float  # expected calibration error on the held-out images


def read(path: Path, layer: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    with CodesFile.open(path) as file:
        return {split: (file.codes(layer, rows := file.rows(split)), file.labels[rows]) for split in ("train", "test")}


def draw_rows(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """As many rows of each class, at random."""
    rng = np.random.default_rng(seed)
    classes = np.unique(y)
    return np.concatenate(
        [rng.choice(np.flatnonzero(y == label), n // len(classes), replace=False) for label in classes]
    )


def expected_calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Mean distance between confidence and accuracy over bins of equal width."""
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(sum(abs((confidence - right)[bins == i].sum()) for i in range(BINS)) / len(right))


def one_draw(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], n: int, seed: int, clf: str, nested: bool
) -> Draw:
    rows = draw_rows(train[1], n, seed)
    X, y = train[0][rows], train[1][rows]
    with threadpool_limits(1):
        probe, search = fit_probe(X, y, clf=clf, seed=seed)
        accuracy = score(y, search.predictions, out_of_fold=True).accuracy
        if nested:
            other = score(y, nested_predictions(X, y, search.folds, clf=clf, seed=seed), out_of_fold=True).accuracy
        else:
            other = Estimate(np.nan, np.nan, np.nan)
        temperature = fit_temperature(search.decision, np.searchsorted(search.classes, y))
        decision = probe.decision_function(test[0])
        right = probe.classes_[winner(decision)] == test[1]
        scaler = make_scaler(DEFAULT_SCALING).fit(X)
        path = fit_path(scaler.transform(X), y, C_GRID, loss=LOSSES[clf])
        hindsight = [
            np.mean(path.classes[winner(d)] == test[1]) for d in path.decision_function(scaler.transform(test[0]))
        ]
    exact = binomtest(int(np.sum(search.predictions == y)), n).proportion_ci()
    return Draw(
        accuracy.value,
        (accuracy.low, accuracy.high),
        exact.high - exact.low,
        other.value,
        (other.low, other.high),
        float(right.mean()),
        max(hindsight),
        expected_calibration_error(softmax(decision, temperature), right),
    )


def report(n: int, draws: list[Draw], nested: bool) -> str:
    truth = np.array([draw.truth for draw in draws])
    cells = [str(n), str(len(draws))]
    kinds = [("estimate", "interval"), ("nested", "nested_interval")]
    for estimate, interval in kinds[: 2 if nested else 1]:
        values = np.array([getattr(draw, estimate) for draw in draws])
        low, high = np.array([getattr(draw, interval) for draw in draws]).T
        of_probe = np.mean((low <= truth) & (truth <= high))
        of_procedure = np.mean((low <= truth.mean()) & (truth.mean() <= high))
        cells += [
            f"{np.mean(values - truth):+.3f}",
            f"{of_probe:.3f}",
            f"{of_procedure:.3f}",
            f"{np.mean(high - low):.3f}",
        ]
    cells.append(f"{np.mean([draw.exact_width for draw in draws]):.3f}")
    cells.append(f"{100 * np.mean([draw.best - draw.truth for draw in draws]):.2f}")
    cells += [f"{truth.mean():.3f}", f"{np.mean([draw.calibration for draw in draws]):.3f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=Path, default=CODES, help=f"codes of Fashion-MNIST (default: {CODES})")
    parser.add_argument("--layer", default="penultimate")
    parser.add_argument("--clf", choices=sorted(LOSSES), default="svm")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 300], help="images in a set")
    parser.add_argument("--draws", type=int, default=200, help="sets of each size (default: 200)")
    parser.add_argument(
        "--no-nested", action="store_true", help="leave out the nested estimate, which takes the longest"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    splits = read(options.codes, options.layer)
    four = ["bias", "covers probe", "covers procedure", "width"]
    columns = ["n", "sets", *four, *[f"nested: {name}" for name in four if not options.no_nested]]
    columns += ["exact binomial width", "points lost by the choice of C", "accuracy", "calibration error"]
    print(f"| {' | '.join(columns)} |")
    print("|--:" * len(columns) + "|")
    for n in options.sizes:
        began = time.perf_counter()
        task = delayed(one_draw)
        draws = Parallel(options.jobs)(
            task(splits["train"], splits["test"], n, seed, options.clf, not options.no_nested)
            for seed in range(options.draws)
        )
        print(report(n, draws, not options.no_nested), flush=True)
        print(f"{time.perf_counter() - began:.0f} s for n = {n}", file=sys.stderr, flush=True)
    print(f"\n{describe_machine()}\ncommand: {shlex.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
