"""Is the layer that is recommended the best one in hindsight, and does the learning curve keep what it promises?

    python benchmarks/bench_fashion_mnist.py --extract-only        # makes the codes file
    python benchmarks/bench_advise.py bench-work/fashion-mnist-all-squash-auto.h5

Draws small training sets, with as many images of each class, from the training images of a codes file, and asks for
advice on each. The layer that is recommended is then fitted to the whole set, as are all others, and each is scored on
the 10,000 test images: how far is it from the best? As many images again are added, the probe of the recommended layer
is fitted anew, and scored: did accuracy grow by what the learning curve says? The difference of two accuracies by
cross-validation is compared with that on the test images, too.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_fashion_mnist import describe_machine
from threadpoolctl import threadpool_limits

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.writer import CodesWriter
from cnncodes.extraction.prepare import copy_rows
from cnncodes.insight.advise import advise
from cnncodes.probes.decision_values import winner
from cnncodes.probes.probe import decide
from cnncodes.probes.search import fit_probe


def draw(path: Path, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of training images, as many of each class, and as many more."""
    rng = np.random.default_rng(seed)
    with CodesFile.open(path) as file:
        rows, labels = file.rows("train"), file.labels
    picked = [rng.choice(rows[labels[rows] == name], 2 * per_class, replace=False) for name in np.unique(labels[rows])]
    return np.sort(np.concatenate([part[:per_class] for part in picked])), np.sort(np.concatenate(picked))


def make_file(source: Path, rows: np.ndarray, path: Path) -> None:
    """Write a codes file of a few rows."""
    with CodesFile.open(source) as old:
        table = ImageTable([old.table.ids[row] for row in rows], old.labels[rows].tolist())
        twins = dict(enumerate(rows.tolist()))
        CodesWriter.create(path, table, old.provenance, fill=lambda new: copy_rows(old, new, twins))


def test_accuracy(path: Path, rows: np.ndarray, layers: list[str], C: float | str) -> float:
    """Fit a probe to these rows, and score it on the test images."""
    with CodesFile.open(path) as file:
        X, y = file.codes(layers, rows), file.labels[rows]
        held_out = file.rows("test")
        probe = fit_probe(X, y, C=C)[0]
        return float(
            np.mean(probe.classes_[winner(decide(probe, file.codes(layers, held_out)))] == file.labels[held_out])
        )


def study(source: Path, per_class: int, seed: int, folder: Path) -> dict[str, Any]:
    """Compare the layers on one drawn set, and look at the test images."""
    rows, twice = draw(source, per_class, seed)
    path = folder / f"{per_class}-{seed}.h5"
    make_file(source, rows, path)
    started = time.perf_counter()
    advice = advise(path)
    seconds = time.perf_counter() - started
    path.unlink()
    probes = [row.to_dict() for row in advice.comparison.probes]
    best = next(row for row in probes if row["layers"] == advice.layers)
    curve = advice.curve
    assert curve is not None
    keys = ("layers", "C", "cv_accuracy", "cv_log_loss", "difference_interval", "recommended", "n_features")
    return {
        "per_class": per_class,
        "seed": seed,
        "seconds": seconds,
        "probes": [
            {**{key: row[key] for key in keys}, "test": test_accuracy(source, rows, row["layers"], row["C"])}
            for row in probes
        ],
        "layers": advice.layers,
        "gain": curve.gain,
        "gain_interval": curve.gain_interval,
        "curve": [curve.sizes, curve.accuracy],
        "test_twice": test_accuracy(source, twice, best["layers"], "auto"),
    }


def report(studies: list[dict[str, Any]]) -> None:
    print(
        f"{'images a class':>14}{'sets':>6}{'points lost by':>16}{'':>12}{'':>12}{'gain covered':>14}{'width':>8}"
        f"{'gain error':>12}{'difference covered':>20}"
    )
    print(f"{'':20}{'accuracy':>16}{'log loss':>12}{'simplest':>12}")
    sizes = sorted({one["per_class"] for one in studies})
    for chosen in [[size] for size in sizes] + [sizes]:
        some = [one for one in studies if one["per_class"] in chosen]
        lost, covered, widths, errors, differences = [], [], [], [], []
        for one in some:
            probes = one["probes"]
            top = max(row["test"] for row in probes)
            by_loss = min(probes, key=lambda row: row["cv_log_loss"])
            simplest = next(row for row in probes if row["recommended"])
            lost.append([top - row["test"] for row in (probes[0], by_loss, simplest)])
            now = next(row["test"] for row in probes if row["layers"] == one["layers"])
            gain, (low, high) = one["test_twice"] - now, one["gain_interval"]
            covered.append(low <= gain <= high)
            widths.append(high - low)
            errors.append(one["gain"] - gain)
            differences += [
                row["difference_interval"][0] <= row["test"] - probes[0]["test"] <= row["difference_interval"][1]
                for row in probes[1:]
            ]
        points = (100 * np.mean(lost, axis=0)).tolist()
        name = "all" if len(chosen) > 1 else str(chosen[0])
        print(
            f"{name:>14}{len(some):>6}{points[0]:>16.2f}{points[1]:>12.2f}{points[2]:>12.2f}{np.mean(covered):>14.3f}"
            f"{100 * np.mean(widths):>8.1f}{100 * np.mean(errors):>+12.2f}{np.mean(differences):>20.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", type=Path, help="codes file with a train and a test split")
    parser.add_argument("--sets", type=int, default=10, help="of each size (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first set, to run several at once")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 20, 50, 100, 200], help="images of each class")
    parser.add_argument("--log", type=Path, default=Path("bench-work/advise.jsonl"), help="results; continued")
    args = parser.parse_args()
    print(describe_machine(), f"command: {shlex.join(['python', *sys.argv])}", sep="\n", flush=True)
    args.log.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in args.log.read_text().splitlines()] if args.log.exists() else []
    known = {(one["per_class"], one["seed"]) for one in done}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1), args.log.open("a") as log:
        for seed in range(args.first, args.sets):
            for per_class in args.sizes:
                if (per_class, seed) in known:
                    continue
                done.append(study(args.codes, per_class, seed, Path(folder)))
                print(json.dumps(done[-1]), file=log, flush=True)
                print(f"{per_class} a class, set {seed}: {done[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
    report([one for one in done if one["per_class"] in args.sizes and args.first <= one["seed"] < args.sets])


if __name__ == "__main__":
    main()
