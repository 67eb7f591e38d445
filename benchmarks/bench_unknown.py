"""Which score tells best that an image is of none of the classes?

    python benchmarks/bench_unknown.py fashion.h5 clipart.h5 --foreign tiles.h5
    python benchmarks/bench_unknown.py fashion.h5 --per-class 20 --draws 5 --clf logreg

Each codes file holds labelled images. A quarter of its classes is left out, a probe is fitted to some images of each of
the others, and each score is asked to tell images of the classes that were left out (other classes), and those of each
``--foreign`` file and crops of scikit-learn's two photographs (foreign), from images of the known classes. AUROC: 0.5
is chance, 1 perfect. The row `shipped` is the share of `ProbeModel.novelty`; `alarms` is how many images of the known
classes get 0.95 or more, where 5 % are promised. A file that is known and foreign is not asked about itself.

The figures in benchmarks/README.md are from Debian's dataset-fashion-mnist, openclipart-png (its folders of animals,
food, people and eight more) and tuxpaint-stamps-default, npm's emoji-datasource-google and -twitter (their categories),
and eight crops of each wallpaper in Debian's plasma-workspace-wallpapers and mate-backgrounds (a class each), to which
the clip art is foreign, as they are to the others.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from bench_fashion_mnist import describe_machine
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
from cnncodes.probes.scaling import make_scaler
from cnncodes.probes.search import fit_probe

RANK = 64  # of the principal subspaces
CROPS = 40  # of each of the two photographs
PROMISED = 0.95
TESTED = 60  # images of each known class
OTHERS = 300  # images of other classes
BEFORE = "cosine to class means, standard"  # what was shipped before


class Fitted(NamedTuple):
    """A probe, and what a score may learn from its training images."""

    X: np.ndarray  # training codes, (n, d)
    Z: np.ndarray  # the same, scaled
    truth: np.ndarray  # (n,)
    folds: list[tuple[np.ndarray, np.ndarray]]
    decision: Callable[[np.ndarray], np.ndarray]  # of scaled codes, (n, n_classes)
    temperature: float

    def means_of(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([rows[self.truth == label].mean(axis=0) for label in range(self.truth.max() + 1)])


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
    Z, T, standard = fitted.Z, fitted.temperature, make_scaler("standard").fit(fitted.X)
    means = fitted.means_of(Z)
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
        BEFORE: -cosine_to_nearest(standard.transform(raw), fitted.means_of(standard.transform(fitted.X))),
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
        BEFORE: n_classes * d,
        "shipped": (n_classes + min(n, MAX_CODES)) * d + min(n, MAX_CODES),
    }.get(name, 0)


def photographs(file: CodesFile, layers: list[str]) -> np.ndarray:
    """Codes of square crops of scikit-learn's two photographs, prepared as the images of a file."""
    rng, made = np.random.default_rng(0), file.provenance.preprocessing
    with tempfile.TemporaryDirectory() as folder:
        for number, photo in enumerate(load_sample_images().images):
            for crop in range(CROPS):
                side = int(rng.integers(64, 400))
                top, left = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
                Image.fromarray(photo[top : top + side, left : left + side]).save(f"{folder}/{number}-{crop}.png")
        how = {"resize": made.mode, "image_size": made.image_size, "device": "cpu"}
        extract(folder, f"{folder}/codes.h5", layers=layers, **how)
        with CodesFile.open(f"{folder}/codes.h5") as found:
            return found.codes(layers, np.arange(found.n))


def draw(y: np.ndarray, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to fit to, as many of each class, of the same classes to test on, and of the classes that are left out."""
    rng = np.random.default_rng([per_class, seed])
    classes = np.unique(y)
    unknown = rng.choice(classes, max(1, len(classes) // 4), replace=False)
    train, known = [], []
    for label in np.setdiff1d(classes, unknown):
        rows = rng.permutation(np.flatnonzero(y == label))
        count = min(per_class, int(0.7 * len(rows)))
        train.append(rows[:count])
        known.append(rows[count : count + TESTED])
    others = rng.permutation(np.flatnonzero(np.isin(y, unknown)))[:OTHERS]
    return np.concatenate(train), np.concatenate(known), others


def fitted_to(X: np.ndarray, y: np.ndarray, clf: str) -> tuple[Fitted, Callable]:
    probe, search = fit_probe(X, y, clf=clf)
    truth = np.searchsorted(search.classes, y)
    scale, temperature = probe[0].transform, fit_temperature(search.decision, truth)
    return Fitted(X, scale(X), truth, search.folds, probe[-1].decision_function, temperature), scale


def measure(
    X: np.ndarray, y: np.ndarray, foreign: list[np.ndarray], per_class: int, draws: int, clf: str
) -> dict[str, np.ndarray]:
    """Return the AUROC of other classes and of foreign images, and the false alarms, for each score: (draws, 3)."""
    found = defaultdict(list)
    for seed in range(draws):
        train, known, others = draw(y, per_class, seed)
        fitted, scale = fitted_to(X[train].astype(float), y[train], clf)
        raw = np.concatenate([X[known], X[others], *foreign]).astype(float)
        parts = np.cumsum([len(known), len(others)])
        for name, values in scores(fitted, raw, scale(raw)).items():
            of_known, of_others, of_foreign = np.split(values, parts)
            alarms = np.mean(of_known >= PROMISED) if name == "shipped" else np.nan
            found[name].append([auroc(of_known, of_others), auroc(of_known, of_foreign), alarms])
    return {name: np.array(values) for name, values in found.items()}


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    truth = np.repeat([0, 1], [len(known), len(unknown)])
    return float(roc_auc_score(truth, np.concatenate([known, unknown])))


def foreign_to(path: str, file: CodesFile, options: argparse.Namespace) -> list[np.ndarray]:
    """Codes of foreign images that were prepared as the images of a file."""
    codes = [photographs(file, options.layers)]
    for other in options.foreign:
        with CodesFile.open(other) as found:
            if other != path and found.provenance.preprocessing == file.provenance.preprocessing:
                codes.append(found.codes(options.layers, found.rows()))
    return codes


def report(of_files: list[dict[str, np.ndarray]], per_class: int, n_features: int, n_classes: int) -> None:
    """Print the rows of the table for one number of images: means over files, and the lowest file."""
    for name in of_files[0]:
        by_file = np.array([found[name].mean(axis=0) for found in of_files])
        before = np.array([found[BEFORE].mean(axis=0)[0] for found in of_files])
        near, far, alarms = by_file.mean(axis=0)
        cells = [per_class, name, f"{near:.3f}", f"{by_file[:, 0].min():.3f}", f"{(by_file[:, 0] - before).min():+.3f}"]
        cells += [f"{far:.3f}", f"{by_file[:, 1].min():.3f}", "" if np.isnan(alarms) else f"{alarms:.3f}"]
        cells.append(numbers_kept(name, per_class * n_classes, n_features, n_classes))
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", nargs="+", help="codes files of labelled images")
    parser.add_argument("--foreign", nargs="*", default=[], help="codes files of images that are of no class")
    parser.add_argument("--layer", dest="layers", nargs="+", default=["penultimate"], help="concatenated")
    parser.add_argument("--clf", choices=sorted(LOSSES), default="svm")
    parser.add_argument("--per-class", type=int, nargs="+", default=[6, 20, 100], help="training images of a class")
    parser.add_argument("--draws", type=int, default=3, help="choices of classes and images (default: 3)")
    options = parser.parse_args()
    print("| a class | score | other classes | lowest | against before | foreign | lowest | alarms | numbers kept |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|--:|")
    for per_class in options.per_class:
        began, of_files = time.perf_counter(), []
        for path in options.codes:
            with CodesFile.open(path) as file, threadpool_limits(1):
                rows = file.rows()
                X, y = file.codes(options.layers, rows), file.labels[rows]
                foreign = foreign_to(path, file, options)
                of_files.append(measure(X, y, foreign, per_class, options.draws, options.clf))
            shipped = of_files[-1]["shipped"].mean(axis=0).round(3).tolist()
            print(f"{per_class}, {path}: shipped {shipped}", file=sys.stderr, flush=True)
        report(of_files, per_class, X.shape[1], len(np.unique(y)))
        print(f"{time.perf_counter() - began:.0f} s for {per_class} images a class", file=sys.stderr, flush=True)
    print(f"\nlayers: {' + '.join(options.layers)}\n{describe_machine()}\ncommand: {shlex.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
