"""How accuracy grows with the number of training images, and what twice as many would bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncodes.errors import ProbeError
from cnncodes.probes.folds import Folds, make_folds
from cnncodes.probes.intervals import design_effect, error_bars, wilson_interval
from cnncodes.probes.scaling import Scaling
from cnncodes.probes.search import search_C
from cnncodes.system.optional import require
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import DEFAULT_SCALING

__all__ = ["LearningCurve", "learning_curve"]

SHARES = (0.125, 0.25, 0.5, 1.0)  # of the training images of a fold
MIN_IMAGES_OF_A_CLASS = 2  # images of a class that a point of the curve has, in the mean
NEAR = 10.0 ** np.arange(-1, 1.1, 0.5)  # C of a share, relative to that of all images
# Curves flatten: the next doubling moves the error by so much of the power that the ones before did, more or less; by
# benchmarks/bench_advise.py
FLATTER, FLATTER_DEVIATION = 0.8, 0.2
RESAMPLES = 1000
MIN_GAIN_TO_NAME = 0.0005  # smaller ones are 0.0 points
Z = 1.96


@dataclass
class LearningCurve:
    """Cross-validated accuracy of probes that were fitted to fewer and fewer images.

    Attributes
    ----------
    sizes : list of float
        Training images of each point, in the mean over the folds.
    accuracy : list of float
    intervals : list of (float, float)
        95 % intervals of the accuracies.
    gain : float
        Accuracy that twice as many images as there are would add: the error is taken to fall with a power of their
        number (Cortes et al. 1994; Hestness et al. 2017), four fifths of the power by which it fell so far.
    gain_interval : (float, float)
        95 % interval, with the chance of which images are drawn.
    class_gain : dict of str to float
        How much the recall of each class grew when the last doubling was made.
    """

    sizes: list[float]
    accuracy: list[float]
    intervals: list[tuple[float, float]]
    gain: float
    gain_interval: tuple[float, float]
    class_gain: dict[str, float]

    def helped_most(self, count: int = 3) -> list[tuple[str, float]]:
        """Return the classes whose recall grew most when the last doubling was made, with by how much."""
        growing = sorted(self.class_gain.items(), key=lambda item: -item[1])[:count]
        return [(name, gain) for name, gain in growing if gain >= MIN_GAIN_TO_NAME]

    def plot(self, ax: Any = None) -> Any:
        """Draw the curve, and the extrapolation to twice as many images.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib Axes
        """
        if ax is None:
            ax = require("matplotlib.pyplot", "plot").subplots(figsize=(7, 4), layout="constrained")[1]
        accuracy = np.array(self.accuracy)
        bars = error_bars(accuracy, self.intervals)
        ax.errorbar(self.sizes, accuracy, bars, marker="o", capsize=3, label="measured")
        far, top = [self.sizes[-1], 2 * self.sizes[-1]], [accuracy[-1], accuracy[-1] + self.gain]
        below, above = (accuracy[-1] + end for end in self.gain_interval)
        ax.plot(far, top, "--", color="C1", label="expected of twice as many")
        ax.fill_between(far, [accuracy[-1], below], [accuracy[-1], above], color="C1", alpha=0.25, linewidth=0)
        ax.set_xscale("log", base=2)
        ticks = [*self.sizes, far[1]]
        ax.set_xticks(ticks, [f"{size:.0f}" for size in ticks])
        ax.minorticks_off()
        ax.set_xlabel("training images")
        ax.set_ylabel("cross-validated accuracy")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize="small", frameon=False)
        return ax


def learning_curve(
    X: np.ndarray,
    y: np.ndarray,
    *,
    C: float,
    clf: str = "svm",
    scale: Scaling = DEFAULT_SCALING,
    groups: np.ndarray | None = None,
    cv: int = 5,
    seed: int = 0,
    repeats: int = 3,
    n_jobs: int | str | None = None,
    progress: Progress | None = None,
) -> LearningCurve:
    """Cross-validate probes that learn from an eighth, a quarter, a half and all of the training images.

    Parameters
    ----------
    X : ndarray, shape (n_samples, n_features) or (n_samples, n_views, n_features)
    y : ndarray, shape (n_samples,)
    C : float
        The best for all images: each point chooses its own among those near it.
    clf, scale, groups, cv, seed, n_jobs
        As for `search_C`.
    repeats : int
        Cross-validations, each on other folds and other shares of them; at least 2.
    progress : callable, optional
        Called with (done, total, 0), before the first fit and after each.

    Returns
    -------
    LearningCurve

    Raises
    ------
    ProbeError
        There are too few images of a class.
    """
    classes, of_class = np.unique(y, return_inverse=True)
    seeds = range(seed, seed + max(2, repeats))
    folds_of = [make_folds(y, groups, cv=cv, seed=number)[0] for number in seeds]
    n_train = float(np.mean([len(train) for folds in folds_of for train, _ in folds]))
    shares = [share for share in SHARES if share * n_train >= MIN_IMAGES_OF_A_CLASS * len(classes)]
    if len(shares) < 2:
        raise ProbeError(f"{len(y)} images of {len(classes)} classes are too few for a learning curve; add some")
    right = np.empty((len(shares), len(seeds), len(y)))
    if progress is not None:
        progress(0, right[..., 0].size, 0)
    for i, share in enumerate(shares):
        for j, folds in enumerate(folds_of):
            thin = _thinned(folds, of_class, share, seeds[j])
            search = search_C(X, y, clf=clf, Cs=C * NEAR, scale=scale, folds=thin, exact=False, n_jobs=n_jobs)
            right[i, j] = search.predictions == y
            if progress is not None:
                progress(i * len(seeds) + j + 1, right[..., 0].size, 0)
    by_image = right.mean(axis=1)  # (n_shares, n_samples)
    gain, deviation = _gain(by_image, right.mean(axis=2), np.array(shares) * n_train, seed, groups)
    recall = np.array([np.bincount(of_class, values) for values in by_image]) / np.bincount(of_class)
    return LearningCurve(
        sizes=[share * n_train for share in shares],
        accuracy=by_image.mean(axis=1).tolist(),
        intervals=[_interval(values, groups) for values in by_image],
        gain=gain,
        gain_interval=(gain - Z * deviation, gain + Z * deviation),
        class_gain=dict(zip(classes.tolist(), (recall[-1] - recall[-2]).tolist(), strict=True)),
    )


def _thinned(folds: Folds, of_class: np.ndarray, share: float, seed: int) -> Folds:
    """Keep this share of the training images of each class, and at least one; smaller shares lie within larger ones."""
    rng = np.random.default_rng(seed)
    thin = []
    for train, test in folds:
        mixed = rng.permutation(train)
        kept = [
            members[: max(1, round(share * len(members)))]
            for members in (mixed[of_class[mixed] == number] for number in np.unique(of_class))
        ]
        thin.append((np.sort(np.concatenate(kept)), test))
    return thin


def _interval(values: np.ndarray, groups: np.ndarray | None) -> tuple[float, float]:
    weight = 1 / design_effect(values, groups)
    return wilson_interval(float(values.sum()) * weight, len(values) * weight)


def _gain(
    by_image: np.ndarray, by_repeat: np.ndarray, sizes: np.ndarray, seed: int, groups: np.ndarray | None = None
) -> tuple[float, float]:
    """Return what twice as many images would bring, and its standard deviation.

    Parameters
    ----------
    by_image : ndarray, shape (n_shares, n_samples)
        How often each image was labelled right.
    by_repeat : ndarray, shape (n_shares, n_repeats)
        Accuracy of each cross-validation.
    sizes : ndarray, shape (n_shares,)
    groups : ndarray of str, shape (n_samples,), optional
    """
    n = by_image.shape[1]
    last = by_image[-1] - by_image[-2]
    effect = design_effect(last, groups)
    picks = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    gains = _gains(1 - by_image[:, picks].mean(axis=2), sizes, n)
    # Another draw of the images gives another accuracy: as the repeats do, whose small shares have few in common. That
    # variance is taken to fall with the number of images.
    variances = by_repeat.var(axis=1, ddof=1) * sizes
    of_draw = float(variances[:-1].mean()) * (1 / n + 1 / (2 * n))
    gain = float(_gains(1 - by_image.mean(axis=1)[:, None], sizes, n)[0])
    return gain, float(np.sqrt(gains.var() * effect + of_draw + (FLATTER_DEVIATION * gain) ** 2))


def _gains(errors: np.ndarray, sizes: np.ndarray, n: int) -> np.ndarray:
    """Fit a power of the number of images to error rates of shape (n_shares, k), and double it from n on."""
    logs = np.log((errors * n + 0.5) / (n + 1))  # none is 0
    centred = np.log(sizes) - np.log(sizes).mean()
    slope = FLATTER * np.minimum(0.0, centred @ logs / (centred**2).sum())
    now = np.exp(logs[-1] + slope * np.log(n / sizes[-1]))
    return now * (1 - 2.0**slope)
