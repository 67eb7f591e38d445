"""Do the printed 95 % intervals hold the accuracy that the fitted probe then has, and are probabilities what they say?

    python benchmarks/bench_intervals.py digits.h5 fashion.h5 clipart.h5 emoji.h5
    python benchmarks/bench_intervals.py fashion.h5 --n 1000 --draws 60 --designs balanced rare
    python benchmarks/bench_intervals.py digits.h5 --n 100 --draws 20 --nested

Each codes file holds labelled images and `penultimate`. Small sets are drawn from it (five classes below 100 images and
of groups up to 100, all classes above), C is chosen and a probe is fitted as `cnncodes fit` does, and up to 2,000 other
images say what its accuracy is. The designs:

- balanced: as many images of each class
- rare: the rarest class has a tenth of the images of the most frequent one, and at least two
- random: as chance draws them; classes with one image are left out
- groups: four images each of clusters of about five that look alike, which stay on one side of a fold; the other images
  are of other clusters

Accuracy on the other images weights the classes as in the drawn set (drawn at random: as in the file). It is known with
an error of its own, by which the ends are moved outwards when it is asked whether an interval holds it. Each width
stands beside that of Wilson's interval for n / (1 + 5 / n) images, groups or none, which was printed before. The last
columns are about `predict --min-confidence 0.8`: which share it answers, how much of that is right, and how much where
the confidence is between 0.8 and 0.85.

The figures in benchmarks/README.md are from scikit-learn's digits, Debian's dataset-fashion-mnist (4,000 images), both
at 96 pixels, Debian's openclipart-png (its folders of animals, food, people and eight more, 70 to 200 images each), and
npm's emoji-datasource-google (its categories, 64 pixels).
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench_fashion_mnist import describe_machine
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from cnncodes import CodesFile
from cnncodes.errors import ProbeError
from cnncodes.probes.decision_values import softmax, winner
from cnncodes.probes.intervals import balanced_interval, wilson_interval
from cnncodes.probes.probe import decide
from cnncodes.probes.scores import nested_predictions, score
from cnncodes.probes.search import fit_probe
from cnncodes.vocabulary import CLASSIFIERS, PENULTIMATE

DESIGNS = ("balanced", "rare", "random", "groups")
FEW_CLASSES, MANY_IMAGES = 5, 100
CLUSTER, OF_A_CLUSTER = 5, 4  # images, and how many of them are drawn
TESTED = 2000
BINS = 15  # of the expected calibration error (Guo et al. 2017)
LIMIT = 0.8
Z = 1.96
COLUMNS = ("bias", "holds", "width", "of before", "bias", "holds", "width", "of before")
OF_PROBABILITIES = ("calibration error", "confidence − accuracy", "answered", "right", "right near 0.8")


class Codes(NamedTuple):
    """A codes file."""

    name: str
    X: np.ndarray
    y: np.ndarray
    clusters: np.ndarray


class SmallSet(NamedTuple):
    """Images that were drawn."""

    rows: np.ndarray
    others: np.ndarray  # to test on
    groups: np.ndarray | None
    prior: np.ndarray  # how much each class weighs in the accuracy


def read(path: Path) -> Codes:
    with CodesFile.open(path) as file:
        X, y = file.codes(PENULTIMATE), file.labels
    clusters, offset = np.empty(len(y), int), 0
    for label in np.unique(y):
        of_class = np.flatnonzero(y == label)
        kmeans = KMeans(max(2, len(of_class) // CLUSTER), n_init=1, max_iter=20, random_state=0)
        clusters[of_class] = offset + kmeans.fit_predict(normalize(X[of_class]))
        offset += kmeans.n_clusters
    return Codes(path.stem, X, y, clusters)


def draw(codes: Codes, n: int, design: str, seed: int) -> SmallSet:
    """Draw a small set, and images to test on."""
    rng = np.random.default_rng([seed, n, DESIGNS.index(design), *codes.name.encode()])
    y, every = codes.y, np.unique(codes.y)
    few = n < MANY_IMAGES or (n == MANY_IMAGES and design == "groups")
    classes = np.sort(rng.choice(every, min(len(every), FEW_CLASSES) if few else len(every), replace=False))
    of_class = [np.flatnonzero(y == label) for label in classes]
    groups = None
    if design == "random":
        rows = rng.choice(np.concatenate(of_class), n, replace=False)
        labels, counts = np.unique(y[rows], return_counts=True)
        classes = labels[counts > 1]
        rows = rows[np.isin(y[rows], classes)]
        prior = np.array([np.sum(y == label) for label in classes], float)
    else:
        if design == "groups":
            parts = [draw_clusters(codes.clusters, images, n // len(classes), rng) for images in of_class]
        else:
            weights = 10.0 ** -np.linspace(0, 1, len(classes)) if design == "rare" else np.ones(len(classes))
            wanted = np.maximum(2, np.round(n * rng.permutation(weights / weights.sum())).astype(int))
            counts = [min(count, int(0.7 * len(images))) for count, images in zip(wanted, of_class, strict=True)]
            parts = [rng.choice(images, count, replace=False) for count, images in zip(counts, of_class, strict=True)]
        rows, prior = np.concatenate(parts), np.array([len(part) for part in parts], float)
    outside = np.isin(y, classes)
    outside[rows] = False
    if design == "groups":
        outside &= ~np.isin(codes.clusters, codes.clusters[rows])
        groups = codes.clusters[rows].astype(str)
    return SmallSet(rows, rng.permutation(np.flatnonzero(outside))[:TESTED], groups, prior / prior.sum())


def draw_clusters(clusters: np.ndarray, images: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw clusters of a class, large ones more often, and as many images of each."""
    names, sizes = np.unique(clusters[images], return_counts=True)
    count = max(3, min(round(n / OF_A_CLUSTER), len(names) // 2))
    drawn = rng.choice(names, count, replace=False, p=sizes / sizes.sum())
    return np.concatenate([rng.permutation(np.flatnonzero(clusters == name))[:OF_A_CLUSTER] for name in drawn])


def one_draw(codes: Codes, drawn: SmallSet, clf: str, nested: bool) -> list[float] | None:
    """Return what is counted of one small set, or None where a class has no other images to test on, or no folds."""
    X, y = codes.X[drawn.rows], codes.y[drawn.rows]
    try:
        probe, search = fit_probe(X, y, clf=clf, groups=drawn.groups)
        predicted = search.predictions
        if nested:
            predicted = nested_predictions(X, y, search.folds, clf=clf, groups=drawn.groups)
    except ProbeError:
        return None
    decision = decide(probe, codes.X[drawn.others])
    truth = np.searchsorted(search.classes, codes.y[drawn.others])
    right, tested = winner(decision) == truth, np.bincount(truth, minlength=len(drawn.prior))
    if not tested.all():
        return None
    recall = np.bincount(truth, right) / tested
    smooth = (recall * tested + 1) / (tested + 2)
    variance = smooth * (1 - smooth) / tested
    accuracies = score(y, predicted, folds=search.folds, groups=drawn.groups)
    counts = np.unique(y, return_counts=True)[1]
    weight = 1 / (1 + 5 / len(y))
    correct = np.bincount(np.searchsorted(search.classes, y), predicted == y) * weight
    even = np.full(len(recall), 1 / len(recall))
    figures: list[float] = []
    for estimate, weights, old in (
        (accuracies.accuracy, drawn.prior, wilson_interval(float(correct.sum()), len(y) * weight)),
        (accuracies.balanced, even, balanced_interval(correct, counts * weight)),
    ):
        bias, error = estimate.value - weights @ recall, Z * np.sqrt(weights**2 @ variance)
        below, above = estimate.value - estimate.low, estimate.high - estimate.value
        holds = -np.hypot(above, error) <= bias <= np.hypot(below, error)
        figures += [bias, holds, estimate.high - estimate.low, old[1] - old[0]]
    confidence = softmax(decision, search.temperature).max(axis=1)
    return figures + of_probabilities(confidence, right, (drawn.prior / tested)[truth])


def of_probabilities(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray) -> list[float]:
    """Return the calibration error, how much too sure the probe is, and shares of answered and of right answers."""
    weights = weights / weights.sum()
    excess = weights * (confidence - right)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    sure, near = confidence >= LIMIT, (confidence >= LIMIT) & (confidence < LIMIT + 0.05)
    shares = [weights[which].sum() for which in (sure, sure & right, near, near & right)]
    return [np.abs(np.bincount(bins, excess)).sum(), excess.sum(), *shares]


def shown(draws: list[list[float]]) -> str:
    """Return the cells of a row."""
    m = np.mean(draws, axis=0)
    cells = [str(len(draws))]
    for bias, holds, width, before in (m[:4], m[4:8]):
        cells += [f"{bias:+.3f}", f"{holds:.3f}", f"{width:.3f}", f"{width / before:.2f}"]
    error, excess, sure, sure_right, near, near_right = m[8:]
    cells += [f"{error:.3f}", f"{excess:+.3f}", f"{sure:.2f}", f"{sure_right / sure:.3f}", f"{near_right / near:.3f}"]
    return " | ".join(cells)


def print_table(title: str, draws: dict[Any, list[list[float]]]) -> None:
    names = [*COLUMNS[:4], *(f"balanced: {name}" for name in COLUMNS[4:]), *OF_PROBABILITIES]
    print(f"\n| {title} | sets | {' | '.join(names)} |\n|---|" + "--:|" * (len(names) + 1))
    for key, of_key in draws.items():
        print(f"| {key} | {shown(of_key)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", nargs="+", type=Path, help="codes files with labels")
    parser.add_argument("--n", type=int, nargs="+", default=[20, 30, 100, 300], help="images of a set")
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=DESIGNS, help="how sets are drawn")
    parser.add_argument("--draws", type=int, default=25, help="sets of each kind; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the first draw")
    parser.add_argument("--clf", choices=CLASSIFIERS, default="svm")
    parser.add_argument("--nested", action="store_true", help="score the nested estimate, which takes longer")
    options = parser.parse_args()
    print(describe_machine())
    print("command:", shlex.join(["python", *sys.argv]))
    by_design: dict[Any, list[list[float]]] = defaultdict(list)
    by_file: dict[Any, list[list[float]]] = defaultdict(list)
    with threadpool_limits(1):
        for path in options.codes:
            codes = read(path)
            for n in options.n:
                for design in options.designs:
                    if design == "groups" and n < MANY_IMAGES:
                        continue  # four images of each cluster leave too few
                    for seed in range(options.seed, options.seed + options.draws):
                        if figures := one_draw(codes, draw(codes, n, design, seed), options.clf, options.nested):
                            by_design[f"{n}, {design}"].append(figures)
                            by_file[f"{codes.name}, {n}"].append(figures)
            print(f"{codes.name}: done", file=sys.stderr, flush=True)
    print_table("n, drawn", by_design)
    print_table("file, n", by_file)
    print_table("all", {"": [one for of_key in by_design.values() for one in of_key]})


if __name__ == "__main__":
    main()
