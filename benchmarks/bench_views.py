"""Do several views of each image, `extract --views flip` and `10crop`, make the classifier better, and at what cost?

    python benchmarks/bench_views.py

Some training and test images of Fashion-MNIST go through the embedded mobilenet_v2 without views, mirrored, and as ten
crops. Without views the codes are asserted to be those of the first of the two views with `flip`. Then small sets are
drawn from the training images; for each, and for each kind of views, C is chosen and a probe is fitted as `cnncodes
fit` does (all views are trained on, scores are summed) and as with `CNNCodes` (on the mean of the views), and scored on
the same test images. Gains are over no views, on the same draws.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from bench_calibration import draw_rows
from bench_fashion_mnist import SOURCE, SPLITS, Progress, describe_machine, make_image_set, read_split

from cnncodes import CodesFile, extract
from cnncodes.codes.views import averaged
from cnncodes.probes.decision_values import winner
from cnncodes.probes.probe import decide
from cnncodes.probes.search import fit_probe
from cnncodes.runtime.precision import lowest_cosine
from cnncodes.vocabulary import NO_VIEWS, VIEWS

LAYERS = ("layer3", "penultimate")
PARITY = 0.999  # cosine; one of the two extractions may have been compiled, and rounds elsewhere
Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def make_codes(options: argparse.Namespace) -> dict[str, Path]:
    """Extract the same images with each kind of views; return the files."""
    limits = {"train": options.pool, "test": options.test}
    splits = {split: read_split(SOURCE, prefix, limits[split]) for split, prefix in SPLITS.items()}
    images = make_image_set(splits)
    options.work.mkdir(exist_ok=True)
    paths = {}
    for views in [NO_VIEWS, *options.views]:
        paths[views] = options.work / f"fashion-mnist-{options.pool}-{options.test}-{options.resize}-{views}.h5"
        began = time.perf_counter()
        done = extract(images, paths[views], layers=LAYERS, resize=options.resize, views=views, progress=Progress())
        seconds = time.perf_counter() - began
        print(f"views {views}: {done.computed} images computed in {seconds:.0f} s", file=sys.stderr)
    return paths


def read(path: Path, layer: str) -> Splits:
    with CodesFile.open(path) as file:
        return {split: (file.codes(layer, rows := file.rows(split)), file.labels[rows]) for split in ("train", "test")}


def assert_parity(plain: Splits, mirrored: Splits) -> None:
    """Without views the codes are those of the image itself, the first of the two."""
    for split, (X, _) in plain.items():
        cosine = lowest_cosine({split: X}, {split: mirrored[split][0][:, 0]})
        if cosine < PARITY:
            raise SystemExit(f"the first views of the {split} images are not the images: lowest cosine {cosine:.5f}")


def one_draw(splits: Splits, n: int, seed: int, clf: str) -> tuple[float, float]:
    """Return the accuracy on the test images, and the seconds of the fit."""
    X, y = splits["train"]
    rows = draw_rows(y, n, seed)
    began = time.perf_counter()
    probe, _ = fit_probe(X[rows], y[rows], clf=clf, seed=seed)
    seconds = time.perf_counter() - began
    X_test, y_test = splits["test"]
    return float(np.mean(probe.classes_[winner(decide(probe, X_test))] == y_test)), seconds


def report(layer: str, paths: dict[str, Path], options: argparse.Namespace) -> None:
    codes = {views: read(path, layer) for views, path in paths.items()}
    if "flip" in codes:
        assert_parity(codes[NO_VIEWS], codes["flip"])
    kinds = {(NO_VIEWS, "one row an image"): codes.pop(NO_VIEWS)}
    for views in codes:
        kinds[views, "all train, scores summed"] = codes[views]
        kinds[views, "mean of the codes"] = {split: (averaged(X), y) for split, (X, y) in codes[views].items()}
    base = np.empty(0)
    for (views, use), splits in kinds.items():
        draws = [one_draw(splits, options.n, seed, options.clf) for seed in range(options.draws)]
        accuracy, seconds = np.array(draws).T
        base = accuracy if views == NO_VIEWS else base
        gain = 100 * (accuracy - base)
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        better = "" if views == NO_VIEWS else f"{gain.mean():+.2f} ± {error:.2f}"
        cells = [layer, views, use, f"{100 * accuracy.mean():.2f}", better, f"{seconds.mean():.1f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("bench-work"), help="folder of the codes files")
    several = [name for name in VIEWS if name != NO_VIEWS]
    parser.add_argument("--views", nargs="+", choices=several, default=several)
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=LAYERS, help="whose codes are fitted")
    parser.add_argument("--pool", type=int, default=1000, help="training images that sets are drawn from")
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--n", type=int, default=300, help="images in a set")
    parser.add_argument("--draws", type=int, default=10, help="sets")
    parser.add_argument("--clf", choices=["svm", "logreg"], default="svm")
    parser.add_argument("--resize", choices=["crop", "pad", "squash"], default="squash")
    parser.add_argument("--extract-only", action="store_true", help="only make the codes files")
    options = parser.parse_args()
    paths = make_codes(options)
    if options.extract_only:
        return
    print("| layer | views | use | test accuracy, % | points gained (± standard error) | fit, s |")
    print("|---|---|---|--:|--:|--:|")
    for layer in options.layers:
        report(layer, paths, options)
    print(f"\n{options.draws} sets of {options.n} of {options.pool} images, {options.test} test images, {options.clf}")
    print(f"{describe_machine()}\ncommand: {shlex.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
