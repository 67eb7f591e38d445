"""Which score tells best that an image is of none of the classes?

    python benchmarks/bench_fashion_mnist.py --extract-only       # once: the codes of 70,000 images
    python benchmarks/bench_unknown.py

Leaves whole classes of Fashion-MNIST out of the training images (each in turn, then several at once), fits a probe to
the rest, and asks each score to tell 3,000 test images of the left-out classes from those of the others (near), and
crops of photographs from the latter (far). AUROC: 0.5 is chance, 1 perfect. The row `shipped` is `ProbeModel.novelty`'s
share; its last column is how many test images of the known classes get 0.95 or more, where 5 % are promised.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bench_fashion_mnist import describe_machine
from bench_intervals import CODES, draw_rows, read
from PIL import Image
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from cnncodes import CodesFile, extract
from cnncodes.probes.calibration import fit_temperature
from cnncodes.probes.decision_values import softmax
from cnncodes.probes.novelty import MAX_CODES, closeness, cosine_to_nearest, learn_familiarity, novelty
from cnncodes.probes.probe import LOSSES
from cnncodes.probes.search import fit_probe, search_C

RANK = 64  # of the principal subspaces
CROPS = 40  # of each of the two photographs
PROMISED = 0.95
TESTED = 3000  # test images
FOR_C = 1000  # training images that C is chosen on, once for all that is left out


class Fitted(NamedTuple):
    """A probe, and what a score may learn from its training images."""

    X: np.ndarray  # training codes, (n, d)
    Z: np.ndarray  # the same, scaled
    truth: np.ndarray  # (n,)
    folds: list[tuple[np.ndarray, np.ndarray]]
    decision: Callable[[np.ndarray], np.ndarray]  # of scaled codes, (n, n_classes)
    temperature: float

    @property
    def means(self) -> np.ndarray:
        return np.stack([self.Z[self.truth == label].mean(axis=0) for label in range(self.truth.max() + 1)])


class Spectrum:
    """Principal axes of rows whose mean is 0, of which there may be fewer than features."""

    def __init__(self, rows: np.ndarray) -> None:
        n, d = rows.shape
        if n < d:
            values, vectors = np.linalg.eigh(rows @ rows.T)
            kept = values > 1e-9 * values[-1]
            values, axes = values[kept], (rows.T @ vectors[:, kept] / np.sqrt(values[kept])).T
        else:
            values, axes = np.linalg.eigh(rows.T @ rows)
            axes = axes.T
        self.variances, self.axes = values[::-1] / n, axes[::-1]
        shrinkage = ledoit_wolf_shrinkage(rows, assume_centered=True)
        self.base = shrinkage * self.variances.sum() / d
        self.shrunk = (1 - shrinkage) * self.variances + self.base

    def mahalanobis(self, rows: np.ndarray) -> np.ndarray:
        """Return the squared distance from the mean by the covariance of Ledoit and Wolf (2004)."""
        along = (rows @ self.axes.T) ** 2
        return (rows**2).sum(axis=1) / self.base + along @ (1 / self.shrunk - 1 / self.base)

    def residual(self, rows: np.ndarray) -> np.ndarray:
        """Return the length of what the first axes leave."""
        axes = self.axes[: min(RANK, len(self.axes) // 2)]
        return np.sqrt(np.maximum((rows**2).sum(axis=1) - ((rows @ axes.T) ** 2).sum(axis=1), 0))


def neighbour_distance(Z: np.ndarray, new: np.ndarray, k: int) -> np.ndarray:
    """Distance to the k-th nearest training code on the unit sphere (Sun et al. 2022)."""
    unit, others = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (new, Z))
    return -np.partition(unit @ others.T, -k, axis=1)[:, -k]


def scores(fitted: Fitted, raw: np.ndarray, new: np.ndarray) -> dict[str, np.ndarray]:
    """Return each score of codes, `raw` and scaled, higher for what is less like the classes."""
    Z, means, T = fitted.Z, fitted.means, fitted.temperature
    decision = fitted.decision(new)
    energy = -T * logsumexp(decision / T, axis=1)
    within, around = Spectrum(Z - means[fitted.truth]), Spectrum(Z)
    mahalanobis = np.min([within.mahalanobis(new - mean) for mean in means], axis=0)
    residual = around.residual(new)
    alpha = fitted.decision(Z).max(axis=1).mean() / around.residual(Z).mean()
    kept, own_means, reference = learn_familiarity(lambda rows: fitted.X[rows], fitted.truth, fitted.folds)
    return {
        "max softmax": -softmax(decision, T).max(axis=1),
        "max logit": -decision.max(axis=1),
        "energy": energy,
        "Mahalanobis": mahalanobis,
        "relative Mahalanobis": mahalanobis - around.mahalanobis(new),
        f"residual of {RANK} axes": residual,
        f"ViM, {RANK} axes": alpha * residual + energy,
        "nearest neighbour": neighbour_distance(Z, new, 1),
        "5th nearest neighbour": neighbour_distance(Z, new, 5),
        "cosine to class means": -cosine_to_nearest(new, means),
        "shipped": novelty(closeness(raw, kept, own_means), reference),
    }


def numbers_kept(name: str, n: int, d: int, n_classes: int) -> int:
    """How many numbers a model file would hold for a score, beside the probe."""
    axes = min(RANK, n // 2)
    return {
        "Mahalanobis": (n_classes + min(n, d)) * d,
        "relative Mahalanobis": (n_classes + 2 * min(n, d)) * d,
        f"residual of {RANK} axes": axes * d,
        f"ViM, {RANK} axes": axes * d,
        "nearest neighbour": n * d,
        "5th nearest neighbour": n * d,
        "cosine to class means": n_classes * d,
        "shipped": (n_classes + min(n, MAX_CODES)) * d + min(n, MAX_CODES),
    }.get(name, 0)


def photographs(layers: list[str]) -> np.ndarray:
    """Codes of square crops of scikit-learn's two photographs."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for number, photo in enumerate(load_sample_images().images):
            for crop in range(CROPS):
                side = int(rng.integers(64, 400))
                top, left = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
                Image.fromarray(photo[top : top + side, left : left + side]).save(f"{folder}/{number}-{crop}.png")
        extract(folder, f"{folder}/codes.h5", layers=layers, resize="squash", precision="fp32", device="cpu")
        with CodesFile.open(f"{folder}/codes.h5") as file:
            return file.codes(layers, np.arange(file.n))


def left_out(n_classes: int, draw: int, at_once: int) -> Iterator[tuple[int, ...]]:
    """Each class in turn, or as many random choices of several."""
    if at_once == 1:
        yield from ((label,) for label in range(n_classes))
        return
    rng = np.random.default_rng(draw)
    for _ in range(n_classes):
        yield tuple(rng.choice(n_classes, at_once, replace=False))


def fitted_to(X: np.ndarray, y: np.ndarray, clf: str, C: float) -> tuple[Fitted, Callable]:
    probe, search = fit_probe(X, y, clf=clf, C=C)
    truth = np.searchsorted(search.classes, y)
    scale, temperature = probe[0].transform, fit_temperature(search.decision, truth)
    return Fitted(X, scale(X), truth, search.folds, probe[-1].decision_function, temperature), scale


def measure(
    data: dict[str, tuple[np.ndarray, np.ndarray]], far: np.ndarray, n: int, draws: int, at_once: int, clf: str
) -> dict[str, np.ndarray]:
    """Return near and far AUROC, and the false alarms of what is shipped, for each score: shape (n_sets, 3)."""
    (X_train, y_train), (X_test, y_test) = data["train"], (part[:TESTED] for part in data["test"])
    classes = np.unique(y_train)
    found = defaultdict(list)
    for draw in range(draws):
        rows = draw_rows(y_train, n, draw)
        some = rows[:: max(1, n // FOR_C)]
        C = search_C(X_train[some], y_train[some], clf=clf).C
        for labels in left_out(len(classes), draw, at_once):
            kept = rows[~np.isin(y_train[rows], classes[list(labels)])]
            fitted, scale = fitted_to(X_train[kept].astype(float), y_train[kept], clf, C)
            unknown = np.isin(y_test, classes[list(labels)])
            known, near = X_test[~unknown], X_test[unknown]
            parts = np.cumsum([len(known), len(near)])
            raw = np.concatenate([known, near, far]).astype(float)
            for name, values in scores(fitted, raw, scale(raw)).items():
                of_known, *others = np.split(values, parts)
                aurocs = [auroc(of_known, other) for other in others]
                found[name].append([*aurocs, np.mean(of_known >= PROMISED) if name == "shipped" else np.nan])
    return {name: np.array(values) for name, values in found.items()}


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    truth = np.repeat([0, 1], [len(known), len(unknown)])
    return float(roc_auc_score(truth, np.concatenate([known, unknown])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=Path, default=CODES, help=f"codes of Fashion-MNIST (default: {CODES})")
    parser.add_argument("--layer", dest="layers", nargs="+", default=["penultimate"], help="concatenated")
    parser.add_argument("--clf", choices=sorted(LOSSES), default="svm")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[300, 1000, 5000], help="training images, of all classes"
    )
    parser.add_argument("--draws", type=int, default=2, help="sets of training images of each size (default: 2)")
    parser.add_argument("--unknown", type=int, nargs="+", default=[1, 3], help="classes left out at once")
    options = parser.parse_args()
    data = read(options.codes, options.layers)
    far = photographs(options.layers)
    n_features = far.shape[1]
    print("| n | left out | score | AUROC, other classes | lowest | AUROC, photographs | false alarms | numbers kept |")
    print("|--:|--:|---|--:|--:|--:|--:|--:|")
    for n in options.sizes:
        for at_once in options.unknown:
            began = time.perf_counter()
            with threadpool_limits(2):
                found = measure(data, far, n, options.draws, at_once, options.clf)
            for name, values in found.items():
                near, distant, alarms = values.mean(axis=0)
                kept = numbers_kept(name, n, n_features, 10 - at_once)
                alarm = "" if np.isnan(alarms) else f"{alarms:.3f}"
                cells = [n, at_once, name, f"{near:.3f}", f"{values[:, 0].min():.3f}", f"{distant:.3f}", alarm, kept]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
            print(f"{time.perf_counter() - began:.0f} s for n = {n}", file=sys.stderr, flush=True)
    print(f"\nlayers: {' + '.join(options.layers)}\n{describe_machine()}\ncommand: {shlex.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
