"""Which scaling of the codes, and which rule for the layer, is best where images are few? Is another classifier better?

    python benchmarks/bench_small_sets.py digits.h5 fashion.h5 clipart.h5 emoji.h5
    python benchmarks/bench_small_sets.py fashion.h5 --n 30 100 --draws 10 --clf logreg --tables scalings rules
    python benchmarks/bench_small_sets.py digits.h5 fashion.h5 --tables peers

Each codes file holds labelled images and at least the layers `layer1`, `layer2`, `layer3` and `penultimate`. Small sets
are drawn from it (five classes up to 30 images, ten classes above), and each probe that is fitted to one is asked about
up to 1,500 other images. The first table has the accuracy with each scaling of the codes of `penultimate`, less that
with ``standard``. The second has what each rule for the layer loses against the best row in hindsight: all layers, and
`layer3` and `penultimate` together, with both classifiers. The third has scikit-learn's classifiers on the codes of
`penultimate`, each in a careful pipeline, less the linear SVM that `fit` takes: cross-validation chooses the scaling
(columns to deviation 1, or rows to length 1) and C or alpha. A set that is smaller than asked for by a fifth, as its
file has too few images, is left out.

The figures in benchmarks/README.md are from scikit-learn's digits and Debian's dataset-fashion-mnist (at 96 pixels and
at 224), from Debian's openclipart-png (its folders of animals, food, people and eight more, 70 to 200 images each), and
from npm's emoji-datasource-google and -twitter (their categories, 64 pixels). Those of the third table are also from
stamps (tuxpaint-stamps-default), crops of wallpapers, and 180 photographs in six classes.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from bench_fashion_mnist import describe_machine
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from cnncodes import CodesFile
from cnncodes.insight.recommendation import recommended
from cnncodes.probes.calibration import log_loss, log_losses
from cnncodes.probes.decision_values import winner
from cnncodes.probes.probe import decide
from cnncodes.probes.scaling import SCALINGS, Scaling, scaling_of
from cnncodes.probes.search import fit_probe
from cnncodes.vocabulary import CLASSIFIERS, DEFAULT_SCALING, PENULTIMATE

LAYERS = ("layer1", "layer2", "layer3", PENULTIMATE)
ROWS = [*((name,) for name in LAYERS), ("layer3", PENULTIMATE)]
FEW, FEW_CLASSES, MANY_CLASSES = 30, 5, 10
TESTED = 1500
USUAL = "standard"
OURS, LOGREG, PAIR = "`fit`: svm, `penultimate`", "logreg, `penultimate`", "svm, `layer3` + `penultimate`"
TABLES = ("scalings", "rules", "peers")


class Fit(NamedTuple):
    """What one probe on one small set gives."""

    accuracy: float  # on the other images
    log_loss: float
    losses: np.ndarray  # (n,), cross-validated log loss of each image of the set
    right: np.ndarray  # (n,), whether the cross-validated answer was right


def draw(y: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a small set, as many of each class, and rows to test on."""
    rng = np.random.default_rng(seed)
    every = np.unique(y)
    classes = rng.choice(every, min(len(every), FEW_CLASSES if n <= FEW else MANY_CLASSES), replace=False)
    inside, outside = [], []
    for label in classes:
        rows = rng.permutation(np.flatnonzero(y == label))
        count = min(max(2, n // len(classes)), len(rows) // 2)
        inside.append(rows[:count])
        outside.append(rows[count:])
    return np.sort(np.concatenate(inside)), np.sort(rng.permutation(np.concatenate(outside))[:TESTED])


def fit(X: np.ndarray, y: np.ndarray, rows: tuple[np.ndarray, np.ndarray], clf: str, scale: Scaling) -> Fit:
    train, test = rows
    probe, search = fit_probe(X[train], y[train], clf=clf, scale=scale)
    decision = decide(probe, X[test])
    truth, inside = (np.searchsorted(search.classes, y[part]) for part in (test, train))
    return Fit(
        float(np.mean(winner(decision) == truth)),
        log_loss(decision, truth, search.temperature),
        log_losses(search.decision, inside, search.temperature),
        search.predictions == y[train],
    )


def compare_scalings(codes: list[dict[str, Any]], clf: str, ns: list[int], draws: int) -> None:
    print(f"\nscalings, {clf}, {PENULTIMATE}: points of accuracy more than {USUAL}; lowest of the sets; log loss")
    print("| scaling |" + "".join(f" n = {n} |" for n in ns) + "\n|---|" + "--:|" * len(ns))
    gains, losses = defaultdict(list), defaultdict(list)
    for file in codes:
        for n in ns:
            for seed in range(draws):
                rows = draw(file["y"], n, seed)
                fits = {scale: fit(file[PENULTIMATE], file["y"], rows, clf, scale) for scale in SCALINGS}
                for scale, one in fits.items():
                    gains[scale, n, file["name"]].append(100 * (one.accuracy - fits[USUAL].accuracy))
                    losses[scale, n].append(one.log_loss)
    for scale in SCALINGS:
        cells = []
        for n in ns:
            means = [np.mean(gains[scale, n, file["name"]]) for file in codes]
            cells.append(f" {np.mean(means):+.2f}; {min(means):+.1f}; {np.mean(losses[scale, n]):.3f} |")
        print(f"| {scale} |" + "".join(cells), flush=True)


def compare_rules(codes: list[dict[str, Any]], ns: list[int], draws: int) -> None:
    lost = defaultdict(list)
    for file in codes:
        for n in ns:
            for seed in range(1000, 1000 + draws):
                for rule, points in lost_by_rule(file, draw(file["y"], n, seed)).items():
                    lost[rule].append(points)
    print("\nrules for the row: points of accuracy below the best row in hindsight")
    print("| rule | mean | 90 % of sets lose at most | mean of the worst tenth |\n|---|--:|--:|--:|")
    for rule, each in lost.items():
        worst = np.sort(each)[-max(1, len(each) // 10) :]
        print(f"| {rule} | {np.mean(each):.2f} | {np.quantile(each, 0.9):.1f} | {worst.mean():.1f} |")


def lost_by_rule(file: dict[str, Any], rows: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    names = [(layers, clf) for layers in ROWS for clf in CLASSIFIERS]
    fits = []
    for layers, clf in names:
        X = np.concatenate([file[name] for name in layers], axis=1)
        scaling = scaling_of(DEFAULT_SCALING, [file[name].shape[1] for name in layers])
        fits.append(fit(X, file["y"], rows, clf, scaling))
    probes: Any = [SimpleNamespace(layers=list(a), clf=clf, depth=LAYERS.index(a[-1])) for a, clf in names]
    alone: list[int] = [i for i, (layers, _) in enumerate(names) if len(layers) == 1]
    means = [one.losses.mean() for one in fits]
    rules: dict[str, Callable[[], int]] = {
        "recommended by `compare`": lambda: recommended(probes, [one.losses for one in fits]),
        "… without layers together": lambda: alone[
            recommended([probes[i] for i in alone], [fits[i].losses for i in alone])
        ],
        "smallest log loss": lambda: int(np.argmin(means)),
        "best accuracy in cross-validation": lambda: int(np.argmax([one.right.mean() for one in fits])),
        "always `penultimate`, svm": lambda: names.index(((PENULTIMATE,), "svm")),
        "always `layer3` + `penultimate`, svm": lambda: names.index((("layer3", PENULTIMATE), "svm")),
    }
    best = max(one.accuracy for one in fits)
    return {name: 100 * (best - fits[choose()].accuracy) for name, choose in rules.items()}


class NearestMean(ClassifierMixin, BaseEstimator):
    """The class whose mean has the largest cosine."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> NearestMean:
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == label].mean(axis=0) for label in self.classes_])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[cosine_similarity(X, self.means_).argmax(axis=1)]


def make_peers(y: np.ndarray) -> dict[str, Any]:
    """Return unfitted pipelines for a small set with these labels.

    The rotation to principal axes drops none of them: it changes no linear classifier, and makes each fit faster.
    """
    folds = StratifiedKFold(min(5, int(np.unique(y, return_counts=True)[1].min())), shuffle=True, random_state=0)

    def pipeline(classifier: Any, of_standard: Any = None, of_l2: Any = None, *, rotated: bool = True) -> Any:
        steps = [("scaler", None), *([("rotation", PCA(svd_solver="full"))] if rotated else []), ("clf", classifier)]
        grids: list[dict[str, Any]] = [{"scaler": [StandardScaler()]}, {"scaler": [Normalizer()]}]
        for grid, Cs in zip(grids, (of_standard, of_l2), strict=True):
            grid |= {} if Cs is None else {"clf__C": Cs}
        return GridSearchCV(Pipeline(steps), grids, cv=folds)

    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    return {
        "LogisticRegression": pipeline(LogisticRegression(max_iter=1000), np.logspace(-5, 0, 6), np.logspace(-1, 4, 6)),
        "LinearSVC": pipeline(LinearSVC(max_iter=10_000), np.logspace(-6, -1, 6), np.logspace(-2, 3, 6)),
        "RidgeClassifierCV": pipeline(RidgeClassifierCV(np.logspace(-4, 6, 21))),
        "LDA, shrinkage, standard": Pipeline([("scaler", StandardScaler()), ("clf", lda)]),
        "LDA, shrinkage, l2": Pipeline([("scaler", Normalizer()), ("clf", lda)]),
        "5 nearest, cosine": pipeline(KNeighborsClassifier(5, metric="cosine"), rotated=False),
        "nearest mean, cosine": pipeline(NearestMean(), rotated=False),
    }


def compare_peers(codes: list[dict[str, Any]], ns: list[int], draws: int) -> None:
    """Print what each peer gains, in the mean of the files, and in the file where it gains most."""
    gains, seconds = defaultdict(list), defaultdict(list)
    for file in codes:
        for n in ns:
            for seed in range(2000, 2000 + draws):
                rows = draw(file["y"], n, seed)
                if len(rows[0]) < 0.8 * n:
                    continue
                for name, (accuracy, used) in against_peers(file, rows).items():
                    gains[name, n, file["name"]].append(100 * accuracy)
                    seconds[name, n].append(used)
            print(f"{file['name']}, {n}: done", file=sys.stderr, flush=True)
    names = list(dict.fromkeys(name for name, *_ in gains))
    head = "".join(f" n = {n} |" for n in ns) + "\n|---|" + "--:|" * len(ns)
    print("\nclassifiers: points of accuracy more than `fit`; the file where that is most; s of processor")
    print(f"| classifier |{head}")
    for name in names:
        cells = []
        for n in ns:
            more = [gain(gains, name, n, file["name"]) for file in codes if (OURS, n, file["name"]) in gains]
            cells.append(f" {np.mean(more, axis=0)[0]:+.2f}; {shown(max(more))}; {np.mean(seconds[name, n]):.2f} |")
        print(f"| {name} |" + "".join(cells), flush=True)
    print("\naccuracy of `fit`; points that the pair gains; that the best of scikit-learn's gains")
    print(f"| file |{head}")
    for file in codes:
        cells = []
        for n in ns:
            key = n, file["name"]
            if (OURS, *key) in gains:
                more, best = max((gain(gains, name, *key), name) for name in names if name not in (OURS, LOGREG, PAIR))
                cells.append(
                    f" {np.mean(gains[OURS, *key]):.1f}; {shown(gain(gains, PAIR, *key))}; {shown(more)}, {best}"
                )
            else:
                cells.append("")
        print(f"| {file['name']} |{' |'.join(cells)} |", flush=True)


def gain(gains: dict[Any, list[float]], name: str, n: int, file: str) -> tuple[float, float]:
    """Return how many points more a classifier gets on a file than `fit`, and the standard error of that."""
    more = np.subtract(gains[name, n, file], gains[OURS, n, file])
    return float(more.mean()), float(more.std(ddof=1) / np.sqrt(len(more)))


def shown(figure: tuple[float, float]) -> str:
    return f"{figure[0]:+.1f} ± {figure[1]:.1f}"


def against_peers(file: dict[str, Any], rows: tuple[np.ndarray, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Return the accuracy of each classifier on the other images, and the seconds of its search and fit."""
    (train, test), y = rows, file["y"]
    results: dict[str, tuple[float, float]] = {}
    for name, clf, layers in (
        (OURS, "svm", (PENULTIMATE,)),
        (LOGREG, "logreg", (PENULTIMATE,)),
        (PAIR, "svm", ("layer3", PENULTIMATE)),
    ):
        X = np.concatenate([file[layer] for layer in layers], axis=1)
        scaling = scaling_of(DEFAULT_SCALING, [file[layer].shape[1] for layer in layers])
        began = time.process_time()
        accuracy = fit(X, y, rows, clf, scaling).accuracy
        results[name] = accuracy, time.process_time() - began
    X = file[PENULTIMATE].astype(float)
    for name, peer in make_peers(y[train]).items():
        began = time.process_time()
        peer.fit(X[train], y[train])
        used = time.process_time() - began
        results[name] = float(peer.score(X[test], y[test])), used
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", nargs="+", type=Path, help="codes files with labels")
    parser.add_argument("--n", type=int, nargs="+", default=[20, 50, 100, 300], help="images of a set")
    parser.add_argument("--draws", type=int, default=4, help="sets of each file and size; default: %(default)s")
    parser.add_argument("--clf", nargs="+", choices=CLASSIFIERS, default=list(CLASSIFIERS), help="of the first table")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="which are printed")
    arguments = parser.parse_args()
    print(describe_machine())
    print("command:", shlex.join(["python", *sys.argv]))
    codes: list[dict[str, Any]] = []
    for path in arguments.codes:
        with CodesFile.open(path) as file:
            codes.append({"name": path.name, "y": file.labels, **{name: file.codes(name) for name in LAYERS}})
    with threadpool_limits(1):
        for clf in arguments.clf if "scalings" in arguments.tables else ():
            compare_scalings(codes, clf, arguments.n, arguments.draws)
        if "rules" in arguments.tables:
            compare_rules(codes, arguments.n, arguments.draws)
        if "peers" in arguments.tables:
            compare_peers(codes, arguments.n, arguments.draws)


if __name__ == "__main__":
    main()
