"""Does `finetune` keep the better of probe and fine-tuned network, and does the interval hold what it gains?

    cnncodes extract FOLDER --layers penultimate --map layer3 --image-size 96 --resize squash -o CODES.h5
    python benchmarks/bench_finetune_sets.py CODES.h5 ...
    python benchmarks/bench_finetune_sets.py CODES.h5 ... --per-class 5 20 --draws 4 --keep sets.pkl

Each file has labelled images, with maps of layer3. Small sets are drawn from it, of as many images of each class, of at
most ten classes and 600 images; a class gives at most half of its images, and near-duplicates are left out. Each set
is fine-tuned from layer4 on with folds, as by `finetune`, and answers up to 600 of the other images. A row of the
table has the accuracy on these of the probe, of the tuned network, and of what is kept; the gain out of fold with its
interval; and the gain on the other images, whether or not the network is kept.

Then the lines that count: how far what is kept is below the better of both, in the mean of all sets, with its standard
error; in how many sets the interval holds the gain on the other images; and what gain the folds see of that.

The figures in benchmarks/README.md are from scikit-learn's digits, the first 4,000 test images of Debian's
dataset-fashion-mnist, folders of Debian's openclipart-png and tuxpaint-stamps-default, and the categories of npm's
emoji-datasource-google and -twitter.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bench_fashion_mnist import describe_machine
from threadpoolctl import threadpool_limits

from cnncodes import load_backbone
from cnncodes.finetuning.cached_maps import CachedMaps
from cnncodes.finetuning.out_of_fold import SHARES, OutOfFold, Task, answer_folds, train_on_all
from cnncodes.finetuning.schedule import Recipe
from cnncodes.finetuning.state import State
from cnncodes.finetuning.training import decide, mixed
from cnncodes.networks.cut import Cut, cut_before
from cnncodes.probes.decision_values import winner
from cnncodes.probes.protocol import TrainingData
from cnncodes.probes.scaling import scaling_of
from cnncodes.probes.search import search_C
from cnncodes.system.process import inference_settings
from cnncodes.vocabulary import DEFAULT_SCALING, PENULTIMATE

MAX_CLASSES, MAX_IMAGES, MAX_TESTED = 10, 600, 600
HARDLY_FEWER = 0.6  # of the images that were asked for: files that give fewer have no such set


@dataclass
class Source:
    """Images of a codes file that are no near-duplicates of each other."""

    name: str
    X: np.ndarray  # (n, n_features)
    maps: np.ndarray  # (n, C, H, W)
    y: np.ndarray  # (n,), str


@dataclass
class SmallSet:
    """What fine-tuning on a small set came to."""

    name: str
    n: int
    n_classes: int
    answers: OutOfFold
    right: dict[float, np.ndarray]  # of each share, which of the other images are answered right
    seconds: float

    @property
    def share(self) -> float:
        """The share whose gain is told."""
        return self.answers.best_share(tuned=True)

    @property
    def is_kept(self) -> bool:
        """Whether the fine-tuned network is kept."""
        return self.answers.best_share() > 0

    @property
    def gains(self) -> np.ndarray:
        """Gain of each of the other images: 1, 0 or -1."""
        return self.right[self.share].astype(float) - self.right[0.0]

    @property
    def lost(self) -> float:
        """How far what is kept is below the better of probe and tuned."""
        gain = float(self.gains.mean())
        return max(gain, 0.0) - self.is_kept * gain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", nargs="*", type=Path, help="codes files with labels and maps of layer3")
    parser.add_argument("--per-class", type=int, nargs="+", default=[5, 20, 60, 200], help="images of a class")
    parser.add_argument("--draws", type=int, nargs="+", default=[4, 2, 1, 1], help="sets of a file, for each size")
    parser.add_argument("--seed", type=int, default=0, help="of the first draw")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--keep", type=Path, help="file for all answers")
    parser.add_argument("--answers", type=Path, nargs="+", default=[], help="files of --keep, shown before what is new")
    arguments = parser.parse_args()
    print(describe_machine())
    print("command:", shlex.join(["python", *sys.argv]))
    print("| file | images | classes | probe | tuned | kept | out of fold | other images | s |")
    print("|---|" + "--:|" * 8)
    sets = [one for path in arguments.answers for one in pickle.loads(path.read_bytes())]
    for one in sets:
        show(one)
    with threadpool_limits(1), inference_settings():
        for one in tune_all(arguments):
            show(one)
            sets.append(one)
            if arguments.keep:
                arguments.keep.write_bytes(pickle.dumps(sets))
    summarise(sets)


def tune_all(arguments: argparse.Namespace) -> Iterator[SmallSet]:
    sources = [read(path) for path in arguments.codes]
    cut = cut_before(load_backbone("mobilenet_v2"), "layer4")
    sizes = zip(arguments.per_class, np.resize(arguments.draws, len(arguments.per_class)), strict=True)
    for (size, draws), source in itertools.product(sizes, sources):
        for seed in range(arguments.seed, arguments.seed + draws):
            rows = draw(source.y, size, seed)
            if len(rows[0]) >= HARDLY_FEWER * size * len(np.unique(source.y[rows[0]])):
                yield tune(source, rows, cut, Recipe(arguments.epochs, arguments.lr))


def read(path: Path) -> Source:
    with TrainingData.open(path) as data:
        _, first = np.unique(data.groups(), return_index=True)
        ungrouped = np.flatnonzero(data.groups() == "")
        rows = data.train[np.union1d(first, ungrouped)]
        maps = data.file.maps("layer3", rows)[:]
        return Source(path.stem, data.file.codes(PENULTIMATE, rows), maps, data.file.labels[rows])


def draw(y: np.ndarray, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a small set, and rows to test on."""
    rng = np.random.default_rng([seed, per_class])
    classes = np.unique(y)
    classes = rng.choice(classes, min(len(classes), MAX_CLASSES, MAX_IMAGES // per_class), replace=False)
    inside, outside = [], []
    for label in classes:
        rows = rng.permutation(np.flatnonzero(y == label))
        count = min(per_class, len(rows) // 2)
        inside.append(rows[:count])
        outside.append(rows[count:])
    return np.sort(np.concatenate(inside)), np.sort(rng.permutation(np.concatenate(outside))[:MAX_TESTED])


def tune(source: Source, rows: tuple[np.ndarray, np.ndarray], cut: Cut, recipe: Recipe) -> SmallSet:
    """Fine-tune on a small set as `finetune` does, and answer the other images for each share."""
    started = time.process_time()
    train, test = rows
    classes, truth = np.unique(source.y[train], return_inverse=True)
    scaling = scaling_of(DEFAULT_SCALING, [source.X.shape[1]])
    groups = np.full(len(train), "")
    task = Task(
        X=source.X[train],
        maps=CachedMaps(source.maps[train], source.maps.shape[1:]),
        truth=truth,
        classes=classes,
        groups=groups,
        search=search_C(source.X[train], source.y[train], scale=scaling, groups=groups, cv=3),
        clf="svm",
        scale=DEFAULT_SCALING,
        scaling=scaling,
        cut=cut,
        pooling="avg",
        recipe=recipe,
        device=torch.device("cpu"),
    )
    answers = answer_folds(task, State(None, ""))
    start = task.network(np.arange(len(train))).tensors()
    network = train_on_all(task, 1.0, State(None, "")).network
    seconds = time.process_time() - started
    end, others = network.tensors(), CachedMaps(source.maps[test], source.maps.shape[1:])
    right = {}
    for share in (0.0, *SHARES):
        decision = decide(network, others, np.arange(len(test)), task.device, mixed(start, end, share))
        right[share] = winner(decision) == np.searchsorted(classes, source.y[test])
    return SmallSet(source.name, len(train), len(classes), answers, right, seconds)


def show(one: SmallSet) -> None:
    probe, tuned = one.right[0.0].mean(), one.right[one.share].mean()
    kept = tuned if one.is_kept else probe
    gain, low, high = (100 * value for value in one.answers.gain(one.share))
    error = 100 * standard_error(one.gains)
    print(
        f"| {one.name} | {one.n} | {one.n_classes} | {probe:.3f} | {tuned:.3f} | {kept:.3f} | "
        f"{gain:+.1f} ({low:+.1f} to {high:+.1f}) | {100 * one.gains.mean():+.1f} ± {error:.1f} | {one.seconds:.0f} |",
        flush=True,
    )


def summarise(sets: list[SmallSet]) -> None:
    lost = 100 * np.array([one.lost for one in sets])
    gains = 100 * np.array([one.gains.mean() for one in sets])
    is_kept = np.array([one.is_kept for one in sets])
    intervals = 100 * np.array([one.answers.gain(one.share) for one in sets])  # (n_sets, 3)
    covered = (intervals[:, 1] <= gains) & (gains <= intervals[:, 2])
    n = len(sets)
    print(f"\n{n} sets, the fine-tuned network is kept in {is_kept.sum()}")
    print(f"kept, below the better of probe and tuned: {mean(lost)} points", end="; ")
    print(f"always the probe {mean(np.maximum(gains, 0))}, always tuned {mean(np.maximum(-gains, 0))}")
    print(f"kept, more than the probe: {mean(gains * is_kept)} points; always tuned {mean(gains)}")
    print(f"the interval holds the gain in {covered.sum()} of {n} sets: {mean(covered)}", end="; ")
    print(f"{(gains < intervals[:, 1]).sum()} are below it, {(gains > intervals[:, 2]).sum()} above")
    print(f"gain out of fold less that on other images: {mean(intervals[:, 0] - gains)} points")


def mean(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {standard_error(values):.3f}"


def standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    main()
